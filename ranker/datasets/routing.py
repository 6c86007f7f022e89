"""Routing: which model to ask, from a table of query x model -> score and cost, weighed by a scenario.

Gain of a model = a * score - b * cost. The paper takes the arg max, which under ties is an artefact of the column order;
here every model that ties for the best gain is relevant, ties are counted, and a query on which all models tie says nothing
and is left out unless asked for.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

from pydantic import Field

from ranker.datasets.building import (
    Builder,
    BuildOptions,
    Built,
    Tally,
    chosen_side,
    group_random,
    query_group,
    shuffled,
)
from ranker.datasets.taskrows import make_task
from ranker.errors import DatasetError

SCENARIOS: Mapping[str, tuple[float, float]] = {"performance": (1.0, 0.0), "balance": (0.5, 0.5), "cost": (0.2, 0.8)}
"""(a, b) of the paper's three datasets."""
_CRITERIA: Mapping[str, str] = {
    "performance": "the model that answers this question best, whatever it costs",
    "balance": "the model that answers this question well for a fair price",
    "cost": "the cheapest model that still answers this question well",
}
_TIE = 1e-9
_PRIOR_QUERIES = 20
"""Queries of all benchmarks that count as much as the ones of its own, where little is known of a model (`typical`)."""


class Answer(NamedTuple):
    """What one model did on one query."""

    score: float
    """0 to 1, higher is better."""
    cost: float | None = None
    """In any unit that is the same for all; None = not known."""


class RoutedQuery(NamedTuple):
    """One query and what every model did on it."""

    query_id: str
    query: str
    answers: Mapping[str, Answer]
    task_name: str = ""
    """The benchmark that the query is from."""
    split: str | None = None
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class RoutingTable:
    """Raw routing data. `queries` may be called again: the cost scale needs a pass of its own."""

    queries: Callable[[], Iterator[RoutedQuery]]
    models: Mapping[str, str] = field(default_factory=dict)
    """Model -> what a router is told about it (size, strengths, price)."""
    cost_note: str = ""
    """Where the costs come from, if they are derived."""
    place: str = "routing"


class RoutingOptions(BuildOptions):
    """How scores and costs become relevance."""

    scenario: Literal["performance", "balance", "cost"] = "performance"
    a: float | None = Field(None, ge=0)
    """Weight of the score; None = the scenario's."""
    b: float | None = Field(None, ge=0)
    """Weight of the cost, which is scaled to 0..1 over the whole source; None = the scenario's."""
    relevance: Literal["best", "graded", "typical"] = "best"
    """`best`: gain 1 for each model that ties for the best; `graded`: all models, scaled to 0..1 within the query; `typical`: how
    often each is among the best on the training side's queries of the same benchmark, scaled likewise: something to learn
    from, with less noise than one query has, and nothing to be measured by."""
    keep_tied: bool = False
    """Keep queries on which all models tie (they get no relevance)."""
    exclude_tasks: str = ""
    """Benchmarks to leave out, separated by commas. The paper leaves out multi_news."""

    @property
    def weights(self) -> tuple[float, float]:
        """(a, b) in force."""
        a, b = SCENARIOS[self.scenario]
        return (a if self.a is None else self.a, b if self.b is None else self.b)


def build_routing(raw: RoutingTable, options: RoutingOptions, tally: Tally) -> Iterator[Built]:
    """One task a query, candidates in an order seeded by the query (never the column order)."""
    _, b = options.weights
    low, span = _cost_scale(raw) if b > 0 else (0.0, 1.0)
    if b > 0 and raw.cost_note:
        tally.note(raw.cost_note)
    excluded = {name.strip() for name in options.exclude_tasks.split(",") if name.strip()}
    gains_of = partial(_gains, options=options, low=low, span=span)
    typical = _typical(raw, options, gains_of, excluded) if options.relevance == "typical" else {}
    seen: set[str] = set()
    for query in raw.queries():
        tally.add("queries_read")
        if query.task_name in excluded:
            tally.add("queries_left_out_task")
            continue
        if len(query.answers) < 2:
            tally.add("queries_left_out_one_model")
            continue
        gains = gains_of(query)
        best = _best(gains)
        tally.add("queries_best_tied", len(best) > 1)
        if len(best) == len(gains):
            tally.add("queries_all_tied")
            if not options.keep_tied:
                continue
        task_id = query.query_id
        if task_id in seen:
            raise DatasetError(f"{query.place}: field 'query_id': {task_id!r} appears again: make ids unique")
        seen.add(task_id)
        grades = typical[query.task_name] if typical else None
        yield Built(query_group(query.query), _task(raw, query, gains, grades, options), query.split)


