"""Traces and their steps in the store: written step by step as they happen, searched, exported.

Whoever writes a step also brings totals and full-text search up to date, in the same transaction.
"""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import func, text
from sqlalchemy import select as sql_select
from sqlmodel import Session, col, select

from ranker.metrics import rank_of_relevant
from ranker.schema import EliminationStep, Mode, Outcome, RankingTask, RankingTrace, Totals
from studio.store.database import Database
from studio.store.records import (
    FinishedRanking,
    NotStoredError,
    StoredTrace,
    TraceFilter,
    TracePage,
    TraceRow,
    TraceState,
    now_utc,
)
from studio.store.tables import DatasetTable, StepTable, TaskTable, TraceTable
from studio.store.taskrows import search_text
from studio.store.tracequery import row_fields, select_traces

EXPORT_BATCH = 50


def new_trace_id() -> str:
    """16 random hexadecimal digits."""
    return secrets.token_hex(8)


def reasoning_text(steps: Sequence[EliminationStep]) -> str:
    """What the reasoning of `steps` is found by: a line each, its answer behind it."""
    return "".join(f"{step.reasoning}\n{step.answer}\n" for step in steps)


class TraceSection:
    """The store's traces."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        trace_id: str,
        dataset_id: int,
        task_id: str,
        *,
        model: str,
        mode: Mode,
        seed: int,
        config: Mapping[str, Any],
        parent_trace_id: str | None = None,
        branch_step_index: int | None = None,
        steps: Sequence[EliminationStep] = (),
    ) -> None:
        """Store a queued trace; `steps` are those that a branch has from its parent.

        Raises:
            NotStoredError: if the task is not there.
        """
        with self._database.write() as session:
            task_row = self._task_row(session, dataset_id, task_id)
            row = TraceTable(
                trace_id=trace_id,
                task_pk=task_row.id or 0,
                model=model,
                mode=mode.value,
                seed=seed,
                config=json.dumps(dict(config)),
                prompt_version="",
                state=TraceState.QUEUED.value,
                parent_trace_id=parent_trace_id,
                branch_step_index=branch_step_index,
                totals=Totals.of(steps).model_dump_json(),
                created_at=now_utc(),
            )
            session.add(row)
            session.flush()
            session.add_all(_step_row(row.id or 0, step) for step in steps)
            query, candidates = search_text(RankingTask.model_validate_json(task_row.record))
            session.execute(
                text("INSERT INTO trace_text (rowid, query, candidates, reasoning) VALUES (:id, :q, :c, :r)"),
                {"id": row.id, "q": query, "c": candidates, "r": reasoning_text(steps)},
            )

    def add_step(self, trace_id: str, step: EliminationStep) -> Totals:
        """Store one more finished step.

        Returns:
            The totals with it.

        Raises:
            StoreError: if there is no such trace, or it has that step already.
        """
        with self._database.write() as session:
            row = self._row(session, trace_id)
            session.add(_step_row(row.id or 0, step))
            totals = _add(Totals.model_validate_json(row.totals), step)
            row.totals = totals.model_dump_json()
            row.heartbeat = now_utc()
            session.add(row)
            session.execute(
                text("UPDATE trace_text SET reasoning = reasoning || :r WHERE rowid = :id"),
                {"id": row.id, "r": reasoning_text((step,))},
            )
        return totals

    def set_state(self, trace_id: str, state: TraceState, *, error: str | None = None) -> None:
        """Write where the trace stands (`finish` is for finished ones)."""
        with self._database.write() as session:
            row = self._row(session, trace_id)
            row.state, row.error, row.heartbeat = state.value, error, now_utc()
            if state is TraceState.RUNNING and row.started_at is None:
                row.started_at = row.heartbeat
            row.finished_at = None if state.is_live else row.heartbeat
            session.add(row)

    def finish(self, trace_id: str, trace: RankingTrace) -> int | None:
        """Write the ranking of a trace whose steps are all stored.

        Returns:
            1-based rank of the best relevant candidate, None if that is not known.
        """
        with self._database.write() as session:
            row = self._row(session, trace_id)
            task_row = session.get_one(TaskTable, row.task_pk)
            rank = rank_of_relevant(trace.ranking, RankingTask.model_validate_json(task_row.record).relevance)
            row.ranking = json.dumps(trace.ranking)
            row.prompt_version = trace.prompt_version
            row.rank_of_relevant = rank
            row.state, row.error = TraceState.FINISHED.value, None
            row.finished_at = row.heartbeat = now_utc()
            session.add(row)
        return rank

    def interrupt_live(self) -> list[str]:
        """Mark what the last run of the program left queued or running.

        Returns:
            The trace_ids that were marked.
        """
        with self._database.write() as session:
            live = [state.value for state in TraceState if state.is_live]
            rows = session.exec(select(TraceTable).where(col(TraceTable.state).in_(live))).all()
            for row in rows:
                row.state, row.finished_at = TraceState.INTERRUPTED.value, now_utc()
                session.add(row)
            return [row.trace_id for row in rows]

    def get(self, trace_id: str) -> StoredTrace:
        """Raises NotStoredError if there is no such trace."""
        found = self._load([trace_id])
        if not found:
            raise _no_trace(trace_id)
        return found[0]

    def of_ids(self, trace_ids: Sequence[str]) -> Iterator[StoredTrace]:
        """Those of `trace_ids` that are there, with everything, read a batch at a time."""
        for start in range(0, len(trace_ids), EXPORT_BATCH):
            yield from self._load(trace_ids[start : start + EXPORT_BATCH])

    def of_task(self, dataset_id: int, task_id: str) -> list[TraceRow]:
        """All traces of one task, newest first."""
        query = select_traces(TraceFilter(dataset_id=dataset_id)).where(col(TaskTable.task_id) == task_id)
        with self._database.read() as session:
            return [TraceRow.model_validate(row_fields(row)) for row in session.execute(query)]

    def search(
        self,
        text: str = "",
        *,
        dataset_id: int | None = None,
        model: str | None = None,
        mode: Mode | None = None,
        outcome: Outcome | None = None,
        state: TraceState | None = None,
        max_rank: int | None = None,
        min_rank: int | None = None,
        since: str | None = None,
        offset: int = 0,
        limit: int = 50,
    ) -> TracePage:
        """One page of the traces that fit, newest first. See `TraceFilter` for the meaning of each filter."""
        filters = TraceFilter(
            text=text, dataset_id=dataset_id, model=model, mode=mode, outcome=outcome, state=state,
            max_rank=max_rank, min_rank=min_rank, since=since,
        )  # fmt: skip
        query = select_traces(filters)
        with self._database.read() as session:
            ids = query.with_only_columns(col(TraceTable.id)).order_by(None).subquery()
            total = session.execute(select(func.count()).select_from(ids)).scalar_one()
            page = session.execute(query.offset(max(0, offset)).limit(max(0, limit)))
            return TracePage([TraceRow.model_validate(row_fields(row)) for row in page], total)

    def finished_of(self, dataset_id: int) -> list[FinishedRanking]:
        """The rankings of all finished traces of a dataset, newest first, without their steps."""
        query = select_traces(TraceFilter(dataset_id=dataset_id, state=TraceState.FINISHED))
        with self._database.read() as session:
            return [
                FinishedRanking(
                    row.trace_id, row.task_id, row.model, tuple(json.loads(row.ranking)), row.rank_of_relevant
                )
                for row in session.execute(query)
            ]

    def probabilities(self, trace_ids: Sequence[str]) -> dict[str, list[dict[str, float]]]:
        """trace_id -> the exclusion probabilities of its steps, of those steps that have them."""
        found: dict[str, list[dict[str, float]]] = {trace_id: [] for trace_id in trace_ids}
        query = sql_select(col(TraceTable.trace_id), func.json_extract(StepTable.record, "$.probabilities"))
        query = query.join(StepTable, col(StepTable.trace_pk) == col(TraceTable.id))
        for start in range(0, len(trace_ids), 500):
            with self._database.read() as session:
                chunk = query.where(col(TraceTable.trace_id).in_(trace_ids[start : start + 500]))
                for trace_id, probabilities in session.execute(chunk.order_by(col(StepTable.step_index))):
                    if probabilities is not None:
                        found[trace_id].append(json.loads(probabilities))
        return found

    def models(self) -> list[str]:
        """Names of all models that traces are of."""
        with self._database.read() as session:
            return list(session.exec(select(TraceTable.model).distinct().order_by(TraceTable.model)))

    def count_by_state(self) -> dict[TraceState, int]:
        """How many traces stand where."""
        with self._database.read() as session:
            counted = session.execute(select(TraceTable.state, func.count()).group_by(TraceTable.state)).all()
        return {TraceState(state): number for state, number in counted}

    def sums(self) -> Totals:
        """Totals over all traces (without outcomes and seconds)."""
        fields = ("num_steps", "prompt_tokens", "cached_prompt_tokens", "completion_tokens")
        sums = (func.coalesce(func.sum(func.json_extract(TraceTable.totals, f"$.{field}")), 0) for field in fields)
        with self._database.read() as session:
            row = session.execute(sql_select(*sums)).one()
        return Totals.model_validate(dict(zip(fields, row, strict=True)))

    def export(self, filters: TraceFilter) -> Iterator[str]:
        """The finished traces that fit, newest first, as lines of JSON (each with its line end)."""
        finished = select_traces(filters.model_copy(update={"state": TraceState.FINISHED}))
        with self._database.read() as session:
            ids = list(session.execute(finished.with_only_columns(col(TraceTable.trace_id))).scalars())
        for trace in self.of_ids(ids):
            yield trace.to_trace().model_dump_json() + "\n"

    def _load(self, trace_ids: Sequence[str]) -> list[StoredTrace]:
        """Those of `trace_ids` that are there, newest first, with everything."""
        query = select_traces(TraceFilter()).where(col(TraceTable.trace_id).in_(trace_ids))
        query = query.add_columns(
            col(TraceTable.id),
            col(TraceTable.config),
            col(TraceTable.prompt_version),
            col(TraceTable.started_at),
            col(TaskTable.record),
        )
        with self._database.read() as session:
            return [self._stored(session, row) for row in session.execute(query).all()]

    def _stored(self, session: Session, row: Any) -> StoredTrace:
        query = select(StepTable.record).where(StepTable.trace_pk == row.id).order_by(col(StepTable.step_index))
        steps = session.exec(query)
        return StoredTrace.model_validate(
            row_fields(row)
            | {
                "config": json.loads(row.config),
                "prompt_version": row.prompt_version,
                "started_at": row.started_at,
                "task": RankingTask.model_validate_json(row.record),
                "steps": tuple(EliminationStep.model_validate_json(record) for record in steps),
            }
        )

    def _row(self, session: Session, trace_id: str) -> TraceTable:
        row = session.exec(select(TraceTable).where(TraceTable.trace_id == trace_id)).first()
        if row is None:
            raise _no_trace(trace_id)
        return row

    def _task_row(self, session: Session, dataset_id: int, task_id: str) -> TaskTable:
        query = select(TaskTable).join(DatasetTable).where(DatasetTable.id == dataset_id, TaskTable.task_id == task_id)
        row = session.exec(query).first()
        if row is None:
            raise NotStoredError(f"dataset {dataset_id}: task_id: {task_id!r} is not there: choose one from the list")
        return row


def _no_trace(trace_id: str) -> NotStoredError:
    return NotStoredError(f"store: trace: {trace_id!r} is not there: choose one from the list")


def _step_row(trace_pk: int, step: EliminationStep) -> StepTable:
    return StepTable(
        trace_pk=trace_pk,
        step_index=step.step_index,
        outcome=step.outcome.value,
        excluded_id=step.excluded_id,
        record=step.model_dump_json(),
    )


def _add(totals: Totals, step: EliminationStep) -> Totals:
    one = Totals.of((step,))
    outcomes = dict(totals.outcomes)
    outcomes[step.outcome] = outcomes.get(step.outcome, 0) + 1
    return Totals(
        num_steps=totals.num_steps + 1,
        prompt_tokens=totals.prompt_tokens + one.prompt_tokens,
        cached_prompt_tokens=totals.cached_prompt_tokens + one.cached_prompt_tokens,
        completion_tokens=totals.completion_tokens + one.completion_tokens,
        latency_s=round(totals.latency_s + one.latency_s, 6),
        outcomes=outcomes,
    )
