"""The desk of the Correct page: the browser side talks to `/api/desk` by itself, so that it goes on without a connection."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from studio.components.view import View


class DatasetOption(NamedTuple):
    """A dataset that can be corrected."""

    id: str
    name: str
    num_tasks: int


class Correct(View):
    """Queue, task, sortable ranking, steps, and handing in."""

    kind = "correct"


def correct_view(datasets: Sequence[DatasetOption], *, max_overlap: int) -> dict[str, Any]:
    """The value of a `Correct`."""
    return {"datasets": [option._asdict() for option in datasets], "max_overlap": max_overlap}
