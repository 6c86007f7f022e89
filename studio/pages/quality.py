"""The Quality page: how far people agree, among themselves and with the models, who passes gold tasks, and what to decide."""

from typing import Any

import gradio as gr

from ranker.errors import RankingStudioError, UsageError
from studio.adjudication import Adjudication, Dispute
from studio.components.adjudicator import Adjudicator
from studio.components.figure import Figure
from studio.components.notice import Notice, problem
from studio.components.picker import Option, Picked, Picker, pick_list
from studio.components.qualityplots import gold, over_time, per_annotator, per_dataset
from studio.components.static import section_title
from studio.components.summary import Summary, summary
from studio.components.table import Column, Table, table
from studio.components.view import number_of
from studio.context import Context
from studio.pages.adjudicating import dispute_id, show_dispute, wire_adjudicating
from studio.pages.tasklist import dataset_options
from studio.pages.wiring import Said, page_load, sent_by, wire
from studio.quality import GOLD_TAU, Agreement, Estimate, QualityReport, make_report

PAGE_DISPUTES = 8
ALL = 0
_PLOTS = (
    ("over-time", "Agreement over time", over_time),
    ("per-annotator", "Each person", per_annotator),
    ("per-dataset", "Each dataset", per_dataset),
    ("gold", "Gold tasks passed", gold),
)
_AGREEMENT = (
    Column("between", "Between"),
    Column("tau_b", "Kendall tau-b"),
    Column("rbo", "Rank-biased overlap"),
    Column("top_1", "Same first"),
    Column("alpha", "Krippendorff’s alpha"),
    Column("first_divergence", "Steps before parting"),
)
_PEOPLE = (
    Column("author", "Person"),
    Column("corrections", "Corrections", "number"),
    Column("tasks", "Tasks", "number"),
    Column("seconds", "Median time", "seconds"),
    Column("others", "tau-b to others"),
    Column("model", "tau-b to the model"),
    Column("gold", "Gold passed", "number"),
)


def build(context: Context) -> None:
    """Lay out the page and wire it."""
    adjudication = Adjudication(context.store, context.corrections)
    with gr.Row(elem_classes=["rs-page"]):
        with gr.Column(elem_classes=["rs-controls"], min_width=240):
            dataset = gr.Dropdown([("All datasets", ALL)], value=ALL, label="Dataset", elem_id="dataset")
            with gr.Column(elem_classes=["rs-group", "rs-settings"]):
                section_title("Tasks to decide")
                disputes = Picker(elem_id="disputes")
        with gr.Column(elem_classes=["rs-main"], min_width=320):
            notice = Notice(elem_id="notice")
            deciding = Adjudicator(elem_id="adjudication")
            head = Summary(summary("Measuring …", "The corrections are being compared."), elem_id="quality-summary")
            with gr.Column(visible=False, elem_classes=["rs-main"]) as figures:
                agreement = Table(elem_id="agreement")
                plots = _plots()
                people = Table(elem_id="people")
    measured = [head, figures, agreement, people, *plots]
    shown = [dataset, disputes, deciding, *measured]

    def show(dataset_id: int) -> tuple[Any, ...]:
        return (_dispute_list(adjudication, dataset_id, None, 0), *_measure(context, dataset_id))

    def load(request: gr.Request) -> Said:
        asked, said, picked = request.query_params, None, None
        options = [("All datasets", ALL), *dataset_options(context)]
        known = {str(value): value for _, value in options}
        dataset_id = known.get(asked.get("dataset") or "", ALL)
        try:
            if asked.get("task"):
                picked = show_dispute(context, adjudication, dispute_id(dataset_id, asked["task"]), request)
        except RankingStudioError as error:  # a link to what is gone still opens the page
            said = problem(str(error))
        listed, *figures = show(dataset_id)
        return Said(said, (gr.update(choices=options, value=dataset_id), listed, picked, *figures))

    def choose(dataset_id: int | None) -> tuple[Any, ...]:
        listed, *figures = show(_checked_id(context, dataset_id))
        return (listed, None, *figures)

    def turn(dataset_id: int | None, picked: Picked, event: gr.EventData) -> tuple[Any, ...]:
        offset = number_of(sent_by(event), "offset") or 0
        return (_dispute_list(adjudication, _checked_id(context, dataset_id), picked.selected, offset),)

    def refresh(dataset_id: int | None) -> tuple[Any, ...]:
        return show(_checked_id(context, dataset_id))

    wire(page_load(), load, [], shown, notice, queue=True)
    wire(dataset.input, choose, [dataset], [disputes, deciding, *measured], notice, queue=True)
    wire(disputes.turn, turn, [dataset, disputes], [disputes], notice)
    wire_adjudicating(context, adjudication, disputes, deciding, notice, refresh, [dataset], [disputes, *measured])


