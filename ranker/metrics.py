"""Numbers that say how good a ranking is. Pure functions of a ranking (ids, best first) and relevance (id -> gain).

One implementation, in numpy; the tests compare it with `ir-measures` on random rankings. Where relevance is not known every
metric is None, never 0. It does not know models, datasets or files.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranker.schema import EliminationStep, RankingTask

Gain = Literal["linear", "exponential"]
"""`linear`: the grade itself (trec_eval); `exponential`: 2^grade - 1 (Burges et al. 2005), which favours high grades."""

Floats = NDArray[np.float64]


def rank_of_relevant(ranking: Sequence[str], relevance: Mapping[str, float]) -> int | None:
    """1-based rank of the first candidate with a gain above 0; None if there is none."""
    for position, candidate_id in enumerate(ranking):
        if relevance.get(candidate_id, 0) > 0:
            return position + 1
    return None


def reciprocal_rank(ranking: Sequence[str], relevance: Mapping[str, float]) -> float | None:
    """1 / rank of the first relevant candidate, in (0, 1]; None where relevance is not known. Mean over tasks: MRR."""
    rank = rank_of_relevant(ranking, relevance)
    return None if rank is None else 1 / rank


def hit_rate(ranking: Sequence[str], relevance: Mapping[str, float], k: int) -> float | None:
    """1 if a relevant candidate is among the first `k`, else 0. Mean over tasks: Hit@k. Saturated where k = n."""
    gains = _gains(ranking, relevance)
    return float(gains[:k].any()) if gains.any() else None


def average_precision(ranking: Sequence[str], relevance: Mapping[str, float]) -> float | None:
    """Mean of the precision at each relevant candidate's rank, over all with a gain above 0. Mean over tasks: MAP.

    Relevant ones that are not in the ranking (judged, not listed) count with precision 0, as in trec_eval.
    """
    num_relevant = sum(gain > 0 for gain in relevance.values())
    if num_relevant == 0:
        return None
    is_relevant = _gains(ranking, relevance) > 0
    precision = np.cumsum(is_relevant) / np.arange(1, len(ranking) + 1)
    return float(precision[is_relevant].sum() / num_relevant)


def ndcg(
    ranking: Sequence[str], relevance: Mapping[str, float], k: int | None = None, *, gain: Gain = "linear"
) -> float | None:
    """Discounted gain of the first `k` over that of the best possible order, in [0, 1]; discount log2(rank + 1).

    Args:
        ranking: ids, best first.
        relevance: id -> grade, those of judged documents that are not in `ranking` included: they count in the ideal.
        k: depth; None = all.
        gain: how a grade counts.

    Source: Järvelin and Kekäläinen 2002, with the discount of trec_eval.
    """
    ideal = _dcg(np.sort(np.fromiter(relevance.values(), float, len(relevance)))[::-1], k, gain)
    return _dcg(_gains(ranking, relevance), k, gain) / ideal if ideal > 0 else None


def random_floor_mrr(num_candidates: int, num_relevant: int = 1) -> float:
    """Expected reciprocal rank of a random order: H_n / n for one relevant candidate.

    For r relevant ones the first stands at rank k with probability C(n - k, r - 1) / C(n, r).

    Raises:
        ValueError: unless 1 <= num_relevant <= num_candidates.
    """
    n, r = num_candidates, num_relevant
    if not 1 <= r <= n:
        raise ValueError(f"num_relevant: {r} is not between 1 and {n}")
    expectation, is_later = 0.0, 1.0  # is_later: probability that none of the first k - 1 ranks is relevant
    for k in range(1, n - r + 2):
        is_here = is_later * r / (n - k + 1)
        expectation += is_here / k
        is_later -= is_here
    return expectation


def random_floor_ndcg(
    candidate_ids: Sequence[str], relevance: Mapping[str, float], k: int | None = None, *, gain: Gain = "linear"
) -> float | None:
    """Expected nDCG of a random order: every rank holds the mean gain of the candidates."""
    ideal = _dcg(np.sort(np.fromiter(relevance.values(), float, len(relevance)))[::-1], k, gain)
    if ideal <= 0:
        return None
    mean = _as_gain(_gains(candidate_ids, relevance), gain).mean()
    depth = len(candidate_ids) if k is None else min(k, len(candidate_ids))
    return float(mean * _discounts(depth).sum() / ideal)


def skill_score(value: float, floor: float) -> float:
    """How much of the way from a random order (0) to a perfect one (1) was made; negative below random."""
    return (value - floor) / (1 - floor) if floor < 1 else 0.0


class ExclusionCount(NamedTuple):
    """Exclusions from pools of one size, of those that could go wrong."""

    pool_size: int
    num_steps: int
    num_correct: int
    floor: float
    """Expected share of correct ones if the exclusion were drawn at random."""

    @property
    def accuracy(self) -> float:
        return self.num_correct / self.num_steps


def exclusion_accuracy(
    traces: Iterable[tuple[Sequence[EliminationStep], Mapping[str, float]]],
) -> list[ExclusionCount]:
    """How often an exclusion hit a candidate that is not relevant, by pool size, largest first.

    Args:
        traces: pairs of (steps, relevance). Steps that exclude several candidates at once are not counted.

    Source: the paper's exclusion reward, as a share.
    """
    return count_exclusions(
        (len(step.pool), sum(relevance.get(i, 0) > 0 for i in step.pool), relevance.get(step.excluded_id, 0) > 0)
        for steps, relevance in traces
        for step in steps
        if len(step.exclusions) == 1
    )


def count_exclusions(exclusions: Iterable[tuple[int, int, bool]]) -> list[ExclusionCount]:
    """The same of (pool size, relevant ones in it, whether a relevant one was excluded).

    Pools that hold only relevant candidates, or none, cannot go wrong or right and are not counted.
    """
    counts: dict[int, list[float]] = {}
    for pool_size, num_relevant, is_relevant in exclusions:
        if 0 < num_relevant < pool_size:
            count = counts.setdefault(pool_size, [0, 0, 0.0])
            count[0] += 1
            count[1] += not is_relevant
            count[2] += 1 - num_relevant / pool_size
    return [
        ExclusionCount(size, int(n), int(good), floor / n) for size, (n, good, floor) in sorted(counts.items())[::-1]
    ]


class RoutingOutcome(NamedTuple):
    """What sending the query to the model that was ranked first brought."""

    reward: float
    """Its gain: a * score - b * cost of the dataset's scenario."""
    regret: float
    """The gain that the best model would have brought, less the reward; 0 is best."""
    effect: float
    """Its score alone."""
    cost: float | None
    """Its cost, in the unit of the dataset."""


