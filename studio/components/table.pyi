"""Rows of a list, paged on the server: the table of the Traces and Data pages."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from studio.components.view import View

Kind = Literal["text", "number", "seconds", "time", "state", "domain", "action"]


class Column(NamedTuple):
    """One column: which cell of a row, its heading, and how the browser draws it."""

    key: str
    label: str
    kind: Kind = "text"

from gradio.events import Dependency

class Table(View):
    """A page of rows. Event: turn {offset}."""

    kind = "table"
    emits = ("turn",)
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component


def link(text: str, href: str, sub: str = "") -> dict[str, str]:
    """A cell that leads somewhere in the studio, with a second line under it."""
    return {"text": text, "href": href, "sub": sub}


def table(
    label: str,
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, Any]],
    *,
    total: int,
    offset: int = 0,
    limit: int,
    empty: Mapping[str, str],
    compare: str = "",
    actions: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """The value of a `Table`.

    Args:
        label: what the table is of, for those who hear it.
        columns: in their order.
        rows: each {"id", "name", "group", "cells": {column key: value}}.
        total: rows altogether.
        offset: rows before this page.
        limit: rows a page.
        empty: {"title", "text"} for when there is none; with {"href", "action"} it leads on.
        compare: path of the page that compares two rows of one group ("" = rows are not compared).
        actions: links above the table, each {"text", "href"}.
    """
    return {
        "label": label,
        "columns": [column._asdict() for column in columns],
        "rows": [dict(row) for row in rows],
        "total": total,
        "offset": offset,
        "limit": limit,
        "empty": dict(empty),
        "compare": compare,
        "actions": [dict(action) for action in actions],
    }