"""The Evaluate page: start an evaluation and watch it; leaderboard, frontier, comparison and errors of any that is kept.

A timer asks how far a running evaluation is; what is on the page follows the results file, so a reload shows the same.
"""

from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from ranker.errors import RankingStudioError, UsageError
from ranker.evaluation import Results
from ranker.evaluation.results import Difference
from studio.components.evaluation import Comparison, EvaluationHead, Facts, Leaderboard, Shown
from studio.components.evaluationplots import COSTS
from studio.components.figure import Figure
from studio.components.notice import Notice, done, problem
from studio.components.offer import Offer
from studio.components.picker import Option, Picked, Picker, pick_list
from studio.components.static import section_title
from studio.components.view import number_of
from studio.context import Context
from studio.evaluationruns import EvaluationInfo
from studio.pages.evaluationform import EvaluationForm
from studio.pages.evaluationviews import (
    ALL,
    Choice,
    analysis_views,
    comparison_view,
    differences,
    frontier_view,
    head_view,
    leaderboard_view,
    settle,
)
from studio.pages.wiring import Said, page_load, sent_by, wire

TICK_S = 1.0
PAGE_EVALUATIONS = 8
_PLOTS = (
    ("losses", "At which pool size the relevant one is lost"),
    ("positions", "Which place of the prompt is excluded"),
    ("lengths", "Length of the thought and right exclusions"),
    ("reliability", "Are exclusions as right as their probability says?"),
)


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """The components that show an evaluation, in the order of `_Page.show`."""

    runs: Picker
    head: EvaluationHead
    detail: gr.Column
    dataset: gr.Dropdown
    board: Leaderboard
    frontier: Figure
    a: gr.Dropdown
    b: gr.Dropdown
    comparison: Comparison
    system: gr.Dropdown
    facts: Facts
    plots: list[Figure]
    timer: gr.Timer

    @property
    def all(self) -> list[Any]:
        return [
            self.runs, self.head, self.detail, self.dataset, self.board, self.frontier, self.a, self.b, self.comparison,
            self.system, self.facts, *self.plots, self.timer,
        ]  # fmt: skip


def build(context: Context) -> None:
    """Lay out the page and wire it."""
    with gr.Row(elem_classes=["rs-page"]):
        with gr.Column(elem_classes=["rs-controls"], min_width=240):
            section_title("Evaluations")
            runs = Picker(elem_id="evaluations")
            form = EvaluationForm(context)
        with gr.Column(elem_classes=["rs-main"], min_width=320):
            notice = Notice(elem_id="notice")
            head = EvaluationHead(elem_id="evaluation")
            with gr.Column(visible=False, elem_classes=["rs-main"]) as detail:
                dataset = Offer([], label="Dataset", elem_id="dataset", filterable=False)
                board = Leaderboard(elem_id="leaderboard")
                cost, frontier = _frontier()
                a, b, comparison = _comparison()
                system, facts, plots = _analysis()
    parts = _Parts(
        runs=runs, head=head, detail=detail, dataset=dataset, board=board, frontier=frontier, a=a, b=b,
        comparison=comparison, system=system, facts=facts, plots=plots, timer=gr.Timer(TICK_S, active=False),
    )  # fmt: skip
    page = _Page(context)
    _wire_choosing(page, parts, cost, notice, form)
    _wire_running(page, parts, form, notice)


def _frontier() -> tuple[gr.Radio, Figure]:
    with gr.Column(elem_classes=["rs-panel"]):
        section_title("Quality for its cost")
        cost = gr.Radio(
            [(c.words, c.name) for c in COSTS],
            value=COSTS[0].name,
            label="Cost of a ranking",
            elem_classes=["rs-segments", "rs-costs"],
        )
        return cost, Figure(elem_id="frontier")


def _comparison() -> tuple[gr.Dropdown, gr.Dropdown, Comparison]:
    with gr.Column(elem_classes=["rs-panel"]):
        section_title("Compare two rows")
        with gr.Row(elem_classes=["rs-picks-row"]):
            a = Offer([], label="A", elem_id="compare-a")
            b = Offer([], label="B", elem_id="compare-b")
        return a, b, Comparison(elem_id="comparison")


