"""Jobs of the studio: from corrections in the store to a promoted checkpoint and back, on a model that trains in seconds."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ranker.errors import JobError, UsageError
from ranker.schema import Candidate, Domain, RankingTask
from studio.context import Context
from studio.corrections import Submission
from studio.inspector import describe_example, example_of_rollout, example_of_task, inspect_completion
from studio.jobcompare import most_changed
from studio.jobfiles import MetricsFile, RolloutFile
from studio.jobmaterial import MaterialRequest
from studio.training import JobRequest, Training, describe_plan
from trainer.checkpoints import newest_checkpoint, read_provenance
from trainer.corrections import load_corrections
from trainer.examples import is_held_out
from trainer.jobs import JobState
from trainer.modelcards import ModelCard, write_card
from trainer.registry import BASE_MODEL
from trainer.simulate import simulate_corrections

TINY: dict[str, Any] = {
    "model": "toy",
    "examples": {"num_examples": 16, "max_pool": 3},
    "optimizer": {"max_steps": 2, "warmup_steps": 0},
    "lora": {"rank": 2},
    "precision": "fp32",
    "device": "cpu",
    "compared": 2,
    "measured": 2,
    "num_threads": 1,
}
YEARS = (1931, 1994, 1967, 2003)


def make_film_task(number: int) -> RankingTask:
    candidates = tuple(Candidate(candidate_id=str(k), text=f"F{k} ({y + number % 5})") for k, y in enumerate(YEARS))
    return RankingTask(
        task_id=f"f{number}", domain=Domain.OTHER, query="old", candidates=candidates, relevance={"0": 1}
    )


TASKS = [make_film_task(n) for n in range(24)]


@pytest.fixture
def training(context: Context, toy_model_dir: Path) -> Iterator[Training]:
    """A studio with 24 film tasks, half of them corrected by Ann, one by Bob, and the toy model."""
    card = ModelCard(name="toy", directory=str(toy_model_dir), sha256="toy-hash", num_parameters=60_000)
    write_card(context.settings.models_dir, card)
    info = context.store.datasets.add("films", TASKS, source="test")
    for one in simulate_corrections(TASKS[:12], "older", noise=0):
        said = Submission(task_id=one.task_id, kind=one.kind, payload=one.payload, author="ann")
        context.corrections.submit(info.id, said)
    context.corrections.submit(
        info.id, Submission(task_id="f20", kind="label", payload={"relevant": ["0"]}, author="bob")
    )
    yield context.training
    for status in context.training.jobs():
        if status.state in (JobState.QUEUED, JobState.STARTING, JobState.RUNNING):
            context.training.stop(status.job_id)
            context.training.wait(status.job_id)


def request(settings: dict[str, Any] | None = None, **material: Any) -> JobRequest:
    return JobRequest(
        preset="titles",
        material=MaterialRequest(**{"datasets": ("films",), **material}),
        settings={**TINY, **(settings or {})},
    )


def test_a_plan_says_what_a_job_would_need_and_writes_nothing(context: Context, training: Training) -> None:
    plan = training.plan(request())
    held_out = sum(is_held_out(t.task_id, 0.2) for t in [*TASKS[:12], TASKS[20]])
    assert (plan.sample.num_tasks, plan.sample.num_corrections, plan.num_held_out) == (24, 13, held_out)
    assert plan.fits and plan.estimate.optimizer_steps == 2 and plan.estimate.seconds > 0
    words = describe_plan(plan)
    assert words.startswith("Needs about 0.7 GB; this machine has ") and "2 optimizer steps" in words
    assert list(context.settings.jobs_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("visible", "script", "begins"),
    [
        (None, "echo 640\necho 81920", "Needs about 0.7 GB; the GPU has 0.7 GB free."),
        (
            "3,1",
            'case "$*" in *--id=3) echo 81920;; *) echo 640;; esac',
            "Needs about 0.7 GB; the GPU has 85.9 GB free.",
        ),
        (None, "exit 9", "Needs about 0.7 GB; this machine has "),
        ("", "echo 81920", "Needs about 0.7 GB; this machine has "),
    ],
)
def test_a_plan_compares_with_the_memory_that_the_job_will_take(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, script: str, begins: str
) -> None:
    """The first GPU's that a job would see, where there is one whose driver answers, and then not once for each process."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    devices = tmp_path / "dev"
    devices.mkdir()
    (devices / "nvidia3").touch()
    monkeypatch.setattr("studio.training._DEVICES", devices)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    plan = training.plan(request())
    assert describe_plan(plan).startswith(begins)
    assert plan.needed_bytes == plan.estimate.memory.total
    shared = plan._replace(config=plan.config.model_copy(update={"num_processes": 3}))
    assert shared.needed_bytes == (1 if "the GPU" in begins else 3) * plan.needed_bytes
    assert not shared._replace(available_bytes=shared.needed_bytes - 1).fits


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (request({"steps": 3}), "job: steps: '3': no such field"),
        (request({"model": "fast"}), "model: fast: cannot be trained"),
        (request({"data": {"tasks": ["/etc/passwd"]}}), "is taken from the store"),
        (JobRequest(preset="nosuch"), "job: preset: 'nosuch': choose one of"),
        (request(datasets=("nosuch",)), "datasets: 'nosuch': is not there"),
        (request(evaluation=("films@1",)), "evaluation: 'films': is trained on"),
        (request({"placebo": "shuffled-corrections"}, use_corrections=False), "no corrections to shuffle"),
        (request({"placebo": "random-reward"}), "kind titles has no reward"),
    ],
)
def test_what_cannot_be_started_is_refused_and_leaves_nothing(
    context: Context, training: Training, asked: JobRequest, said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        training.start(asked)
    assert said in str(caught.value)
    assert list(context.settings.jobs_dir.iterdir()) == []


def test_nothing_corrected_and_nothing_chosen(context: Context) -> None:
    with pytest.raises(UsageError, match="none is corrected yet"):
        context.training.plan(JobRequest(settings=TINY))


@pytest.mark.slow
def test_from_corrections_to_a_promoted_model_and_back(context: Context, training: Training) -> None:
    """One whole life: only Ann's words, files with ids, comparison, placebo beside it, promote, undo."""
    started = training.start(request({"name": "ann’s"}, datasets=(), authors=("ann",)))
    job = training.job(started.job_id)
    context.library.delete(context.store.datasets.latest("films").id)  # type: ignore[union-attr]
    placebo = training.placebo(started.job_id)
    assert training.wait(started.job_id).state is JobState.DONE, job.log_path.read_text()
    said = list(load_corrections(Path(job.config().data.corrections[0])))
    assert {c.author for c in said} == {"ann"} and len(said) == 12
    checkpoint = newest_checkpoint(job.checkpoints)
    assert checkpoint is not None
    provenance = read_provenance(checkpoint)
    assert set(provenance.correction_ids) <= {c.correction_id for c in said} and provenance.correction_ids
    view = training.view(started.job_id)
    assert json.loads(json.dumps(view)) == view
    assert view["can"] == {"stop": False, "resume": False, "promote": True, "undo": False, "placebo": True}
    assert {s["name"] for s in view["comparison"]["sets"]} == {"held-out corrections", "held-out labels"}
    live = training.live(started.job_id)
    assert [row["optimizer_step"] for row in live["metrics"]] == [1, 2] and not live["is_active"]
    assert training.live(started.job_id, after=2, generation=live["generation"])["metrics"] == []
    card = training.promote(started.job_id)
    assert context.registry.default_name() == card.name and training.view(started.job_id)["promoted"]
    assert training.undo_promote() == BASE_MODEL == context.registry.default_name()
    with pytest.raises(UsageError, match="nothing to take back"):
        training.undo_promote()
    assert training.wait(placebo.job_id).state is JobState.DONE
    beside = training.compare(started.job_id, placebo.job_id)
    assert [d["name"] for d in beside["settings"]] == ["placebo"]
    assert {s["name"] for s in beside["sets"]} == {"held-out corrections", "held-out labels"}
    with pytest.raises(UsageError, match="is a placebo itself"):
        training.placebo(placebo.job_id)


SERVER = """
import sys, time
from pathlib import Path
from studio.app import open_context
from studio.settings import Settings
from studio.jobmaterial import MaterialRequest
from studio.training import JobRequest
import json
context = open_context(Settings(data_dir=Path(sys.argv[1]), open_browser=False))
settings = json.loads(sys.argv[2])
print(context.training.start(JobRequest(preset="titles", material=MaterialRequest(datasets=("films",)), settings=settings)).job_id, flush=True)
time.sleep(600)
"""


def wait_for(condition: Callable[[], bool], timeout_s: float = 240) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_job_outlives_a_studio_that_is_killed(context: Context, training: Training) -> None:
    """kill -9 of the server: the job goes on, the next studio finds it, stops it, and a clone of it starts."""
    data_dir = context.settings.data_dir
    long = {**TINY, "optimizer": {"max_steps": 100_000, "warmup_steps": 0}}
    context.lock.release()  # type: ignore[union-attr]
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(data_dir), json.dumps(long)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    job_id = server.stdout.readline().strip()
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    wait_for(lambda: training.status(job_id).optimizer_step > 0)
    status = training.status(job_id)
    assert status.state is JobState.RUNNING and status.pid != server.pid
    queued = training.clone(job_id, {"optimizer": {"max_steps": 1}, "compared": 0})
    training.set_priority(queued.job_id, 3)
    assert training.status(queued.job_id).priority == 3
    with pytest.raises(JobError, match="is running"):
        training.resume(job_id)
    training.stop(job_id)
    wait_for(lambda: training.status(job_id).state is JobState.STOPPED)
    assert training.wait(queued.job_id).state is JobState.DONE, training.log(queued.job_id)
    assert training.view(job_id)["can"]["resume"] and "from checkpoint-" in training.view(job_id)["resumes"]


def test_metrics_are_read_piece_by_piece_and_anew_after_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    assert metrics.after(-1, 0).rows == []
    path.write_text('{"optimizer_step": 1}\n{"optimizer_step": 2}\n{"optimi', encoding="utf-8")
    assert [r["optimizer_step"] for r in metrics.after(-1, 0).rows] == [1, 2]
    with path.open("a", encoding="utf-8") as file:
        file.write('zer_step": 3}\nnot json\n')
    assert [r["optimizer_step"] for r in metrics.after(2, 0).rows] == [3]
    part = tmp_path / "part"
    part.write_text('{"optimizer_step": 1}\n', encoding="utf-8")
    part.replace(path)
    again = metrics.after(3, 0)
    assert again.generation == 1 and [r["optimizer_step"] for r in again.rows] == [1]


def test_rollouts_are_found_by_number(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    rollouts = RolloutFile(path)
    assert rollouts.count() == 0 and rollouts.get(0) is None
    path.write_text("".join(json.dumps({"n": n, "text": "ä\u2028" * n}) + "\n" for n in range(5)), encoding="utf-8")
    assert rollouts.count() == 5
    assert [rollouts.get(n)["n"] for n in (4, 0, 2)] == [4, 0, 2]  # type: ignore[index]
    assert rollouts.get(5) is None and rollouts.get(-1) is None


def test_the_tasks_that_changed_most_come_first() -> None:
    tasks = [
        {"task_id": i, "before": b, "after": a, "moved": m}
        for i, b, a, m in [
            ("same", 0.5, 0.5, 0),
            ("moved", 0.5, 0.5, 2),
            ("worse", 1.0, 0.2, 4),
            ("better", 0.5, 0.6, 1),
        ]
    ]
    shown = most_changed({"before": "x", "after": "y", "sets": [{"name": "s", "tasks": tasks}]})
    assert shown is not None
    assert [t["task_id"] for t in shown["sets"][0]["tasks"]] == ["worse", "better", "moved"]
    assert shown["sets"][0]["num_moved"] == 3 and most_changed(None) is None


def test_the_inspector_reads_a_rollout_of_fixed_block_as_its_reward_did() -> None:
    """Numbers are those of the prompt, which prints those that are gone too; a rollout kept before says nothing of it."""
    candidates = tuple(Candidate(candidate_id=i, text=f"Film {i}") for i in "abc")
    task = RankingTask(task_id="t", domain=Domain.OTHER, query="q", candidates=candidates, relevance={"c": 1})
    kept = {"pool": ["b", "c"], "shown": ["a", "b", "c"], "grades": {"b": 1.0, "c": 0.0}, "tiers": [["c"], ["b"]]}
    example = example_of_rollout({**kept, "mode": "fixed-block"}, task)
    assert [one["label"] for one in describe_example(example)["pool"]] == [2, 3]
    found = inspect_completion("no\n</think>\n<answer>[2]</answer>", example)
    assert (found["outcome"], found["rewards"]["paper"]["excluded"]) == ("parsed", "Film b")
    assert inspect_completion("no\n</think>\n<answer>[1]</answer>", example)["outcome"] == "not_in_pool"
    earlier = example_of_rollout({"mode": "iterative", **{k: v for k, v in kept.items() if k != "shown"}}, task)
    assert [one["label"] for one in describe_example(earlier)["pool"]] == [1, 2]


def test_the_inspector_shows_every_component_and_what_matched() -> None:
    example = example_of_task(TASKS[0])
    good = inspect_completion("The second is newer.\n</think>\n<answer>[2]</answer>", example)
    assert good["outcome"] == "parsed" and good["answer"] == "[2]"
    assert good["rewards"]["paper"]["total"] == 1 and good["rewards"]["paper"]["excluded"] == "F1 (1994)"
    assert good["rewards"]["reference"]["total"] == -0.5, "the released code's reward of a perfect answer"
    assert all(tag["count"] == 1 for tag in good["tags"])
    bad = inspect_completion("<answer>Heat</answer>", example)
    assert bad["outcome"] == "not_in_pool" and bad["rewards"]["reference"]["is_repaired"]
    assert bad["rewards"]["paper"]["excluded"] is None
    with pytest.raises(UsageError, match="at most 40,000"):
        inspect_completion("x" * 40_001, example)
