"""From a `TraceFilter` to SQL, and from a row to the fields of a `TraceRow`."""

import json
from typing import Any

from sqlalchemy import Select, exists, select, text
from sqlmodel import col

from ranker.schema import Totals
from studio.store.fulltext import match_query
from studio.store.records import TraceFilter
from studio.store.tables import DatasetTable, StepTable, TaskTable, TraceTable

_COLUMNS: tuple[Any, ...] = (
    col(TraceTable.trace_id),
    col(TaskTable.dataset_id),
    col(DatasetTable.name).label("dataset"),
    col(DatasetTable.version).label("dataset_version"),
    col(TaskTable.task_id),
    col(TaskTable.domain),
    col(TaskTable.summary),
    col(TaskTable.num_candidates),
    col(TraceTable.model),
    col(TraceTable.mode),
    col(TraceTable.seed),
    col(TraceTable.state),
    col(TraceTable.ranking),
    col(TraceTable.rank_of_relevant),
    col(TraceTable.totals),
    col(TraceTable.parent_trace_id),
    col(TraceTable.branch_step_index),
    col(TraceTable.error),
    col(TraceTable.created_at),
    col(TraceTable.finished_at),
)
_NAMES: tuple[str, ...] = tuple(column.key for column in _COLUMNS)


def select_traces(filters: TraceFilter) -> Select[Any]:
    """The rows of the traces that fit, newest first."""
    query: Select[Any] = select(*_COLUMNS)
    query = query.join(TaskTable, col(TraceTable.task_pk) == col(TaskTable.id))
    query = query.join(DatasetTable, col(TaskTable.dataset_id) == col(DatasetTable.id))
    if filters.text.strip():
        found = text("trace.id IN (SELECT rowid FROM trace_text WHERE trace_text MATCH :match)")
        query = query.where(found.bindparams(match=match_query(filters.text)))
    if filters.outcome is not None:
        of_trace = col(StepTable.trace_pk) == col(TraceTable.id)
        query = query.where(exists().where(of_trace, col(StepTable.outcome) == filters.outcome.value))
    equal = (
        (TaskTable.dataset_id, filters.dataset_id),
        (TraceTable.model, filters.model),
        (TraceTable.mode, filters.mode),
        (TraceTable.state, filters.state),
    )
    for column, value in equal:
        if value is not None:
            query = query.where(col(column) == value)
    if filters.max_rank is not None:
        query = query.where(col(TraceTable.rank_of_relevant) <= filters.max_rank)
    if filters.min_rank is not None:
        query = query.where(col(TraceTable.rank_of_relevant) >= filters.min_rank)
    if filters.since is not None:
        query = query.where(col(TraceTable.created_at) >= filters.since)
    return query.order_by(col(TraceTable.created_at).desc(), col(TraceTable.id).desc())


def row_fields(row: Any) -> dict[str, Any]:
    """The fields of a `TraceRow` from a row of `select_traces`."""
    fields: dict[str, Any] = {name: row._mapping[name] for name in _NAMES}
    fields["ranking"] = json.loads(fields["ranking"]) if fields["ranking"] else None
    fields["totals"] = Totals.model_validate_json(fields["totals"])
    return fields
