"""The doctor's report on the Data page: as it was kept at the import, or looked at anew with the other datasets."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from ranker.datasets import Report
from ranker.errors import RankingStudioError, UsageError
from studio.background import Progress
from studio.components.dataplots import baselines, lengths, pool_sizes, positions
from studio.components.doctorreport import (
    DoctorReport,
    Examined,
    no_report,
    report_awaited,
    report_failed,
    report_shown,
)
from studio.components.figure import Figure
from studio.components.notice import Notice
from studio.components.static import section_title
from studio.context import Context
from studio.pages.wiring import Said, wire
from studio.profile import TaskProfile
from studio.store import DatasetInfo

SOON_S = 0.6
TICK_S = 0.5
AT_IMPORT = "As it was imported, without a look at the other datasets. Token numbers are estimated (characters / 4)."
ANEW = "Looked at just now, together with the other datasets. Token numbers are estimated (characters / 4)."
_PLOTS = (
    ("positions", "Where the relevant candidate stands"),
    ("baselines", "Rankers that read nothing"),
    ("pool-sizes", "Candidates in a task"),
    ("lengths", "Length of the first prompt"),
)


class Diagnosis:
    """The report and its plots, with what they do."""

    def __init__(self, context: Context) -> None:
        """Lay them out."""
        self._context = context
        with gr.Column(elem_classes=["rs-panel"]):
            self._report = DoctorReport(elem_id="report")
        figures = []
        with gr.Row(elem_classes=["rs-plots"]):
            for elem_id, title in _PLOTS:
                with gr.Column(elem_classes=["rs-panel"], min_width=240):
                    section_title(title)
                    figures.append(Figure(elem_id=elem_id))
        self._figures = figures

    @property
    def components(self) -> list[Any]:
        """What `show` has values for."""
        return [self._report, *self._figures]

    @property
    def nothing(self) -> Sequence[None]:
        """Values where there is no dataset."""
        return [None] * len(self.components)

    def show(self, info: DatasetInfo, profile: TaskProfile) -> tuple[Any, ...]:
        """The report that was kept, or the offer to look."""
        dataset = str(info.id)
        report = self._context.library.imported_report(info)
        value = report_shown(dataset, report, words=AT_IMPORT) if report else no_report(dataset)
        return (value, positions(report), baselines(report), pool_sizes(profile.pool_sizes), lengths(report))

    def wire(self, notice: Notice) -> None:
        """Let it be checked on demand, on a background thread that can be given up."""
        timer = gr.Timer(TICK_S, active=False)
        outputs = [timer, *self.components]
        wire(self._report.check, self._check, [self._report], outputs, notice, queue=True)
        wire(self._report.cancel, self._cancel, [self._report], outputs, notice)
        wire(timer.tick, self._follow, [self._report], outputs, notice, trigger_mode="once")

    def _check(self, examined: Examined) -> Said:
        info, library = self._info(examined), self._context.library

        def run(progress: Progress) -> Report:
            return library.check(info.id, report=progress)

        token = self._context.background.start(run)
        if self._context.background.is_done(token, wait_s=SOON_S):
            return self._finished(info, token)
        value = report_awaited(str(info.id), token, 0, info.num_tasks)
        return Said(None, (gr.Timer(active=True), value, *self._same_figures()))

    def _follow(self, examined: Examined) -> Said:
        """The timer stops when another dataset, which nobody looks at, was chosen."""
        if examined.token is None:
            return Said(gr.skip(), (gr.Timer(active=False), gr.skip(), *self._same_figures()))
        info, background = self._info(examined), self._context.background
        if background.is_done(examined.token):
            return self._finished(info, examined.token)
        value = report_awaited(str(info.id), examined.token, background.number(examined.token), info.num_tasks)
        return Said(gr.skip(), (gr.skip(), value, *self._same_figures()))

    def _finished(self, info: DatasetInfo, token: str) -> Said:
        try:
            report = self._context.background.result(token)
        except RankingStudioError as error:
            value = report_failed(str(info.id), str(error))
            return Said(None, (gr.Timer(active=False), value, *self._same_figures()))
        shown = report_shown(str(info.id), report, words=ANEW)
        figures = (positions(report), baselines(report), pool_sizes(report.candidates_per_task), lengths(report))
        return Said(None, (gr.Timer(active=False), shown, *figures))

    def _cancel(self, examined: Examined) -> Said:
        if examined.token is not None:
            self._context.background.cancel(examined.token)
        info = self._info(examined)
        report = self._context.library.imported_report(info)
        value = report_shown(str(info.id), report, words=AT_IMPORT) if report else no_report(str(info.id))
        return Said(None, (gr.Timer(active=False), value, *self._same_figures()))

    def _same_figures(self) -> list[Any]:
        return [gr.skip()] * len(self._figures)

    def _info(self, examined: Examined) -> DatasetInfo:
        if examined.dataset is None or not examined.dataset.isdecimal():
            raise UsageError("dataset: none: choose one from the list")
        return self._context.library.dataset(int(examined.dataset))
