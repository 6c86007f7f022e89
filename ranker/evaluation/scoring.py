"""From answers to a row: per-query values, means over seeds, intervals, floors, costs; and from rows to differences."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from ranker.evaluation.analysis import analyse
from ranker.evaluation.answers import Answer
from ranker.evaluation.results import DatasetRecord, Difference, Estimate, ExclusionRow, Results, Row, Usage
from ranker.evaluation.sets import EvaluationSet
from ranker.metrics import (
    Floats,
    average_precision,
    count_exclusions,
    hit_rate,
    ndcg,
    random_floor_mrr,
    random_floor_ndcg,
    rank_of_relevant,
    reciprocal_rank,
    routing_outcome,
    skill_score,
)
from ranker.schema import Outcome, RankingTask
from ranker.statistics import NUM_DRAWS, bootstrap_interval, compare, holm

DEPTH: Final = 10
_STORED: Final = ("mrr", "ndcg@10", "map", "reward")
_MALFORMED: Final = (Outcome.NO_ANSWER, Outcome.SEVERAL_ANSWERS, Outcome.NOT_IN_POOL)
_DIGITS: Final = 5


def measure(
    dataset: EvaluationSet, task: RankingTask, ranking: Sequence[str], *, knows_first: bool
) -> dict[str, float]:
    """All metrics of one ranking. A query with relevant documents of which none is listed counts 0.

    Args:
        dataset: what the task is of (judgements, grade from which a candidate counts as relevant).
        task: its candidates and what is known of them.
        ranking: all candidate_ids, best first.
        knows_first: false where the ranking was stopped early, so that routing cannot be measured.
    """
    graded = dataset.judged(task)
    binary = {i: g for i, g in graded.items() if g >= dataset.binary_from}
    values = {
        "mrr": reciprocal_rank(ranking, binary) or 0.0,
        "map": average_precision(ranking, binary) or 0.0,
        f"ndcg@{DEPTH}": ndcg(ranking, graded, DEPTH) or 0.0,
        f"ndcg_exp@{DEPTH}": ndcg(ranking, graded, DEPTH, gain="exponential") or 0.0,
        "rank": float(rank_of_relevant(ranking, binary) or len(ranking) + 1),
    }
    values |= {f"hit@{k}": hit_rate(ranking, binary, k) or 0.0 for k in (1, 3, DEPTH) if 3 * k <= 2 * len(ranking)}
    outcome = routing_outcome(task, ranking) if knows_first else None
    if outcome is not None:
        values |= {"reward": outcome.reward, "regret": outcome.regret, "effect": outcome.effect}
        values |= {"cost": outcome.cost} if outcome.cost is not None else {}
    return values


def floors(dataset: EvaluationSet, task: RankingTask) -> dict[str, float]:
    """What a random order of the task's candidates is expected to reach."""
    graded = dataset.judged(task)
    num_listed = sum(graded.get(i, 0) >= dataset.binary_from for i in task.candidate_ids)
    values = {
        "mrr": random_floor_mrr(len(task.candidates), num_listed) if num_listed else 0.0,
        f"ndcg@{DEPTH}": random_floor_ndcg(task.candidate_ids, graded, DEPTH) or 0.0,
        f"ndcg_exp@{DEPTH}": random_floor_ndcg(task.candidate_ids, graded, DEPTH, gain="exponential") or 0.0,
    }
    outcomes = [o for i in task.candidate_ids if (o := routing_outcome(task, [i])) is not None]
    if len(outcomes) == len(task.candidates):
        values["reward"] = float(np.mean([o.reward for o in outcomes]))
    return values


def make_row(
    dataset: EvaluationSet,
    tasks: Sequence[RankingTask],
    answers: Mapping[tuple[int, str], Answer],
    *,
    system: str,
    system_key: str,
    seeds: Sequence[int],
    command: int,
) -> Row | None:
    """The row of one system on `tasks`; None if no query was answered with every seed.

    Args:
        dataset: the set that `tasks` are of.
        tasks: those that were to be answered.
        answers: by (seed, task_id); some may be missing.
        system: name.
        system_key: what exactly.
        seeds: those of the run.
        command: index of the command that made it.
    """
    done = [t for t in tasks if all((s, t.task_id) in answers for s in seeds)]
    if not done:
        return None
    measured = [[_measure(dataset, t, answers[s, t.task_id]) for s in seeds] for t in done]  # [query][seed]
    names = [m for m in measured[0][0] if all(m in one for per_seed in measured for one in per_seed)]
    expected = [floors(dataset, t) for t in done]
    metrics, values = {}, {}
    for name in names:
        table = np.array([[one[name] for one in per_seed] for per_seed in measured])  # (queries, seeds)
        floor = float(np.mean([f[name] for f in expected])) if all(name in f for f in expected) else None
        metrics[name] = _estimate(table, floor)
        if name in _STORED and (name != "map" or not np.array_equal(table, _column(measured, "mrr"))):
            by_query = dict(zip((t.task_id for t in done), table.mean(axis=1), strict=True))
            values[name] = tuple(
                round(float(by_query[t.task_id]), _DIGITS) if t.task_id in by_query else None for t in tasks
            )
    used = [answers[s, t.task_id] for t in done for s in seeds]
    return Row(
        dataset=dataset.name,
        system=system,
        dataset_key=dataset.key,
        system_key=system_key,
        n=len(done),
        num_wanted=len(tasks),
        seeds=tuple(seeds),
        metrics=metrics,
        values=values,
        usage=_usage(used),
        exclusions=tuple(_exclusions(used)),
        analysis=analyse(used),
        command=command,
    )


