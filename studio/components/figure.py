"""A plotly figure that follows the page's light and dark and keeps its zoom when the data grow.

Drawn in the browser by the plotly.js that belongs to the installed plotly.py. Colours are token names ("--rs-accent"),
looked up when it is drawn.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from studio.components.view import View


class Figure(View):
    """A chart. Its value comes from `figure`."""

    kind = "figure"


def figure(data: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], *, alt: str) -> dict[str, Any]:
    """The value of a `Figure`.

    Args:
        data: traces in plotly's JSON; texts in it must be our own words or have been escaped.
        layout: in plotly's JSON.
        alt: what the chart says, for those who do not see it.
    """
    return {"data": [dict(trace) for trace in data], "layout": dict(layout), "alt": alt}


def no_figure(words: str) -> dict[str, Any]:
    """An empty `Figure` that says why."""
    return {"empty": words}
