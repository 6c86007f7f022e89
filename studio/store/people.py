"""Rows that corrections, drafts and assignments share: the person and the task. Used inside an open transaction."""

import secrets

from sqlmodel import Session, col, select

from ranker.errors import UsageError
from studio.store.records import NotStoredError, now_utc
from studio.store.tables import AnnotatorTable, TaskTable

MAX_NAME_CHARS = 80


def checked_author(name: str) -> str:
    """A person's name with single spaces. Raises UsageError if it cannot be used."""
    name = " ".join(name.split())
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise UsageError(f"correction: author: {name[:40]!r}: use 1 to {MAX_NAME_CHARS} printable characters")
    return name


def pseudonym() -> str:
    """What stands in the place of a removed name."""
    return f"annotator-{secrets.token_hex(6)}"


def find_annotator(session: Session, name: str) -> AnnotatorTable | None:
    """The row of a person, if they have one."""
    return session.exec(select(AnnotatorTable).where(AnnotatorTable.name == checked_author(name))).first()


def annotator_pk(session: Session, name: str) -> int:
    """The row number of a person, who gets one if need be."""
    row = find_annotator(session, name)
    if row is None:
        row = AnnotatorTable(name=checked_author(name), created_at=now_utc())
        session.add(row)
        session.flush()
    assert row.id is not None
    return row.id


def task_pk(session: Session, dataset_id: int, task_id: str) -> int:
    """The row number of a task. Raises NotStoredError if it is not there."""
    query = select(col(TaskTable.id)).where(TaskTable.dataset_id == dataset_id, TaskTable.task_id == task_id)
    found = session.exec(query).first()
    if found is None:
        raise NotStoredError(f"dataset {dataset_id}: task_id: {task_id!r} is not there: choose one from the list")
    return found
