"""One line above a page's content: what went wrong, or what was done and how to take it back. Gradio's toasts would read
its text as markup; here it stays text."""

from typing import Any

from studio.components.view import View, text_of


class Notice(View):
    """A line of text. Event: act {id}."""

    kind = "notice"
    emits = ("act",)

    def preprocess(self, payload: Any) -> str | None:
        """The id of what an action is about."""
        return text_of(payload, "id")


def problem(text: str) -> dict[str, str]:
    """Something that went wrong, in one line."""
    return {"kind": "error", "text": text}


def done(text: str, *, action: str = "", act_on: str = "") -> dict[str, str]:
    """Something that was done, with the name of the way back, if there is one, and the id that it concerns."""
    return {"kind": "done", "text": text, "action": action, "id": act_on}
