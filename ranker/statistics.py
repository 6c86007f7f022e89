"""How sure a mean over queries is, and whether two systems differ: bootstrap, paired permutation, Holm.

Everything is seeded and vectorised, and resamples *queries*: values of several seeds of one query are averaged before they
come here, so that reshuffles do not pass for more queries.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

NUM_DRAWS: Final = 10_000
_BLOCK_CELLS: Final = 4_000_000
"""Draws x queries that are held at once (32 MB)."""


class Interval(NamedTuple):
    """A mean and its 95% interval."""

    mean: float
    low: float
    high: float


class Comparison(NamedTuple):
    """Mean of (a - b) over the same queries."""

    difference: float
    low: float
    high: float
    p_value: float
    """Two-sided; of the hypothesis that a and b are exchangeable on every query."""
    num_queries: int


def bootstrap_interval(
    values: Sequence[float], *, num_draws: int = NUM_DRAWS, seed: int = 0, level: float = 0.95
) -> Interval:
    """Mean and percentile interval, resampling queries with replacement.

    Args:
        values: one number a query, at least one.
        num_draws: resamples.
        seed: of the draws; the same values and seed give the same interval.
        level: share of resampled means inside.

    Source: Efron and Tibshirani 1993, chapter 13.
    """
    data = np.asarray(values, dtype=float)
    if data.size == 0:
        raise ValueError("values: empty")
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [data[rng.integers(0, data.size, (rows, data.size))].mean(axis=1) for rows in _blocks(num_draws, data.size)]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(data.mean()), float(low), float(high))


def paired_permutation_test(
    a: Sequence[float], b: Sequence[float], *, num_draws: int = NUM_DRAWS, seed: int = 0
) -> float:
    """Two-sided p-value of the mean difference when, on each query, a and b may be exchanged.

    All 2^n exchanges are tried where there are at most `num_draws` of them; otherwise `num_draws` random ones, and the p-value
    counts the observed one too, so that it is never 0.

    Source: Smucker, Allan and Carterette 2007.
    """
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    if difference.size == 0:
        raise ValueError("values: empty")
    observed = abs(difference.sum()) * (1 - 1e-9) - 1e-12  # sums of the same numbers in another order count as equal
    if difference.size < 63 and 2**difference.size <= num_draws:
        codes = np.arange(2**difference.size)[:, None] >> np.arange(difference.size)
        return float((np.abs((1 - 2 * (codes & 1)) @ difference) >= observed).mean())
    rng = np.random.default_rng(seed)
    reached = 0
    for rows in _blocks(num_draws, difference.size):
        signs: NDArray[np.int8] = rng.integers(0, 2, (rows, difference.size), dtype=np.int8) * 2 - 1
        reached += int((np.abs(signs @ difference) >= observed).sum())
    return (reached + 1) / (num_draws + 1)


def compare(a: Sequence[float], b: Sequence[float], *, num_draws: int = NUM_DRAWS, seed: int = 0) -> Comparison:
    """Difference of two systems on the same queries, in the same order."""
    if len(a) != len(b):
        raise ValueError(f"values: {len(a)} and {len(b)} are not the same queries")
    difference = [x - y for x, y in zip(a, b, strict=True)]
    interval = bootstrap_interval(difference, num_draws=num_draws, seed=seed)
    p_value = paired_permutation_test(a, b, num_draws=num_draws, seed=seed)
    return Comparison(interval.mean, interval.low, interval.high, p_value, len(a))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values of a family of tests (one a dataset, say): those below .05 hold together at the 5% level.

    Source: Holm 1979 (step-down Bonferroni).
    """
    adjusted: dict[str, float] = {}
    highest = 0.0
    for position, name in enumerate(sorted(p_values, key=lambda n: p_values[n])):
        highest = max(highest, min(1.0, (len(p_values) - position) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}


def ratio_intervals(
    parts: NDArray[np.float64],
    wholes: NDArray[np.float64],
    *,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> list[tuple[float, float]]:
    """Percentile intervals of sum(parts) / sum(wholes), one a column, resampling queries (rows) with replacement.

    For shares of things of which a query has several (steps), which are not independent of each other.

    Args:
        parts: (queries, columns).
        wholes: (queries, columns); a draw in which a column's sum is 0 is left out of that column.
        num_draws: resamples.
        seed: of the draws.
        level: share of resampled ratios inside.

    Returns:
        (low, high) by column; (nan, nan) where the column's wholes are all 0.
    """
    num_queries = len(parts)
    rng = np.random.default_rng(seed)
    drawn = []
    for rows in _blocks(num_draws, num_queries):
        weights = rng.multinomial(num_queries, np.full(num_queries, 1 / num_queries), size=rows).astype(float)
        below = weights @ wholes
        drawn.append(np.divide(weights @ parts, below, out=np.full_like(below, np.nan), where=below > 0))
    ratios = np.concatenate(drawn)
    tails = [(1 - level) / 2, (1 + level) / 2]
    intervals = []
    for column in ratios.T:
        known = column[~np.isnan(column)]
        low, high = np.quantile(known, tails) if known.size else (np.nan, np.nan)
        intervals.append((float(low), float(high)))
    return intervals


def _blocks(num_draws: int, num_queries: int) -> list[int]:
    """Sizes of the blocks in which draws are made."""
    size = max(1, _BLOCK_CELLS // num_queries)
    return [min(size, num_draws - start) for start in range(0, num_draws, size)]
