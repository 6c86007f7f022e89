"""A list to choose one thing from, a page at a time, so that it stays quick with 100,000 of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from studio.components.view import View, number_of, text_of


class Picked(NamedTuple):
    """Where the list stands, as the browser says."""

    selected: str | None
    offset: int


class Option(NamedTuple):
    """One line of the list; `note` is its small print."""

    id: str
    name: str
    note: str


class Picker(View):
    """A page of options. Events: pick {id}, turn {offset}."""

    kind = "picker"
    emits = ("pick", "turn")

    def preprocess(self, payload: Any) -> Picked:
        return Picked(text_of(payload, "selected"), number_of(payload, "offset") or 0)


def pick_list(
    label: str,
    options: Sequence[Option],
    *,
    total: int,
    offset: int = 0,
    limit: int,
    selected: str | None,
    empty: str,
) -> dict[str, Any]:
    """The value of a `Picker`.

    Args:
        label: what is listed, for those who hear it.
        options: the page's lines.
        total: lines altogether.
        offset: lines before this page.
        limit: lines a page.
        selected: id of the chosen one, on this page or not.
        empty: what to say where there is none.
    """
    return {
        "label": label,
        "rows": [option._asdict() for option in options],
        "total": total,
        "offset": offset,
        "limit": limit,
        "selected": selected,
        "empty": empty,
    }
