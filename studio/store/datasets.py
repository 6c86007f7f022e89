"""Datasets and their tasks in the store: import in one transaction, paging, search.

A dataset's hash is a chain over its tasks, so that it can be checked without holding them and continued by `append`:
h(0) = "", h(i) = sha256(h(i-1) + task i as canonical JSON).
"""

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import func, text
from sqlalchemy import select as sql_select
from sqlmodel import Session, col, select

from ranker.schema import RankingTask
from studio.store.database import Database
from studio.store.fulltext import match_query
from studio.store.records import DatasetInfo, NotStoredError, TaskPage, TaskRow, now_utc
from studio.store.staging import BATCH_TASKS, Report, discard, publish, stage
from studio.store.tables import DatasetTable, TaskTable
from studio.store.taskrows import chain_hash, task_fields

WRITTEN_HERE = "written in the studio"
"""The source of open-ended versions: tasks are added at their end. All others never change."""


def _info(row: DatasetTable) -> DatasetInfo:
    assert row.id is not None
    return DatasetInfo(
        id=row.id,
        name=row.name,
        version=row.version,
        sha256=row.sha256,
        source=row.source,
        provenance=json.loads(row.provenance),
        num_tasks=row.num_tasks,
        domains=json.loads(row.domains),
        created_at=row.created_at,
        deleted=row.deleted_at is not None,
    )


