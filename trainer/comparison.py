"""Before and after: the same tasks ranked by the model that a job began with and by the one that it made.

Sets: held-out tasks that people corrected (value = share of the pairs they told apart that the ranking has in the right order;
a random order has .5), held-out tasks with labels and the job's evaluation sets (value = reciprocal rank of the best relevant
candidate; a random order has H_n / n). Where several domains are measured, each is a set of its own, so that a domain that was
not trained on (zero-shot) stands by itself. Differences are paired over tasks. Ours.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple

from ranker.backends import Backend
from ranker.elimination import AnswerFormat, RankConfig, rank_tasks
from ranker.metrics import random_floor_mrr, reciprocal_rank
from ranker.prompts import render_exclusion
from ranker.schema import CorrectionKind, RankingTask
from ranker.statistics import bootstrap_interval, compare
from trainer.checkpoints import write_whole
from trainer.config import JobConfig
from trainer.examples import ExampleSet
from trainer.jobs import Job
from trainer.material import Material
from trainer.orders import grade_step, tiers_of_correction

MAX_TITLES: Final = 12
MAX_TEXT: Final = 160
Pairs = tuple[tuple[str, str], ...]


class Judged(NamedTuple):
    """A task and what is known of it: pairs (better, worse) that a person told apart, or () for its labels."""

    task: RankingTask
    pairs: Pairs = ()

    @property
    def floor(self) -> float:
        """Expected value of a random order."""
        return 0.5 if self.pairs else random_floor_mrr(len(self.task.candidates), len(self.task.relevant_ids))

    def value(self, ranking: Sequence[str]) -> float:
        """How good a ranking is, between 0 and 1."""
        if not self.pairs:
            return reciprocal_rank(ranking, dict.fromkeys(self.task.relevant_ids, 1.0)) or 0.0
        place = {i: k for k, i in enumerate(ranking)}
        return sum(place[better] < place[worse] for better, worse in self.pairs) / len(self.pairs)


class JudgedSet(NamedTuple):
    """Tasks that are measured in the same way."""

    name: str
    metric: Literal["agreement", "mrr"]
    tasks: list[Judged]
    source: str = ""
    """Where the tasks are from: "" = held out; ids are unique within a source only."""


class GivenUpError(Exception):
    """Somebody wants the job to stop."""


def judged_sets(material: Material, limit: int) -> list[JudgedSet]:
    """What can be measured, at most `limit` tasks a set; empty sets are left out."""
    corrected, labelled = (
        _corrected(material.examples),
        [Judged(t) for t in material.examples.held_out if _has_label(t)],
    )
    found = [
        *_by_domain("held-out corrections", "agreement", corrected),
        *_by_domain("held-out labels", "mrr", labelled),
    ]
    for name, tasks in material.evaluation.items():
        found.append(JudgedSet(name, "mrr", [Judged(t) for t in tasks if _has_label(t)], name))
    return [s._replace(tasks=s.tasks[:limit]) for s in found if s.tasks]


def ranking_config(config: JobConfig, answer_format: AnswerFormat) -> RankConfig:
    """How both models are asked: as the job's result will be."""
    think_tokens = config.ppo.max_completion_tokens if answer_format is AnswerFormat.FREE else 0
    return RankConfig(answer_format=answer_format, think_tokens=think_tokens)


Rankings = dict[tuple[str, str], list[str]]
"""(source, task_id) -> ranking."""


def rank_all(sets: Iterable[JudgedSet], backend: Backend, config: RankConfig, watch: Callable[[int], None]) -> Rankings:
    """Rank each task once. Those whose prompt is too long for the model are left out. `watch` is told how many are done."""
    by_source: dict[str, dict[str, RankingTask]] = {}
    for s in sets:
        fitting = {j.task.task_id: j.task for j in s.tasks if _fits(j.task, backend, config)}
        by_source.setdefault(s.source, {}).update(fitting)

    async def run() -> Rankings:
        rankings: Rankings = {}
        try:
            for source, tasks in by_source.items():
                async for trace in rank_tasks(tasks.values(), backend, config):
                    rankings[source, trace.task_id] = list(trace.ranking)
                    watch(len(rankings))
        finally:
            await backend.aclose()
        return rankings

    return asyncio.run(run())


def count_tasks(sets: Iterable[JudgedSet]) -> int:
    """How many tasks have to be ranked for all sets."""
    return len({(s.source, j.task.task_id) for s in sets for j in s.tasks})


