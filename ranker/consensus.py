"""One order out of several people's: by Borda's count, or by a model of paired or repeated choice.

Orders are lists of tiers, best first, as in `ranker.agreement`. People can be weighted by how reliable they are. Pure
functions; this module does not know who the people are.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Final, Literal

import numpy as np

from ranker.agreement import Order, levels_of

Method = Literal["borda", "bradley-terry", "plackett-luce"]
Tiers = tuple[tuple[str, ...], ...]

_PRIOR: Final = 0.1
"""Paired comparisons that each pair has for free, half of them won by each side: strengths stay finite. Ours."""
_DIGITS: Final = 6
"""Scores that differ less than this many digits say are tied."""


def consensus(orders: Sequence[Order], *, method: Method = "borda", weights: Sequence[float] | None = None) -> Tiers:
    """The order that `orders` agree on best; equal scores are tied, candidates that nobody named are left out.

    Args:
        orders: one a person.
        method: how scores are made (see `borda`, `bradley_terry`, `plackett_luce`).
        weights: how much each person counts, at least 0; None = all alike.

    Raises:
        ValueError: if `plackett-luce` is asked of orders with ties.
    """
    scores = _SCORES[method](orders, weights)
    levels: dict[float, list[str]] = {}
    for candidate_id, value in scores.items():
        levels.setdefault(round(value, _DIGITS), []).append(candidate_id)
    return tuple(tuple(levels[value]) for value in sorted(levels, reverse=True))


def borda(orders: Sequence[Order], weights: Sequence[float] | None = None) -> dict[str, float]:
    """candidate_id -> mean over people of (candidates below it - above it) / (candidates they named - 1), in [-1, 1].

    Only people who named the candidate and something beside it count for it. Source: Borda 1781; for partial orders ours.
    """
    totals: dict[str, float] = {}
    mass: dict[str, float] = {}
    for order, weight in zip(orders, _checked(orders, weights), strict=True):
        levels = levels_of(order)
        for candidate_id, own in levels.items():
            totals.setdefault(candidate_id, 0.0)
            mass.setdefault(candidate_id, 0.0)
            if len(levels) >= 2:
                below = sum(level > own for level in levels.values())
                above = sum(level < own for level in levels.values())
                totals[candidate_id] += weight * (below - above) / (len(levels) - 1)
                mass[candidate_id] += weight
    return {i: totals[i] / mass[i] if mass[i] else 0.0 for i in totals}


def bradley_terry(orders: Sequence[Order], weights: Sequence[float] | None = None) -> dict[str, float]:
    """candidate_id -> log-strength (mean 0) such that a is put before b with probability 1 / (1 + exp(b - a)).

    Every pair of an order that is not tied is one comparison. Source: Bradley and Terry 1952; estimated by `choix`.
    """
    import choix

    ids = _named(orders)
    if len(ids) < 2:
        return dict.fromkeys(ids, 0.0)
    place = {candidate_id: position for position, candidate_id in enumerate(ids)}
    wins = np.full((len(ids), len(ids)), _PRIOR / 2)
    np.fill_diagonal(wins, 0.0)
    for order, weight in zip(orders, _checked(orders, weights), strict=True):
        levels = levels_of(order)
        for a, b in combinations(levels, 2):
            if levels[a] != levels[b]:
                better, worse = (a, b) if levels[a] < levels[b] else (b, a)
                wins[place[better], place[worse]] += weight
    strengths = choix.ilsr_pairwise_dense(wins, max_iter=2_000, tol=1e-7)
    return {i: float(strengths[place[i]]) for i in ids}


def plackett_luce(orders: Sequence[Order], weights: Sequence[float] | None = None) -> dict[str, float]:
    """candidate_id -> log-strength (mean 0) such that each next one is chosen in proportion to the strengths that are left.

    Weights count in steps of .05: whole rankings cannot be counted in part, so each is counted many times.

    Raises:
        ValueError: if an order has ties.

    Source: Plackett 1975, Luce 1959; estimated by `choix`.
    """
    import choix

    if any(len(tier) > 1 for order in orders for tier in order):
        raise ValueError("orders: plackett-luce knows no ties: use borda or bradley-terry")
    ids = _named(orders)
    if len(ids) < 2:
        return dict.fromkeys(ids, 0.0)
    place = {candidate_id: position for position, candidate_id in enumerate(ids)}
    data = [tuple(place[i] for tier in order for i in tier) for order in orders]
    free = [pair for a, b in combinations(range(len(ids)), 2) for pair in ((a, b), (b, a))]
    rankings: list[tuple[int, ...]] = list(free)
    for ranking, weight in zip(data, _checked(orders, weights), strict=True):
        if len(ranking) >= 2:
            rankings += [ranking] * round(weight * 2 / _PRIOR)
    strengths = choix.ilsr_rankings(len(ids), rankings, max_iter=2_000, tol=1e-7)
    return {i: float(strengths[place[i]]) for i in ids}


_SCORES: Final[Mapping[Method, Callable[..., dict[str, float]]]] = {
    "borda": borda,
    "bradley-terry": bradley_terry,
    "plackett-luce": plackett_luce,
}


def reliability_weights(agreement: Mapping[str, float | None]) -> dict[str, float]:
    """Person -> weight: how far they agree with the others (tau-b), never below .05; those of whom nothing is known: 1. Ours."""
    return {person: 1.0 if tau is None else max(0.05, tau) for person, tau in agreement.items()}


def _named(orders: Sequence[Order]) -> list[str]:
    return list(dict.fromkeys(i for order in orders for tier in order for i in tier))


def _checked(orders: Sequence[Order], weights: Sequence[float] | None) -> Sequence[float]:
    given = [1.0] * len(orders) if weights is None else weights
    if len(given) != len(orders) or any(w < 0 for w in given):
        raise ValueError(f"weights: {len(given)} of {len(orders)} orders: give one a person, at least 0")
    return given
