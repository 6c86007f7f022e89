"""What a dataset is, in a few facts, and the button that deletes it."""

from collections.abc import Sequence
from typing import Any

from studio.components.view import View


class Summary(View):
    """A heading with facts. Event: delete {id}."""

    kind = "summary"
    emits = ("delete",)


def summary(title: str, words: str = "", *, facts: Sequence[tuple[str, str]] = (), delete: str = "") -> dict[str, Any]:
    """The value of a `Summary`.

    Args:
        title: the heading.
        words: a sentence under it.
        facts: (name, value) pairs.
        delete: id of what the delete button deletes ("" = no button).
    """
    return {"title": title, "words": words, "facts": [list(fact) for fact in facts], "delete": delete}
