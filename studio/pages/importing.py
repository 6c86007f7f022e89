"""Import on the Data page: upload, see what the reader understood, map columns by hand, then import or leave it.

The file is read and stored on background threads; a timer asks how far they are. The browser keeps what was chosen.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from ranker.datasets.readers import READERS
from ranker.errors import DatasetError, RankingStudioError, UsageError
from studio.background import Progress
from studio.components.importpreview import (
    Chosen,
    ImportPreview,
    opening,
    preview,
    stopped,
    unreadable,
    working,
)
from studio.components.notice import Notice, done
from studio.context import Context
from studio.library import BlockedError
from studio.pages.tasklist import dataset_name
from studio.pages.wiring import Said, sent_by, wire
from studio.store import DatasetInfo
from studio.understanding import Understood, understand

SOON_S = 0.6
"""What is done within it is shown without a state in between."""
TICK_S = 0.5
_READERS = [reader.name for reader in READERS]
_WORDING = (
    (
        r"name it with --option candidates=COLUMN \(a list\) or candidate_text=COLUMN \(one row a candidate\)",
        "choose it under Columns (a list, or one row a candidate)",
    ),
    (r"name it with --option \w+=COLUMN", "choose it under Columns"),
    (r"force one with --option reader=NAME \([^)]*\)", "choose one under Format"),
    (r" Or allow it\.$", " Or import it anyway."),
)
"""What messages say of the command line -> what to do on the page."""

Show = Callable[[int | None], tuple[Any, ...]]


def page_words(message: str) -> str:
    """A message with the way out that the page has."""
    for pattern, words in _WORDING:
        message = re.sub(pattern, words, message)
    return message


def wire_importing(
    context: Context, upload: gr.File, shown: ImportPreview, page: list[Any], show: Show, notice: Notice
) -> None:
    """Let an upload be looked at, changed, imported and given up.

    Args:
        upload: where the file comes in.
        shown: the preview.
        page: the components that `show` has values for.
        show: the page on a dataset.
        notice: the page's line.
    """
    timer = gr.Timer(TICK_S, active=False)
    steps = _Importing(context, show, len(page))
    outputs = [upload, shown, timer, *page]

    def start(path: str | None) -> Said:
        return steps.look(path, Chosen(None, _stem(path), None, {}), is_new=True)

    def look(path: str | None, chosen: Chosen) -> Said:
        return steps.look(path, chosen)

    def take(path: str | None, chosen: Chosen, event: gr.EventData) -> Said:
        return steps.take(path, chosen, allow=sent_by(event).get("allow") is True)

    wire(upload.upload, start, [upload], outputs, notice, queue=True)
    wire(shown.look, look, [upload, shown], outputs, notice, queue=True, trigger_mode="always_last")
    wire(shown.take, take, [upload, shown], outputs, notice, queue=True)
    wire(timer.tick, steps.follow, [upload, shown], outputs, notice, trigger_mode="once")
    for event in (shown.cancel, upload.clear):
        wire(event, steps.cancel, [shown], outputs, notice)


class _Importing:
    """The steps of an import; each returns what to say and the values of (upload, preview, timer, *page)."""

    def __init__(self, context: Context, show: Show, num_page: int) -> None:
        self._context = context
        self._show = show
        self._num_page = num_page

    def look(self, path: str | None, chosen: Chosen, *, is_new: bool = False) -> Said:
        """Read the file as it is now mapped."""
        file = _file(path)
        self._give_up(chosen)
        options = {**chosen.changes, **({"reader": chosen.reader} if chosen.reader else {})}

        def run(progress: Progress) -> Understood | DatasetError:
            try:
                return understand(file, options, progress.give_up_if_cancelled)
            except DatasetError as error:  # a result like any other: the format can be chosen by hand
                return error

        token = self._context.background.start(run)
        if self._context.background.is_done(token, wait_s=SOON_S):
            return self._finished(token, path, chosen)
        words = file.name
        return self._wait(opening(token, chosen, words) if is_new else working("reading", token, words))

    def take(self, path: str | None, chosen: Chosen, *, allow: bool) -> Said:
        """Import it: all of it or nothing."""
        file = _file(path)
        self._give_up(chosen)
        options = {**chosen.changes, **({"reader": chosen.reader} if chosen.reader else {})}
        library = self._context.library

        def run(progress: Progress) -> DatasetInfo:
            return library.import_source(
                file,
                chosen.name or _stem(path),
                options=options,
                allow=allow,
                report=progress,
                cancel=progress.cancelled,
            )

        token = self._context.background.start(run)
        if self._context.background.is_done(token, wait_s=SOON_S):
            return self._finished(token, path, chosen)
        return self._wait(working("importing", token, "0 tasks read"))

    def follow(self, path: str | None, chosen: Chosen) -> Said:
        """Ask how far it is; show what came of it."""
        background = self._context.background
        token = chosen.token
        if token is None:
            return Said(gr.skip(), self._values(gr.skip(), timer=gr.Timer(active=False)))
        if not background.is_done(token):
            number = background.number(token)
            value = working("importing", token, f"{number:,} tasks read") if number else gr.skip()
            return Said(gr.skip(), self._values(value))
        return self._finished(token, path, chosen)

    def cancel(self, chosen: Chosen) -> Said:
        """Leave it: nothing was stored."""
        self._give_up(chosen)
        return Said(None, self._values(None, upload=None, timer=gr.Timer(active=False)))

    def _finished(self, token: str, path: str | None, chosen: Chosen) -> Said:
        """Show the result of either work."""
        try:
            result = self._context.background.result(token)
        except RankingStudioError as error:
            return self._stopped(error)
        if isinstance(result, DatasetInfo):
            return self._stored(result)
        chosen = chosen._replace(name=chosen.name or _stem(path))
        if isinstance(result, DatasetError):
            value = unreadable(_file(path).name, page_words(str(result)), chosen, _READERS)
        else:
            value = preview(result._replace(error=page_words(result.error)), chosen, _READERS)
        return Said(None, self._values(value, timer=gr.Timer(active=False)))

    def _stored(self, info: DatasetInfo) -> Said:
        said = done(f"{dataset_name(info)}: {info.num_tasks:,} tasks imported.")
        return Said(said, (None, None, gr.Timer(active=False), *self._show(info.id)))

    def _stopped(self, error: RankingStudioError) -> Said:
        report = error.report if isinstance(error, BlockedError) else None
        value = stopped(page_words(str(error)), report=report)
        return Said(None, self._values(value, timer=gr.Timer(active=False)))

    def _wait(self, value: dict[str, Any]) -> Said:
        return Said(None, self._values(value, timer=gr.Timer(active=True)))

    def _values(self, value: Any, *, upload: Any = ..., timer: Any = ...) -> tuple[Any, ...]:
        """Values for (upload, preview, timer, *page); what is left out stays as it is."""
        kept = [gr.skip() if given is ... else given for given in (upload, timer)]
        return (kept[0], value, kept[1], *[gr.skip()] * self._num_page)

    def _give_up(self, chosen: Chosen) -> None:
        if chosen.token is not None:
            self._context.background.cancel(chosen.token)


def _file(path: str | None) -> Path:
    if not path:
        raise UsageError("import: file: none: choose a file first")
    return Path(path)


def _stem(path: str | None) -> str:
    """The file's name without its suffixes: films for films.csv.gz."""
    name = Path(path).name if path else ""
    return Path(name.removesuffix(".gz").removesuffix(".GZ")).stem
