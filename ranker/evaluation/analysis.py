"""Where and how rankings go wrong: what the steps of one row's answers say, beside what a random choice would do.

Every share has a 95% interval that resamples *queries* (steps of one query, and its reshuffles, are no independent draws) and
the random expectation beside it. Only steps that exclude one candidate from a pool that holds relevant and other candidates
can go right or wrong; the others are not counted. Pure numpy; knows answers, not how they are made or drawn.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ranker.evaluation.answers import Answer, StepFact
from ranker.schema import Record
from ranker.statistics import NUM_DRAWS, bootstrap_interval, ratio_intervals

Floats = NDArray[np.float64]

LAST: Final = "last"
MAX_PLACES: Final = 12
"""Places of a pool that are told apart; beyond them there is one more, and the last one."""
NUM_BINS: Final = 10
NUM_LENGTHS: Final = 4
MIN_STEPS: Final = 5
"""Below it nothing is said of lengths and reliability."""
_DIGITS: Final = 4


class Share(Record):
    """A share of steps."""

    name: str
    """Pool size, place or range of lengths."""
    n: int
    """Steps that are counted."""
    value: float
    low: float
    high: float
    """Ends of the 95% interval."""
    expected: float
    """Of a choice that knows nothing."""


class PositionBias(Record):
    """How often the candidate at each place of the prompt is excluded. A ranker that reads has no favourite place: orders
    are shuffled."""

    places: tuple[Share, ...]
    """By place from the front ("1", "2", ...); the pool's last one counts as "last" whatever its number."""
    chi_square: float
    p_value: float
    """Of the hypothesis that every place of a pool is equally likely."""
    num_steps: int


class Length(Record):
    """Decisions after thoughts of about the same length."""

    share: Share
    """Exclusions that hit no relevant candidate."""
    mean_tokens: float


class Bin(Record):
    """Exclusions of about the same stated probability."""

    n: int
    confidence: float
    """Mean probability that the model gave to what it excluded."""
    accuracy: float
    """Share of them that hit no relevant candidate."""
    expected: float
    """The same of a random exclusion from the same pools."""


class Reliability(Record):
    """Whether exclusions are as often right as their probability says."""

    bins: tuple[Bin, ...]
    ece: float
    """Expected calibration error: mean of |accuracy - confidence| over the bins, weighted by their steps."""
    n: int


class OrderRobustness(Record):
    """How much of a ranking stays when the candidates are shown in another order."""

    num_queries: int
    tau: float
    tau_low: float
    tau_high: float
    """Kendall's tau between the rankings of two reshuffles, mean over pairs and queries; random: 0."""
    top: float
    top_low: float
    top_high: float
    """Share of pairs of reshuffles that put the same candidate first."""
    top_random: float


class Analysis(Record):
    """Everything that is known of the errors of one row."""

    losses: tuple[Share, ...] = ()
    """By pool size, largest first: how often a relevant candidate goes out there."""
    positions: PositionBias | None = None
    lengths: tuple[Length, ...] = ()
    reliability: Reliability | None = None
    """All decisions with probabilities."""
    last_choice: Reliability | None = None
    """Of them the choices between two, one relevant: there the probability *is* the one of being right."""
    order: OrderRobustness | None = None


def analyse(answers: Sequence[Answer], *, num_draws: int = NUM_DRAWS) -> Analysis:
    """What the answers of one system to one dataset say, all seeds together."""
    return Analysis(
        losses=losses(answers, num_draws=num_draws),
        positions=position_bias(answers, num_draws=num_draws),
        lengths=length_effect(answers, num_draws=num_draws),
        reliability=reliability(answers),
        last_choice=reliability(answers, pool_size=2),
        order=order_robustness(answers, num_draws=num_draws),
    )


def losses(answers: Sequence[Answer], *, num_draws: int = NUM_DRAWS) -> tuple[Share, ...]:
    """At which pool size relevant candidates are lost, against relevant / pool size of a random exclusion."""
    return _shares(
        answers,
        lambda fact: str(fact.pool_size) if _is_open(fact) else None,
        lambda fact: float(fact.is_relevant),
        lambda fact: fact.num_relevant / fact.pool_size,
        order=lambda name: -int(name),
        num_draws=num_draws,
    )


