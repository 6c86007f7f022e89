"""A stored trace in full, or two traces of one task side by side."""

from collections.abc import Sequence
from typing import Any

from studio.components.payload import trace_payload
from studio.components.view import View
from studio.store import StoredTrace, TraceRow

from gradio.events import Dependency

class TraceView(View):
    """Every step with prompt, reasoning, answer, outcome and probabilities."""

    kind = "trace-view"
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component


def show_traces(traces: Sequence[StoredTrace], siblings: Sequence[TraceRow] = ()) -> dict[str, Any]:
    """The value of a `TraceView`: one trace (with the `siblings` it can be compared to) or two."""
    others = [
        {"id": row.trace_id, "name": f"{row.model}, {row.mode}, {row.created_at[:16].replace('T', ' ')}"}
        for row in siblings
    ]
    return {"traces": [trace_payload(trace) for trace in traces], "siblings": others}