"""Checks of a whole database: the file itself, and everything that is stored twice, derived again."""

import json
from collections.abc import Iterator

from pydantic import ValidationError
from sqlalchemy import text
from sqlmodel import Session, col, select

from ranker.metrics import rank_of_relevant
from ranker.schema import EliminationStep, RankingTask, Totals, make_ranking
from studio.store.database import Database
from studio.store.records import TraceState
from studio.store.tables import DatasetTable, StepTable, TaskTable, TraceTable
from studio.store.taskrows import chain_hash, search_text
from studio.store.traces import reasoning_text
from studio.store.verifycorrections import check_corrections


def verify_database(database: Database) -> list[str]:
    """Problems, one line each; empty if there are none. Reads everything once."""
    with database.read() as session:
        problems = [*_check_file(session), *_check_full_text_index(session)]
        for dataset in session.exec(select(DatasetTable)).all():
            problems += _check_dataset(session, dataset)
        for trace_pk in session.exec(select(TraceTable.id).order_by(col(TraceTable.id))).all():
            problems += _check_trace(session, session.get_one(TraceTable, trace_pk))
            session.expunge_all()
        problems += check_corrections(session)
    return problems


def _check_file(session: Session) -> Iterator[str]:
    for (message,) in session.execute(text("PRAGMA integrity_check")):
        if message != "ok":
            yield f"file: {message}"
    for table, row, parent, _ in session.execute(text("PRAGMA foreign_key_check")):
        yield f"{table} {row}: points at a row of {parent} that is not there"


def _check_full_text_index(session: Session) -> Iterator[str]:
    for name, index in (("task", "task_text_docsize"), ("trace", "trace_text_docsize")):
        missing = session.execute(text(f"SELECT id FROM {name} EXCEPT SELECT id FROM {index}")).scalars().all()  # noqa: S608
        unknown = session.execute(text(f"SELECT id FROM {index} EXCEPT SELECT id FROM {name}")).scalars().all()  # noqa: S608
        if missing:
            yield f"{name}: {len(missing)} rows cannot be found by search (first: {missing[0]})"
        if unknown:
            yield f"{name}: {len(unknown)} search entries have no row (first: {unknown[0]})"


def _check_dataset(session: Session, dataset: DatasetTable) -> Iterator[str]:
    place = f"dataset {dataset.name!r} version {dataset.version}"
    sha256, num_tasks = "", 0
    query = select(TaskTable.task_id, TaskTable.position, TaskTable.record)
    query = query.where(TaskTable.dataset_id == dataset.id).order_by(col(TaskTable.position))
    for task_id, position, record in session.exec(query.execution_options(yield_per=500)):
        sha256 = chain_hash(sha256, record)
        if position != num_tasks:
            yield f"{place}: task {task_id!r}: position {position}, expected {num_tasks}"
        num_tasks += 1
        try:
            if RankingTask.model_validate_json(record).task_id != task_id:
                yield f"{place}: task {task_id!r}: its record has another task_id"
        except ValidationError as error:
            yield f"{place}: task {task_id!r}: record: {_first(error)}"
    if sha256 != dataset.sha256:
        yield f"{place}: sha256: the tasks are not the ones that were imported"
    if num_tasks != dataset.num_tasks:
        yield f"{place}: num_tasks: {dataset.num_tasks}, but there are {num_tasks}"


def _check_trace(session: Session, row: TraceTable) -> Iterator[str]:
    place = f"trace {row.trace_id}"
    query = select(StepTable).where(StepTable.trace_pk == row.id).order_by(col(StepTable.step_index))
    step_rows = session.exec(query).all()
    task_row = session.get(TaskTable, row.task_pk)
    if task_row is None:
        yield f"{place}: task: its row {row.task_pk} is not there"
        return
    try:
        task = RankingTask.model_validate_json(task_row.record)
        steps = tuple(EliminationStep.model_validate_json(step.record) for step in step_rows)
        totals = Totals.model_validate_json(row.totals)
    except ValidationError as error:
        yield f"{place}: record: {_first(error)}"
        return
    for stored, step in zip(step_rows, steps, strict=True):
        if (stored.step_index, stored.outcome, stored.excluded_id) != (step.step_index, step.outcome, step.excluded_id):
            yield f"{place}: step {stored.step_index}: its columns differ from its record"
    if Totals.of(steps).model_dump(exclude={"latency_s"}) != totals.model_dump(exclude={"latency_s"}):
        yield f"{place}: totals: differ from the sum over its steps"
    yield from _check_result(place, row, task, steps)
    yield from _check_search_text(session, place, row, task, steps)


def _check_result(place: str, row: TraceTable, task: RankingTask, steps: tuple[EliminationStep, ...]) -> Iterator[str]:
    is_finished = row.state == TraceState.FINISHED
    if is_finished != (row.ranking is not None):
        yield f"{place}: state: {row.state}, but it has {'no' if row.ranking is None else 'a'} ranking"
        return
    if not is_finished:
        return
    try:
        ranking = make_ranking(steps)
    except ValueError as error:
        yield f"{place}: {error}"
        return
    if list(ranking) != json.loads(row.ranking or "null"):
        yield f"{place}: ranking: is not the reverse order of exclusion of its steps"
    if sorted(ranking) != sorted(task.candidate_ids):
        yield f"{place}: ranking: is not a permutation of the task's candidates"
    if rank_of_relevant(ranking, task.relevance) != row.rank_of_relevant:
        yield f"{place}: rank_of_relevant: {row.rank_of_relevant} does not follow from its ranking"


def _check_search_text(
    session: Session, place: str, row: TraceTable, task: RankingTask, steps: tuple[EliminationStep, ...]
) -> Iterator[str]:
    query = text("SELECT query, candidates, reasoning FROM trace_text WHERE rowid = :id")
    found = session.execute(query, {"id": row.id}).first()
    if found is not None and tuple(found) != (*search_text(task), reasoning_text(steps)):
        yield f"{place}: search: its text is not that of its task and steps"


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
