"""Traces that are kept beside the results survive a kill, and are found again."""

from collections.abc import Callable
from pathlib import Path

from ranker.backends.scripted import ScriptedBackend
from ranker.elimination import RankConfig
from ranker.evaluation import ModelSystem, Plan, make_set, run_evaluation
from ranker.evaluation.answers import AnswerKey
from ranker.evaluation.keeping import KeptTraces
from ranker.schema import Mode, RankingTask


def test_every_answer_of_a_model_has_its_steps_and_its_task(
    make_task: Callable[..., RankingTask], tmp_path: Path
) -> None:
    dataset = make_set("made-up", [make_task(i) for i in range(3)], source="test")
    system = ModelSystem(
        lambda: ScriptedBackend(name="scripted"), RankConfig(mode=Mode.ITERATIVE, think_tokens=8), model="scripted"
    )
    out = tmp_path / "r.json"
    plan = Plan(datasets=[dataset], systems=[system], seeds=(0, 1), keep_traces=True)
    results = run_evaluation(plan, out, command="c")
    row = results.rows[0]
    kept = KeptTraces(out)
    for task in dataset.tasks:
        assert kept.task(row.dataset_key, task.task_id) == task
        for seed in (0, 1):
            steps = kept.steps(AnswerKey(row.dataset_key, row.system_key, seed, task.task_id))
            assert len(steps) == 4
            assert all(step.prompt for step in steps)
    assert kept.steps(AnswerKey(row.dataset_key, row.system_key, 7, "q0")) == ()
    assert kept.task("nobody", "q0") is None
    assert "full_steps" not in (tmp_path / "r.journal.jsonl").read_text()
    assert row.analysis is not None
    assert row.analysis.positions is not None
    assert row.analysis.order is not None


def test_a_torn_line_is_dropped_and_nothing_is_kept_twice(
    make_task: Callable[..., RankingTask], tmp_path: Path
) -> None:
    out = tmp_path / "r.json"
    tasks = [make_task(i) for i in range(2)]
    KeptTraces(out).add_tasks("d", tasks)
    path = tmp_path / "r.tasks.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    again = KeptTraces(out)
    again.add_tasks("d", tasks)
    again.add_tasks("d", tasks)
    assert len(path.read_text().splitlines()) == 2
    assert again.task("d", "q1") == tasks[1]
