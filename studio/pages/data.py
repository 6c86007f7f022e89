"""The Data page: the datasets, what one of them is like, its tasks; import by upload, delete with undo."""

from typing import Any
from urllib.parse import quote

import gradio as gr

from ranker.errors import RankingStudioError, UsageError
from studio.components.importpreview import ImportPreview
from studio.components.notice import Notice, done, problem
from studio.components.picker import Option, Picked, Picker, pick_list
from studio.components.static import hint, section_title
from studio.components.summary import Summary, summary
from studio.components.table import Column, Table, link, table
from studio.components.view import number_of
from studio.context import Context
from studio.pages.diagnosis import Diagnosis
from studio.pages.importing import Show, wire_importing
from studio.pages.tasklist import dataset_name, task_name
from studio.pages.wiring import Said, page_load, sent_by, wire
from studio.profile import TaskProfile, profile_tasks
from studio.store import DatasetInfo

PAGE_TASKS = 25
PAGE_DATASETS = 12
_COLUMNS = (
    Column("task", "Task"),
    Column("domain", "Domain", "domain"),
    Column("candidates", "Candidates", "number"),
    Column("rank", "", "action"),
)


def build(context: Context) -> None:
    """Lay out the page and wire it."""
    with gr.Row(elem_classes=["rs-page"]):
        with gr.Column(elem_classes=["rs-controls"], min_width=240):
            section_title("Datasets")
            datasets = Picker(elem_id="datasets")
            with gr.Column(elem_classes=["rs-group", "rs-settings"]):
                section_title("Import")
                upload = gr.File(label="File of tasks", show_label=False, elem_id="upload", height=104)
                hint(
                    "Ranking tasks or raw data. Several files as one .zip. You see what was understood before it is stored."
                )
        with gr.Column(elem_classes=["rs-main"], min_width=320):
            notice = Notice(elem_id="notice")
            coming = ImportPreview(elem_id="import-preview")
            head = Summary(elem_id="dataset-summary")
            with gr.Column(visible=False, elem_classes=["rs-main"]) as detail:
                diagnosis = Diagnosis(context)
                find = gr.Textbox(
                    label="Find a task", placeholder="Words of the query or the candidates", elem_id="find"
                )
                tasks = Table(elem_id="tasks")
    page = [datasets, head, detail, find, tasks, *diagnosis.components]

    def show(dataset_id: int | None) -> tuple[Any, ...]:
        return _show(context, diagnosis, dataset_id)

    _wire_choosing(context, show, datasets, find, tasks, page, notice)
    _wire_deleting(context, show, head, page, notice)
    diagnosis.wire(notice)
    wire_importing(context, upload, coming, page, show, notice)


def _wire_choosing(
    context: Context,
    show: Show,
    datasets: Picker,
    find: gr.Textbox,
    tasks: Table,
    shown: list[Any],
    notice: Notice,
) -> None:
    def load(request: gr.Request) -> Said:
        asked = request.query_params.get("dataset")
        try:
            return Said(None, show(int(asked) if asked and asked.isdecimal() else None))
        except RankingStudioError as error:  # a link to what is gone still opens the page
            return Said(problem(str(error)), show(None))

    def pick(picked: Picked) -> tuple[Any, ...]:
        return show(_dataset_id(picked))

    def turn_list(picked: Picked, event: gr.EventData) -> tuple[Any, ...]:
        return (_dataset_list(context, picked.selected, number_of(sent_by(event), "offset") or 0),)

    def search(picked: Picked, query: str) -> tuple[Any, ...]:
        return (_task_table(context, _dataset_id(picked), query, 0),)

    def turn(picked: Picked, query: str, event: gr.EventData) -> tuple[Any, ...]:
        return (_task_table(context, _dataset_id(picked), query, number_of(sent_by(event), "offset") or 0),)

    wire(page_load(), load, [], shown, notice)
    wire(datasets.pick, pick, [datasets], shown, notice, trigger_mode="always_last")
    wire(datasets.turn, turn_list, [datasets], [datasets], notice)
    wire(find.change, search, [datasets, find], [tasks], notice, trigger_mode="always_last")
    wire(tasks.turn, turn, [datasets, find], [tasks], notice)