def routing_outcome(task: RankingTask, ranking: Sequence[str]) -> RoutingOutcome | None:
    """Reward and regret of the first of `ranking`; None where the candidates' `gain` and `score` are not known."""
    gains = {c.candidate_id: c.metadata.get("gain") for c in task.candidates}
    numbers = [g for g in gains.values() if isinstance(g, int | float)]
    first = task.candidate(ranking[0]).metadata
    score, cost = first.get("score"), first.get("cost")
    if len(numbers) != len(gains) or not isinstance(score, int | float):
        return None
    reward = float(first["gain"])
    return RoutingOutcome(
        reward, max(numbers) - reward, float(score), float(cost) if isinstance(cost, int | float) else None
    )


def _gains(ranking: Sequence[str], relevance: Mapping[str, float]) -> Floats:
    return np.array([max(0.0, relevance.get(i, 0.0)) for i in ranking], dtype=float)


def _as_gain(grades: Floats, gain: Gain) -> Floats:
    return np.exp2(grades) - 1 if gain == "exponential" else grades


def _discounts(depth: int) -> Floats:
    result: Floats = 1 / np.log2(np.arange(2, depth + 2))
    return result


def _dcg(grades: Floats, k: int | None, gain: Gain) -> float:
    kept = _as_gain(grades[:k], gain)
    return float((kept * _discounts(len(kept))).sum())
