"""The Traces page: search and filter every ranking, read one in full, put two of the same task side by side."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from ranker.elimination import MODES
from ranker.errors import RankingStudioError, UsageError
from ranker.schema import Mode, Outcome
from studio.components.notice import Notice, problem
from studio.components.table import Column, Table, link, table
from studio.components.trace_view import TraceView, show_traces
from studio.components.view import number_of
from studio.context import Context
from studio.evaluationtraces import read_trace
from studio.pages.tasklist import dataset_options, task_name
from studio.pages.wiring import Said, page_load, sent_by, wire
from studio.store import StoredTrace, TraceFilter, TraceRow, TraceState

PAGE_TRACES = 25
ANY = ""
_RANKS = [("Any", ANY), ("First", "1-1"), ("In the first 3", "1-3"), ("Behind the first 3", "4-")]
_TIMES = [("Any time", ANY), ("Last hour", "1"), ("Last day", "24"), ("Last 7 days", "168")]
_COLUMNS = (
    Column("task", "Task"),
    Column("state", "State", "state"),
    Column("model", "Model and mode"),
    Column("outcomes", "Decisions"),
    Column("rank", "Relevant one", "number"),
    Column("tokens", "Tokens", "number"),
    Column("seconds", "Time", "seconds"),
    Column("made", "Made", "time"),
)
_OUTCOMES = {
    Outcome.PARSED: "model’s answer",
    Outcome.FORCED: "forced",
    Outcome.NO_ANSWER: "no answer",
    Outcome.SEVERAL_ANSWERS: "several answers",
    Outcome.NOT_IN_POOL: "not in the pool",
}


def build(context: Context) -> None:
    """Lay out the page and wire it."""
    notice = Notice(elem_id="notice")
    with gr.Row(elem_classes=["rs-page"], visible=False) as browsing:
        with gr.Column(elem_classes=["rs-controls"], elem_id="filters", min_width=240):
            fields = _filters()
        with gr.Column(elem_classes=["rs-main"], min_width=320):
            rows = Table(elem_id="traces")
    view = TraceView(elem_id="trace")
    inputs = list(fields.values())

    def find(*values: Any) -> tuple[Any, ...]:
        return (_page(context, make_filter(dict(zip(fields, values, strict=True))), 0),)

    def turn(
        text: str, dataset: int | str, model: str, mode: str, outcome: str, state: str, rank: str, time: str,
        event: gr.EventData,
    ) -> tuple[Any, ...]:  # fmt: skip
        values = (text, dataset, model, mode, outcome, state, rank, time)
        filters = make_filter(dict(zip(fields, values, strict=True)))
        return (_page(context, filters, number_of(sent_by(event), "offset") or 0),)

    def load(request: gr.Request) -> Said:
        asked = request.query_params
        notice, shown = None, None
        try:
            shown = _evaluated(context, asked) if asked.get("evaluation") else _asked_for(context, asked)
        except RankingStudioError as error:  # a link to what is gone still opens the list
            notice = problem(str(error))
        datasets = [("All", ANY), *dataset_options(context)]
        models = [("All", ANY), *((name, name) for name in context.store.traces.models())]
        page = None if shown else _page(context, TraceFilter(), 0)
        values = (gr.update(visible=shown is None), gr.update(choices=datasets), gr.update(choices=models), page, shown)
        return Said(notice, values)

    for name, field in fields.items():
        event = field.change if name == "text" else field.input  # a pasted text is a change, but no input
        wire(event, find, inputs, [rows], notice, trigger_mode="always_last" if name == "text" else None)
    wire(rows.turn, turn, inputs, [rows], notice)
    wire(page_load(), load, [], [browsing, fields["dataset"], fields["model"], rows, view], notice)


def _filters() -> dict[str, Any]:
    """The filters by name, in the order in which handlers get them."""
    modes = [("All", ANY), *((mode.value.capitalize(), mode.value) for mode in MODES)]
    outcomes = [("All", ANY), *((words.capitalize(), outcome.value) for outcome, words in _OUTCOMES.items())]
    states = [("All", ANY), *((state.value.capitalize(), state.value) for state in TraceState)]
    find = gr.Textbox(label="Find", placeholder="Words of query, candidates or reasoning", elem_id="find")

    def choice(label: str, choices: list[tuple[str, str]]) -> gr.Dropdown:
        return gr.Dropdown(choices, value=ANY, label=label, filterable=False)

    return {
        "text": find,
        "dataset": choice("Dataset", [("All", ANY)]),
        "model": choice("Model", [("All", ANY)]),
        "mode": choice("Mode", modes),
        "outcome": choice("With a step that was", outcomes),
        "state": choice("State", states),
        "rank": choice("Relevant one ranked", _RANKS),
        "time": choice("Made", _TIMES),
    }


def make_filter(values: Mapping[str, Any], *, now: datetime | None = None) -> TraceFilter:
    """The filter that the fields say.

    Raises:
        UsageError: if a field has a value that it does not offer.
    """
    low, _, high = str(values["rank"] or "").partition("-")
    since = None
    try:
        if values["time"]:
            since = ((now or datetime.now(UTC)) - timedelta(hours=int(values["time"]))).isoformat(
                timespec="microseconds"
            )
        return TraceFilter(
            text=values["text"] or "",
            dataset_id=int(values["dataset"]) if values["dataset"] else None,
            model=values["model"] or None,
            mode=Mode(values["mode"]) if values["mode"] else None,
            outcome=Outcome(values["outcome"]) if values["outcome"] else None,
            state=TraceState(values["state"]) if values["state"] else None,
            min_rank=int(low) if low and low != "1" else None,
            max_rank=int(high) if high else None,
            since=since,
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"filter: {' '.join(str(error).split())[:200]}: choose a value from the list") from error


def _page(context: Context, filters: TraceFilter, offset: int) -> dict[str, Any]:
    page = context.store.traces.search(**filters.model_dump(), offset=offset, limit=PAGE_TRACES)
    is_narrowed = filters != TraceFilter()
    empty = (
        {"title": "No trace fits", "text": "Use fewer words, or set a filter back to “All”."}
        if is_narrowed
        else {
            "title": "No traces yet",
            "text": "Every ranking that you start is kept here, with each step, its prompt and its reasoning.",
            "href": "/",
            "action": "Rank a task",
        }
    )
    return table(
        "Traces",
        _COLUMNS,
        [_row(row, task_name(context, row.dataset_id, row)) for row in page.rows],
        total=page.total,
        offset=offset,
        limit=PAGE_TRACES,
        empty=empty,
        compare="/traces",
        actions=[{"text": "Export as JSON Lines", "href": export_path(filters)}],
    )


def export_path(filters: TraceFilter) -> str:
    """Where the finished traces that fit can be had as a file."""
    names = {"dataset_id": "dataset"}
    chosen = filters.model_dump(mode="json", exclude={"state"}, exclude_none=True)
    query = urlencode({names.get(name, name): value for name, value in chosen.items() if value != ""})
    return "/api/traces/export" + (f"?{query}" if query else "")


def _row(row: TraceRow, name: str) -> dict[str, Any]:
    outcomes = ", ".join(f"{number} {_OUTCOMES[outcome]}" for outcome, number in row.totals.outcomes.items())
    branch = ", what-if" if row.parent_trace_id else ""
    return {
        "id": row.trace_id,
        "name": name,
        "group": f"{row.dataset_id}/{row.task_id}",
        "cells": {
            "task": link(name, f"/traces?trace={row.trace_id}", f"{row.dataset}, {row.task_id}"),
            "state": row.state.value,
            "model": {"text": row.model, "sub": row.mode.value + branch},
            "outcomes": outcomes,
            "rank": f"{row.rank_of_relevant} of {row.num_candidates}" if row.rank_of_relevant else None,
            "tokens": row.totals.completion_tokens,
            "seconds": row.totals.latency_s,
            "made": row.created_at,
        },
    }


def _evaluated(context: Context, asked: Mapping[str, str]) -> dict[str, Any]:
    """Two answers of an evaluation to one task, side by side; one of them alone if only `left` is named."""
    seed = asked.get("seed", "0")
    if not seed.isdecimal() or len(seed) > 9:
        raise UsageError(f"seed: {seed[:40]!r}: is no number: open the link from the Evaluate page")
    evaluation_id, dataset, task_id = asked["evaluation"], asked.get("dataset", ""), asked.get("task", "")
    systems = [name for side in ("left", "right") if (name := asked.get(side))]
    if not systems:
        raise UsageError("left: none: open the link from the Evaluate page")
    traces = [read_trace(context.evaluations, evaluation_id, dataset, s, task_id, int(seed)) for s in systems]
    place = {"evaluation": evaluation_id, "dataset": dataset}
    here = {**place, "task": task_id, "seed": seed}
    hrefs = [f"/traces?{urlencode({**here, 'left': system})}" for system in systems]
    pair = dict(zip("ab", systems, strict=False))
    return show_traces(
        traces, hrefs=hrefs, back=("Back to the evaluation", f"/evaluate?{urlencode({**place, **pair})}")
    )


def _asked_for(context: Context, asked: Mapping[str, str]) -> dict[str, Any] | None:
    """What the address asks to be shown in full; None = the list."""
    one, left, right = asked.get("trace"), asked.get("left"), asked.get("right")
    get = context.store.traces.get
    if left and right:
        pair = (get(left), get(right))
        _check_same_task(*pair)
        return show_traces(pair)
    if one:
        trace = get(one)
        others = [row for row in context.store.traces.of_task(trace.dataset_id, trace.task_id) if row.trace_id != one]
        return show_traces((trace,), others)
    return None


def _check_same_task(left: StoredTrace, right: StoredTrace) -> None:
    if (left.dataset_id, left.task_id) != (right.dataset_id, right.task_id):
        raise UsageError(
            f"compare: task: {left.task_id!r} and {right.task_id!r} differ: choose two traces of the same task"
        )