def position_bias(answers: Sequence[Answer], *, num_draws: int = NUM_DRAWS) -> PositionBias | None:
    """Exclusions by place, and a test of "all places of a pool are equally likely". None without steps.

    Statistic: Pearson's chi-square over the places, expected counts summed over the pools. Pools of different sizes make its
    distribution another than chi-square's, so the p-value is found by drawing places at random (`num_draws` times).
    """
    facts = [fact for answer in answers for fact in answer.steps if fact.num_excluded == 1]
    if not facts:
        return None
    names = [str(place) for place in range(1, MAX_PLACES + 1)] + [f"{MAX_PLACES + 1}+", LAST]
    index = {name: i for i, name in enumerate(names)}
    queries = list(dict.fromkeys(answer.task_id for answer in answers))
    hits, shown = np.zeros((len(queries), len(names))), np.zeros((len(queries), len(names)))
    expected = np.zeros(len(names))
    rows = {task_id: i for i, task_id in enumerate(queries)}
    sizes: dict[int, int] = defaultdict(int)
    for answer in answers:
        for fact in answer.steps:
            if fact.num_excluded == 1:
                row = rows[answer.task_id]
                hits[row, index[_place(fact.position, fact.pool_size)]] += 1
                cells = _places(fact.pool_size, index)
                shown[row, cells > 0] += 1
                expected += cells / fact.pool_size
                sizes[fact.pool_size] += 1
    intervals = ratio_intervals(hits, shown, num_draws=num_draws)
    counts, exposed = hits.sum(axis=0), shown.sum(axis=0)
    places = [
        _share(name, int(exposed[i]), counts[i] / exposed[i], intervals[i], expected[i] / exposed[i])
        for name, i in index.items()
        if exposed[i]
    ]
    statistic, p_value = _test_places(counts, expected, sizes, index, num_draws)
    return PositionBias(
        places=tuple(places),
        chi_square=round(statistic, 3),
        p_value=round(p_value, 6),
        num_steps=len(facts),
    )


def length_effect(answers: Sequence[Answer], *, num_draws: int = NUM_DRAWS) -> tuple[Length, ...]:
    """Share of right exclusions by tokens written before them, in quarters. Empty where nothing was written.

    Long thoughts come with large pools in some modes, so the random expectation of the same pools stands beside each.
    """
    facts = [f for a in answers for f in a.steps if _is_open(f)]
    lengths = np.array([f.completion_tokens for f in facts], dtype=float)
    if len(facts) < MIN_STEPS or not lengths.any():
        return ()
    edges = _edges(lengths, NUM_LENGTHS)
    bin_of = {f: int(np.searchsorted(edges, f.completion_tokens, side="right")) for f in facts}
    by_bin: dict[int, list[float]] = defaultdict(list)
    for fact, length in zip(facts, lengths, strict=True):
        by_bin[bin_of[fact]].append(float(length))
    shares = _shares(
        answers,
        lambda fact: str(bin_of[fact]) if _is_open(fact) else None,
        lambda fact: float(not fact.is_relevant),
        lambda fact: 1 - fact.num_relevant / fact.pool_size,
        order=int,
        num_draws=num_draws,
    )
    found = []
    for share in shares:
        tokens = by_bin[int(share.name)]
        low, high = f"{min(tokens):.0f}", f"{max(tokens):.0f}"
        named = share.model_copy(update={"name": low if low == high else f"{low}-{high}"})
        found.append(Length(share=named, mean_tokens=round(float(np.mean(tokens)), 1)))
    return tuple(found)


def reliability(answers: Iterable[Answer], *, pool_size: int | None = None) -> Reliability | None:
    """Stated probability of the excluded candidate against the share of exclusions that were right. None for too few steps.

    Args:
        answers: of one row.
        pool_size: count decisions from pools of this size only.

    Bins hold about equally many steps; equal probabilities share a bin. An exclusion is right if what goes out is not
    relevant. Source of the error measure: Naeini, Cooper and Hauskrecht 2015, with bins of equal mass.
    """
    facts = [
        f
        for a in answers
        for f in a.steps
        if _is_open(f) and f.probability is not None and (pool_size is None or f.pool_size == pool_size)
    ]
    if len(facts) < MIN_STEPS:
        return None
    stated = np.array([f.probability for f in facts], dtype=float)
    right = np.array([not f.is_relevant for f in facts], dtype=float)
    chance = np.array([1 - f.num_relevant / f.pool_size for f in facts])
    which = np.searchsorted(_edges(stated, NUM_BINS), stated, side="right")
    bins, error = [], 0.0
    for number in np.unique(which):
        inside = which == number
        confidence, accuracy = float(stated[inside].mean()), float(right[inside].mean())
        error += float(inside.sum()) * abs(accuracy - confidence)
        bins.append(
            Bin(
                n=int(inside.sum()),
                confidence=round(confidence, _DIGITS),
                accuracy=round(accuracy, _DIGITS),
                expected=round(float(chance[inside].mean()), _DIGITS),
            )
        )
    return Reliability(bins=tuple(bins), ece=round(error / len(facts), _DIGITS), n=len(facts))


