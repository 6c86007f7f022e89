"""Numbers that say how good a ranking is. Pure functions of a ranking (ids, best first) and relevance (id -> gain)."""

from collections.abc import Mapping, Sequence


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


def skill_score(value: float, floor: float) -> float:
    """How much of the way from a random order (0) to a perfect one (1) was made; negative below random."""
    return (value - floor) / (1 - floor) if floor < 1 else 0.0
