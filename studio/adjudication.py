"""Tasks on which people differ: all versions of an order side by side, what they have in common, and the decision.

A decision is a gold answer of whoever decides. It supersedes nobody's word; from then on it measures the answers of others.
Knows no page and no SQL.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Final

from ranker.agreement import Order, kendall_tau_b
from ranker.consensus import Method, Tiers, consensus, reliability_weights
from ranker.errors import UsageError
from ranker.schema import Correction, CorrectionKind, RankingTask, Record
from studio.corrections import Corrections, Submission
from studio.quality import agreement_with_others
from studio.store import Store

METHODS: Final[tuple[Method, ...]] = ("borda", "bradley-terry", "plackett-luce")


class Dispute(Record):
    """A task of which two people or more have given an order."""

    dataset_id: int
    dataset: str
    task_id: str
    num_people: int
    num_versions: int
    tau_b: float | None
    """Mean over pairs of people; None = nothing could be compared."""
    is_decided: bool


class Version(Record):
    """One order, and everybody who gave it."""

    order: Tiers
    authors: tuple[str, ...]
    reasons: tuple[str, ...]


class TaskVersions(Record):
    """Everything that can be chosen from."""

    dataset_id: int
    task: RankingTask
    versions: tuple[Version, ...]
    """The most common one first."""
    consensus: Mapping[str, Tiers]
    """By method, people weighted by how far they agree with the others; Plackett-Luce only where nobody tied anything."""
    decision: Correction | None


class Adjudication:
    """Deciding, over one store. Callable from any thread."""

    def __init__(self, store: Store, corrections: Corrections) -> None:
        self._store = store
        self._corrections = corrections

    def disputes(self, dataset_id: int | None = None) -> list[Dispute]:
        """Undecided ones first, and of those the ones on which people agree least."""
        ids = {f"{info.name}@{info.version}": info.id for info in self._store.datasets.list(include_deleted=True)}
        votes, gold = self._votes(dataset_id)
        found = []
        for (dataset, task_id), orders in votes.items():
            if len(orders) >= 2 and dataset in ids:
                taus = [kendall_tau_b(a, b) for a, b in combinations(orders.values(), 2)]
                known = [tau for tau in taus if tau is not None]
                found.append(
                    Dispute(
                        dataset_id=ids[dataset],
                        dataset=dataset,
                        task_id=task_id,
                        num_people=len(orders),
                        num_versions=len({_as_said(order) for order in orders.values()}),
                        tau_b=fmean(known) if known else None,
                        is_decided=(dataset, task_id) in gold,
                    )
                )
        return sorted(found, key=lambda d: (d.is_decided, 1.0 if d.tau_b is None else d.tau_b))

    def versions(self, dataset_id: int, task_id: str) -> TaskVersions:
        """What was said of one task. Raises NotStoredError if it is not there."""
        task = self._store.datasets.task(dataset_id, task_id)
        votes, gold = self._votes(dataset_id)
        key = next((key for key in (*votes, *gold) if key[1] == task_id), None)
        orders = votes.get(key, {}) if key else {}
        said = self._corrections.effective(dataset_id, task_id)
        reasons = {c.author: c.reason for c in said if c.kind is CorrectionKind.RANKING and not c.is_gold and c.reason}
        people: dict[Tiers, list[str]] = defaultdict(list)
        for author, order in orders.items():
            people[_as_said(order)].append(author)
        versions = [
            Version(
                order=_in_task_order(order, task),
                authors=tuple(authors),
                reasons=tuple(reasons[a] for a in authors if a in reasons),
            )
            for order, authors in people.items()
        ]
        return TaskVersions(
            dataset_id=dataset_id,
            task=task,
            versions=tuple(sorted(versions, key=lambda v: -len(v.authors))),  # stable: else the first that was said
            consensus=_consensus(orders, reliability_weights(agreement_with_others(votes))),
            decision=gold.get(key) if key else None,
        )

    def decide(
        self, dataset_id: int, task_id: str, order: Sequence[Sequence[str]], *, author: str, reason: str
    ) -> Correction:
        """Keep an order as the known answer of a task.

        Raises:
            UsageError: if there is no reason, or the order does not fit the task.
            NotStoredError: if there is no such task.
        """
        if not reason.strip():
            raise UsageError("decision: reason: empty: say in a sentence why this order is right")
        submission = Submission(
            task_id=task_id,
            kind=CorrectionKind.RANKING,
            payload={"order": [list(tier) for tier in order]},
            author=author,
            reason=reason.strip(),
            is_gold=True,
        )
        return self._corrections.submit(dataset_id, submission)

    def _votes(
        self, dataset_id: int | None
    ) -> tuple[dict[tuple[str | None, str], dict[str, Order]], dict[tuple[str | None, str], Correction]]:
        """Of each task, the order of each person; and the newest gold answer."""
        votes: dict[tuple[str | None, str], dict[str, Order]] = defaultdict(dict)
        gold: dict[tuple[str | None, str], Correction] = {}
        for said in self._corrections.effective(dataset_id):
            if said.kind is CorrectionKind.RANKING:
                key = (said.dataset, said.task_id)
                if said.is_gold:
                    gold[key] = said
                else:
                    votes[key][said.author] = said.payload["order"]
        return votes, gold


def _as_said(order: Order) -> Tiers:
    """The same for orders that say the same: within a tie the place means nothing."""
    return tuple(tuple(sorted(tier)) for tier in order)


def _in_task_order(order: Tiers, task: RankingTask) -> Tiers:
    place = {candidate_id: number for number, candidate_id in enumerate(task.candidate_ids)}
    return tuple(tuple(sorted(tier, key=lambda i: place[i])) for tier in order)


def _consensus(orders: Mapping[str, Order], reliability: Mapping[str, float]) -> dict[str, Tiers]:
    if len(orders) < 2:
        return {}
    weights = [reliability[author] for author in orders]
    has_ties = any(len(tier) > 1 for order in orders.values() for tier in order)
    return {
        method: consensus(list(orders.values()), method=method, weights=weights)
        for method in METHODS
        if not (method == "plackett-luce" and has_ties)
    }
