"""Who has which task before them: leases with an end, so that two people never get the same task unless that is wanted.

A lease that has ended counts for nothing, so a closed browser blocks nobody. Picking and leasing are one transaction.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import delete, func, select
from sqlmodel import Session, col

from studio.store.corrections import are_current
from studio.store.database import Database
from studio.store.people import annotator_pk, find_annotator, task_pk
from studio.store.records import NotStoredError, now_utc
from studio.store.tables import AssignmentTable, CorrectionTable, DatasetTable, QueueTable, TaskTable


class Progress(NamedTuple):
    """How far one person is with one dataset."""

    num_done: int
    """Tasks of which they have a current word."""
    num_skipped: int
    num_tasks: int


class AssignmentSection:
    """The store's leases of tasks to people."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def task_ids(self, dataset_id: int) -> list[str]:
        """All tasks of a dataset, in their order."""
        with self._database.read() as session:
            return list(_task_ids(session, dataset_id))

    def lease(
        self, author: str, dataset_id: int, wanted: Iterable[str], *, overlap: int, now: str, expires_at: str
    ) -> str | None:
        """Give a person the first task of `wanted` that is free; the one that they have already comes before all.

        A task is free if this person has neither a word on it nor skipped it, and fewer than `overlap` others have a word
        on it or a lease of it.

        Args:
            wanted: task_ids, most wanted first.
            overlap: how many people may say something about a task, at least 1.
            now: ISO 8601, UTC; leases that end before are over.
            expires_at: when this one ends.
        """
        with self._database.write() as session:
            person = annotator_pk(session, author)
            ids = _task_ids(session, dataset_id)
            skipped = _skipped(session, person, dataset_id)
            people = _spoken(session, dataset_id)
            done = {task for task, spoken in people.items() if person in spoken}
            leases = _leases(session, dataset_id, now)
            for task, holder in leases:
                people.setdefault(task, set()).add(holder)

            def is_free(task: int) -> bool:
                others = people.get(task, set()) - {person}
                return task not in done and task not in skipped and len(others) < overlap

            own = (task for task, holder in leases if holder == person)
            held = next((task for task in own if task not in done and task not in skipped), None)
            chosen = held if held is not None else next((pk for i in wanted if is_free(pk := ids[i])), None)
            if chosen is None:
                return None
            session.merge(AssignmentTable(annotator_pk=person, task_pk=chosen, expires_at=expires_at))
            return next(i for i, pk in ids.items() if pk == chosen)

    def renew(self, author: str, dataset_id: int, task_id: str, *, expires_at: str) -> None:
        """Keep a task for longer (the person is still at it), or take one out of turn."""
        with self._database.write() as session:
            person, task = annotator_pk(session, author), task_pk(session, dataset_id, task_id)
            session.merge(AssignmentTable(annotator_pk=person, task_pk=task, expires_at=expires_at))

    def release(self, author: str, dataset_id: int, task_id: str) -> None:
        """Give a task back; it is free for others, and for this person again (a skip is undone, too)."""
        with self._database.write() as session:
            person, task = annotator_pk(session, author), task_pk(session, dataset_id, task_id)
            mine = (col(AssignmentTable.annotator_pk) == person, col(AssignmentTable.task_pk) == task)
            session.execute(delete(AssignmentTable).where(*mine))

    def skip(self, author: str, dataset_id: int, task_id: str, *, now: str) -> None:
        """Give a task back and do not be given it again."""
        with self._database.write() as session:
            person, task = annotator_pk(session, author), task_pk(session, dataset_id, task_id)
            session.merge(AssignmentTable(annotator_pk=person, task_pk=task, expires_at=now, skipped_at=now))

    def num_others(self, author: str, dataset_id: int, task_id: str, *, now: str) -> int:
        """How many other people have a current word on a task, or have it before them."""
        with self._database.read() as session:
            task, person = task_pk(session, dataset_id, task_id), find_annotator(session, author)
            people = _spoken(session, dataset_id).get(task, set())
            people |= {holder for leased, holder in _leases(session, dataset_id, now) if leased == task}
            return len(people - {person.id if person else None})

    def overlap(self, dataset_id: int) -> int:
        """How many people are to say something about each task of a dataset; 1 unless somebody set it."""
        with self._database.read() as session:
            row = session.get(QueueTable, _dataset_name(session, dataset_id))
            return row.overlap if row else 1

    def set_overlap(self, dataset_id: int, overlap: int) -> None:
        """Set it, for every version of the dataset."""
        with self._database.write() as session:
            name = _dataset_name(session, dataset_id)
            session.merge(QueueTable(dataset=name, overlap=overlap, changed_at=now_utc()))

    def progress(self, author: str, dataset_id: int) -> Progress:
        """How far a person is."""
        with self._database.read() as session:
            in_dataset = col(TaskTable.dataset_id) == dataset_id
            total = session.execute(select(func.count()).select_from(TaskTable).where(in_dataset)).scalar_one()
            person = find_annotator(session, author)
            if person is None or person.id is None:
                return Progress(0, 0, total)
            done = {task for task, people in _spoken(session, dataset_id).items() if person.id in people}
            return Progress(len(done), len(_skipped(session, person.id, dataset_id) - done), total)


def _dataset_name(session: Session, dataset_id: int) -> str:
    name: str | None = session.execute(
        select(col(DatasetTable.name)).where(col(DatasetTable.id) == dataset_id)
    ).scalar()
    if name is None:
        raise NotStoredError(f"store: dataset {dataset_id}: is not there: choose one from the list")
    return name


def _task_ids(session: Session, dataset_id: int) -> dict[str, int]:
    query = select(col(TaskTable.task_id), col(TaskTable.id)).where(col(TaskTable.dataset_id) == dataset_id)
    query = query.order_by(col(TaskTable.position))
    return {row.task_id: row.id for row in session.execute(query)}


def _spoken(session: Session, dataset_id: int) -> dict[int, set[int]]:
    """Task -> people who have a current word on it."""
    query = select(col(CorrectionTable.task_pk), col(CorrectionTable.annotator_pk)).join(TaskTable)
    query = query.where(
        col(TaskTable.dataset_id) == dataset_id,
        *are_current(),
    )
    people: dict[int, set[int]] = {}
    for task, person in session.execute(query):
        people.setdefault(task, set()).add(person)
    return people


def _leases(session: Session, dataset_id: int, now: str) -> list[tuple[int, int]]:
    query = select(col(AssignmentTable.task_pk), col(AssignmentTable.annotator_pk)).join(TaskTable)
    query = query.where(
        col(TaskTable.dataset_id) == dataset_id,
        col(AssignmentTable.expires_at) > now,
        col(AssignmentTable.skipped_at).is_(None),
    )
    return [(task, person) for task, person in session.execute(query)]


def _skipped(session: Session, person: int, dataset_id: int) -> set[int]:
    query = select(col(AssignmentTable.task_pk)).join(TaskTable)
    query = query.where(
        col(TaskTable.dataset_id) == dataset_id,
        col(AssignmentTable.annotator_pk) == person,
        col(AssignmentTable.skipped_at).is_not(None),
    )
    return set(session.execute(query).scalars())
