"""How far two orders of the same candidates agree: whole or partial, with ties.

An order is a list of tiers, best first: `[["a"], ["b", "c"]]` says that a is best and that b and c are equal. A candidate
that an order leaves out is not comparable with anything. Wherever nothing can be said, the answer is None, never 0. Pure
functions; this module does not know who gave an order, or where it is stored.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranker.statistics import Interval

Order = Sequence[Collection[str]]
"""Candidate ids, best first; those of one inner collection are tied; may leave candidates out."""

PERSISTENCE: Final = 0.9
"""`p` of rank-biased overlap: the first ten ranks carry 86% of the weight."""
_SIGNS: Final = (-1.0, 0.0, 1.0)
"""What can be said of a pair: worse, equal, better."""

Floats = NDArray[np.float64]


def as_order(ranking: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """A ranking without ties as an order."""
    return tuple((i,) for i in ranking)


def levels_of(order: Order) -> dict[str, int]:
    """candidate_id -> 0-based place of its tier."""
    return {i: level for level, tier in enumerate(order) for i in tier}


def kendall_tau_b(left: Order, right: Order) -> float | None:
    """Share of the pairs ordered alike less that ordered the other way round, corrected for ties; in [-1, 1].

    Over the candidates that are in both. None if there are fewer than two, or one side ties all of them.

    Source: Kendall 1945 (`scipy.stats.kendalltau`, variant b).
    """
    from scipy.stats import kendalltau  # takes a moment to load

    a, b = levels_of(left), levels_of(right)
    common = [i for i in a if i in b]
    x, y = [a[i] for i in common], [b[i] for i in common]
    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    tau = float(kendalltau(x, y, variant="b").statistic)
    return max(-1.0, min(1.0, tau))


def rank_biased_overlap(left: Order, right: Order, *, p: float = PERSISTENCE) -> float | None:
    """Overlap of the first d ranks, averaged over d with weight p^d and extrapolated to infinite depth; in [0, 1].

    Ties: the overlap at a depth is the one expected if every tie is broken at random, divided by what each list has with
    itself, so that equal orders have 1. Beyond the end of the shorter list its overlap is taken to go on as it was.

    Args:
        left: an order.
        right: another; the two need not name the same candidates.
        p: how likely a reader is to look at the next rank, in (0, 1).

    Returns:
        None if one of them is empty.

    Source: Webber, Moffat and Zobel 2010, equation 32 (extrapolated, uneven lists); ties after Corsi and Urbano 2024.
    """
    if not 0 < p < 1:
        raise ValueError(f"p: {p} is not between 0 and 1")
    short, long = sorted((_inclusion(left), _inclusion(right)), key=lambda inclusion: len(inclusion))
    if not short:
        return None
    agreements = _agreements(short, long)
    depth = len(long)
    weighted = math.fsum(a * p**d for d, a in enumerate(agreements, 1))
    return min(1.0, (1 - p) / p * weighted + agreements[-1] * p**depth)


def _inclusion(order: Order) -> dict[str, Floats]:
    """candidate_id -> for depth 1, 2, ... n the probability of being among the first, ties broken at random."""
    num = sum(len(tier) for tier in order)
    depths = np.arange(1, num + 1)
    inclusion: dict[str, Floats] = {}
    before = 0
    for tier in order:
        for candidate_id in tier:
            inclusion[candidate_id] = np.clip((depths - before) / len(tier), 0.0, 1.0)
        before += len(tier)
    return inclusion


def _agreements(short: Mapping[str, Floats], long: Mapping[str, Floats]) -> list[float]:
    """Agreement at depth 1 ... length of the longer list."""
    s, depth = len(short), len(long)
    overlap = np.zeros(depth)
    for candidate_id in short.keys() & long.keys():
        shown = np.concatenate([short[candidate_id], np.ones(depth - s)])
        overlap += shown * long[candidate_id]
    own_short = np.concatenate([sum(c * c for c in short.values()), np.arange(s + 1, depth + 1)])
    own_long = sum(c * c for c in long.values())
    agreements: Floats = overlap / np.sqrt(own_short * own_long)
    depths = np.arange(s + 1, depth + 1)
    agreements[s:] = (overlap[s:] + agreements[s - 1] * (depths - s)) / depths
    return [min(1.0, float(a)) for a in agreements]


def top_1_agreement(left: Order, right: Order) -> float | None:
    """1 if the same candidates stand first, 0 if none does in both; between for ties (common ones / all named first)."""
    first = [set(next((tier for tier in order if tier), ())) for order in (left, right)]
    if not all(first):
        return None
    return len(first[0] & first[1]) / len(first[0] | first[1])


def first_divergent_step(order: Order, exclusions: Sequence[Collection[str]]) -> int | None:
    """The first step that excludes a candidate although, in `order`, a worse one was still in play. None if there is none.

    Args:
        order: what a person said of the whole pool.
        exclusions: what each step excluded, first step first.

    Ours.
    """
    levels = levels_of(order)
    left = dict(levels)
    for step_index, gone in enumerate(exclusions):
        for candidate_id in gone:
            left.pop(candidate_id, None)
        worst_left = max(left.values(), default=-1)
        if any(levels[i] < worst_left for i in gone if i in levels):
            return step_index
    return None


class PairCounts(NamedTuple):
    """What several people said of the pairs of one task, added up for Krippendorff's alpha."""

    coincidences: Floats
    """3 x 3, over worse, equal and better: how often two people said the one and the other of a pair."""
    counts: list[tuple[int, int, int]]
    """One entry a pair that two or more people ordered: people who said worse, equal, better."""


