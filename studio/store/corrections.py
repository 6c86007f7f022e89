"""Corrections in the store: append-only, with a chain of `supersedes` behind every current word.

Of one author, task and subject (the ranking, the label, one step of one trace, a flag) the newest word that nothing
supersedes is the *current* one; an author's gold answer and their own vote are two words. A withdrawal is a flag that supersedes: it ends the chain without saying anything, so that
whoever leaves superseded corrections and flags out (training does) sees exactly the current words.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, String, cast, exists, func, select
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from ranker.errors import UsageError
from ranker.schema import Correction, CorrectionKind
from studio.store.database import Database
from studio.store.drafts import close_draft, keep_beside, newest_revision, stale_draft
from studio.store.people import annotator_pk, find_annotator, pseudonym, task_pk
from studio.store.records import Annotator, Guideline, NotStoredError, StaleError, now_utc
from studio.store.tables import (
    AccountTable,
    AnnotatorTable,
    AssignmentTable,
    CorrectionTable,
    DatasetTable,
    DraftTable,
    GuidelineTable,
    SessionTable,
    TaskTable,
    TokenTable,
)

WITHDRAWN = "withdrawn"
"""The key of a withdrawal's payload; its value is the correction_id that is withdrawn."""

_FIELDS = (
    "correction_id", "trace_id", "kind", "created_at", "duration_s", "reason", "supersedes", "model", "prompt_version",
    "guideline_version", "is_gold",
)  # fmt: skip


_LATER = aliased(CorrectionTable)  # made once: it takes longer than a query


class CorrectionPage(NamedTuple):
    """Some corrections, oldest first, and how many there are altogether."""

    rows: list[Correction]
    total: int


class Added(NamedTuple):
    """What became of a correction that was handed in."""

    correction: Correction
    is_new: bool
    """False = it was there already (a repeated request, or an import for the second time)."""


def new_correction_id() -> str:
    """20 random hexadecimal digits."""
    return secrets.token_hex(10)


def is_withdrawal(correction: Correction) -> bool:
    """Does it only take back an earlier word?"""
    return correction.kind is CorrectionKind.FLAG and WITHDRAWN in correction.payload


def subject_of(correction: Correction) -> str:
    """What it is about, within its task: later words of the same author about the same thing take its place."""
    if correction.kind is not CorrectionKind.STEP:
        return correction.kind.value
    payload = correction.payload
    where = payload.get("step_index")
    return f"step:{correction.trace_id}:{','.join(payload.get('pool', ())) if where is None else where}"


def are_current() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """The conditions for a current word: nothing supersedes it, and it is no withdrawal."""
    return _is_last(), func.json_extract(CorrectionTable.payload, f"$.{WITHDRAWN}").is_(None)


def _is_last() -> ColumnElement[bool]:
    return ~exists().where(col(_LATER.supersedes) == col(CorrectionTable.correction_id))