def _analysis() -> tuple[gr.Dropdown, Facts, list[Figure]]:
    with gr.Column(elem_classes=["rs-panel"]):
        section_title("Errors, step by step")
        system = Offer([], label="System", elem_id="analysed")
        facts = Facts(elem_id="analysis")
        plots = []
        with gr.Row(elem_classes=["rs-plots"]):
            for elem_id, title in _PLOTS:
                with gr.Column(min_width=240):
                    section_title(title)
                    plots.append(Figure(elem_id=elem_id))
    return system, facts, plots


@dataclass(frozen=True)
class _Page:
    """What the page shows of an evaluation."""

    context: Context
    tests: dict[tuple[str, str, str, str], tuple[Difference, ...]] = field(default_factory=dict)
    """Paired tests take a moment: those of the results as they are, by (evaluation, stamp, a, b)."""

    def newest(self) -> str | None:
        """The one that runs, else the newest that is kept, else the example."""
        infos = self.context.evaluations.infos()
        running = next((i for i in infos if i.status.state.is_live), None)
        return (running or infos[0]).evaluation_id if infos else None

    def show(self, evaluation_id: str | None, choice: Choice) -> tuple[Any, ...]:
        """Values of all parts."""
        runs = self.runs(evaluation_id, 0)
        if evaluation_id is None:
            return (runs, None, gr.update(visible=False), *[gr.skip()] * 12, gr.Timer(active=False))
        info = self.context.evaluations.info(evaluation_id)
        return (runs, *self.shown(info, choice), gr.Timer(active=info.status.state.is_live))

    def shown(self, info: EvaluationInfo, choice: Choice) -> tuple[Any, ...]:
        """Values of all parts between the list and the timer."""
        results, stamp = self.results(info.evaluation_id)
        top = head_view(self.context, info, results, stamp)
        if results is None or not results.rows:
            return (top, gr.update(visible=False), *[gr.skip()] * 12)
        choice = settle(choice, results)
        datasets = [("All datasets", ALL), *((d.name, d.name) for d in results.datasets)]
        here = list(dict.fromkeys(r.system for r in results.rows if choice.dataset in (ALL, r.dataset)))
        return (
            top,
            gr.update(visible=True),
            gr.update(choices=datasets, value=choice.dataset),
            leaderboard_view(results, choice.dataset or ALL),
            frontier_view(results, choice),
            gr.update(choices=here, value=choice.a),
            gr.update(choices=here, value=choice.b),
            self.compared(info.evaluation_id, results, stamp, choice),
            gr.update(choices=here, value=choice.system),
            *analysis_views(results, choice),
        )

    def results(self, evaluation_id: str) -> tuple[Results | None, str]:
        """The results and their stamp."""
        results = self.context.evaluations.results(evaluation_id)
        return (
            results,
            "" if results is None else f"{results.updated_at}/{len(results.rows)}/{len(results.differences)}",
        )

    def compared(self, evaluation_id: str, results: Results, stamp: str, choice: Choice) -> dict[str, Any]:
        key = (evaluation_id, stamp, choice.a or "", choice.b or "")
        if key not in self.tests:
            if len(self.tests) > 64:
                self.tests.clear()
            self.tests[key] = differences(results, choice.a, choice.b)
        return comparison_view(self.context, evaluation_id, results, choice, self.tests[key])

    def runs(self, selected: str | None, offset: int) -> dict[str, Any]:
        """The list of evaluations."""
        infos = self.context.evaluations.infos()
        options = [Option(i.evaluation_id, i.name, _note(i)) for i in infos[offset : offset + PAGE_EVALUATIONS]]
        return pick_list(
            "Evaluations", options, total=len(infos), offset=offset, limit=PAGE_EVALUATIONS, selected=selected,
            empty="No evaluation yet. Start one below.",
        )  # fmt: skip


def _note(info: EvaluationInfo) -> str:
    when = info.created_at[:16].replace("T", " ")
    return f"comes with the studio, {when}" if info.is_example else f"{info.status.state.value}, {when}"


