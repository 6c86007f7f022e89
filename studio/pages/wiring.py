"""Connecting events to handlers in one way: who asks is checked, errors of ours become a line on the page, others are logged
and owned up to."""

import functools
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import gradio as gr
from gradio.context import Context as GradioContext

from ranker.errors import RankingStudioError
from studio.components.notice import Notice, problem
from studio.identity import check_allowed
from studio.permissions import Permission, permission_of_event

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
    """`handler` behind the table of permissions; Gradio puts the request before its arguments."""
    permission = permission_of_event(handler)

    @functools.wraps(handler)
    def run(sender: Any, *args: Any) -> tuple[Any, ...]:
        try:
            check_allowed(sender, permission)
            result = handler(*args)
        except RankingStudioError as error:
            return (problem(str(error)), *[gr.skip()] * num_outputs)
        except Exception:
            logger.exception("%s failed", handler.__name__)
            return (problem("This did not work, and it is our fault: see the log."), *[gr.skip()] * num_outputs)
        if isinstance(result, Said):
            return (result.notice, *result.values)
        return (None, *result)

    sender_parameter = inspect.Parameter("sender", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.Request)
    signature = inspect.signature(handler)
    run.__signature__ = signature.replace(parameters=[sender_parameter, *signature.parameters.values()])  # type: ignore[attr-defined]
    run.__annotations__ = {**handler.__annotations__, "sender": gr.Request}
    del run.__wrapped__  # or Gradio looks at the handler's own annotations
    run.permission = permission  # type: ignore[attr-defined]
    return run


def event_permission(handler: Callable[..., Any]) -> Permission | None:
    """What an event of Gradio's asks for; None = it was not connected by `wire`."""
    permission: Permission | None = getattr(handler, "permission", None)
    return permission


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