class CorrectionSection:
    """The store's corrections, the people behind them, and what they are told."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, dataset_id: int, correction: Correction, *, follow: bool = True, draft_revision: int | None = None
    ) -> Added:
        """`add_all` of one."""
        return self.add_all(dataset_id, [correction], follow=follow, draft_revision=draft_revision)[0]

    def add_all(
        self,
        dataset_id: int,
        corrections: Sequence[Correction],
        *,
        follow: bool = True,
        draft_revision: int | None = None,
        draft: Mapping[str, Any] | None = None,
    ) -> list[Added]:
        """Store what one person says of one task, all of it or nothing, and close their draft of it.

        Args:
            dataset_id: where the task is.
            corrections: one at least, of one author and task, valid for it.
            follow: let each supersede the author's current word about the same thing, where it names none itself.
            draft_revision: of the draft that they were made from; None = not from a draft.
            draft: what to keep beside if that came too late; None = the payload of the first.

        Raises:
            NotStoredError: if the task, or what one supersedes, is not there.
            StaleError: if the draft has a newer revision (this one is then kept beside it), or what one supersedes has been
                superseded by something else.
            UsageError: if an id is taken by another correction, or one supersedes somebody else's.
        """
        first = corrections[0]
        assert len({(c.author, c.task_id) for c in corrections}) == 1, "one author and task"
        stale: StaleError | None = None
        added: list[Added] = []
        with self._database.write() as session:
            known = {c.correction_id: self._select_one(session, c.correction_id) for c in corrections}
            if all(known.values()):  # before the author is looked up: it may be somebody who was forgotten since
                return [
                    Added(_same(session, there, c), False) for c in corrections if (there := known[c.correction_id])
                ]
            person, task = annotator_pk(session, first.author), task_pk(session, dataset_id, first.task_id)
            newest = newest_revision(session, person, task)
            is_repeated = any(known.values())
            if draft_revision is not None and draft_revision != newest and not is_repeated:
                kept = json.dumps(dict(first.payload if draft is None else draft), ensure_ascii=False)
                keep_beside(session, person, task, kept, draft_revision)
                stale = stale_draft(first.task_id, draft_revision, newest)
            else:
                for given in corrections:
                    there = known[given.correction_id]
                    added.append(
                        Added(self._insert(session, given, person, task, follow=follow), True)
                        if there is None
                        else Added(_same(session, there, given), False)
                    )
                if not is_repeated:
                    close_draft(session, person, task, newest, is_drafted=draft_revision is not None)
        if stale is not None:
            raise stale
        return added

    def _insert(self, session: Session, correction: Correction, person: int, task: int, *, follow: bool) -> Correction:
        session.add(_row(session, correction, person, task, follow=follow))
        session.flush()
        stored = self._select_one(session, correction.correction_id)
        assert stored is not None
        return stored

    def get(self, correction_id: str) -> Correction:
        """Raises NotStoredError if there is none of that id."""
        with self._database.read() as session:
            found = self._select_one(session, correction_id)
        if found is None:
            raise _no_correction(correction_id)
        return found

    def search(
        self,
        *,
        dataset_id: int | None = None,
        task_id: str | None = None,
        author: str | None = None,
        current: bool = False,
        newest_first: bool = False,
        offset: int = 0,
        limit: int | None = None,
    ) -> CorrectionPage:
        """The corrections that fit, in the order in which they came.

        Args:
            current: leave out what was superseded or withdrawn.
            limit: None = all.
        """
        query = _SELECT
        for column, value in (
            (TaskTable.dataset_id, dataset_id), (TaskTable.task_id, task_id), (AnnotatorTable.name, author),
        ):  # fmt: skip
            if value is not None:
                query = query.where(col(column) == value)
        if current:
            query = query.where(*are_current())
        order = col(CorrectionTable.id)
        with self._database.read() as session:
            rows = query.order_by(order.desc() if newest_first else order).offset(max(0, offset)).limit(limit)
            found = [_correction(row) for row in session.execute(rows)]
            if limit is None and offset <= 0:
                return CorrectionPage(found, len(found))
            ids = query.with_only_columns(order).subquery()
            total = session.execute(select(func.count()).select_from(ids)).scalar_one()
        return CorrectionPage(found, total)

    def dataset_of(self, correction_id: str) -> int:
        """The id of the dataset that a correction's task is in. Raises NotStoredError if there is no such correction."""
        query = select(col(TaskTable.dataset_id)).join(
            CorrectionTable, col(CorrectionTable.task_pk) == col(TaskTable.id)
        )
        with self._database.read() as session:
            found = session.execute(query.where(col(CorrectionTable.correction_id) == correction_id)).scalar()
        if found is None:
            raise _no_correction(correction_id)
        return int(found)

    def count_since(self, author: str, since: str) -> int:
        """How many corrections a person has made since a moment (ISO 8601, UTC)."""
        query = select(func.count()).select_from(CorrectionTable).join(AnnotatorTable)
        query = query.where(col(AnnotatorTable.name) == author, col(CorrectionTable.created_at) >= since)
        with self._database.read() as session:
            return int(session.execute(query).scalar_one())

    def annotators(self) -> list[Annotator]:
        """Everybody who ever corrected, drafted or was given a task, in the order in which they came."""
        with self._database.read() as session:
            rows = session.execute(select(AnnotatorTable).order_by(col(AnnotatorTable.id))).scalars()
            return [_annotator(row) for row in rows]

    def forget(self, author: str) -> Annotator:
        """Take a person's name, account, drafts and assignments away; what they said stays, under a made-up name.

        Raises:
            NotStoredError: if there is nobody of that name.
        """
        with self._database.write() as session:
            row = find_annotator(session, author)
            if row is None:
                raise NotStoredError(f"store: author: {author[:80]!r} is not there: choose one from the list")
            for table in (DraftTable, AssignmentTable, AccountTable, SessionTable, TokenTable):
                for owned in session.execute(select(table).where(col(table.annotator_pk) == row.id)).scalars():
                    session.delete(owned)
            row.name, row.forgotten_at = pseudonym(), now_utc()
            session.add(row)
            session.flush()
            return _annotator(row)

    def add_guideline(self, text: str, dataset: str | None = None) -> Guideline:
        """Store the next version of what annotators of `dataset` (None = all) are told."""
        with self._database.write() as session:
            row = GuidelineTable(dataset=dataset, text=text, created_at=now_utc())
            session.add(row)
            session.flush()
            return Guideline.model_validate(row.model_dump())

    def guidelines(self, dataset: str | None = None) -> Sequence[Guideline]:
        """All versions that hold for `dataset`, the one in force first: the dataset's own before those for all."""
        query = select(GuidelineTable).where(
            col(GuidelineTable.dataset).is_(None) | (col(GuidelineTable.dataset) == dataset)
        )
        query = query.order_by(col(GuidelineTable.dataset).is_(None), col(GuidelineTable.version).desc())
        with self._database.read() as session:
            return [Guideline.model_validate(row.model_dump()) for row in session.execute(query).scalars()]

    def _select_one(self, session: Session, correction_id: str) -> Correction | None:
        row = session.execute(_SELECT.where(col(CorrectionTable.correction_id) == correction_id)).first()
        return None if row is None else _correction(row)


