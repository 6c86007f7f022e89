"""How good corrections are: agreement among people and with the models, gold tasks, time. Over the current words only.

A gold answer is no vote: agreement is measured without it, and it measures the others. Values of several pairs of people on one task are averaged before anything is resampled, so that the intervals are over tasks.
Knows no page and no SQL.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, timedelta
from itertools import combinations
from statistics import fmean, median
from typing import Final, NamedTuple

from ranker.agreement import (
    Order,
    as_order,
    first_divergent_step,
    kendall_tau_b,
    preference_alpha,
    rank_biased_overlap,
    top_1_agreement,
)
from ranker.schema import Correction, CorrectionKind, Record
from ranker.statistics import Interval, bootstrap_interval
from studio.corrections import Corrections
from studio.store import Store

GOLD_TAU: Final = 0.7
"""An answer to a gold task passes if its tau-b to the known order is at least this. Ours."""
NUM_DRAWS: Final = 2_000

Measure = Callable[[Order, Order], float | None]
_TaskKey = tuple[str | None, str]
MAX_DAYS: Final = 31
"""A longer time is shown by weeks."""


def _share_before_parting(left: Order, right: Order) -> float | None:
    """Mean over both ways of the share of one's eliminations before the first that the other forbids."""
    shares = [_share_before_divergence(a, tuple(reversed(b[1:]))) for a, b in ((left, right), (right, left))]
    known = [share for share in shares if share is not None]
    return fmean(known) if known else None


_MEASURES: Final[Mapping[str, Measure]] = {
    "tau_b": kendall_tau_b,
    "rbo": rank_biased_overlap,
    "top_1": top_1_agreement,
    "first_divergence": _share_before_parting,
}


class Estimate(Record):
    """A mean with its 95% interval over tasks."""

    mean: float
    low: float
    high: float
    num_tasks: int


class Agreement(Record):
    """How far two sides agree; None = nothing could be compared."""

    tau_b: Estimate | None = None
    rbo: Estimate | None = None
    top_1: Estimate | None = None
    alpha: Estimate | None = None
    """Krippendorff's, of pairs of candidates; among people only."""
    first_divergence: Estimate | None = None
    """Share of the eliminations before the first one that the other side forbids; 1 = none is. With a model: of its steps."""


class AnnotatorQuality(Record):
    """One person's."""

    author: str
    num_corrections: int
    num_tasks: int
    median_duration_s: float | None
    with_others: Estimate | None
    """tau-b to the other people of the same tasks."""
    with_model: Estimate | None
    gold_passed: int
    gold_seen: int


class Period(Record):
    """A day or a week."""

    since: str
    """Its first day, ISO 8601."""
    num_corrections: int
    human_human: Estimate | None
    """tau-b, by the later of the two."""
    human_model: Estimate | None


class GoldTask(Record):
    """A task with a known answer."""

    dataset: str
    task_id: str
    num_passed: int
    num_seen: int


class QualityReport(Record):
    """What `corrections stats` shows."""

    num_corrections: int
    """Everything that was ever said."""
    num_current: int
    kinds: Mapping[str, int]
    """Of the current words."""
    num_tasks: int
    human_human: Agreement
    human_model: Mapping[str, Agreement]
    """By model: the order that people gave against the ranking that they had before them."""
    annotators: tuple[AnnotatorQuality, ...]
    datasets: Mapping[str, Agreement]
    """Among people, by dataset."""
    dataset_models: Mapping[str, Agreement]
    """People and the models that they had before them, by dataset."""
    periods: tuple[Period, ...]
    """Oldest first; those in which nobody said anything are left out."""
    gold: tuple[GoldTask, ...]
    gold_passed: int
    gold_seen: int


class _Vote(NamedTuple):
    """One person's order of one task."""

    correction: Correction
    order: Order

    @property
    def task(self) -> _TaskKey:
        return self.correction.dataset, self.correction.task_id

    @property
    def day(self) -> date:
        return date.fromisoformat(self.correction.created_at[:10])


