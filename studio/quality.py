"""How good corrections are: agreement among people and with the models, gold tasks, time. Over the current words only.

Values of several pairs of people on one task are averaged before anything is resampled, so that the intervals are over tasks.
Knows no page and no SQL.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
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
_MEASURES: Final[Mapping[str, Measure]] = {
    "tau_b": kendall_tau_b,
    "rbo": rank_biased_overlap,
    "top_1": top_1_agreement,
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
    first_divergence: float | None = None
    """With a model: mean share of its steps before the first one that the person's order forbids; 1 = none is."""


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
    gold_passed: int
    gold_seen: int


class _Vote(NamedTuple):
    """One person's order of one task."""

    correction: Correction
    order: Order

    @property
    def task(self) -> _TaskKey:
        return self.correction.dataset, self.correction.task_id


def make_report(store: Store, *, dataset_id: int | None = None) -> QualityReport:
    """Measure all corrections, or those of one dataset."""
    current = Corrections(store).effective(dataset_id)
    votes = [
        _Vote(said, tuple(tuple(tier) for tier in said.payload["order"]))
        for said in current
        if said.kind is CorrectionKind.RANKING
    ]
    by_task: dict[_TaskKey, list[_Vote]] = defaultdict(list)
    for vote in votes:
        by_task[vote.task].append(vote)
    gold = _gold_results(by_task)
    rankings = _model_rankings(store, votes)
    annotators = tuple(
        _annotator(author, [c for c in current if c.author == author], by_task, rankings, gold.get(author, []))
        for author in dict.fromkeys(c.author for c in current)
    )
    of_dataset: dict[str, dict[_TaskKey, list[_Vote]]] = defaultdict(dict)
    for key, found in by_task.items():
        of_dataset[key[0] or ""][key] = found
    return QualityReport(
        num_corrections=store.corrections.search(dataset_id=dataset_id, limit=0).total,
        num_current=len(current),
        kinds=dict(Counter(c.kind.value for c in current)),
        num_tasks=len({(c.dataset, c.task_id) for c in current}),
        human_human=_among_people(by_task),
        human_model=_with_models(votes, rankings),
        annotators=annotators,
        datasets={name: _among_people(tasks) for name, tasks in of_dataset.items()},
        gold_passed=sum(a.gold_passed for a in annotators),
        gold_seen=sum(a.gold_seen for a in annotators),
    )


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


def _with_models(votes: Iterable[_Vote], rankings: Mapping[str, _Ranking]) -> dict[str, Agreement]:
    by_model: dict[str, dict[_TaskKey, list[tuple[Order, _Ranking]]]] = defaultdict(lambda: defaultdict(list))
    for vote in votes:
        ranking = rankings.get(vote.correction.trace_id or "")
        if ranking is not None:
            by_model[ranking.model][vote.task].append((vote.order, ranking))
    agreements = {}
    for model, tasks in sorted(by_model.items()):
        found = {
            name: _estimate([measure(order, r.order) for order, r in pairs] for pairs in tasks.values())
            for name, measure in _MEASURES.items()
        }
        shares = [fmean(_share_before_divergence(order, r) for order, r in pairs) for pairs in tasks.values()]
        agreements[model] = Agreement(**found, first_divergence=fmean(shares))
    return agreements


def _share_before_divergence(order: Order, ranking: _Ranking) -> float:
    step = first_divergent_step(order, ranking.exclusions)
    return 1.0 if step is None else step / len(ranking.exclusions)


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


def _gold_results(by_task: Mapping[_TaskKey, Sequence[_Vote]]) -> dict[str, list[bool]]:
    """author -> passed or not, for each gold task they answered; who gave the gold answer is not measured by it."""
    results: dict[str, list[bool]] = defaultdict(list)
    for votes in by_task.values():
        known = [vote.order for vote in votes if vote.correction.is_gold]
        for vote in votes if known else ():
            if not vote.correction.is_gold:
                best = max((kendall_tau_b(vote.order, order) or -1.0 for order in known), default=-1.0)
                results[vote.correction.author].append(best >= GOLD_TAU)
    return results


def _estimate(values_by_task: Iterable[Iterable[float | None]]) -> Estimate | None:
    """Mean over tasks of the mean over what was compared of each."""
    means = [fmean(known) for values in values_by_task if (known := [v for v in values if v is not None])]
    return _as_estimate(bootstrap_interval(means, num_draws=NUM_DRAWS), len(means)) if means else None


def _as_estimate(interval: Interval, num_tasks: int) -> Estimate:
    return Estimate(mean=interval.mean, low=interval.low, high=interval.high, num_tasks=num_tasks)
