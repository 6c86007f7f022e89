"""The Rank page: choose or write a task, press Rank, watch it; stop, resume, replay, ask what if.

Gradio's events only start, stop and choose. What happens in a ranking comes to the board by itself, from the live view.
"""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ranker.elimination import MODES, AnswerFormat, RankConfig
from ranker.errors import RankingStudioError, UsageError
from ranker.schema import Domain, Mode
from studio.components.board import Board, Shown, branch_request, show_trace
from studio.components.notice import Notice, problem
from studio.components.picker import Picked, Picker
from studio.components.view import number_of
from studio.context import Context
from studio.pages.handwritten import make_task
from studio.pages.opening import DEFAULT_THINK_TOKENS, board_of, first_task, open_rank_page
from studio.pages.tasklist import dataset_options, neighbour, task_list
from studio.pages.wiring import Said, page_load, sent_by, wire

MAX_THINK_TOKENS = 512
CHOOSE, WRITE = "From a dataset", "Write one"
_DOMAINS = [
    ("Anything", Domain.OTHER.value),
    ("Things to recommend", Domain.RECOMMENDATION.value),
    ("Passages", Domain.PASSAGE.value),
    ("Models to route to", Domain.ROUTING.value),
]


@dataclass(frozen=True, kw_only=True)
class _Controls:
    """The components of the page that handlers read and write."""

    source: gr.Radio
    dataset: gr.Dropdown
    search: gr.Textbox
    tasks: Picker
    query: gr.Textbox
    history: gr.Textbox
    candidates: gr.Textbox
    domain: gr.Dropdown
    criterion: gr.Textbox
    chosen: gr.Column
    written: gr.Column
    model: gr.Dropdown
    mode: gr.Dropdown
    think: gr.Slider
    rank: gr.Button
    notice: Notice
    board: Board


def build(context: Context) -> None:
    """Lay out the page and wire it."""
    with gr.Row(elem_classes=["rs-page"]):
        with gr.Column(elem_classes=["rs-controls"], min_width=280):
            source = gr.Radio(
                [CHOOSE, WRITE], value=CHOOSE, label="Task", show_label=False, elem_classes=["rs-segments"]
            )
            chosen, dataset, search, tasks = _choosing()
            written, fields = _writing()
            model, mode, think = _settings(context)
            with gr.Column(elem_id="rank-bar"):
                rank = gr.Button("Rank", variant="primary", elem_id="rank-button")
        with gr.Column(elem_classes=["rs-main"], min_width=320):
            notice = Notice(elem_id="notice")
            board = Board(elem_id="board")
    controls = _Controls(
        source=source, dataset=dataset, search=search, tasks=tasks, chosen=chosen, written=written, model=model, mode=mode,
        think=think, rank=rank, notice=notice, board=board, **fields,
    )  # fmt: skip
    _wire_choosing(context, controls)
    _wire_ranking(context, controls)
    _wire_load(context, controls)


def _choosing() -> tuple[gr.Column, gr.Dropdown, gr.Textbox, Picker]:
    with gr.Column(elem_classes=["rs-group"]) as column:
        dataset = gr.Dropdown([], label="Dataset", elem_id="dataset")
        search = gr.Textbox(label="Find a task", placeholder="Words of the query or the candidates", elem_id="search")
        tasks = Picker(elem_id="tasks")
    return column, dataset, search, tasks


def _writing() -> tuple[gr.Column, dict[str, Any]]:
    with gr.Column(elem_classes=["rs-group"], visible=False) as column:
        fields = {
            "query": gr.Textbox(label="Query", lines=2, placeholder="What are the candidates ranked for?"),
            "candidates": gr.Textbox(label="Candidates, one a line", lines=6, max_lines=14),
            "history": gr.Textbox(label="History, one a line (optional)", lines=2, max_lines=8),
            "domain": gr.Dropdown(_DOMAINS, value=Domain.OTHER.value, label="The candidates are", filterable=False),
            "criterion": gr.Textbox(label="Best means (optional)", placeholder="cheapest, most relevant, ..."),
        }
    return column, fields


def _settings(context: Context) -> tuple[gr.Dropdown, gr.Dropdown, gr.Slider]:
    modes = [(mode.value.capitalize(), mode.value) for mode in MODES]
    with gr.Column(elem_classes=["rs-group", "rs-settings"]):
        model = gr.Dropdown([], label="Model", elem_id="model")
        mode = gr.Dropdown(modes, value=MODES[0].value, label="Mode", filterable=False, elem_id="mode")
        think = gr.Slider(
            0,
            MAX_THINK_TOKENS,
            value=DEFAULT_THINK_TOKENS,
            step=8,
            label="Thinking budget, tokens a step",
        )
    return model, mode, think


