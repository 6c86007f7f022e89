"""Choosing a task: the datasets as options, their tasks a page at a time, and the steps to the one before and after."""

from typing import Any

from ranker.errors import UsageError
from ranker.schema import Domain
from studio.components.picker import Option, Picked, pick_list
from studio.context import Context
from studio.store import DatasetInfo, TaskRow, TraceRow

PAGE_TASKS = 5
LAST_OF_HISTORY = 3


def dataset_options(context: Context) -> list[tuple[str, int]]:
    """(what is shown, dataset_id) of every dataset that is not deleted."""
    return [(dataset_name(info), info.id) for info in context.library.datasets()]


def dataset_name(info: DatasetInfo) -> str:
    """Name, and version where there is more than the first."""
    return info.name if info.version == 1 else f"{info.name} (version {info.version})"


def task_list(
    context: Context, dataset_id: int | None, query: str, offset: int, selected: str | None
) -> dict[str, Any]:
    """A page of a dataset's tasks as the value of a `Picker`."""
    if dataset_id is None:
        empty = "Choose a dataset, or import one on the Data page."
        return pick_list("Tasks", (), total=0, limit=PAGE_TASKS, selected=None, empty=empty)
    page = context.library.tasks(dataset_id, query=query, offset=offset, limit=PAGE_TASKS)
    return pick_list(
        "Tasks",
        [_option(context, dataset_id, row) for row in page.rows],
        total=page.total,
        offset=offset,
        limit=PAGE_TASKS,
        selected=selected,
        empty=f"No task has all the words of “{query}”." if query.strip() else "This dataset has no tasks.",
    )


def _option(context: Context, dataset_id: int, row: TaskRow) -> Option:
    return Option(row.task_id, task_name(context, dataset_id, row), f"{row.task_id}, {row.num_candidates} candidates")


def task_name(context: Context, dataset_id: int, row: TaskRow | TraceRow) -> str:
    """What tells tasks apart: the query, or where there is a history (whose queries are often alike) its end."""
    history = context.library.task(dataset_id, row.task_id).history if row.domain is Domain.RECOMMENDATION else ()
    return "After " + ", ".join(history[-LAST_OF_HISTORY:]) if history else row.summary or row.task_id


def neighbour(context: Context, dataset_id: int, query: str, picked: Picked, direction: int) -> tuple[str, int]:
    """The task before (-1) or behind (+1) the chosen one in the list as it is filtered.

    Returns:
        (task_id, offset of the page that it is on). At the ends it is the chosen task itself.

    Raises:
        UsageError: if the list is empty.
    """
    page = context.library.tasks(dataset_id, query=query, offset=picked.offset, limit=PAGE_TASKS)
    if not page.total:
        raise UsageError("tasks: list: empty: clear the search or choose another dataset")
    ids = [row.task_id for row in page.rows]
    here = ids.index(picked.selected) if picked.selected in ids else -max(direction, 0)
    target = min(max(picked.offset + here + direction, 0), page.total - 1)
    row = context.library.tasks(dataset_id, query=query, offset=target, limit=1).rows[0]
    return row.task_id, target // PAGE_TASKS * PAGE_TASKS
