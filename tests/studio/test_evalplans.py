"""Plan files: sections become requests, the command line bounds them, mistakes are named."""

from pathlib import Path

import pytest

from ranker.errors import UsageError
from studio.evalplans import make_requests, read_plan
from studio.evaluations import EvaluationRequest

ROOT = Path(__file__).resolve().parents[2]

PLAN = """
defaults: {limit: 100, depth: 20}
sections:
  - {baselines: [all], datasets: [a, b]}
  - {models: given, modes: [iterative], think_tokens: [0, 48], datasets: [b], mode_limits: {iterative: 8}, row_minutes: 5}
  - {models: given, modes: [iterative], with_thoughts: true, datasets: [b], limit: 10}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return path


def test_sections_become_requests_that_the_command_line_bounds(path: Path, tmp_path: Path) -> None:
    given = EvaluationRequest(models=("m",), limit=30, row_minutes=9, thoughts=tmp_path / "bank", num_seeds=2)
    baselines, model, guided = make_requests(read_plan(path), given)
    assert (baselines.baselines, baselines.datasets, baselines.models) == (("all",), ("a", "b"), ())
    assert (model.models, model.think_tokens, model.limit, model.row_minutes) == (("m",), (0, 48), 30, 5)
    assert (model.depth, model.num_seeds, dict(model.mode_limits)) == (20, 2, {"iterative": 8})
    assert (model.thoughts, guided.thoughts, guided.limit) == (None, tmp_path / "bank", 10)


def test_model_sections_wait_for_models_and_datasets_can_be_picked(path: Path) -> None:
    plan = read_plan(path)
    assert [r.baselines for r in make_requests(plan, EvaluationRequest())] == [("all",)]
    (only,) = make_requests(plan, EvaluationRequest(datasets=("a",), models=("m",)))
    assert only.datasets == ("a",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sections: []", "sections: '()'"),
        ("- a", "sections: missing"),
        ("sections: [{limits: 3}]", "sections.0.limits: '3': no such field"),
        ("sections: [{limit: 0}]", "sections.0.limit: '0'"),
        ("sections: [{models: all}]", "sections.0.models"),
        ("sections: [", "write YAML"),
    ],
)
def test_mistakes_are_named(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_plan(path)
    assert said.split("'")[0] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_plan_of_the_committed_results_can_be_read() -> None:
    requests = make_requests(read_plan(ROOT / "assets" / "results" / "plan.yaml"), EvaluationRequest(models=("m",)))
    datasets = {name for request in requests for name in request.datasets}
    assert {"rec-movie", "rec-movie-100k", "rec-game", "rec-music", "router-cost", "passage-9", "dl19"} <= datasets
    modes = {mode for request in requests if request.models for mode in request.modes}
    assert {"direct", "iterative", "first-token"} <= modes