def describe_set(dataset: EvaluationSet, num_used: int) -> DatasetRecord:
    """The record of a set of which the first `num_used` tasks were taken."""
    sizes = sorted(len(t.candidates) for t in dataset.tasks)
    num_relevant = [sum(g >= dataset.binary_from for g in dataset.judged(t).values()) for t in dataset.tasks]
    return DatasetRecord(
        name=dataset.name,
        key=dataset.key,
        sha256=dataset.sha256,
        source=dataset.source,
        split=dataset.split,
        metric=dataset.metric,
        num_tasks=len(dataset.tasks),
        num_unjudged=dataset.num_unjudged,
        task_ids=tuple(t.task_id for t in dataset.tasks[:num_used]),
        pool_sizes=(sizes[0], sizes[len(sizes) // 2], sizes[-1]),
        mean_relevant=round(float(np.mean(num_relevant)), 3),
        binary_from=dataset.binary_from,
        domain=dataset.tasks[0].domain.value,
        paper_name=dataset.paper_name,
        notes=dataset.notes,
    )


def find_differences(results: Results, pairs: Iterable[tuple[str, str, str]]) -> tuple[Difference, ...]:
    """Paired tests of (family, a, b) on every dataset that has both rows, on the queries that both answered; Holm over datasets.

    Rows of fewer than five common queries are left out.
    """
    found: list[Difference] = []
    for family, a, b in pairs:
        tests = {d.name: test for d in results.datasets if (test := _test(results, d, a, b)) is not None}
        adjusted = holm({name: test.p_value for name, test in tests.items()})
        found += [
            test.model_copy(update={"family": family, "p_holm": round(adjusted[name], 6)})
            for name, test in tests.items()
        ]
    return tuple(found)


def _test(results: Results, dataset: DatasetRecord, a: str, b: str) -> Difference | None:
    row_a, row_b = results.row(dataset.name, a), results.row(dataset.name, b)
    if row_a is None or row_b is None or row_a.dataset_key != row_b.dataset_key:
        return None
    both = [
        (x, y)
        for x, y in zip(row_a.values[dataset.metric], row_b.values[dataset.metric], strict=False)
        if x is not None and y is not None
    ]
    if len(both) < 5:
        return None
    result = compare([x for x, _ in both], [y for _, y in both])
    return Difference(
        family="",
        a=a,
        b=b,
        dataset=dataset.name,
        metric=dataset.metric,
        n=result.num_queries,
        difference=round(result.difference, _DIGITS),
        low=round(result.low, _DIGITS),
        high=round(result.high, _DIGITS),
        p_value=round(result.p_value, 6),
        p_holm=1.0,
    )


def _measure(dataset: EvaluationSet, task: RankingTask, answer: Answer) -> dict[str, float]:
    return measure(dataset, task, answer.ranking, knows_first=not answer.is_stopped_early)


def _column(measured: Sequence[Sequence[Mapping[str, float]]], name: str) -> Floats:
    return np.array([[one[name] for one in per_seed] for per_seed in measured])


def _estimate(table: Floats, floor: float | None) -> Estimate:
    """Of a table (queries, seeds): queries are resampled, not seeds."""
    interval = bootstrap_interval(table.mean(axis=1).tolist(), num_draws=NUM_DRAWS)
    return Estimate(
        mean=round(interval.mean, _DIGITS),
        low=round(interval.low, _DIGITS),
        high=round(interval.high, _DIGITS),
        floor=None if floor is None else round(floor, _DIGITS),
        skill=None if floor is None else round(skill_score(interval.mean, floor), _DIGITS),
        by_seed=tuple(round(float(m), _DIGITS) for m in table.mean(axis=0)),
    )


def _usage(answers: Sequence[Answer]) -> Usage:
    num_answers = len(answers)
    steps = [fact for answer in answers for fact in answer.steps]
    wall_s = sum(a.wall_s for a in answers)

    def mean(values: Iterable[float]) -> float:
        return round(sum(values) / num_answers, 4)

    def share(outcomes: Sequence[Outcome]) -> float:
        return round(sum(fact.outcome in outcomes for fact in steps) / len(steps), 4) if steps else 0.0

    return Usage(
        num_calls=mean(a.num_calls for a in answers),
        prompt_tokens=mean(a.prompt_tokens for a in answers),
        cached_prompt_tokens=mean(a.cached_prompt_tokens for a in answers),
        completion_tokens=mean(a.completion_tokens for a in answers),
        seconds=round(wall_s / num_answers, 5),
        wall_s=round(wall_s, 3),
        num_steps=mean(len(a.steps) for a in answers),
        malformed=share(_MALFORMED),
        forced=share([Outcome.FORCED]),
        cut=mean(a.is_cut for a in answers),
        stopped_early=mean(a.is_stopped_early for a in answers),
    )


def _exclusions(answers: Iterable[Answer]) -> list[ExclusionRow]:
    facts = (fact for answer in answers for fact in answer.steps if fact.num_excluded == 1)
    return [
        ExclusionRow(
            pool_size=count.pool_size,
            num_steps=count.num_steps,
            accuracy=round(count.accuracy, 4),
            floor=round(count.floor, 4),
        )
        for count in count_exclusions((f.pool_size, f.num_relevant, f.is_relevant) for f in facts)
    ]
