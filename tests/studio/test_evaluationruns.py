"""Evaluations as processes of their own: started, watched, stopped, resumed, exported, deleted; their traces can be read."""

import io
import json
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from ranker.datasets import dump_tasks
from ranker.errors import UsageError
from ranker.evaluation import read_results, run_evaluation
from ranker.schema import Candidate, Domain, RankingTask
from studio.app import create_app
from studio.cli.evaluate import read_request
from studio.cli.options import stored_tasks
from studio.cli.parser import parse
from studio.context import Context
from studio.evaluationcommand import eval_command, eval_words
from studio.evaluationestimate import Size, estimate
from studio.evaluationfiles import EvaluationState
from studio.evaluationruns import EXAMPLE, Evaluations
from studio.evaluations import EvaluationRequest, make_plan
from studio.evaluationtraces import read_trace
from studio.settings import ASSETS_DIR, Settings
from trainer.registry import Registry

WAIT_S = 90
REQUEST = EvaluationRequest(
    datasets=("words",),
    models=("fast",),
    modes=("iterative",),
    baselines=("random", "overlap"),
    num_seeds=2,
    think_tokens=(0,),
)


def _task(number: int) -> RankingTask:
    candidates = tuple(Candidate(candidate_id=f"c{i}", text=f"text about topic{number + i}") for i in range(4))
    return RankingTask(
        task_id=f"q{number}",
        domain=Domain.PASSAGE,
        query=f"what is topic{number + 1}",
        candidates=candidates,
        relevance={"c1": 1.0},
    )