class DatasetSection:
    """The store's datasets. Versions are immutable; `append` is for the one open-ended kind (tasks written by hand)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, *, include_deleted: bool = False) -> list[DatasetInfo]:
        """All versions of all datasets, by name, newest version first."""
        query = select(DatasetTable).order_by(func.lower(DatasetTable.name), col(DatasetTable.version).desc())
        if not include_deleted:
            query = query.where(col(DatasetTable.deleted_at).is_(None))
        with self._database.read() as session:
            return [_info(row) for row in session.exec(query)]

    def get(self, dataset_id: int) -> DatasetInfo:
        """Raises NotStoredError if there is none of that id (a deleted one is still there)."""
        with self._database.read() as session:
            return _info(self._row(session, dataset_id))

    def latest(self, name: str) -> DatasetInfo | None:
        """The newest version under `name` that is not deleted."""
        return next((info for info in self.list() if info.name == name), None)

    def add(
        self,
        name: str,
        tasks: Iterable[RankingTask],
        *,
        source: str,
        provenance: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
        report: Report | None = None,
        cancel: threading.Event | None = None,
    ) -> DatasetInfo:
        """Store `tasks` as a new version of `name`: all of them or, if anything is raised, none.

        They are read into a temporary table first, so the write lock is held for the last moments only. Where `provenance`
        is a function, it is asked once all tasks have been read.

        Returns:
            The new version; or the one that has exactly these tasks already (brought back if it was deleted).

        Raises:
            DatasetError: if there are no tasks or a task_id appears twice.
            UsageError: if `cancel` was set.
        """
        with self._database.connect() as connection:
            try:
                staged = stage(connection, tasks, source=source, report=report, cancel=cancel)
                origin = provenance() if callable(provenance) else provenance or {}
                with self._database.writing(connection), Session(connection) as session:
                    info = _info(publish(session, staged, name=name, source=source, provenance=origin))
            finally:
                discard(connection)
        return info

    def append(self, name: str, task: RankingTask) -> tuple[int, str]:
        """Add one task at the end of the open-ended version of `name`, which is made if need be.

        Returns:
            (dataset_id, task_id): of the task that is there already if it has the same content; the id gets a number
            behind it where another task has it.
        """
        with self._database.write() as session:
            row = self._open_version(session, name)
            assert row.id is not None
            task, is_new = self._free_id(session, row.id, task)
            if is_new:
                self._append(session, row, task)
            return row.id, task.task_id

    def set_deleted(self, dataset_id: int, deleted: bool) -> DatasetInfo:
        """Hide a version, or bring it back. Its tasks and traces stay."""
        with self._database.write() as session:
            row = self._row(session, dataset_id)
            row.deleted_at = now_utc() if deleted else None
            session.add(row)
            return _info(row)

    def tasks(self, dataset_id: int, *, query: str = "", offset: int = 0, limit: int = 50) -> TaskPage:
        """Tasks in their order; with `query` those in which all its words occur."""
        position = col(TaskTable.position)
        columns = (
            col(TaskTable.task_id), position, col(TaskTable.domain), col(TaskTable.summary), col(TaskTable.num_candidates),
        )  # fmt: skip
        offset, limit = max(0, offset), max(0, limit)
        with self._database.read() as session:
            total = self._row(session, dataset_id).num_tasks
            chosen = sql_select(*columns).where(col(TaskTable.dataset_id) == dataset_id).order_by(position)
            if query.strip():
                found = text("task.id IN (SELECT rowid FROM task_text WHERE task_text MATCH :match)")
                chosen = chosen.where(found.bindparams(match=match_query(query)))
                ids = chosen.with_only_columns(col(TaskTable.id)).order_by(None).subquery()
                total = session.execute(sql_select(func.count()).select_from(ids)).scalar_one()
                chosen = chosen.offset(offset).limit(limit)
            else:  # positions are 0 ... n-1, so a page is a range of the index
                chosen = chosen.where(position >= offset, position < offset + limit)
            rows = [TaskRow.model_validate(row._mapping) for row in session.execute(chosen)]
        return TaskPage(rows, total)

    def task(self, dataset_id: int, task_id: str) -> RankingTask:
        """Raises NotStoredError if the dataset has no such task."""
        with self._database.read() as session:
            query = select(TaskTable.record).where(TaskTable.dataset_id == dataset_id, TaskTable.task_id == task_id)
            record = session.exec(query).first()
        if record is None:
            raise NotStoredError(f"dataset {dataset_id}: task_id: {task_id!r} is not there: choose one from the list")
        return RankingTask.model_validate_json(record)

    def position(self, dataset_id: int, task_id: str) -> int:
        """0-based place of a task in its dataset. Raises StoreError if it has no such task."""
        with self._database.read() as session:
            query = select(TaskTable.position).where(TaskTable.dataset_id == dataset_id, TaskTable.task_id == task_id)
            found = session.exec(query).first()
        if found is None:
            raise NotStoredError(f"dataset {dataset_id}: task_id: {task_id!r} is not there: choose one from the list")
        return found

    def iter_tasks(self, dataset_id: int) -> Iterator[RankingTask]:
        """All tasks in their order, read a batch at a time."""
        self.get(dataset_id)
        for start in itertools.count(0, BATCH_TASKS):
            with self._database.read() as session:
                query = select(TaskTable.record).where(
                    TaskTable.dataset_id == dataset_id,
                    TaskTable.position >= start,
                    TaskTable.position < start + BATCH_TASKS,
                )
                records = session.exec(query.order_by(col(TaskTable.position))).all()
            if not records:
                return
            for record in records:
                yield RankingTask.model_validate_json(record)

    def _row(self, session: Session, dataset_id: int) -> DatasetTable:
        row = session.get(DatasetTable, dataset_id)
        if row is None:
            raise NotStoredError(f"store: dataset: {dataset_id} is not there: choose one from the list")
        return row

    def _free_id(self, session: Session, dataset_id: int, task: RankingTask) -> tuple[RankingTask, bool]:
        for number in itertools.count(2):
            query = select(TaskTable.record).where(
                TaskTable.dataset_id == dataset_id, TaskTable.task_id == task.task_id
            )
            record = session.exec(query).first()
            if record is None:
                return task, True
            if record == task.model_dump_json():
                return task, False
            task = task.model_copy(update={"task_id": f"{task.task_id.rsplit('~', 1)[0]}~{number}"})
        raise AssertionError("unreachable")

    def _open_version(self, session: Session, name: str) -> DatasetTable:
        """The newest version of `name` that was written here and is not deleted, else a new one."""
        query = select(DatasetTable).where(DatasetTable.name == name).order_by(col(DatasetTable.version).desc())
        versions = session.exec(query).all()
        for row in versions:
            if row.source == WRITTEN_HERE and row.deleted_at is None:
                return row
        row = DatasetTable(
            name=name,
            version=versions[0].version + 1 if versions else 1,
            sha256="",
            source=WRITTEN_HERE,
            provenance="{}",
            num_tasks=0,
            domains="{}",
            created_at=now_utc(),
        )
        session.add(row)
        session.flush()
        return row

    def _append(self, session: Session, row: DatasetTable, task: RankingTask) -> None:
        fields = task_fields(row.num_tasks, task)
        added = TaskTable(
            dataset_id=row.id or 0,
            **fields._asdict(),  # the two search fields are no columns and are ignored
        )
        session.add(added)
        session.flush()
        session.execute(
            text("INSERT INTO task_text (rowid, query, candidates) VALUES (:id, :query, :candidates)"),
            {"id": added.id, "query": fields.search_query, "candidates": fields.search_candidates},
        )
        domains = Counter(json.loads(row.domains))
        domains[fields.domain] += 1
        row.domains = json.dumps(domains)
        row.sha256 = chain_hash(row.sha256, fields.record)
        row.num_tasks += 1
        session.add(row)