def make_report(store: Store, *, dataset_id: int | None = None) -> QualityReport:
    """Measure all corrections, or those of one dataset."""
    current = Corrections(store).effective(dataset_id)
    every = [
        _Vote(said, tuple(tuple(tier) for tier in said.payload["order"]))
        for said in current
        if said.kind is CorrectionKind.RANKING
    ]
    votes = [vote for vote in every if not vote.correction.is_gold]
    by_task = _by_task(votes)
    gold, gold_tasks = _gold_results(_by_task(every))
    rankings = _model_rankings(store, votes)
    annotators = tuple(
        _annotator(author, [c for c in current if c.author == author], by_task, rankings, gold.get(author, []))
        for author in dict.fromkeys(c.author for c in current)
    )
    of_dataset: dict[str, list[_Vote]] = defaultdict(list)
    for vote in votes:
        of_dataset[vote.task[0] or ""].append(vote)
    return QualityReport(
        num_corrections=store.corrections.search(dataset_id=dataset_id, limit=0).total,
        num_current=len(current),
        kinds=dict(Counter(c.kind.value for c in current)),
        num_tasks=len({(c.dataset, c.task_id) for c in current}),
        human_human=_among_people(by_task),
        human_model=_by_model(votes, rankings),
        annotators=annotators,
        datasets={name: _among_people(_by_task(own)) for name, own in of_dataset.items()},
        dataset_models={
            name: agreement
            for name, own in of_dataset.items()
            if (agreement := _with_models(own, rankings)).first_divergence is not None
        },
        periods=_periods(votes, by_task, rankings),
        gold=gold_tasks,
        gold_passed=sum(a.gold_passed for a in annotators),
        gold_seen=sum(a.gold_seen for a in annotators),
    )


def agreement_with_others(orders: Mapping[_TaskKey, Mapping[str, Order]]) -> dict[str, float | None]:
    """Person -> mean tau-b to the other people of the same tasks; None = they were never compared.

    Args:
        orders: of each task, each person's.
    """
    found: dict[str, list[float]] = {author: [] for own in orders.values() for author in own}
    for own in orders.values():
        for a, b in combinations(own, 2):
            tau = kendall_tau_b(own[a], own[b])
            if tau is not None:
                found[a].append(tau)
                found[b].append(tau)
    return {author: fmean(taus) if taus else None for author, taus in found.items()}


def _by_task(votes: Iterable[_Vote]) -> dict[_TaskKey, list[_Vote]]:
    grouped: dict[_TaskKey, list[_Vote]] = defaultdict(list)
    for vote in votes:
        grouped[vote.task].append(vote)
    return grouped


class _Ranking(NamedTuple):
    model: str
    order: Order
    exclusions: tuple[tuple[str, ...], ...]


def _model_rankings(store: Store, votes: Iterable[_Vote]) -> dict[str, _Ranking]:
    """trace_id -> what the people had before them; traces that are not here, or have not finished, are left out."""
    wanted = {vote.correction.trace_id for vote in votes if vote.correction.trace_id is not None}
    return {
        trace.trace_id: _Ranking(trace.model, as_order(trace.ranking), tuple(s.exclusions for s in trace.steps))
        for trace in store.traces.of_ids(sorted(wanted))
        if trace.ranking is not None
    }


def _among_people(by_task: Mapping[_TaskKey, Sequence[_Vote]]) -> Agreement:
    found = {
        name: _estimate([measure(a.order, b.order) for a, b in combinations(votes, 2)] for votes in by_task.values())
        for name, measure in _MEASURES.items()
    }
    shared = {task: [vote.order for vote in votes] for task, votes in by_task.items() if len(votes) >= 2}
    alpha = preference_alpha(shared, num_draws=NUM_DRAWS)
    return Agreement(**found, alpha=None if alpha is None else _as_estimate(alpha, len(shared)))


def _by_model(votes: Iterable[_Vote], rankings: Mapping[str, _Ranking]) -> dict[str, Agreement]:
    of_model: dict[str, list[_Vote]] = defaultdict(list)
    for vote in votes:
        ranking = rankings.get(vote.correction.trace_id or "")
        if ranking is not None:
            of_model[ranking.model].append(vote)
    return {model: _with_models(own, rankings) for model, own in sorted(of_model.items())}


def _with_models(votes: Iterable[_Vote], rankings: Mapping[str, _Ranking]) -> Agreement:
    """People against the ranking that each had before them."""
    tasks: dict[_TaskKey, list[tuple[Order, _Ranking]]] = defaultdict(list)
    for vote in votes:
        ranking = rankings.get(vote.correction.trace_id or "")
        if ranking is not None:
            tasks[vote.task].append((vote.order, ranking))
    found = {
        name: _estimate([measure(order, r.order) for order, r in pairs] for pairs in tasks.values())
        for name, measure in _MEASURES.items()
        if name != "first_divergence"
    }
    shares = ([_share_before_divergence(order, r.exclusions) for order, r in pairs] for pairs in tasks.values())
    return Agreement(**found, first_divergence=_estimate(shares))


