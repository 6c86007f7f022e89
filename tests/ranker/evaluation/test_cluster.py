"""Shards on workers: the same rows as in one process, resumed from what is there; on a local Ray with two workers where it is."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ranker.backends.scripted import ScriptedBackend
from ranker.baselines import make_baseline
from ranker.elimination import AnswerFormat, RankConfig
from ranker.errors import BackendError
from ranker.evaluation import (
    BaselineSystem,
    EvaluationSet,
    ModelSystem,
    Plan,
    journal_path,
    make_set,
    run_evaluation,
    to_csv,
)
from ranker.evaluation.answers import Answer, Journal
from ranker.evaluation.cluster import SHARD_TASKS, answer_shard, gather_on_ray, missing_shards
from ranker.evaluation.runner import Report
from ranker.schema import Mode, RankingTask

TIMES = ("seconds", "wall_s")


@pytest.fixture
def dataset(make_task: Callable[..., RankingTask]) -> EvaluationSet:
    return make_set("made-up", [make_task(i) for i in range(11)], source="test")


def make_plan(dataset: EvaluationSet) -> Plan:
    config = RankConfig(mode=Mode.ITERATIVE, answer_format=AnswerFormat.FREE, think_tokens=16)
    systems = [
        BaselineSystem(make_baseline("random"), "random"),
        BaselineSystem(make_baseline("bm25"), "bm25"),
        ModelSystem(ScriptedBackend, config, model="scripted"),
    ]
    return Plan(datasets=[dataset], systems=systems, seeds=(0, 1))


def without_times(path: Path) -> dict[str, Any]:
    """A results file without the clock's part."""
    results: dict[str, Any] = json.loads(path.read_text())
    for row in results["rows"]:
        for name in TIMES:
            row["usage"].pop(name)
    return {k: v for k, v in results.items() if not k.endswith("_at")}


def gather_here(plan: Plan, journal: Journal, keep: Callable[[Answer], None], report: Report | None) -> None:
    """What the workers do, one after the other."""
    for shard in missing_shards(plan, journal):
        for answer in asyncio.run(answer_shard(plan, shard)):
            keep(answer)


def test_shards_cover_what_is_missing_and_give_the_same_file(dataset: EvaluationSet, tmp_path: Path) -> None:
    whole, sharded = tmp_path / "whole.json", tmp_path / "sharded.json"
    run_evaluation(make_plan(dataset), whole, command="c")
    run_evaluation(make_plan(dataset), sharded, command="c", gather=gather_here)
    assert without_times(whole) == without_times(sharded)
    plan = make_plan(dataset)
    lines = journal_path(whole).read_text().splitlines()
    half = tmp_path / "half.journal.jsonl"
    half.write_text("".join(f"{line}\n" for line in lines[:30]))
    with Journal(half) as journal:
        shards = missing_shards(plan, journal)
    assert sum(len(s.task_ids) for s in shards) == len(lines) - 30 == 3 * 2 * 11 - 30
    assert max(len(s.task_ids) for s in shards) <= SHARD_TASKS


def test_a_local_ray_with_two_workers_gives_the_same_file(dataset: EvaluationSet, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed (extra `ray`)")
    whole, sharded = tmp_path / "whole.json", tmp_path / "sharded.json"
    run_evaluation(make_plan(dataset), whole, command="c")
    seen: list[tuple[int, int]] = []
    results = run_evaluation(
        make_plan(dataset),
        sharded,
        command="c",
        gather=gather_on_ray(2),
        report=lambda dataset, system, done, of: seen.append((done, of)),
    )
    assert without_times(whole) == without_times(sharded)
    assert to_csv(results).count("\n") > 10
    assert seen[-1][0] == seen[-1][1]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(BackendError, match=r"ray: is not installed: pip install -e '\.\[ray\]'"):
        gather_on_ray(2)