def _select() -> Select[Any]:
    columns = [getattr(CorrectionTable, name) for name in _FIELDS]
    query: Select[Any] = select(
        *columns, col(CorrectionTable.payload), col(TaskTable.task_id), col(AnnotatorTable.name).label("author"),
        (col(DatasetTable.name) + "@" + cast(col(DatasetTable.version), String)).label("dataset"),
    )  # fmt: skip
    query = query.join(TaskTable, col(CorrectionTable.task_pk) == col(TaskTable.id))
    query = query.join(DatasetTable, col(TaskTable.dataset_id) == col(DatasetTable.id))
    return query.join(AnnotatorTable, col(CorrectionTable.annotator_pk) == col(AnnotatorTable.id))


_SELECT = _select()


def _correction(row: Any) -> Correction:
    fields = dict(row._mapping)
    return Correction.model_validate(fields | {"payload": json.loads(fields["payload"])})


def _annotator(row: AnnotatorTable) -> Annotator:
    assert row.id is not None
    return Annotator(id=row.id, name=row.name, created_at=row.created_at, is_forgotten=row.forgotten_at is not None)


def _row(session: Session, correction: Correction, person: int, task: int, *, follow: bool) -> CorrectionTable:
    fields = {name: getattr(correction, name) for name in _FIELDS}
    subject, supersedes = subject_of(correction), correction.supersedes
    if supersedes is not None:
        subject = _checked_subject(session, correction, supersedes, person, task)
    elif follow:
        supersedes = _current_id(session, person, task, subject, correction.is_gold)
    return CorrectionTable(
        **fields | {"kind": correction.kind.value, "supersedes": supersedes},
        subject=subject,
        task_pk=task,
        annotator_pk=person,
        payload=json.dumps(dict(correction.payload), ensure_ascii=False),
    )


def _checked_subject(session: Session, correction: Correction, supersedes: str, person: int, task: int) -> str:
    """The subject of what is superseded: a withdrawal, say, is about what it withdraws."""
    table = CorrectionTable
    row = session.execute(select(table).where(col(table.correction_id) == supersedes)).scalar()
    if row is None:
        raise _no_correction(supersedes)
    if (row.annotator_pk, row.task_pk) != (person, task):
        raise UsageError(
            f"correction: supersedes: {supersedes}: is another author's or task's: supersede your own only"
        )
    taken = session.execute(select(col(table.correction_id)).where(col(table.supersedes) == supersedes)).scalar()
    if taken is not None:
        raise StaleError(
            f"correction: supersedes: {supersedes}: was superseded by {taken}: look at that one, then go on"
        )
    subject: str = row.subject
    return subject


def _current_id(session: Session, person: int, task: int, subject: str, is_gold: bool) -> str | None:
    """The newest word of this author about this subject (a withdrawal, too, if it is the last)."""
    table = CorrectionTable
    query = select(col(table.correction_id)).where(
        col(table.task_pk) == task,
        col(table.annotator_pk) == person,
        col(table.subject) == subject,
        col(table.is_gold) == is_gold,
        _is_last(),
    )
    found: str | None = session.execute(query.order_by(col(table.id).desc()).limit(1)).scalar()
    return found


def _same(session: Session, known: Correction, given: Correction) -> Correction:
    """`known`, if `given` says the same. The name of somebody who was forgotten since is not asked for."""
    loose = {"created_at", "dataset"} | ({"supersedes"} if given.supersedes is None else set())
    person = find_annotator(session, known.author)
    if person is not None and person.forgotten_at is not None:
        loose.add("author")
    if known.model_dump(exclude=loose) != given.model_dump(exclude=loose):
        raise UsageError(
            f"correction: correction_id: {given.correction_id}: is another correction already: use another id"
        )
    return known


def _no_correction(correction_id: str) -> NotStoredError:
    return NotStoredError(f"store: correction: {correction_id[:80]!r} is not there: choose one from the list")
