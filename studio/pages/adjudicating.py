"""Deciding between versions on the Quality page: a task is picked, its versions are shown, one of them becomes the gold answer."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from ranker.errors import UsageError
from studio.adjudication import Adjudication
from studio.components.adjudicator import Adjudicator, choice_of, show_versions
from studio.components.notice import Notice, done
from studio.components.picker import Picked, Picker
from studio.context import Context
from studio.identity import author_of, visitor_of
from studio.pages.tasklist import dataset_name
from studio.pages.wiring import Said, sent_by, wire

_SEPARATOR = ":"


def dispute_id(dataset_id: int, task_id: str) -> str:
    """How the list names a task."""
    return f"{dataset_id}{_SEPARATOR}{task_id}"


def show_dispute(context: Context, adjudication: Adjudication, picked: str, request: Any) -> dict[str, Any]:
    """The versions of the task that the list names.

    Raises:
        UsageError: if it names none.
        NotStoredError: if that is not there.
    """
    dataset, _, task_id = picked.partition(_SEPARATOR)
    if not dataset.isdecimal() or not task_id:
        raise UsageError("task: none: choose one from the list")
    info = context.library.dataset(int(dataset))
    shown = adjudication.versions(info.id, task_id)
    following = sum(
        1 for d in adjudication.disputes() if not d.is_decided and (d.dataset_id, d.task_id) != (info.id, task_id)
    )
    needs_name = visitor_of(request).name is None
    return show_versions(shown, dataset_name(info), needs_name=needs_name, following=following)


def wire_adjudicating(
    context: Context,
    adjudication: Adjudication,
    disputes: Picker,
    deciding: Adjudicator,
    notice: Notice,
    refresh: Callable[..., tuple[Any, ...]],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
) -> None:
    """Connect the list and the versions.

    Args:
        refresh: given the values of `inputs`, the values of `outputs` after a decision.
    """

    def pick(picked: Picked, request: gr.Request) -> tuple[Any, ...]:
        return (show_dispute(context, adjudication, picked.selected or "", request),)

    def decide(chosen: Any, event: gr.EventData, request: gr.Request) -> Said:
        choice = choice_of(sent_by(event))
        if choice.dataset_id is None or choice.task_id is None or choice.order is None:
            raise UsageError("decision: order: none: choose a version")
        author = author_of(request, choice.author)
        adjudication.decide(choice.dataset_id, choice.task_id, choice.order, author=author, reason=choice.reason)
        said = done(f"{choice.task_id}: decided. It is a gold task from now on; nobody’s word was changed.")
        return Said(said, (None, *refresh(chosen)))

    def close() -> tuple[Any, ...]:
        return (None,)

    wire(disputes.pick, pick, [disputes], [deciding], notice, trigger_mode="always_last")
    wire(deciding.decide, decide, inputs, [deciding, *outputs], notice, queue=True)
    wire(deciding.close, close, [], [deciding], notice)
