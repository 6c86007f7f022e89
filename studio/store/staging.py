"""An import in two parts: tasks are read into a temporary table, for as long as that takes; then they move into place at once.

The temporary table is a file of its own, so nobody waits for the reading. Knows no file format.
"""

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, text
from sqlmodel import Session, select

from ranker.errors import DatasetError, UsageError
from ranker.schema import RankingTask
from studio.store.records import now_utc
from studio.store.tables import DatasetTable
from studio.store.taskrows import chain_hash, task_fields

BATCH_TASKS = 500

Report = Callable[[int], None]
"""Told now and then how many tasks have been read."""

_MAKE = """CREATE TEMP TABLE staged (position INTEGER PRIMARY KEY, task_id TEXT, domain TEXT, query TEXT, summary TEXT,
num_candidates INTEGER, record TEXT, search_query TEXT, search_candidates TEXT)"""
_FILL = "INSERT INTO staged VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_MOVE_TASKS = """INSERT INTO task (dataset_id, task_id, position, domain, query, summary, num_candidates, record)
SELECT :dataset_id, task_id, position, domain, query, summary, num_candidates, record FROM staged ORDER BY position"""
_MOVE_TEXT = """INSERT INTO task_text (rowid, query, candidates) SELECT task.id, search_query, search_candidates
FROM staged JOIN task ON task.dataset_id = :dataset_id AND task.position = staged.position ORDER BY task.id"""


class Staged(NamedTuple):
    """What lies in the temporary table."""

    sha256: str
    domains: Counter[str]
    """Tasks of each domain."""


def stage(
    connection: Connection,
    tasks: Iterable[RankingTask],
    *,
    source: str,
    report: Report | None,
    cancel: threading.Event | None,
) -> Staged:
    """Read `tasks` into the temporary table of `connection`.

    Raises:
        DatasetError: if there are no tasks or a task_id appears twice.
        UsageError: if `cancel` was set.
    """
    connection.exec_driver_sql(_MAKE)
    seen: set[str] = set()
    domains: Counter[str] = Counter()
    sha256 = ""
    for batch in _batches(tasks):
        if cancel is not None and cancel.is_set():
            raise UsageError(f"{source}: import: was cancelled: nothing was stored")
        rows = []
        for task in batch:
            if task.task_id in seen:
                raise DatasetError(f"{source}: task_id: {task.task_id!r} appears twice: rename one")
            row = task_fields(len(seen), task)
            rows.append(tuple(row))
            seen.add(task.task_id)
            domains[row.domain] += 1
            sha256 = chain_hash(sha256, row.record)
        connection.exec_driver_sql(_FILL, rows)
        if report is not None:
            report(len(seen))
    if not seen:
        raise DatasetError(f"{source}: tasks: there are none: add at least one")
    connection.commit()
    return Staged(sha256, domains)


def publish(session: Session, staged: Staged, *, name: str, source: str, provenance: Mapping[str, Any]) -> DatasetTable:
    """Move what is staged into place as the next version of `name`; or find the version that has these very tasks."""
    versions = session.exec(select(DatasetTable).where(DatasetTable.name == name)).all()
    same = next((row for row in versions if row.sha256 == staged.sha256), None)
    if same is not None:
        same.deleted_at = None
        session.add(same)
        session.flush()
        return same
    row = DatasetTable(
        name=name,
        version=max((v.version for v in versions), default=0) + 1,
        sha256=staged.sha256,
        source=source,
        provenance=json.dumps(dict(provenance), ensure_ascii=False),
        num_tasks=staged.domains.total(),
        domains=json.dumps(staged.domains),
        created_at=now_utc(),
    )
    session.add(row)
    session.flush()
    session.execute(text(_MOVE_TASKS), {"dataset_id": row.id})
    session.execute(text(_MOVE_TEXT), {"dataset_id": row.id})
    return row


def discard(connection: Connection) -> None:
    """Forget what is staged."""
    connection.rollback()
    connection.exec_driver_sql("DROP TABLE IF EXISTS temp.staged")
    connection.commit()


def _batches(tasks: Iterable[RankingTask]) -> Iterator[tuple[RankingTask, ...]]:
    iterator = iter(tasks)
    while batch := tuple(itertools.islice(iterator, BATCH_TASKS)):
        yield batch