def _wire_deleting(context: Context, show: Show, head: Summary, shown: list[Any], notice: Notice) -> None:
    def delete(event: gr.EventData) -> Said:
        dataset_id = _sent_id(event)
        info = context.library.delete(dataset_id)
        said = done(f"{dataset_name(info)} is deleted. Its traces stay.", action="Undo", act_on=str(info.id))
        return Said(said, show(None))

    def restore(event: gr.EventData) -> Said:
        info = context.library.restore(_sent_id(event))
        return Said(done(f"{dataset_name(info)} is back."), show(info.id))

    wire(head.delete, delete, [], shown, notice)
    wire(notice.act, restore, [], shown, notice)


def _dataset_id(picked: Picked) -> int:
    if picked.selected is None or not picked.selected.isdecimal():
        raise UsageError("dataset: none: choose one from the list")
    return int(picked.selected)


def _sent_id(event: gr.EventData) -> int:
    sent = sent_by(event).get("id")
    if not isinstance(sent, str) or not sent.isdecimal():
        raise UsageError("dataset: none: choose one from the list")
    return int(sent)


def _show(context: Context, diagnosis: Diagnosis, dataset_id: int | None) -> tuple[Any, ...]:
    """The whole page on one dataset (None = the first there is)."""
    infos = context.library.datasets()
    info = context.library.dataset(dataset_id) if dataset_id is not None else (infos[0] if infos else None)
    if info is None:
        return (_dataset_list(context, None, 0), _no_dataset(), gr.update(visible=False), "", None, *diagnosis.nothing)
    profile = profile_tasks(context.store.datasets.iter_tasks(info.id))
    return (
        _dataset_list(context, str(info.id), 0),
        _head(info, profile),
        gr.update(visible=True),
        "",
        _task_table(context, info.id, "", 0),
        *diagnosis.show(info, profile),
    )


def _dataset_list(context: Context, selected: str | None, offset: int) -> dict[str, Any]:
    infos = context.library.datasets()
    options = [
        Option(str(info.id), dataset_name(info), f"{info.num_tasks:,} tasks, {', '.join(info.domains)}")
        for info in infos[offset : offset + PAGE_DATASETS]
    ]
    empty = "No dataset yet. Import a file below."
    return pick_list(
        "Datasets", options, total=len(infos), offset=offset, limit=PAGE_DATASETS, selected=selected, empty=empty
    )


def _no_dataset() -> dict[str, Any]:
    words = (
        "Import a file: ranking tasks (JSON Lines, CSV, Parquet) or raw data that a reader knows, also as .zip or .gz."
    )
    return summary("No dataset yet", words)


def _head(info: DatasetInfo, profile: TaskProfile) -> dict[str, Any]:
    looked = "" if profile.num_tasks == info.num_tasks else f" of the first {profile.num_tasks:,}"
    facts = [
        ("Tasks", f"{info.num_tasks:,}"),
        ("Domains", ", ".join(f"{domain.value} {number:,}" for domain, number in info.domains.items())),
        ("Relevance known", f"{profile.num_with_relevance:,}{looked or ' of ' + format(info.num_tasks, ',')}"),
        ("With a history", f"{profile.num_with_history:,}"),
        ("Source", info.source),
        ("Imported", info.created_at[:16].replace("T", " ") + " UTC"),
    ]
    return summary(
        dataset_name(info) + (" (deleted)" if info.deleted else ""),
        facts=facts,
        delete="" if info.deleted else str(info.id),
    )


def _task_table(context: Context, dataset_id: int, query: str, offset: int) -> dict[str, Any]:
    page = context.library.tasks(dataset_id, query=query, offset=offset, limit=PAGE_TASKS)
    rows = []
    for row in page.rows:
        path = f"/?dataset={dataset_id}&task={quote(row.task_id, safe='')}"
        cells = {
            "task": {"text": task_name(context, dataset_id, row), "sub": row.task_id},
            "domain": row.domain.value,
            "candidates": row.num_candidates,
            "rank": link("Rank this task", path),
        }
        rows.append({"id": row.task_id, "name": row.summary, "cells": cells})
    empty = {"title": "No task fits", "text": "Use fewer words: a task has to have all of them."}
    return table("Tasks", _COLUMNS, rows, total=page.total, offset=offset, limit=PAGE_TASKS, empty=empty)