def _share_before_divergence(order: Order, exclusions: Sequence[Collection[str]]) -> float | None:
    if not exclusions:
        return None
    step = first_divergent_step(order, exclusions)
    return 1.0 if step is None else step / len(exclusions)


def _periods(
    votes: Sequence[_Vote], by_task: Mapping[_TaskKey, Sequence[_Vote]], rankings: Mapping[str, _Ranking]
) -> tuple[Period, ...]:
    days = [vote.day for vote in votes]
    is_short = not days or (max(days) - min(days)).days < MAX_DAYS

    def begin(day: date) -> str:
        return (day if is_short else day - timedelta(days=day.weekday())).isoformat()

    numbers = Counter(begin(day) for day in days)
    among: dict[str, dict[_TaskKey, list[float | None]]] = defaultdict(lambda: defaultdict(list))
    with_model: dict[str, dict[_TaskKey, list[float | None]]] = defaultdict(lambda: defaultdict(list))
    for task, own in by_task.items():
        for a, b in combinations(own, 2):
            among[begin(max(a.day, b.day))][task].append(kendall_tau_b(a.order, b.order))
        for vote in own:
            ranking = rankings.get(vote.correction.trace_id or "")
            if ranking is not None:
                with_model[begin(vote.day)][task].append(kendall_tau_b(vote.order, ranking.order))
    return tuple(
        Period(
            since=since,
            num_corrections=numbers[since],
            human_human=_estimate(among[since].values()),
            human_model=_estimate(with_model[since].values()),
        )
        for since in sorted(numbers)
    )


def _annotator(
    author: str,
    said: Sequence[Correction],
    by_task: Mapping[_TaskKey, Sequence[_Vote]],
    rankings: Mapping[str, _Ranking],
    gold: Sequence[bool],
) -> AnnotatorQuality:
    with_others, with_model = [], []
    for votes in by_task.values():
        own = [vote for vote in votes if vote.correction.author == author]
        others = [vote for vote in votes if vote.correction.author != author]
        with_others.append([kendall_tau_b(a.order, b.order) for a in own for b in others])
        shown = [(a.order, rankings.get(a.correction.trace_id or "")) for a in own]
        with_model.append([kendall_tau_b(order, r.order) for order, r in shown if r is not None])
    durations = [c.duration_s for c in said if c.duration_s is not None]
    return AnnotatorQuality(
        author=author,
        num_corrections=len(said),
        num_tasks=len({(c.dataset, c.task_id) for c in said}),
        median_duration_s=median(durations) if durations else None,
        with_others=_estimate(with_others),
        with_model=_estimate(with_model),
        gold_passed=sum(gold),
        gold_seen=len(gold),
    )


def _gold_results(by_task: Mapping[_TaskKey, Sequence[_Vote]]) -> tuple[dict[str, list[bool]], tuple[GoldTask, ...]]:
    """author -> passed or not, for each gold task that they answered, and the same by task."""
    results: dict[str, list[bool]] = defaultdict(list)
    tasks = []
    for (dataset, task_id), votes in by_task.items():
        known = [vote.order for vote in votes if vote.correction.is_gold]
        if not known:
            continue
        answers = [vote for vote in votes if not vote.correction.is_gold]
        passed = [_passes(vote.order, known) for vote in answers]
        for vote, is_passed in zip(answers, passed, strict=True):
            results[vote.correction.author].append(is_passed)
        tasks.append(GoldTask(dataset=dataset or "", task_id=task_id, num_passed=sum(passed), num_seen=len(passed)))
    return results, tuple(tasks)


def _passes(order: Order, known: Sequence[Order]) -> bool:
    """Is it near enough to one of the known answers? Where nothing can be compared it is not."""
    taus = [tau for answer in known if (tau := kendall_tau_b(order, answer)) is not None]
    return max(taus, default=-1.0) >= GOLD_TAU


def _estimate(values_by_task: Iterable[Iterable[float | None]]) -> Estimate | None:
    """Mean over tasks of the mean over what was compared of each."""
    means = [fmean(known) for values in values_by_task if (known := [v for v in values if v is not None])]
    return _as_estimate(bootstrap_interval(means, num_draws=NUM_DRAWS), len(means)) if means else None


def _as_estimate(interval: Interval, num_tasks: int) -> Estimate:
    return Estimate(mean=interval.mean, low=interval.low, high=interval.high, num_tasks=num_tasks)