def _wire_choosing(context: Context, c: _Controls) -> None:
    def choose_source(source: str) -> tuple[Any, ...]:
        return gr.update(visible=source != WRITE), gr.update(visible=source == WRITE)

    def choose_dataset(dataset_id: int | None) -> tuple[Any, ...]:
        task_id = first_task(context, dataset_id)
        return "", task_list(context, dataset_id, "", 0, task_id), board_of(context, dataset_id, task_id)

    def find(dataset_id: int | None, query: str, picked: Picked) -> tuple[Any, ...]:
        return (task_list(context, dataset_id, query, 0, picked.selected),)

    def turn_page(dataset_id: int | None, query: str, picked: Picked, event: gr.EventData) -> tuple[Any, ...]:
        return (task_list(context, dataset_id, query, number_of(sent_by(event), "offset") or 0, picked.selected),)

    def pick(dataset_id: int | None, picked: Picked) -> tuple[Any, ...]:
        return (board_of(context, dataset_id, picked.selected),)

    def move(dataset_id: int | None, query: str, picked: Picked, event: gr.EventData) -> tuple[Any, ...]:
        if dataset_id is None:
            raise UsageError("dataset: none: choose one first")
        direction = -1 if sent_by(event).get("direction") == -1 else 1
        task_id, offset = neighbour(context, dataset_id, query, picked, direction)
        return task_list(context, dataset_id, query, offset, task_id), board_of(context, dataset_id, task_id)

    where = [c.dataset, c.search, c.tasks]
    wire(c.source.input, choose_source, [c.source], [c.chosen, c.written], c.notice)
    wire(c.dataset.input, choose_dataset, [c.dataset], [c.search, c.tasks, c.board], c.notice)
    wire(c.search.change, find, where, [c.tasks], c.notice, trigger_mode="always_last")
    wire(c.tasks.turn, turn_page, where, [c.tasks], c.notice)
    wire(c.tasks.pick, pick, [c.dataset, c.tasks], [c.board], c.notice, trigger_mode="always_last")
    wire(c.board.move, move, where, [c.tasks, c.board], c.notice, trigger_mode="always_last")


def _wire_ranking(context: Context, c: _Controls) -> None:
    def rank(
        source: str, shown: Shown, model: str | None, mode: str, think: float,
        query: str, candidates: str, history: str, domain: str, criterion: str,
    ) -> tuple[Any, ...]:  # fmt: skip
        if source == WRITE:
            dataset_id, task_id = context.library.add_task(make_task(query, history, candidates, domain, criterion))
        elif shown.dataset_id is None or shown.task_id is None:
            raise UsageError("task: none: choose one from the list, or write one")
        else:
            dataset_id, task_id = shown.dataset_id, shown.task_id
        config = _config(context, model, mode, think)
        return (show_trace(context.rankings.start(dataset_id, task_id, model=model or None, config=config)),)

    def stop(shown: Shown) -> tuple[Any, ...]:
        if shown.trace_id:
            context.rankings.stop(shown.trace_id)
        return ()

    def resume(shown: Shown) -> tuple[Any, ...]:
        if shown.trace_id is None:
            raise UsageError("trace: none: choose one on the Traces page")
        context.rankings.resume(shown.trace_id)
        return (show_trace(shown.trace_id),)

    def branch(event: gr.EventData) -> tuple[Any, ...]:
        asked = branch_request(sent_by(event))
        if asked.trace_id is None or asked.step_index is None or asked.excluded_id is None:
            raise UsageError("what-if: request: incomplete: choose a step and a candidate on the board")
        return (show_trace(context.rankings.branch(asked.trace_id, asked.step_index, asked.excluded_id)),)

    def choose_model(model: str) -> tuple[Any, ...]:
        """The budget that a model was trained with is the one to begin with."""
        trained = context.registry.card(model).think_tokens
        return (gr.update(info=_budget_info(context, model), **({"value": trained} if trained else {})),)

    wire(c.model.input, choose_model, [c.model], [c.think], c.notice)
    fields = [c.query, c.candidates, c.history, c.domain, c.criterion]
    inputs = [c.source, c.board, c.model, c.mode, c.think, *fields]
    for event in (c.rank.click, c.search.submit, c.query.submit, c.criterion.submit):
        wire(event, rank, inputs, [c.board], c.notice)
    wire(c.board.stop, stop, [c.board], [], c.notice)
    wire(c.board.resume, resume, [c.board], [c.board], c.notice)
    wire(c.board.branch, branch, [], [c.board], c.notice)


def _wire_load(context: Context, c: _Controls) -> None:
    def load(request: gr.Request) -> Said:
        asked = request.query_params
        notice = None
        try:
            opening = open_rank_page(context, asked.get("trace"), asked.get("dataset"), asked.get("task"))
        except RankingStudioError as error:  # a link to what is gone still opens the page
            notice, opening = problem(str(error)), open_rank_page(context, None, None, None)
        cards = [card.name for card in context.registry.cards()]
        default = context.settings.model or (cards[0] if cards else None)
        model = opening.model if opening.model in cards else default
        values = (
            gr.update(choices=dataset_options(context), value=opening.dataset_id),
            task_list(context, opening.dataset_id, "", opening.offset, opening.task_id),
            opening.board,
            gr.update(choices=cards, value=model),
            opening.mode,
            gr.update(value=opening.think_tokens, info=_budget_info(context, model)),
        )
        return Said(notice, values)

    wire(page_load(), load, [], [c.dataset, c.tasks, c.board, c.model, c.mode, c.think], c.notice)


def _budget_info(context: Context, model: str | None) -> str:
    """What a person who waits for a thought should know; empty for models that write one."""
    is_wordless = {card.name: card.answer_format is AnswerFormat.LIKELIHOOD for card in context.registry.cards()}
    if model is None or not is_wordless.get(model):
        return ""
    watch = "".join([f": choose {name} to watch it think" for name, is_one in is_wordless.items() if not is_one][:1])
    return f"{model} decides by likelihood and writes nothing{watch}."


def _config(context: Context, model: str | None, mode: str, think: float) -> RankConfig:
    """What the controls say, checked: anybody can send anything."""
    if mode not in {m.value for m in MODES}:
        raise UsageError(f"mode: {mode[:40]!r}: choose one of {', '.join(MODES)}")
    if not 0 <= think <= MAX_THINK_TOKENS:
        raise UsageError(f"thinking budget: {think}: choose 0 to {MAX_THINK_TOKENS} tokens")
    card = context.registry.card(model or context.settings.model)
    return RankConfig(mode=Mode(mode), think_tokens=int(think), answer_format=card.answer_format)
