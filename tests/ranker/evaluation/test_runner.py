"""The run: resuming, merging, early stop, and what the results file says."""

import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ranker.backends.base import Chunk, GenerateRequest, ScoreRequest, Scores
from ranker.backends.scripted import ScriptedBackend
from ranker.baselines import make_baseline
from ranker.elimination import AnswerFormat, RankConfig
from ranker.errors import UsageError
from ranker.evaluation import (
    BaselineSystem,
    EvaluationSet,
    ModelSystem,
    Plan,
    journal_path,
    make_set,
    read_results,
    run_evaluation,
    to_csv,
    to_latex,
    to_markdown,
)
from ranker.schema import Mode, RankingTask


class CountingBackend(ScriptedBackend):
    """Counts what it is asked, and can fail after a while."""

    def __init__(self, fail_after: int | None = None) -> None:
        super().__init__(name="scripted")
        self.num_calls, self._fail_after = 0, fail_after

    def _count(self) -> None:
        if self._fail_after is not None and self.num_calls >= self._fail_after:
            raise KeyboardInterrupt
        self.num_calls += 1

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Chunk]:
        self._count()
        async for chunk in super().generate(request):
            yield chunk

    async def score(self, request: ScoreRequest) -> Scores:
        self._count()
        return await super().score(request)


class SmallBackend(CountingBackend):
    """Has room for few words."""

    @property
    def context_tokens(self) -> int:
        return 1200


def _system(backend: ScriptedBackend, mode: Mode = Mode.ITERATIVE, *, stop_early: bool = False) -> ModelSystem:
    config = RankConfig(mode=mode, answer_format=AnswerFormat.FREE, think_tokens=64)
    return ModelSystem(
        lambda: backend, config, model="scripted", model_sha256="0" * 64, stop_early=stop_early, max_in_flight=4
    )


@pytest.fixture
def dataset(make_task: Callable[..., RankingTask]) -> EvaluationSet:
    return make_set("made-up", [make_task(i) for i in range(12)], source="test")


def _baseline(name: str) -> BaselineSystem:
    return BaselineSystem(make_baseline(name), name)


def test_rows_say_what_was_measured(dataset: EvaluationSet, tmp_path: Path) -> None:
    plan = Plan(datasets=[dataset], systems=[_baseline("random"), _baseline("overlap"), _system(CountingBackend())])
    results = run_evaluation(plan, tmp_path / "r.json", command="python launch.py eval ...")
    assert results == read_results(tmp_path / "r.json")
    overlap, model = results.row("made-up", "overlap"), results.row("made-up", "scripted/iterative@64")
    assert overlap is not None
    assert model is not None
    assert overlap.metrics["mrr"].mean == 1
    assert overlap.metrics["mrr"].skill == 1
    floor = overlap.metrics["mrr"].floor
    assert floor == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5, abs=1e-4)
    assert len(model.metrics["mrr"].by_seed) == 3
    assert model.metrics["mrr"].low <= model.metrics["mrr"].mean <= model.metrics["mrr"].high
    assert model.usage.num_calls == model.usage.num_steps == 4
    assert (model.exclusions[0].pool_size, model.exclusions[0].num_steps) == (5, 36)
    assert len(model.values["mrr"]) == len(results.datasets[0].task_ids) == 12
    tested = {(d.family, d.a, d.b) for d in results.differences}
    assert ("against", "overlap", "random") in tested