@pytest.fixture(scope="module")
def app(module_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    (module_settings.assets_dir / "results").mkdir()
    shutil.copy(ASSETS_DIR / "results" / "evaluation.json", module_settings.example_results)
    made = create_app(module_settings, with_pages=False)
    path = tmp_path_factory.mktemp("tasks") / "words.jsonl"
    dump_tasks([_task(number) for number in range(8)], path)
    made.state.context.library.import_file(path, "words")
    yield made
    made.state.context.close()


@pytest.fixture(scope="module")
def context(app: FastAPI) -> Context:
    opened: Context = app.state.context
    return opened


@pytest.fixture(scope="module")
def finished(context: Context) -> str:
    """Stopped in the middle with a slow model, resumed, and at its end."""
    evaluations = context.evaluations
    request = REQUEST.model_copy(update={"models": ("slow",)})
    evaluation_id = evaluations.start("words, slowly", request)
    with pytest.raises(UsageError, match="words, slowly: is running: wait for it or stop it"):
        evaluations.start("another", request)
    with pytest.raises(UsageError, match="stop it first"):
        evaluations.delete(evaluation_id)
    evaluations.stop(evaluation_id)  # before it has opened anything
    assert _wait(evaluations, evaluation_id, lambda state, _: not state.is_live) is EvaluationState.STOPPED
    assert evaluations.info(evaluation_id).status.num_done == 0
    evaluations.resume(evaluation_id)
    _wait(evaluations, evaluation_id, lambda state, num_done: num_done > 16)
    evaluations.stop(evaluation_id)
    state = _wait(evaluations, evaluation_id, lambda state, _: not state.is_live)
    assert state in (EvaluationState.STOPPED, EvaluationState.DONE), evaluations.log_tail(evaluation_id)
    status = evaluations.info(evaluation_id).status
    assert (status.num_all, state is EvaluationState.STOPPED) == (48, status.num_done < 48)
    with pytest.raises(UsageError, match="there is nothing to stop"):
        evaluations.stop(evaluation_id)
    evaluations.resume(evaluation_id)
    assert _wait(evaluations, evaluation_id, lambda state, _: not state.is_live) is EvaluationState.DONE
    assert evaluations.info(evaluation_id).status.num_done == 48
    return evaluation_id


def _wait(
    evaluations: Evaluations, evaluation_id: str, until: Callable[[EvaluationState, int], bool]
) -> EvaluationState:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        status = evaluations.info(evaluation_id).status
        if until(status.state, status.num_done):
            return status.state
        time.sleep(0.05)
    raise AssertionError(f"{status}\n{evaluations.log_tail(evaluation_id)}")


def test_a_stopped_and_resumed_evaluation_is_what_the_command_makes(
    context: Context, finished: str, tmp_path: Path
) -> None:
    results = context.evaluations.results(finished)
    assert results is not None
    (command,) = context.evaluations.info(finished).commands
    assert results.commands == (command,)
    request = read_request(parse([*command.split()[2:]]), context.registry)
    plan = make_plan(request, Registry(context.settings.models_dir), lambda n: stored_tasks(context.settings, n))
    again = run_evaluation(plan, tmp_path / "again.json", command=command)
    assert [r.values for r in again.rows] == [r.values for r in results.rows]
    assert [r.metrics for r in again.rows] == [r.metrics for r in results.rows]
    assert [r.analysis for r in again.rows] == [r.analysis for r in results.rows]


def test_its_traces_can_be_read(context: Context, finished: str) -> None:
    model = read_trace(context.evaluations, finished, "words", "slow/iterative", "q3", 1)
    assert (model.model, model.mode, model.seed, len(model.steps)) == ("slow", "iterative", 1, 3)
    assert model.steps[0].prompt
    assert model.to_trace().ranking == model.ranking
    baseline = read_trace(context.evaluations, finished, "words", "overlap", "q3", 1)
    assert (len(baseline.steps), baseline.rank_of_relevant) == (1, 1)
    assert baseline.ranking is not None
    assert baseline.to_trace().task_id == "q3"
    for wrong in (("nowhere", "overlap", "q3", 0), ("words", "nobody", "q3", 0), ("words", "overlap", "q99", 0)):
        with pytest.raises(UsageError, match="evaluation: "):
            read_trace(context.evaluations, finished, *wrong)
    with pytest.raises(UsageError, match="not kept here"):
        read_trace(context.evaluations, EXAMPLE, "passage-5", "bm25", "496244", 0)


def test_every_format_can_be_had_as_a_file(app: FastAPI, finished: str, tmp_path: Path) -> None:
    client = TestClient(app, base_url="http://127.0.0.1")
    listed = client.get("/api/evaluations").json()
    assert [entry["evaluation_id"] for entry in listed] == [finished, EXAMPLE]

    def get(form: str, evaluation_id: str = finished) -> bytes:
        response = client.get(f"/api/evaluations/{evaluation_id}/export?format={form}")
        assert response.status_code == 200, response.text
        assert "attachment" in response.headers["content-disposition"]
        return response.content

    (tmp_path / "r.json").write_bytes(get("json"))
    assert read_results(tmp_path / "r.json") == app.state.context.evaluations.results(finished)
    assert get("csv").startswith(b"dataset,system,metric")
    assert b"\\toprule" in get("tex")
    assert b"# Evaluation" in get("md")
    assert b"published" in get("md", EXAMPLE)
    with zipfile.ZipFile(io.BytesIO(get("runs"))) as runs:
        assert len(runs.namelist()) == 6
        lines = runs.read("words.overlap.seed0.run").decode().splitlines()
    assert len(lines) == 8 * 4
    assert lines[0].split()[1::2] == ["Q0", "1", "overlap"]
    assert client.get(f"/api/evaluations/{EXAMPLE}/export?format=runs").status_code == 400
    assert client.get(f"/api/evaluations/{finished}/export?format=exe").status_code == 400
    assert client.get("/api/evaluations/..%2F..%2Fetc/export").status_code in (400, 404)
    assert client.get("/api/evaluations/nothing").status_code == 400


def test_deleting_can_be_undone_until_the_next_start(context: Context, finished: str) -> None:
    evaluations = context.evaluations
    assert evaluations.delete(finished) == "words, slowly"
    with pytest.raises(UsageError, match="is not there"):
        evaluations.info(finished)
    assert evaluations.restore(finished) == "words, slowly"
    with pytest.raises(UsageError, match="is gone"):
        evaluations.restore("../models")
    with pytest.raises(UsageError, match="is not there"):
        evaluations.delete(EXAMPLE)


def test_what_cannot_be_opened_fails_with_its_reason(context: Context) -> None:
    request = REQUEST.model_copy(update={"datasets": ("nothing",)})
    evaluation_id = context.evaluations.start("", request)
    assert _wait(context.evaluations, evaluation_id, lambda state, _: not state.is_live) is EvaluationState.FAILED
    info = context.evaluations.info(evaluation_id)
    assert "'nothing': not a stored dataset" in info.status.message
    assert info.name.startswith("Evaluation of ")
    context.evaluations.delete(evaluation_id)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"baselines": (), "limit": 7, "stop_early": True, "max_in_flight": 3},
        {"think_tokens": (0, 48), "mode_limits": {"iterative": 3}, "compare": (("a", "b"), ("c", "d"))},
        {"modes": ("direct", "first-token"), "from_dir": Path("raw data"), "split": "test", "depth": 20},
        {"datasets": (), "protocol": "trec", "from_dir": Path("raw")},
        {"modes": ("pointwise", "setwise"), "row_minutes": 2.5, "thoughts": Path("bank.jsonl")},
    ],
)
def test_the_command_asks_for_the_same(context: Context, changes: dict[str, object]) -> None:
    request = REQUEST.model_copy(update=changes)
    assert read_request(parse(eval_words(request, "r.json")), context.registry) == request
    assert eval_command(request).startswith("python launch.py eval ")


def test_the_estimate_counts_requests_and_scales_what_was_timed(context: Context, finished: str) -> None:
    results = context.evaluations.results(finished)
    assert results is not None
    sizes = {"words": Size(8, 4.0), "many": Size(1000, 10.0)}
    request = REQUEST.model_copy(update={"models": ("slow", "fast"), "datasets": ("words", "many"), "limit": 20})
    found = estimate(request, sizes.get, [results], {})
    assert found.num_rankings == 4 * (8 + 20) * 2
    assert found.num_requests == 2 * (8 * 2 * 3 + 20 * 2 * 9)
    assert found.untimed == ("fast/iterative",)
    assert found.seconds is not None
    thinking = estimate(request.model_copy(update={"think_tokens": (8,)}), sizes.get, [results], {})
    assert thinking.num_requests == 2 * found.num_requests
    assert thinking.seconds is None
    assert estimate(request, lambda _: None, [], {}).unknown == ("words", "many")


def test_a_process_that_is_gone_is_interrupted_and_can_go_on(context: Context, finished: str) -> None:
    place = context.settings.evaluations_dir / finished
    status = json.loads((place / "status.json").read_text())
    gone = {**status, "state": "running", "pid": 2**22 + 1, "process_started_at_s": 1.0}
    (place / "status.json").write_text(json.dumps(gone))
    assert context.evaluations.info(finished).status.state is EvaluationState.INTERRUPTED
    (place / "status.json").write_text(json.dumps(status))
