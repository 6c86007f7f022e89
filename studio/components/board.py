"""The board of the Rank page: one task, and while or after it is ranked, its trace (live from `/api/traces/ID/events`)."""

from typing import Any, NamedTuple

from ranker.schema import RankingTask
from studio.components.payload import task_payload
from studio.components.view import View, number_of, text_of


class Shown(NamedTuple):
    """What the board shows, as the browser says: to be looked up, not to be trusted."""

    dataset_id: int | None
    task_id: str | None
    trace_id: str | None


class BranchRequest(NamedTuple):
    """A what-if that a person asked for on the board."""

    trace_id: str | None
    step_index: int | None
    excluded_id: str | None


class Board(View):
    """Cards, reasoning, replay and figures of one task. Events: stop, resume, branch, move {direction}."""

    kind = "board"
    emits = ("stop", "resume", "branch", "move")

    def preprocess(self, payload: Any) -> Shown:
        return Shown(number_of(payload, "dataset_id"), text_of(payload, "task_id"), text_of(payload, "trace_id"))


def show_task(dataset_id: int, dataset: str, task: RankingTask) -> dict[str, Any]:
    """The board before anything was ranked."""
    return {"dataset_id": dataset_id, "task_id": task.task_id, "task": task_payload(dataset, task)}


def show_trace(trace_id: str) -> dict[str, Any]:
    """The board on a trace; the browser follows it by itself."""
    return {"trace_id": trace_id}


def branch_request(sent: Any) -> BranchRequest:
    """Read the data of a `branch` event."""
    return BranchRequest(text_of(sent, "trace_id"), number_of(sent, "step_index"), text_of(sent, "excluded_id"))
