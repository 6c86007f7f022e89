"""All versions of one task side by side, to decide between; what is chosen comes back with its reason."""

from typing import Any, NamedTuple

from ranker.schema import RankingTask
from studio.adjudication import TaskVersions
from studio.components.view import View, number_of, text_of

MAX_REASON_CHARS = 20_000
_METHODS = {"borda": "Borda", "bradley-terry": "Bradley-Terry", "plackett-luce": "Plackett-Luce"}
_PEOPLE_NAMED = 3


class Choice(NamedTuple):
    """What was chosen, as the browser says."""

    dataset_id: int | None
    task_id: str | None
    order: list[list[str]] | None
    reason: str
    author: str


class Adjudicator(View):
    """The versions of one task. Events: decide {dataset_id, task_id, order, reason, author}, close {}."""

    kind = "adjudication"
    emits = ("decide", "close")


def show_versions(shown: TaskVersions, dataset: str, *, needs_name: bool, following: int) -> dict[str, Any]:
    """The value of an `Adjudicator`.

    Args:
        shown: the versions, the most common one first.
        dataset: the name of its dataset.
        needs_name: ask for the name of who decides (there are no accounts).
        following: disputed tasks that nobody has decided, this one left out.
    """
    versions = [
        {
            "title": _people(version.authors),
            "note": "most common" if not number and len(version.authors) > 1 else "",
            "kind": "person",
            "order": [list(tier) for tier in version.order],
            "reasons": list(version.reasons),
        }
        for number, version in enumerate(shown.versions)
    ]
    for method, order in shown.consensus.items():
        name = _METHODS[method]
        note = "consensus, weighted by reliability"
        versions.append(
            {"title": name, "note": note, "kind": "consensus", "order": [list(t) for t in order], "reasons": []}
        )
    decision = shown.decision
    return {
        "dataset_id": shown.dataset_id,
        "dataset": dataset,
        "task": _task(shown.task),
        "versions": versions,
        "needs_name": needs_name,
        "following": following,
        "decided": None
        if decision is None
        else {"author": decision.author, "reason": decision.reason, "order": decision.payload["order"]},
    }


def choice_of(sent: Any) -> Choice:
    """Read the data of a `decide` event."""
    order = sent.get("order") if isinstance(sent, dict) else None
    is_order = isinstance(order, list) and all(
        isinstance(tier, list) and all(isinstance(i, str) for i in tier) for tier in order
    )
    return Choice(
        number_of(sent, "dataset_id"),
        text_of(sent, "task_id"),
        order if is_order else None,
        text_of(sent, "reason", MAX_REASON_CHARS) or "",
        text_of(sent, "author") or "",
    )


def _task(task: RankingTask) -> dict[str, Any]:
    return {
        "task_id": task.task_id,
        "query": task.query,
        "history": list(task.history),
        "criterion": task.criterion,
        "candidates": {c.candidate_id: {"title": c.title, "text": c.text} for c in task.candidates},
    }


def _people(authors: tuple[str, ...]) -> str:
    named = ", ".join(authors[:_PEOPLE_NAMED])
    more = len(authors) - _PEOPLE_NAMED
    return named if more <= 0 else f"{named} and {more} more"