def count_pairs(orders: Sequence[Order]) -> PairCounts:
    """Count what the people behind `orders` (one each) said of every pair. Each pair is seen from both sides. Ours."""
    levels = [levels_of(order) for order in orders]
    named = sorted(set().union(*levels)) if levels else []
    counts: list[tuple[int, int, int]] = []
    for a, b in combinations(named, 2):
        signs = [(level[b] > level[a]) - (level[b] < level[a]) for level in levels if a in level and b in level]
        if len(signs) >= 2:
            worse, equal, better = signs.count(-1), signs.count(0), signs.count(1)
            counts += [(worse, equal, better), (better, equal, worse)]
    coincidences = np.zeros((3, 3))
    for row in counts:
        n = np.array(row, dtype=float)
        coincidences += (np.outer(n, n) - np.diag(n)) / (n.sum() - 1)
    return PairCounts(coincidences, counts)


def krippendorff_alpha(counts: Sequence[Sequence[int]], values: Sequence[float] = _SIGNS) -> float | None:
    """Agreement of any number of people beyond chance, 1 = full, 0 = as by chance; values are numbers on a scale.

    Args:
        counts: one row a unit: how many people gave it each of `values`.
        values: what could be said.

    Returns:
        None if no unit was judged twice, or nothing but one value was ever given.

    Source: Krippendorff 2011 (the package `krippendorff`, interval level).
    """
    import krippendorff

    table = np.array([row for row in counts if sum(row) >= 2])
    if not len(table) or (table.sum(axis=0) > 0).sum() < 2:
        return None
    return float(krippendorff.alpha(value_counts=table, value_domain=list(values), level_of_measurement="interval"))


def preference_alpha(
    orders_by_task: Mapping[Any, Sequence[Order]], *, num_draws: int = 2_000, seed: int = 0
) -> Interval | None:
    """Krippendorff's alpha over all pairs of candidates that two or more people ordered, with an interval over tasks.

    A pair is a unit, and what is said of it is worse (-1), equal (0) or better (1), so whole and partial orders with ties
    count alike. The interval resamples tasks; with one task it has no width. Ours.
    """
    tasks = [counted for orders in orders_by_task.values() if (counted := count_pairs(orders)).counts]
    alpha = krippendorff_alpha([row for task in tasks for row in task.counts])
    if alpha is None:
        return None
    stacked = np.stack([task.coincidences for task in tasks])
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(tasks), np.full(len(tasks), 1 / len(tasks)), size=num_draws)
    draws = _alpha_of(np.tensordot(times, stacked, axes=1))
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(alpha, float(low), float(high))


def _alpha_of(coincidences: Floats) -> Floats:
    """Alpha of matrices of coincidences (..., 3, 3); 1 where nothing could differ."""
    distance = np.subtract.outer(_SIGNS, _SIGNS) ** 2
    totals = coincidences.sum(axis=-1)
    n = totals.sum(axis=-1)
    observed = (coincidences * distance).sum(axis=(-2, -1))
    expected = np.einsum("...i,...j,ij->...", totals, totals, distance) / np.maximum(n - 1, 1)
    result: Floats = np.where(expected > 0, 1 - observed / np.where(expected > 0, expected, 1), 1.0)
    return result