def test_a_run_that_was_stopped_goes_on_and_ends_as_if_it_had_not(dataset: EvaluationSet, tmp_path: Path) -> None:
    whole = run_evaluation(
        Plan(datasets=[dataset], systems=[_system(CountingBackend())]), tmp_path / "whole.json", command="c"
    )
    out = tmp_path / "stopped.json"
    broken = CountingBackend(fail_after=50)
    with pytest.raises(KeyboardInterrupt):
        run_evaluation(Plan(datasets=[dataset], systems=[_system(broken)]), out, command="c")
    num_kept = len(journal_path(out).read_text().splitlines())
    assert 0 < num_kept < 36
    assert read_results(out).format == whole.format
    with journal_path(out).open("a") as journal:
        journal.write('{"dataset_key": "torn')
    again = CountingBackend()
    resumed = run_evaluation(Plan(datasets=[dataset], systems=[_system(again)]), out, command="c")
    assert again.num_calls == 4 * (36 - num_kept)
    assert resumed.rows[0].values == whole.rows[0].values
    assert resumed.rows[0].metrics == whole.rows[0].metrics
    fewer = run_evaluation(Plan(datasets=[dataset], systems=[_system(again)], limit=5), out, command="fewer")
    assert [(r.n, r.num_wanted) for r in fewer.rows] == [(5, 5)]
    assert fewer.commands == ("fewer",)
    run_evaluation(Plan(datasets=[dataset], systems=[_system(again)]), out, command="c")
    idle = CountingBackend(fail_after=0)
    assert run_evaluation(Plan(datasets=[dataset], systems=[_system(idle)]), out, command="c").rows == resumed.rows


def test_a_run_ends_in_the_middle_of_an_answer_when_it_is_told_to(dataset: EvaluationSet, tmp_path: Path) -> None:
    endless = ScriptedBackend(delay_s=3600)
    plan = Plan(datasets=[dataset], systems=[_baseline("overlap"), _system(endless)])
    looks = iter([False, False, True])
    with pytest.raises(KeyboardInterrupt):
        run_evaluation(plan, tmp_path / "r.json", command="c", is_stopped=lambda: next(looks))
    assert [row.system for row in read_results(tmp_path / "r.json").rows] == ["overlap"]


def test_a_results_file_alone_is_enough_to_go_on(dataset: EvaluationSet, tmp_path: Path) -> None:
    """Its answers were left on another machine: whole rows stay, others are made from the beginning."""
    out = tmp_path / "r.json"
    first = Plan(datasets=[dataset], systems=[_baseline("bm25"), _system(CountingBackend())])
    whole = run_evaluation(first, out, command="c")
    journal_path(out).unlink()
    idle = CountingBackend(fail_after=0)
    again = run_evaluation(Plan(datasets=[dataset], systems=[_baseline("bm25"), _system(idle)]), out, command="c")
    assert again.rows == whole.rows
    asked = CountingBackend()
    more = run_evaluation(
        Plan(datasets=[dataset], systems=[_system(idle), _system(asked, Mode.DIRECT)]), out, command="c"
    )
    assert [r.system for r in more.rows] == ["bm25", "scripted/iterative@64", "scripted/direct@64"]
    assert asked.num_calls > 0 and journal_path(out).exists()


def test_other_systems_join_the_same_file_and_changed_data_leave_it(
    dataset: EvaluationSet, make_task: Callable[..., RankingTask], tmp_path: Path
) -> None:
    out = tmp_path / "r.json"
    run_evaluation(Plan(datasets=[dataset], systems=[_baseline("bm25")]), out, command="one")
    results = run_evaluation(Plan(datasets=[dataset], systems=[_baseline("random")], limit=6), out, command="two")
    assert [(r.system, r.n, r.command) for r in results.rows] == [("bm25", 12, 0), ("random", 6, 1)]
    assert results.commands == ("one", "two")
    other = make_set("made-up", [make_task(i) for i in range(13)], source="test")
    results = run_evaluation(Plan(datasets=[other], systems=[_baseline("overlap")]), out, command="three")
    assert [r.system for r in results.rows] == ["overlap"]


def test_early_stop_changes_no_reciprocal_rank_and_asks_less(dataset: EvaluationSet, tmp_path: Path) -> None:
    full, early = CountingBackend(), CountingBackend()
    rows = [
        run_evaluation(
            Plan(datasets=[dataset], systems=[_system(backend, stop_early=stop)]),
            tmp_path / f"{stop}.json",
            command="c",
        ).rows[0]
        for backend, stop in ((full, False), (early, True))
    ]
    assert rows[0].values == rows[1].values
    assert early.num_calls < full.num_calls
    assert rows[1].usage.stopped_early > 0