def _cost_scale(raw: RoutingTable) -> tuple[float, float]:
    """(smallest, span) of all costs of the source, for scaling to 0..1 as GraphRouter does."""
    low, high = float("inf"), float("-inf")
    for query in raw.queries():
        for model, answer in query.answers.items():
            if answer.cost is None:
                raise DatasetError(
                    f"{query.place}: field 'cost': none for model {model!r}: use scenario=performance or give a cost"
                )
            low, high = min(low, answer.cost), max(high, answer.cost)
    return (low, (high - low) or 1.0) if low <= high else (0.0, 1.0)


def _gains(query: RoutedQuery, *, options: RoutingOptions, low: float, span: float) -> dict[str, float]:
    a, b = options.weights
    scaled = {m: 0.0 if b == 0 or x.cost is None else (x.cost - low) / span for m, x in query.answers.items()}
    return {m: a * answer.score - b * scaled[m] for m, answer in query.answers.items()}


def _best(gains: Mapping[str, float]) -> list[str]:
    enough = max(gains.values()) - _TIE
    return [m for m, gain in gains.items() if gain >= enough]


def _typical(
    raw: RoutingTable,
    options: RoutingOptions,
    gains_of: Callable[[RoutedQuery], dict[str, float]],
    excluded: Collection[str],
) -> Mapping[str, Mapping[str, float]]:
    """Benchmark -> model -> how often it is among the best on the training side, drawn towards its share over all of them."""
    asked: defaultdict[str, Counter[str]] = defaultdict(Counter)
    best: defaultdict[str, Counter[str]] = defaultdict(Counter)
    names: dict[str, None] = {}
    for query in raw.queries():
        if query.task_name in excluded or len(query.answers) < 2:
            continue
        names.setdefault(query.task_name)
        if chosen_side(query_group(query.query), query.split, options) == "test":
            continue
        gains = gains_of(query)
        winners = _best(gains)
        if len(winners) < len(gains):
            asked[query.task_name].update(gains.keys())
            best[query.task_name].update(winners)
    all_asked, all_best = (sum(counts.values(), Counter()) for counts in (asked, best))
    overall = {m: all_best[m] / n for m, n in all_asked.items()}
    return {
        name: {
            m: (best[name][m] + _PRIOR_QUERIES * share) / (asked[name][m] + _PRIOR_QUERIES)
            for m, share in overall.items()
        }
        for name in names
    }


def _task(
    raw: RoutingTable,
    query: RoutedQuery,
    gains: Mapping[str, float],
    typical: Mapping[str, float] | None,
    options: RoutingOptions,
) -> Any:
    rng = group_random(options.seed, "order", query.query_id)
    candidates = []
    for model in shuffled(sorted(gains), rng):
        answer = query.answers[model]
        about = raw.models.get(model, "")
        metadata: dict[str, Any] = {"title": model, "score": answer.score, "gain": round(gains[model], 9)}
        if answer.cost is not None:
            metadata["cost"] = answer.cost
        text = f"{model}: {about}" if about else model
        candidates.append({"candidate_id": model, "text": text, "metadata": metadata})
    values = {
        "task_id": query.query_id,
        "domain": "routing",
        "query": query.query,
        "candidates": candidates,
        "relevance": _relevance(gains, typical, options),
        "criterion": _CRITERIA[options.scenario] if options.a is None and options.b is None else None,
    }
    return make_task(values, query.place or raw.place)


def _relevance(
    gains: Mapping[str, float], typical: Mapping[str, float] | None, options: RoutingOptions
) -> dict[str, float]:
    best = _best(gains)
    if len(best) == len(gains):
        return {}
    if options.relevance == "best":
        return dict.fromkeys(sorted(best), 1.0)
    graded = gains if typical is None else {m: typical.get(m, 0.0) for m in gains}
    low, high = min(graded.values()), max(graded.values())
    return {m: round((graded[m] - low) / (high - low), 6) for m in sorted(graded) if graded[m] > low}


ROUTING = Builder(name="routing", group="query", options=RoutingOptions, build=build_routing)
