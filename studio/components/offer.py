"""A dropdown whose choices hang on another field.

Gradio's sends its value twice when something is chosen, and the second time beside what the other fields said before they were
answered. Its own check would call that an error; here the page decides what a value means that is not offered any more.
"""

from typing import Any

import gradio as gr

from studio.components.view import QuietMeta


class Offer(gr.Dropdown, metaclass=QuietMeta):  # type: ignore[misc]
    """One of several names, or None. What it gives need not be among its choices."""

    is_template = True  # in the browser it is what its base is

    def preprocess(self, payload: Any) -> str | None:
        return payload if isinstance(payload, str) else None
