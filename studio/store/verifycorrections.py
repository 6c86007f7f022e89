"""Checks of everything that people said: that it can be read, is about its task, and that its chains have one end."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlmodel import Session, col

from ranker.errors import DatasetError
from ranker.schema import Correction, CorrectionKind, RankingTask
from studio.store.corrections import subject_of
from studio.store.tables import AnnotatorTable, CorrectionTable, DraftTable, TaskTable
from trainer.orders import grade_step, tiers_of_correction

_BATCH = 500


def check_corrections(session: Session) -> Iterator[str]:
    """Problems of corrections and drafts, one line each."""
    links: dict[str, tuple[str | None, int, int, str]] = {}
    query = select(CorrectionTable, col(TaskTable.record), col(AnnotatorTable.name))
    query = query.join(TaskTable, col(CorrectionTable.task_pk) == col(TaskTable.id))
    query = query.join(AnnotatorTable, col(CorrectionTable.annotator_pk) == col(AnnotatorTable.id))
    for row, record, name in session.execute(query.execution_options(yield_per=_BATCH)):
        links[row.correction_id] = (row.supersedes, row.task_pk, row.annotator_pk, row.subject)
        yield from _check_correction(row, record, name)
        session.expunge(row)
    for correction_id in links:
        yield from _check_chain(correction_id, links)
    for draft_id, payload in session.execute(select(col(DraftTable.id), col(DraftTable.payload))):
        if payload is not None and not _is_object(payload):
            yield f"draft {draft_id}: payload: is not a JSON object"


def _check_correction(row: CorrectionTable, record: str, name: str) -> Iterator[str]:
    place = f"correction {row.correction_id}"
    try:
        task = RankingTask.model_validate_json(record)
        correction = Correction(
            correction_id=row.correction_id,
            task_id=task.task_id,
            trace_id=row.trace_id,
            kind=CorrectionKind(row.kind),
            author=name,
            created_at=row.created_at,
            duration_s=row.duration_s,
            payload=json.loads(row.payload),
            supersedes=row.supersedes,
        )
    except ValidationError as error:
        first = error.errors()[0]
        yield f"{place}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        return
    except ValueError as error:
        yield f"{place}: {error}"
        return
    try:
        if correction.kind is CorrectionKind.STEP:
            grade_step(correction, task)
        else:
            tiers_of_correction(correction, task)
    except DatasetError as error:
        yield str(error)
    if correction.supersedes is None and row.subject != subject_of(correction):
        yield f"{place}: subject: {row.subject!r} is not what its payload is about"


def _check_chain(correction_id: str, links: dict[str, tuple[str | None, int, int, str]]) -> Iterator[str]:
    """The one before it is of the same task, author and subject, and the chain has a beginning."""
    supersedes, *about = links[correction_id]
    if supersedes is None:
        return
    place = f"correction {correction_id}: supersedes: {supersedes}"
    if supersedes not in links:
        yield f"{place}: is not there"
        return
    if links[supersedes][1:] != tuple(about):
        yield f"{place}: is of another task, author or subject"
    seen = {correction_id}
    step: str | None = supersedes
    while step is not None and step in links:
        if step in seen:
            yield f"{place}: the chain goes round in a circle"
            return
        seen.add(step)
        step = links[step][0]


def _is_object(text: str) -> bool:
    try:
        value: Any = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict)
