"""Drafts in the store: what somebody has not submitted yet, saved as they go, never overwritten by an older tab.

Every save names the revision that it started from. If something newer is there, the save is refused and its content is kept
beside the newer one, so that the person can look at both.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, func
from sqlmodel import Session, col, select

from ranker.errors import UsageError
from studio.store.database import Database
from studio.store.people import annotator_pk, find_annotator, task_pk
from studio.store.records import Draft, DraftConflict, StaleError, now_utc
from studio.store.tables import DraftTable

MAX_DRAFT_CHARS = 200_000
MAX_CONFLICTS = 20
"""Refused saves that are kept of one task and author; the oldest go first."""


class DraftSection:
    """The store's drafts: one a person and task."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, author: str, dataset_id: int, task_id: str) -> Draft:
        """The draft of a person; an empty one of revision 0 if nothing was ever saved."""
        with self._database.read() as session:
            task = task_pk(session, dataset_id, task_id)
            person = find_annotator(session, author)
            return _draft(session, person.id or 0, task) if person else Draft(revision=0, payload=None, saved_at=None)

    def save(self, author: str, dataset_id: int, task_id: str, payload: Mapping[str, Any], *, revision: int) -> Draft:
        """Keep `payload`, which was made from `revision`.

        Returns:
            The draft as it is now; its revision is the one to name next.

        Raises:
            StaleError: if something newer is there. What was to be saved is kept in `conflicts`.
        """
        text = json.dumps(dict(payload), ensure_ascii=False)
        if len(text) > MAX_DRAFT_CHARS:
            raise UsageError(f"draft: payload: {len(text)} characters: at most {MAX_DRAFT_CHARS} are kept")
        with self._database.write() as session:
            person, task = annotator_pk(session, author), task_pk(session, dataset_id, task_id)
            newest = newest_revision(session, person, task)
            is_stale = revision != newest
            if not is_stale:
                session.execute(_rows(delete(DraftTable), person, task).where(col(DraftTable.revision).is_not(None)))
            row = DraftTable(
                annotator_pk=person,
                task_pk=task,
                revision=None if is_stale else newest + 1,
                base_revision=revision,
                payload=text,
                saved_at=now_utc(),
            )
            session.add(row)
            session.flush()
            _drop_old_conflicts(session, person, task)
            draft = _draft(session, person, task)
        if is_stale:
            raise stale_draft(task_id, revision, newest)
        return draft

    def discard_conflicts(self, author: str, dataset_id: int, task_id: str) -> None:
        """Forget the saves that came too late, once somebody has looked at them."""
        with self._database.write() as session:
            person, task = annotator_pk(session, author), task_pk(session, dataset_id, task_id)
            session.execute(_rows(delete(DraftTable), person, task).where(col(DraftTable.revision).is_(None)))


def stale_draft(task_id: str, revision: int, newest: int) -> StaleError:
    """What a save or a submission from an old revision is answered."""
    return StaleError(
        f"task {task_id}: draft: revision {revision} is not the newest ({newest}): look at both (yours is kept), then go on"
    )


def newest_revision(session: Session, person: int, task: int) -> int:
    """0 if nothing was ever saved."""
    newest = session.exec(
        select(func.max(DraftTable.revision)).where(DraftTable.annotator_pk == person, DraftTable.task_pk == task)
    ).one()
    return newest or 0


def close_draft(session: Session, person: int, task: int, newest: int, *, is_drafted: bool) -> None:
    """It was submitted: the next revision is empty, so that a tab which still shows the old one is refused.

    A submission that names no draft closes one only if there is one.
    """
    if newest or is_drafted:
        session.execute(_rows(delete(DraftTable), person, task).where(col(DraftTable.revision).is_not(None)))
        session.add(
            DraftTable(annotator_pk=person, task_pk=task, revision=newest + 1, base_revision=newest, saved_at=now_utc())
        )


def keep_beside(session: Session, person: int, task: int, payload: str, revision: int) -> None:
    """Keep what came too late."""
    session.add(
        DraftTable(annotator_pk=person, task_pk=task, base_revision=revision, payload=payload, saved_at=now_utc())
    )
    session.flush()
    _drop_old_conflicts(session, person, task)


def _rows(statement: Any, person: int, task: int) -> Any:
    return statement.where(col(DraftTable.annotator_pk) == person, col(DraftTable.task_pk) == task)


def _drop_old_conflicts(session: Session, person: int, task: int) -> None:
    refused = _rows(select(col(DraftTable.id)), person, task).where(col(DraftTable.revision).is_(None))
    old = session.execute(refused.order_by(col(DraftTable.id).desc()).offset(MAX_CONFLICTS)).scalars().all()
    if old:
        session.execute(delete(DraftTable).where(col(DraftTable.id).in_(old)))


def _draft(session: Session, person: int, task: int) -> Draft:
    rows = session.exec(_rows(select(DraftTable), person, task).order_by(col(DraftTable.id))).all()
    current = next((row for row in rows if row.revision is not None), None)
    return Draft(
        revision=(current.revision or 0) if current else 0,
        payload=json.loads(current.payload) if current and current.payload else None,
        saved_at=current.saved_at if current else None,
        conflicts=tuple(
            DraftConflict(
                payload=json.loads(row.payload or "{}"), base_revision=row.base_revision, saved_at=row.saved_at
            )
            for row in rows
            if row.revision is None
        ),
    )