def order_robustness(answers: Iterable[Answer], *, num_draws: int = NUM_DRAWS) -> OrderRobustness | None:
    """Agreement of the rankings of one query whose candidates were shown in different orders. None without reshuffles.

    Rankings that were stopped early are left out: their upper part is arbitrary.
    """
    by_query: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for answer in answers:
        if not answer.is_stopped_early:
            by_query[answer.task_id].append(answer.ranking)
    taus, tops, chances = [], [], []
    for rankings in by_query.values():
        pairs = list(combinations(rankings, 2))
        if pairs:
            taus.append(float(np.mean([_tau(a, b) for a, b in pairs])))
            tops.append(float(np.mean([a[0] == b[0] for a, b in pairs])))
            chances.append(1 / len(rankings[0]))
    if not taus:
        return None
    tau, top = bootstrap_interval(taus, num_draws=num_draws), bootstrap_interval(tops, num_draws=num_draws)
    return OrderRobustness(
        num_queries=len(taus),
        tau=round(tau.mean, _DIGITS),
        tau_low=round(tau.low, _DIGITS),
        tau_high=round(tau.high, _DIGITS),
        top=round(top.mean, _DIGITS),
        top_low=round(top.low, _DIGITS),
        top_high=round(top.high, _DIGITS),
        top_random=round(float(np.mean(chances)), _DIGITS),
    )


def frontier(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which of (cost, quality) no other one beats: none is at most as dear and at least as good, and better in one of both."""
    return [
        not any(c <= cost and q >= quality and (c < cost or q > quality) for c, q in points) for cost, quality in points
    ]


def _is_open(fact: StepFact) -> bool:
    """Whether the step could go right or wrong."""
    return fact.num_excluded == 1 and 0 < fact.num_relevant < fact.pool_size


def _shares(
    answers: Sequence[Answer],
    name_of: Callable[[StepFact], str | None],
    part: Callable[[StepFact], float],
    chance: Callable[[StepFact], float],
    *,
    order: Callable[[str], int],
    num_draws: int,
) -> tuple[Share, ...]:
    """Mean of `part` over the steps of each name, with the mean of `chance` beside it."""
    counted = [(a.task_id, name, f) for a in answers for f in a.steps if (name := name_of(f)) is not None]
    if not counted:
        return ()
    names = sorted({name for _, name, _ in counted}, key=order)
    columns = {name: i for i, name in enumerate(names)}
    rows = {task_id: i for i, task_id in enumerate(dict.fromkeys(task_id for task_id, _, _ in counted))}
    parts, wholes, chances = (np.zeros((len(rows), len(names))) for _ in range(3))
    for task_id, name, fact in counted:
        cell = rows[task_id], columns[name]
        parts[cell] += part(fact)
        wholes[cell] += 1
        chances[cell] += chance(fact)
    intervals = ratio_intervals(parts, wholes, num_draws=num_draws)
    part_sums, sums, chance_sums = parts.sum(axis=0), wholes.sum(axis=0), chances.sum(axis=0)
    return tuple(
        _share(name, int(sums[i]), part_sums[i] / sums[i], intervals[i], chance_sums[i] / sums[i])
        for name, i in columns.items()
    )


def _share(name: str, n: int, value: float, interval: tuple[float, float], expected: float) -> Share:
    low, high = interval
    return Share(
        name=name,
        n=n,
        value=round(float(value), _DIGITS),
        low=round(low, _DIGITS),
        high=round(high, _DIGITS),
        expected=round(float(expected), _DIGITS),
    )


def _edges(values: Floats, num_bins: int) -> Floats:
    """Inner borders of bins that hold about equally many values; a value on a border belongs above it."""
    borders = np.unique(np.quantile(values, np.linspace(0, 1, num_bins + 1)[1:-1]))
    return np.asarray(borders[borders > values.min()], dtype=np.float64)


def _place(position: int, pool_size: int) -> str:
    """Name of a 0-based position."""
    if position == pool_size - 1:
        return LAST
    return str(position + 1) if position < MAX_PLACES else f"{MAX_PLACES + 1}+"


def _places(pool_size: int, index: dict[str, int]) -> Floats:
    """How many candidates of a pool stand at each named place."""
    cells = np.zeros(len(index))
    for position in range(pool_size):
        cells[index[_place(position, pool_size)]] += 1
    return cells


def _test_places(
    counts: Floats, expected: Floats, sizes: dict[int, int], index: dict[str, int], num_draws: int
) -> tuple[float, float]:
    """Chi-square, and how often places drawn at random reach it (the observed one counted)."""
    used = expected > 0

    def statistic(table: Floats) -> Floats:
        return np.asarray((((table - expected) ** 2)[..., used] / expected[used]).sum(axis=-1))

    rng = np.random.default_rng(0)
    drawn = np.zeros((num_draws, len(index)))
    for size, num_steps in sizes.items():
        drawn += rng.multinomial(num_steps, _places(size, index) / size, size=num_draws)
    observed = float(statistic(counts))
    reached = int((statistic(drawn) >= observed - 1e-9).sum())
    return observed, (reached + 1) / (num_draws + 1)


def _tau(a: Sequence[str], b: Sequence[str]) -> float:
    """Kendall's tau of two rankings of the same candidates: pairs in the same order less pairs in the other, over all."""
    place = {candidate_id: i for i, candidate_id in enumerate(b)}
    ranks = np.array([place[candidate_id] for candidate_id in a])
    above = np.triu(np.sign(ranks[None, :] - ranks[:, None]), 1)
    return float(above.sum() / (len(ranks) * (len(ranks) - 1) / 2))
