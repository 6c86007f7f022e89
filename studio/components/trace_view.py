"""A stored trace in full, or two traces of one task side by side."""

from collections.abc import Sequence
from typing import Any

from studio.components.payload import trace_payload
from studio.components.view import View
from studio.store import StoredTrace, TraceRow


class TraceView(View):
    """Every step with prompt, reasoning, answer, outcome and probabilities."""

    kind = "trace-view"


def show_traces(
    traces: Sequence[StoredTrace],
    siblings: Sequence[TraceRow] = (),
    *,
    hrefs: Sequence[str] = (),
    back: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """The value of a `TraceView`: one trace (with the `siblings` it can be compared to) or two.

    Args:
        traces: one or two of the same task.
        siblings: others of that task.
        hrefs: where each trace alone is, for traces that are not in the store (they cannot be replayed either).
        back: (words, path) of where the view was opened from; None = the list of traces.
    """
    others = [
        {"id": row.trace_id, "name": f"{row.model}, {row.mode}, {row.created_at[:16].replace('T', ' ')}"}
        for row in siblings
    ]
    shown = [trace_payload(trace) for trace in traces]
    for payload, href in zip(shown, hrefs, strict=False):
        payload["href"] = href
    way_back = None if back is None else {"text": back[0], "href": back[1]}
    return {"traces": shown, "siblings": others, "back": way_back}
