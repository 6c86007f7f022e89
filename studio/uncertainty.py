"""Where a correction teaches most: tasks whose exclusions were a toss-up, whose rankings disagree, whose answer sank.

Three parts, each between 0 and 1, of what is known of a task; its priority is their mean. Ours. Knows no page.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from ranker.agreement import Order, as_order, kendall_tau_b
from ranker.schema import Correction, CorrectionKind
from studio.store import Store
from studio.store.records import FinishedRanking

MAX_COMPARED = 6
"""Newest rankings of a task that are compared with each other."""


def mean_entropy(steps: Iterable[Mapping[str, float]]) -> float | None:
    """Mean over steps of the entropy of the exclusion probabilities / log(pool size): 1 = all alike likely.

    None if no step has probabilities.
    """
    shares = []
    for probabilities in steps:
        if len(probabilities) >= 2:
            entropy = -math.fsum(p * math.log(p) for p in probabilities.values() if p > 0)
            shares.append(min(1.0, entropy / math.log(len(probabilities))))
    return math.fsum(shares) / len(shares) if shares else None


def disagreement(orders: Sequence[Order]) -> float | None:
    """Mean over pairs of (1 - tau-b) / 2: 0 = all alike, 1 = the reverse. None if nothing can be compared."""
    found = [tau for a, b in combinations(orders[:MAX_COMPARED], 2) if (tau := kendall_tau_b(a, b)) is not None]
    return sum((1 - tau) / 2 for tau in found) / len(found) if found else None


def sunk(rank_of_relevant: int | None, num_candidates: int) -> float | None:
    """How low the relevant candidate is ranked: 0 = first, 1 = last. None if it is not known."""
    return None if rank_of_relevant is None else (rank_of_relevant - 1) / (num_candidates - 1)


class Uncertainty:
    """Priorities of the tasks of one store. What finished traces say is computed once: they never change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entropies: dict[str, float | None] = {}
        self._disagreements: dict[tuple[Order, ...], float | None] = {}

    def priorities(self, dataset_id: int, current: Iterable[Correction]) -> dict[str, float]:
        """task_id -> priority in [0, 1], of those of which anything is known.

        Args:
            dataset_id: whose tasks.
            current: what people say of them: disagreement between people counts, too.
        """
        by_task: dict[str, list[FinishedRanking]] = defaultdict(list)
        for trace in self._store.traces.finished_of(dataset_id):
            by_task[trace.task_id].append(trace)
        self._learn_entropies([traces[0].trace_id for traces in by_task.values()])
        people: dict[str, list[Order]] = defaultdict(list)
        for correction in current:
            if correction.kind is CorrectionKind.RANKING:
                people[correction.task_id].append(tuple(tuple(tier) for tier in correction.payload["order"]))
        priorities = {}
        for task_id in by_task.keys() | people.keys():
            parts = [part for part in self._parts(by_task[task_id], people[task_id]) if part is not None]
            if parts:
                priorities[task_id] = sum(parts) / len(parts)
        return priorities

    def _parts(self, traces: Sequence[FinishedRanking], people: Sequence[Order]) -> list[float | None]:
        parts = [self._disagreement(tuple(people))]
        if traces:
            newest = traces[0]
            parts += [
                self._entropies[newest.trace_id],
                self._disagreement(tuple(as_order(trace.ranking) for trace in traces[:MAX_COMPARED])),
                sunk(newest.rank_of_relevant, len(newest.ranking)),
            ]
        return parts

    def _learn_entropies(self, trace_ids: Sequence[str]) -> None:
        unknown = [trace_id for trace_id in trace_ids if trace_id not in self._entropies]
        for trace_id, steps in self._store.traces.probabilities(unknown).items():
            self._entropies[trace_id] = mean_entropy(steps)

    def _disagreement(self, orders: tuple[Order, ...]) -> float | None:
        if len(orders) < 2:
            return None
        if orders not in self._disagreements:
            self._disagreements[orders] = disagreement(orders)
        return self._disagreements[orders]
