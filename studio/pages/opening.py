"""What the Rank page opens with: what the address says, else the newest trace, else the first task there is."""

from typing import Any, NamedTuple

from ranker.elimination import MODES, RankConfig
from studio.components.board import show_task, show_trace
from studio.context import Context
from studio.pages.tasklist import PAGE_TASKS, dataset_name, dataset_options

DEFAULT_THINK_TOKENS = RankConfig().think_tokens


class Opening(NamedTuple):
    """The state of the page when it opens."""

    board: dict[str, Any] | None
    dataset_id: int | None
    task_id: str | None
    offset: int = 0
    """Tasks before the page of the list that has the task on it."""
    model: str | None = None
    mode: str = MODES[0].value
    think_tokens: int = DEFAULT_THINK_TOKENS


def open_rank_page(context: Context, trace_id: str | None, dataset: str | None, task_id: str | None) -> Opening:
    """Coming back shows what was last ranked, running or not; a first visit shows a task that is ready to go.

    Args:
        context: the studio.
        trace_id: a trace that the address names.
        dataset: the id of a dataset that it names.
        task_id: a task of that dataset.

    Raises:
        StoreError: if the address names something that is not there.
    """
    if trace_id is None and dataset is None:
        newest = context.store.traces.search(limit=1).rows
        trace_id = newest[0].trace_id if newest else None
    if trace_id is not None:
        return _open_trace(context, trace_id)
    known = [value for _, value in dataset_options(context)]
    dataset_id = int(dataset) if dataset and dataset.isdecimal() else (known[0] if known else None)
    task_id = task_id or first_task(context, dataset_id)
    return Opening(board_of(context, dataset_id, task_id), dataset_id, task_id, _offset(context, dataset_id, task_id))


def _open_trace(context: Context, trace_id: str) -> Opening:
    stored = context.store.traces.get(trace_id)
    is_listed = stored.dataset_id in {value for _, value in dataset_options(context)}
    dataset_id = stored.dataset_id if is_listed else None
    return Opening(
        board=show_trace(stored.trace_id) | {"dataset_id": stored.dataset_id, "task_id": stored.task_id},
        dataset_id=dataset_id,
        task_id=stored.task_id,
        offset=_offset(context, dataset_id, stored.task_id),
        model=stored.model,
        mode=stored.mode.value,
        think_tokens=int(stored.config.get("think_tokens", DEFAULT_THINK_TOKENS)),
    )


def first_task(context: Context, dataset_id: int | None) -> str | None:
    """Id of a dataset's first task."""
    rows = context.library.tasks(dataset_id, limit=1).rows if dataset_id is not None else []
    return rows[0].task_id if rows else None


def board_of(context: Context, dataset_id: int | None, task_id: str | None) -> dict[str, Any] | None:
    """The board on a task that was not ranked yet; None where there is no task."""
    if dataset_id is None or task_id is None:
        return None
    info = context.library.dataset(dataset_id)
    return show_task(dataset_id, dataset_name(info), context.library.task(dataset_id, task_id))


def _offset(context: Context, dataset_id: int | None, task_id: str | None) -> int:
    if dataset_id is None or task_id is None:
        return 0
    return context.library.position(dataset_id, task_id) // PAGE_TASKS * PAGE_TASKS
