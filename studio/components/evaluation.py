"""The views of the Evaluate page: what runs, the leaderboard, the comparison of two rows, and lines of facts."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from studio.components.view import View, text_of


class Shown(NamedTuple):
    """Which evaluation the page shows, as the browser says."""

    evaluation_id: str | None
    stamp: str | None
    """Of the results that are on the page."""


class EvaluationHead(View):
    """Name, state, progress, command and exports. Events: stop, resume, remove."""

    kind = "evaluation-head"
    emits = ("stop", "resume", "remove")

    def preprocess(self, payload: Any) -> Shown:
        return Shown(text_of(payload, "id"), text_of(payload, "stamp"))


class Facts(View):
    """A title, a few named facts, and a sentence."""

    kind = "facts"


class Leaderboard(View):
    """Rows with intervals, sorted in the browser."""

    kind = "leaderboard"


class Comparison(View):
    """Two systems on every dataset, the tasks on which they differ most, and the contrasts that the file holds."""

    kind = "comparison"


def facts(title: str, pairs: Sequence[tuple[str, str]], words: str = "") -> dict[str, Any]:
    """The value of `Facts`."""
    return {"title": title, "facts": [list(pair) for pair in pairs], "words": words}


def head(
    *,
    evaluation_id: str,
    name: str,
    state: str,
    message: str,
    is_example: bool,
    stamp: str,
    progress: Mapping[str, Any] | None,
    pairs: Sequence[tuple[str, str]],
    commands: Sequence[str],
    exports: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    """The value of `EvaluationHead`.

    Args:
        evaluation_id: goes back to the server with every event.
        name: as it was called; shown as text.
        state: of `EvaluationState`.
        message: why it ended, or what it does.
        is_example: read only.
        stamp: of the results that are shown, "" = none.
        progress: {"done", "all", "words"} while there is something to wait for.
        pairs: facts.
        commands: what makes the results again.
        exports: (words, path).
    """
    return {
        "id": evaluation_id,
        "name": name,
        "state": state,
        "message": message,
        "example": is_example,
        "stamp": stamp,
        "progress": None if progress is None else dict(progress),
        "facts": [list(pair) for pair in pairs],
        "commands": list(commands),
        "exports": [{"text": text, "href": href} for text, href in exports],
    }