def _plots() -> list[Figure]:
    figures = []
    with gr.Row(elem_classes=["rs-plots"]):
        for elem_id, title, _ in _PLOTS:
            with gr.Column(elem_classes=["rs-panel"], min_width=240):
                section_title(title)
                figures.append(Figure(elem_id=elem_id))
    return figures


def _checked_id(context: Context, dataset_id: int | None) -> int:
    """What the drop-down says, checked: anybody can send anything."""
    if dataset_id in (None, ALL):
        return ALL
    if not isinstance(dataset_id, int):
        raise UsageError("dataset: unknown: choose one from the list")
    return context.library.dataset(dataset_id).id


def _measure(context: Context, dataset_id: int) -> tuple[Any, ...]:
    report = make_report(context.store, dataset_id=dataset_id or None)
    if not report.num_current:
        words = (
            "Agreement, gold tasks and the tasks on which people differ are measured here, as soon as somebody has put a "
            "ranking right. Let two people correct the same tasks, and this page says how far they agree."
        )
        head = summary("Nothing was corrected yet", words)
        return (head, gr.update(visible=False), None, None, *[None] * len(_PLOTS))
    plots = [draw(report) for _, _, draw in _PLOTS]
    return (_head(report), gr.update(visible=True), _agreement_table(report), _people_table(report), *plots)


def _head(report: QualityReport) -> dict[str, Any]:
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(report.kinds.items()))
    passed = f"{report.gold_passed} of {report.gold_seen}" if report.gold_seen else "none answered"
    facts = [
        ("Said", f"{report.num_corrections:,}"),
        ("In force", f"{report.num_current:,} ({kinds})"),
        ("People", f"{len(report.annotators):,}"),
        ("Tasks", f"{report.num_tasks:,}"),
        ("Gold tasks", f"{len(report.gold):,}"),
        (f"Gold passed (tau-b ≥ {GOLD_TAU})", passed),
    ]
    words = "Means with 95% intervals over tasks, over the words in force. Gold answers are no votes: they measure the others."
    return summary("Corrections so far", words, facts=facts)


def _agreement_table(report: QualityReport) -> dict[str, Any]:
    named = [("All people", report.human_human)]
    named += [(f"People and {model}", agreement) for model, agreement in report.human_model.items()]
    if len(report.datasets) > 1:
        named += [(f"People, {name}", agreement) for name, agreement in report.datasets.items()]
        named += [(f"People and model, {name}", agreement) for name, agreement in report.dataset_models.items()]
    rows = [{"id": name, "name": name, "cells": {"between": name, **_cells(agreement)}} for name, agreement in named]
    empty = {"title": "Nothing to compare", "text": ""}
    return table("Agreement", _AGREEMENT, rows, total=len(rows), limit=len(rows), empty=empty)


def _cells(agreement: Agreement) -> dict[str, Any]:
    return {column.key: _cell(getattr(agreement, column.key)) for column in _AGREEMENT[1:]}


def _cell(estimate: Estimate | None) -> dict[str, str] | None:
    if estimate is None:
        return None
    tasks = "1 task" if estimate.num_tasks == 1 else f"{estimate.num_tasks:,} tasks"
    return {"text": f"{estimate.mean:.2f}", "sub": f"{estimate.low:.2f} to {estimate.high:.2f}, {tasks}"}


def _people_table(report: QualityReport) -> dict[str, Any]:
    rows = [
        {
            "id": a.author,
            "name": a.author,
            "cells": {
                "author": {"text": a.author},
                "corrections": a.num_corrections,
                "tasks": a.num_tasks,
                "seconds": a.median_duration_s,
                "others": _cell(a.with_others),
                "model": _cell(a.with_model),
                "gold": f"{a.gold_passed} of {a.gold_seen}" if a.gold_seen else None,
            },
        }
        for a in report.annotators
    ]
    empty = {"title": "Nobody has corrected yet", "text": ""}
    return table("People", _PEOPLE, rows, total=len(rows), limit=max(1, len(rows)), empty=empty)


def _dispute_list(adjudication: Adjudication, dataset_id: int, selected: str | None, offset: int) -> dict[str, Any]:
    disputes = adjudication.disputes(dataset_id or None)
    options = [
        Option(dispute_id(d.dataset_id, d.task_id), d.task_id, _note(d))
        for d in disputes[offset : offset + PAGE_DISPUTES]
    ]
    empty = "No task has been corrected by two people yet."
    return pick_list(
        "Tasks to decide",
        options,
        total=len(disputes),
        offset=offset,
        limit=PAGE_DISPUTES,
        selected=selected,
        empty=empty,
    )


def _note(dispute: Dispute) -> str:
    agreed = "" if dispute.tau_b is None else f", tau-b {dispute.tau_b:.2f}"
    versions = "1 version" if dispute.num_versions == 1 else f"{dispute.num_versions} versions"
    return f"{'Decided: ' if dispute.is_decided else ''}{dispute.num_people} people, {versions}{agreed}"