def test_a_row_whose_time_is_over_keeps_what_it_has_and_the_next_run_goes_on(
    dataset: EvaluationSet, tmp_path: Path
) -> None:
    out = tmp_path / "r.json"
    plan = Plan(datasets=[dataset], systems=[_system(CountingBackend())], row_s=1e-9)  # one chunk a run
    sizes = []
    for _ in range(2):
        (row,) = run_evaluation(plan, out, command="c").rows
        sizes.append((row.n, row.num_wanted))
    assert sizes == [(8, 12), (12, 12)]


def test_several_plans_fill_one_file(dataset: EvaluationSet, tmp_path: Path) -> None:
    plans = [
        Plan(datasets=[dataset], systems=[_baseline("random"), _baseline("bm25")]),
        Plan(
            datasets=[dataset], systems=[_system(CountingBackend())], limit=6, pairs=[("bm25", "scripted/iterative@64")]
        ),
    ]
    again = Plan(
        datasets=[dataset], systems=[_system(CountingBackend())], limit=2
    )  # of the same row: the larger counts
    results = run_evaluation([*plans, again], tmp_path / "r.json", command="c")
    assert [(r.system, r.n) for r in results.rows] == [("random", 12), ("bm25", 12), ("scripted/iterative@64", 6)]
    assert ("asked", "bm25") in {(d.family, d.a) for d in results.differences}


def test_long_texts_are_cut_and_the_cut_is_told(make_task: Callable[..., RankingTask], tmp_path: Path) -> None:
    task = make_task(1)
    long = tuple(c.model_copy(update={"text": c.text + " word" * 600}) for c in task.candidates)
    dataset = make_set("long", [task.model_copy(update={"candidates": long})], source="test")
    prompts: list[str] = []

    class Watching(SmallBackend):
        async def generate(self, request: GenerateRequest) -> AsyncIterator[Chunk]:
            prompts.append(request.prompt.text)
            async for chunk in super().generate(request):
                yield chunk

    results = run_evaluation(Plan(datasets=[dataset], systems=[_system(Watching())]), tmp_path / "r.json", command="c")
    assert results.rows[0].usage.cut == 1
    assert max(len(re.findall(r"\S+", p)) for p in prompts) < 1200


def test_only_one_run_writes_a_file(dataset: EvaluationSet, tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / "r.json.lock"), pytest.raises(UsageError, match="another evaluation"):
        run_evaluation(Plan(datasets=[dataset], systems=[_baseline("random")]), tmp_path / "r.json", command="c")


def test_tables_hold_interval_floor_and_published_rows(dataset: EvaluationSet, tmp_path: Path) -> None:
    from dataclasses import replace

    named = replace(dataset, paper_name="P-5")
    results = run_evaluation(
        Plan(datasets=[named], systems=[_baseline("random"), _baseline("overlap")]),
        tmp_path / "r.json",
        command="made so",
    )
    markdown = to_markdown(results)
    assert "| overlap | 12 | 100.0 [100.0, 100.0] | +100.0 |" in markdown
    assert "| *IRanker-3B (RL), published* |  | *61.0* |" in markdown
    assert "random floor | 45.7 |" in markdown
    assert "made so" in markdown
    lines = to_csv(results).splitlines()
    assert len({line.count(",") for line in lines}) == 1
    assert "100.0" in to_latex(results)
    assert json.loads((tmp_path / "r.json").read_text())["rows"]


def test_a_model_on_a_server_does_not_pass_for_one_of_this_machine(dataset: EvaluationSet, tmp_path: Path) -> None:
    config, path = RankConfig(mode=Mode.DIRECT), tmp_path / "r.json"
    systems = [
        ModelSystem(ScriptedBackend, config, model=name, model_sha256=sha)
        for name, sha in (("far", None), ("near", "ab" * 32))
    ]
    markdown = to_markdown(run_evaluation(Plan(datasets=[dataset], systems=systems), path, command="c"))
    far, near = (
        next(line for line in markdown.splitlines() if line.startswith(f"- {name}/")) for name in ("far", "near")
    )
    assert far.endswith("on a server: its weights and its device are not known")
    assert near.endswith("weights SHA-256 abababababababab")