def write_comparison(
    job: Job,
    sets: Sequence[JudgedSet],
    before: Rankings,
    after: Rankings,
    names: tuple[str, str],
) -> dict[str, Any]:
    """Put both together into `comparison.json`. Returns it."""
    made = [_compare_set(s, before, after) for s in sets]
    comparison = {"before": names[0], "after": names[1], "sets": [m for m in made if m is not None]}
    write_whole(job.comparison_path, json.dumps(comparison, ensure_ascii=False) + "\n")
    return comparison


def describe_set(values: dict[str, Any]) -> str:
    """One set in a line."""
    before, after, gain = values["before"], values["after"], values["after_minus_before"]
    return (
        f"{values['name']} ({values['metric']}, n={values['num_tasks']}, random {values['floor']:.3f}): "
        f"{before['mean']:.3f} [{before['low']:.3f}, {before['high']:.3f}] -> "
        f"{after['mean']:.3f} [{after['low']:.3f}, {after['high']:.3f}]; "
        f"difference {gain['difference']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}], p={gain['p_value']:.4f}"
    )


def _corrected(examples: ExampleSet) -> list[Judged]:
    """Held-out tasks with the pairs of the last thing that was said of each."""
    tasks = {t.task_id: t for t in examples.held_out}
    known: dict[str, Judged] = {}
    for said in examples.held_out_corrections:
        task = tasks[said.task_id]
        if said.kind is CorrectionKind.STEP:
            pool, grades = grade_step(said, task)
            graded = [(i, g) for i in pool if (g := grades[i]) is not None]
            pairs: Pairs = tuple((i, j) for i, a in graded for j, b in graded if a < b)
        else:
            tiers = tiers_of_correction(said, task)
            pairs = tuple((i, j) for k, high in enumerate(tiers) for low in tiers[k + 1 :] for i in high for j in low)
        if pairs:
            known.pop(said.task_id, None)
            known[said.task_id] = Judged(task, pairs)
    return list(known.values())


def _by_domain(name: str, metric: Literal["agreement", "mrr"], judged: Sequence[Judged]) -> list[JudgedSet]:
    domains = list(dict.fromkeys(j.task.domain for j in judged))
    if len(domains) < 2:
        return [JudgedSet(name, metric, list(judged))]
    return [JudgedSet(f"{name}, {d.value}", metric, [j for j in judged if j.task.domain is d]) for d in domains]


def _has_label(task: RankingTask) -> bool:
    return 0 < len(task.relevant_ids) < len(task.candidates)


def _fits(task: RankingTask, backend: Backend, config: RankConfig) -> bool:
    prompt = render_exclusion(task, task.candidates, backend.chat_text)
    longest_title = max(len(c.title) for c in task.candidates)
    spare = config.think_tokens + longest_title + 64
    return backend.count_tokens([prompt.text])[0] + spare <= backend.context_tokens


def _compare_set(judged: JudgedSet, before: Rankings, after: Rankings) -> dict[str, Any] | None:
    keys = [(judged.source, j.task.task_id) for j in judged.tasks]
    tasks = [(j, key) for j, key in zip(judged.tasks, keys, strict=True) if key in before and key in after]
    if not tasks:
        return None
    rows = [_compare_task(j, before[key], after[key]) for j, key in tasks]
    old, new = [row["before"] for row in rows], [row["after"] for row in rows]
    return {
        "name": judged.name,
        "metric": judged.metric,
        "num_tasks": len(rows),
        "num_left_out": len(judged.tasks) - len(rows),
        "floor": sum(j.floor for j, _ in tasks) / len(tasks),
        "before": bootstrap_interval(old)._asdict(),
        "after": bootstrap_interval(new)._asdict(),
        "after_minus_before": compare(new, old)._asdict(),
        "tasks": rows,
    }


def _compare_task(judged: Judged, before: Sequence[str], after: Sequence[str]) -> dict[str, Any]:
    task = judged.task

    def titles(ranking: Sequence[str]) -> list[str]:
        return [task.candidate(i).title[:MAX_TEXT] for i in ranking[:MAX_TITLES]]

    wording = task.query or " / ".join(task.history[-2:])
    return {
        "task_id": task.task_id,
        "domain": task.domain.value,
        "query": wording[:MAX_TEXT],
        "before": judged.value(before),
        "after": judged.value(after),
        "ranking_before": titles(before),
        "ranking_after": titles(after),
        "moved": sum(x != y for x, y in zip(before, after, strict=True)),
    }
