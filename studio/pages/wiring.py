"""Connecting events to handlers in one way: errors of ours become a line on the page, others are logged and owned up to."""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import gradio as gr
from gradio.context import Context as GradioContext

from ranker.errors import RankingStudioError
from studio.components.notice import Notice, problem

logger = logging.getLogger(__name__)

TriggerMode = Literal["once", "multiple", "always_last"]


class Said(NamedTuple):
    """What a handler returns to say something beside its values."""

    notice: dict[str, str] | None
    values: tuple[Any, ...]


def wire(
    event: Callable[..., Any],
    handler: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    notice: Notice,
    *,
    queue: bool = False,
    trigger_mode: TriggerMode | None = None,
) -> None:
    """Let `event` call `handler` and show its outcome.

    Args:
        event: what happens, such as `button.click`.
        handler: gets the values of `inputs`; returns a tuple with the values of `outputs`, or `Said`.
        inputs: components.
        outputs: components.
        notice: where an error is shown; cleared where there is none.
        queue: for what takes more than a moment.
        trigger_mode: Gradio's: what a second event does while the first is being handled.
    """
    event(
        _guarded(handler, len(outputs)),
        list(inputs),
        [notice, *outputs],
        show_progress="hidden",
        queue=queue,
        trigger_mode=trigger_mode,
        api_visibility="private",
    )


def _guarded(handler: Callable[..., Any], num_outputs: int) -> Callable[..., tuple[Any, ...]]:
    @functools.wraps(handler)
    def run(*args: Any) -> tuple[Any, ...]:
        try:
            result = handler(*args)
        except RankingStudioError as error:
            return (problem(str(error)), *[gr.skip()] * num_outputs)
        except Exception:
            logger.exception("%s failed", handler.__name__)
            return (problem("This did not work, and it is our fault: see the log."), *[gr.skip()] * num_outputs)
        if isinstance(result, Said):
            return (result.notice, *result.values)
        return (None, *result)

    return run


def sent_by(event: gr.EventData) -> dict[str, Any]:
    """The data that the browser sent with an event: untrusted, maybe empty."""
    data = event._data
    return data if isinstance(data, dict) else {}


def page_load() -> Callable[..., Any]:
    """The load event of the page that is being built."""
    blocks = GradioContext.root_block
    assert blocks is not None, "pages are built inside of gr.Blocks"
    load: Callable[..., Any] = blocks.load
    return load
