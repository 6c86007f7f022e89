"""The Train page: start a job on what people have corrected, watch it, compare, promote, take back.

The list and the form are Gradio's; the job itself is followed by its own script over `studio.jobroutes`.
"""

import itertools
from typing import Any, Final

import gradio as gr

from ranker.errors import RankingStudioError, UsageError
from studio.components.jobview import JobView, RewardInspector, job_view, reward_inspector
from studio.components.notice import Notice, done, problem
from studio.components.picker import Option, Picked, Picker, pick_list
from studio.components.static import section_title
from studio.components.view import number_of
from studio.context import Context
from studio.pages.jobform import JobForm
from studio.pages.wiring import Said, page_load, sent_by, wire
from trainer.jobs import JobStatus

PAGE_JOBS: Final = 12
UNDO_PROMOTE: Final = "promote"
"""What the notice's way back is about."""
_stamps = itertools.count(1)


def build(context: Context) -> None:
    """Lay out the page and wire it."""
    with gr.Row(elem_classes=["rs-page"]):
        with gr.Column(elem_classes=["rs-controls"], min_width=240):
            new = gr.Button("New job", elem_id="job-new")
            section_title("Jobs")
            jobs = Picker(elem_id="jobs")
        with gr.Column(elem_classes=["rs-main"], min_width=320):
            notice = Notice(elem_id="notice")
            form = JobForm(context)
            view = JobView(elem_id="job")
            with gr.Column(elem_classes=["rs-panel"]):
                inspector = RewardInspector(elem_id="inspector")
    page = [jobs, view, inspector, *form.components]

    def show(job_id: str | None) -> tuple[Any, ...]:
        fields = form.show() if job_id is None else form.hide()
        return (_job_list(context, job_id, 0), job_view(job_id, next(_stamps)), reward_inspector(job_id), *fields)

    def load(request: gr.Request) -> Said:
        asked = request.query_params.get("job")
        try:
            return Said(None, show(context.training.job(asked).job_id if asked else _newest(context)))
        except RankingStudioError as error:  # a link to what is gone still opens the page
            return Said(problem(str(error)), show(_newest(context)))

    def pick(picked: Picked) -> tuple[Any, ...]:
        return show(context.training.job(picked.selected or "").job_id)

    def turn(picked: Picked, event: gr.EventData) -> tuple[Any, ...]:
        return (_job_list(context, picked.selected, number_of(sent_by(event), "offset") or 0),)

    def start(*values: Any) -> Said:
        status = context.training.start(form.request(*values))
        return Said(done(f"{_name(status)} is started."), show(status.job_id))

    def blank() -> tuple[Any, ...]:
        return show(None)

    wire(page_load(), load, [], page, notice)
    wire(jobs.pick, pick, [jobs], page, notice, trigger_mode="always_last")
    wire(jobs.turn, turn, [jobs], [jobs], notice)
    wire(new.click, blank, [], page, notice)
    wire(form.start.click, start, form.fields, page, notice, queue=True)
    form.wire(notice)
    _wire_job(context, view, jobs, page, show, notice)


def _wire_job(context: Context, view: JobView, jobs: Picker, page: list[Any], show: Any, notice: Notice) -> None:
    """What the buttons of a job do. Every id is looked up: it comes from the browser."""
    training = context.training

    def stop(job_id: str | None) -> Said:
        status = training.stop(_id(job_id))
        return Said(done(f"{_name(status)} stops after the present step."), show(status.job_id))

    def resume(job_id: str | None) -> Said:
        status = training.resume(_id(job_id))
        return Said(done(f"{_name(status)} goes on."), show(status.job_id))

    def clone(job_id: str | None) -> Said:
        status = training.clone(_id(job_id))
        return Said(done(f"A clone of {_name(status)} is started."), show(status.job_id))

    def placebo(job_id: str | None) -> Said:
        status = training.placebo(_id(job_id))
        return Said(done(f"{_name(status)} is started."), show(status.job_id))

    def promote(job_id: str | None) -> Said:
        card = training.promote(_id(job_id))
        chosen = context.settings.model
        still = (
            f" This studio was started with --model {chosen}, which stays until you choose another." if chosen else ""
        )
        said = done(f"{card.name} is the ranker now.{still}", action="Undo", act_on=UNDO_PROMOTE)
        return Said(said, show(job_id))

    def undo(job_id: str | None) -> Said:
        return Said(done(f"{training.undo_promote()} is the ranker again."), show(job_id))

    def changed(picked: Picked) -> tuple[Any, ...]:
        return (_job_list(context, picked.selected, picked.offset),)

    for event, handler in (
        (view.stop, stop), (view.resume, resume), (view.clone, clone), (view.placebo, placebo), (view.promote, promote),
        (view.undo, undo),
    ):  # fmt: skip
        wire(event, handler, [view], page, notice, queue=True)
    wire(notice.act, undo, [view], page, notice, queue=True)
    wire(view.changed, changed, [jobs], [jobs], notice, trigger_mode="always_last")


def _id(job_id: str | None) -> str:
    if job_id is None:
        raise UsageError("job: none: choose one from the list")
    return job_id


def _newest(context: Context) -> str | None:
    """The newest job that runs, else the newest; None where there is none."""
    every = context.training.jobs()
    running = [s for s in every if s.state.value in ("running", "starting")]
    return next((s.job_id for s in [*running, *every]), None)


def _job_list(context: Context, selected: str | None, offset: int) -> dict[str, Any]:
    every = context.training.jobs()
    options = [Option(s.job_id, _name(s), _note(s)) for s in every[offset : offset + PAGE_JOBS]]
    empty = "No job yet. Choose what to learn from, and start one."
    return pick_list("Jobs", options, total=len(every), offset=offset, limit=PAGE_JOBS, selected=selected, empty=empty)


def _name(status: JobStatus) -> str:
    return status.name or f"{status.kind}, {status.created_at[5:16].replace('T', ' ')}"


def _note(status: JobStatus) -> str:
    return f"{status.kind}, {status.state.value}, {status.optimizer_step:,} of {status.max_steps:,}"