def _wire_choosing(page: _Page, parts: _Parts, cost: gr.Radio, notice: Notice, form: EvaluationForm) -> None:
    chosen = [parts.head, parts.dataset, cost, parts.system, parts.a, parts.b]

    def load(request: gr.Request) -> Said:
        asked = request.query_params
        choice = Choice(dataset=asked.get("dataset"), a=asked.get("a"), b=asked.get("b"), system=asked.get("a"))
        offered = form.offered()
        try:
            return Said(None, (*page.show(asked.get("evaluation") or page.newest(), choice), *offered))
        except RankingStudioError as error:  # a link to what is gone still opens the page
            return Said(problem(str(error)), (*page.show(page.newest(), choice), *offered))

    def pick(picked: Picked) -> tuple[Any, ...]:
        if picked.selected is None:
            raise UsageError("evaluation: none: choose one from the list")
        return page.show(picked.selected, Choice())

    def turn(picked: Picked, event: gr.EventData) -> tuple[Any, ...]:
        return (page.runs(picked.selected, number_of(sent_by(event), "offset") or 0),)

    def choose(shown: Shown, *values: Any) -> tuple[Any, ...]:
        info = page.context.evaluations.info(_id(shown))
        return page.shown(info, _choice(values))

    wire(page_load(), load, [], [*parts.all, *form.choices], notice)
    wire(parts.runs.pick, pick, [parts.runs], parts.all, notice, trigger_mode="always_last")
    wire(parts.runs.turn, turn, [parts.runs], [parts.runs], notice)
    for component in (parts.dataset, cost, parts.system, parts.a, parts.b):
        wire(component.input, choose, chosen, parts.all[1:-1], notice, queue=True, trigger_mode="always_last")
    _wire_following(page, parts, chosen, notice)


def _wire_following(page: _Page, parts: _Parts, chosen: list[Any], notice: Notice) -> None:
    def follow(picked: Picked, shown: Shown, *values: Any) -> Said:
        """How far it is; the rest of the page only where there is something new."""
        info = page.context.evaluations.info(_id(shown))
        results, stamp = page.results(info.evaluation_id)
        if info.status.state.is_live and (stamp or None) == shown.stamp:
            top = head_view(page.context, info, results, stamp)
            return Said(gr.skip(), (gr.skip(), top, *[gr.skip()] * (len(parts.all) - 2)))
        runs = page.runs(picked.selected, picked.offset) if not info.status.state.is_live else gr.skip()
        timer = gr.skip() if info.status.state.is_live else gr.Timer(active=False)
        return Said(gr.skip(), (runs, *page.shown(info, _choice(values)), timer))

    wire(parts.timer.tick, follow, [parts.runs, *chosen], parts.all, notice, trigger_mode="once")


def _wire_running(page: _Page, parts: _Parts, form: EvaluationForm, notice: Notice) -> None:
    evaluations = page.context.evaluations

    def start(*values: Any) -> tuple[Any, ...]:
        name, request = form.request(*values)
        return page.show(evaluations.start(name, request), Choice())

    def stop(shown: Shown) -> tuple[Any, ...]:
        evaluations.stop(_id(shown))
        return page.show(_id(shown), Choice())

    def resume(shown: Shown) -> tuple[Any, ...]:
        evaluations.resume(_id(shown))
        return page.show(_id(shown), Choice())

    def remove(shown: Shown) -> Said:
        evaluation_id = _id(shown)
        name = evaluations.delete(evaluation_id)
        said = done(f"{name} is deleted.", action="Undo", act_on=evaluation_id)
        return Said(said, page.show(page.newest(), Choice()))

    def undo(event: gr.EventData) -> Said:
        sent = sent_by(event).get("id")
        name = evaluations.restore(sent if isinstance(sent, str) else "")
        return Said(done(f"{name} is back."), page.show(str(sent), Choice()))

    wire(form.start.click, start, form.fields, parts.all, notice)
    wire(parts.head.stop, stop, [parts.head], parts.all, notice)
    wire(parts.head.resume, resume, [parts.head], parts.all, notice)
    wire(parts.head.remove, remove, [parts.head], parts.all, notice)
    wire(notice.act, undo, [], parts.all, notice)
    for component in form.fields[1:]:
        wire(component.change, form.foresee, form.fields, [form.estimate], notice, trigger_mode="always_last")


def _id(shown: Shown) -> str:
    if shown.evaluation_id is None:
        raise UsageError("evaluation: none: choose one from the list")
    return shown.evaluation_id


def _choice(values: tuple[Any, ...]) -> Choice:
    """What the fields say; anything else than names is as if nothing was chosen."""
    dataset, cost, system, a, b = (value if isinstance(value, str) else None for value in values)
    return Choice(dataset, cost or COSTS[0].name, system, a, b)
