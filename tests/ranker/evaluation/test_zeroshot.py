"""The matrix: means over datasets, intervals by query, changes against the untrained model, and what is zero-shot."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ranker.backends.scripted import ScriptedBackend
from ranker.elimination import AnswerFormat, RankConfig
from ranker.evaluation import ModelSystem, Plan, make_set, run_evaluation, to_markdown
from ranker.evaluation.zeroshot import zero_shot_cells, zero_shot_matrix
from ranker.prompts import label_of
from ranker.schema import Domain, Mode, RankingTask


def exclude_other_topics(prompt: str) -> str:
    """A model that has learned: excludes the first candidate that does not have the query's word."""
    topic = re.findall(r"what is (topic\d+)", prompt)[-1]
    block = prompt.rpartition("Candidates (")[2]
    for position, (_, text) in enumerate(re.findall(r"^\[(\d+)\] (.*)$", block, re.MULTILINE)):
        if f"{topic} " not in text:
            return f"clear</think><answer>{label_of(position)}</answer>"
    raise AssertionError("no candidate is off topic")


def system(backend: ScriptedBackend, name: str, trained_on: tuple[str, ...] = ()) -> ModelSystem:
    config = RankConfig(mode=Mode.ITERATIVE, answer_format=AnswerFormat.FREE, think_tokens=8)
    return ModelSystem(lambda: backend, config, model=name, trained_on=trained_on)


def test_a_cell_is_the_mean_over_the_datasets_of_a_domain(
    make_task: Callable[..., RankingTask], tmp_path: Path
) -> None:
    passages = [make_set(f"p{k}", [make_task(10 * k + i) for i in range(8)], source="test") for k in range(2)]
    films = [t.model_copy(update={"domain": Domain.RECOMMENDATION}) for t in passages[0].tasks]
    datasets = [*passages, make_set("films", films, source="test")]
    learned = ScriptedBackend(script=exclude_other_topics)
    systems = [system(ScriptedBackend(), "base"), system(learned, "without-passage", ("recommendation", "routing"))]
    results = run_evaluation(Plan(datasets=datasets, systems=systems, seeds=[0]), tmp_path / "r.json", command="c")
    cells = zero_shot_cells(results)
    cell = cells["without-passage/iterative@8", "passage"]
    assert (cell.value.mean, cell.num_datasets, cell.num_queries, cell.is_zero_shot) == (1, 2, 16, True)
    base = cells["base/iterative@8", "passage"]
    rows = [results.row(name, "base/iterative@8") for name in ("p0", "p1")]
    assert base.value.mean == pytest.approx(sum(r.metrics["mrr"].mean for r in rows if r) / 2, abs=1e-4)
    assert base.value.low < base.value.mean < base.value.high
    assert cell.change is not None
    assert cell.change.mean == pytest.approx(1 - base.value.mean, abs=1e-4)
    assert not cells["without-passage/iterative@8", "recommendation"].is_zero_shot
    matrix = zero_shot_matrix(results)
    assert "| without-passage/iterative@8 | recommendation, routing | 100.0" in matrix
    assert "**100.0 [100.0, 100.0]**" in matrix
    assert matrix in to_markdown(results)


def test_there_is_no_matrix_without_a_trained_model(make_task: Callable[..., RankingTask], tmp_path: Path) -> None:
    dataset = make_set("p", [make_task(i) for i in range(5)], source="test")
    plan = Plan(datasets=[dataset], systems=[system(ScriptedBackend(), "base")])
    assert zero_shot_matrix(run_evaluation(plan, tmp_path / "r.json", command="c")) == ""
