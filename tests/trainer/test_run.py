"""Whole jobs on a tiny model: every kind trains, stops, resumes, is promoted and ranks; and a kill is survived."""

import errno
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from ranker.datasets import dump_tasks
from ranker.elimination import RankConfig, rank
from ranker.errors import CheckpointError
from ranker.schema import Candidate, Domain, RankingTask
from trainer.checkpoints import newest_checkpoint, read_provenance
from trainer.config import make_config
from trainer.corrections import dump_corrections
from trainer.examples import is_held_out
from trainer.failures import NotFiniteError, explain_failure
from trainer.jobs import Job, Jobs, JobState
from trainer.modelcards import ModelCard, write_card
from trainer.registry import Registry
from trainer.run import _run
from trainer.simulate import simulate_corrections


def make_task(number: int) -> RankingTask:
    years = [1930 + (number * 7 + k * 13) % 70 for k in range(4)]
    return RankingTask(
        task_id=f"t{number}",
        domain=Domain.OTHER,
        query="old",
        candidates=tuple(Candidate(candidate_id=str(k), text=f"F{k} ({year})") for k, year in enumerate(years)),
        relevance={str(years.index(min(years))): 1},
    )


TASKS = [make_task(n) for n in range(30)]


class Studio:
    """A data directory with the tiny model as its default, and files to train on."""

    def __init__(self, directory: Path, model_dir: Path) -> None:
        self.directory = directory
        self.registry = Registry(directory / "models")
        self.jobs = Jobs(directory / "jobs", models_dir=directory / "models")
        card = ModelCard(name="toy", directory=str(model_dir), sha256="toy-hash")
        write_card(directory / "models", card)
        dump_tasks(TASKS, directory / "tasks.jsonl")
        dump_corrections(simulate_corrections(TASKS, "older", noise=0.1), directory / "corrections.jsonl")

    def job(self, kind: str, *, max_steps: int, **changes: Any) -> Job:
        values: dict[str, Any] = {
            "kind": kind,
            "model": "toy",
            "data": {
                "tasks": [str(self.directory / "tasks.jsonl")],
                "corrections": [str(self.directory / "corrections.jsonl")],
            },
            "examples": {"num_examples": 32},
            "optimizer": {"max_steps": max_steps, "batch_size": 4, "learning_rate": 0.01, "warmup_steps": 0},
            "ppo": {"rollout_size": 8, "max_completion_tokens": 6, "group_size": 2},
            "lora": {"rank": 4, "alpha": 8},
            "precision": "fp32",
            "device": "cpu",
            "save_every": 100,
            "compared": 0,
        }
        return self.jobs.create(make_config({**values, **changes}))

    def run(self, job: Job) -> tuple[JobState, str]:
        return _run(job, self.registry)


@pytest.fixture
def studio(tmp_path: Path, toy_model_dir: Path) -> Studio:
    return Studio(tmp_path, toy_model_dir)


def weights(checkpoint: Path | None) -> dict[str, torch.Tensor]:
    assert checkpoint is not None
    return load_file(checkpoint / "adapter_model.safetensors")


def test_titles_learn_are_promoted_and_rank(studio: Studio) -> None:
    job = studio.job("titles", max_steps=12, titles={"kl_weight": 0.01})
    state, message = studio.run(job)
    assert (state, message) == (JobState.DONE, "done; checkpoint-12 is saved")
    rows = list(job.metrics())
    assert [row["optimizer_step"] for row in rows] == list(range(1, 13))
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6), "before the first update the policy is the reference"
    assert sum(row["loss"] for row in rows[-3:]) < sum(row["loss"] for row in rows[:3])
    result = job.result()
    assert result is not None
    assert result["held_out"]["num_decisions"] == sum(is_held_out(t.task_id, 0.2) for t in TASKS) > 2
    assert -1 < result["held_out"]["after_minus_before"]["difference"] < 1
    checkpoint = newest_checkpoint(job.checkpoints)
    assert checkpoint is not None
    card = studio.registry.promote(str(checkpoint))
    assert studio.registry.default_name() == card.name
    assert card.ranking_defaults() == {"answer_format": "scored", "think_tokens": 0}
    trained = rank(TASKS[0], studio.registry.load(), RankConfig(think_tokens=0)).steps[0].probabilities
    plain = rank(TASKS[0], studio.registry.load("toy"), RankConfig(think_tokens=0)).steps[0].probabilities
    assert trained is not None and plain is not None
    assert max(abs(trained[i] - plain[i]) for i in plain) > 1e-3
    assert studio.registry.promote(str(checkpoint)) == card, "promoting again changes nothing"


def test_all_weights_can_be_trained_and_promoted(studio: Studio) -> None:
    job = studio.job("titles", max_steps=2, lora=None)
    studio.run(job)
    card = studio.registry.promote(str(newest_checkpoint(job.checkpoints)))
    assert card.adapter is None and card.num_parameters == studio.registry.card(card.name).num_parameters
    for left_over in ("optimizer.pt", "rng_state.pth"):
        assert not (Path(card.directory) / left_over).exists()
    assert rank(TASKS[0], studio.registry.load(), RankConfig(think_tokens=0)).model == card.name


def test_a_promoted_model_is_trained_further(studio: Studio) -> None:
    first = studio.job("titles", max_steps=2)
    studio.run(first)
    card = studio.registry.promote(str(newest_checkpoint(first.checkpoints)))
    second = studio.job("titles", max_steps=1, model=card.name)
    studio.run(second)
    before, after = weights(newest_checkpoint(first.checkpoints)), weights(newest_checkpoint(second.checkpoints))
    largest = max((after[name] - before[name]).abs().max().item() for name in before)
    assert 0 < largest < 0.05, "one step away from where the first job ended"
    checkpoint = newest_checkpoint(second.checkpoints)
    assert checkpoint is not None and read_provenance(checkpoint).base_model == "toy"


def test_provenance_says_what_a_checkpoint_came_from(studio: Studio) -> None:
    job = studio.job("sft", max_steps=2)
    studio.run(job)
    checkpoint = newest_checkpoint(job.checkpoints)
    assert checkpoint is not None
    provenance = read_provenance(checkpoint)
    assert (provenance.job_id, provenance.base_sha256, provenance.optimizer_step) == (job.job_id, "toy-hash", 2)
    assert set(provenance.data_sha256) == {"0-tasks.jsonl", "0-corrections.jsonl"}
    assert all(i.startswith("simulated-older") for i in provenance.correction_ids) and provenance.correction_ids
    write_card(studio.directory / "models", ModelCard(name="toy", directory="elsewhere", sha256="other"))
    with pytest.raises(CheckpointError, match="has changed since the training"):
        studio.registry.promote(str(checkpoint))


@pytest.mark.parametrize("kind", ["ppo", "grpo"])
def test_rollouts_are_scored_component_by_component(studio: Studio, kind: str) -> None:
    job = studio.job(kind, max_steps=4)
    assert studio.run(job)[0] is JobState.DONE
    first = next(iter(job.metrics()))
    for name in ("exclusion", "ranking", "format", "tags", "length"):
        assert f"rewards/{name}/mean" in first
    assert first["answers/parsed"] == 0 and first["rewards/exclusion/mean"] == -1, "it writes noise, not answers"
    assert 0 < first["exclusion/random_floor"] < 1
    rollout = json.loads((job.directory / "rollouts.jsonl").read_text(encoding="utf-8").split("\n")[0])
    assert rollout["prompt"].endswith("<think>") and rollout["parts"]["outcome"] == "no_answer"
    assert len(list(job.rollouts())) == 4 * len({r["optimizer_step"] for r in job.rollouts()})
    assert isinstance(rollout["advantage"], float) and 1 <= rollout["num_tokens"] <= 6


def test_what_was_held_out_is_ranked_before_and_after(studio: Studio) -> None:
    dump_tasks(TASKS[:3], studio.directory / "others.jsonl")
    job = studio.job("titles", max_steps=8, compared=4)
    job = studio.jobs.clone(job, {"data": {"evaluation": [str(studio.directory / "others.jsonl")]}})
    state, message = studio.run(job)
    assert state is JobState.DONE and "held-out corrections (agreement, n=4, random 0.500)" in message
    comparison = job.comparison()
    assert comparison is not None
    assert [(s["name"], s["metric"], s["num_tasks"]) for s in comparison["sets"]] == [
        ("held-out corrections", "agreement", 4), ("held-out labels", "mrr", 4), ("others", "mrr", 3),
    ]  # fmt: skip
    first = comparison["sets"][0]
    gains = [task["after"] - task["before"] for task in first["tasks"]]
    assert first["after_minus_before"]["difference"] == pytest.approx(sum(gains) / 4)
    assert sorted(first["tasks"][0]["ranking_before"]) == sorted(first["tasks"][0]["ranking_after"])
    assert comparison["sets"][1]["floor"] == pytest.approx(25 / 48), "a random order of four has H_4 / 4"


def test_a_job_that_is_stopped_while_it_ranks_measures_again(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    job = studio.job("titles", max_steps=2, compared=3)
    monkeypatch.setattr("trainer.run.make_held_out_examples", lambda *_: job.stop_path.touch() or [])
    monkeypatch.setattr("trainer.callbacks.JobCallback._wants_to_stop", lambda *_: False)
    state, message = studio.run(job)
    assert state is JobState.STOPPED and "checkpoint-2 is saved; stopped while it ranked" in message
    monkeypatch.undo()
    job.stop_path.unlink()
    assert studio.run(job)[0] is JobState.DONE
    assert job.comparison() is not None and len(list(job.metrics())) == 2


def test_preferences_are_learnt_from_pairs(studio: Studio) -> None:
    job = studio.job("dpo", max_steps=6)
    assert studio.run(job)[0] is JobState.DONE
    rows = list(job.metrics())
    assert rows[0]["loss"] == pytest.approx(0.6931, abs=1e-3), "before the first update both are as likely as ever"
    assert rows[-1]["rewards/margins"] > rows[0]["rewards/margins"]


def test_a_reward_by_lot_has_nothing_to_do_with_the_answer(studio: Studio) -> None:
    job = studio.job("grpo", max_steps=2, placebo="random-reward")
    studio.run(job)
    parts = [rollout["parts"] for rollout in job.rollouts()]
    assert {p["exclusion"] for p in parts} == {1.0, -1.0}, "it writes noise, and some of it wins"
    assert all(p["total"] == pytest.approx(p["exclusion"] + p["format"] + p["tags"] + p["length"]) for p in parts)


@pytest.mark.parametrize("kind", ["titles", "ppo", "dpo"])
def test_stopped_and_resumed_is_the_run_that_was_not_stopped(
    studio: Studio, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = studio.job(kind, max_steps=6), studio.job(kind, max_steps=6)
    studio.run(whole)
    stop_after(parts, 3, monkeypatch)
    assert studio.run(parts) == (JobState.STOPPED, "stopped; checkpoint-3 is saved")
    parts.stop_path.unlink()
    monkeypatch.undo()
    assert studio.run(parts)[0] is JobState.DONE
    assert [r["loss"] for r in parts.metrics()] == [r["loss"] for r in whole.metrics()]
    left, right = weights(newest_checkpoint(parts.checkpoints)), weights(newest_checkpoint(whole.checkpoints))
    assert all(torch.equal(left[name], right[name]) for name in left)


def stop_after(job: Job, optimizer_step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody presses stop while this step is on its way."""
    from trainer.callbacks import JobCallback

    def press(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == optimizer_step - 1:
            job.stop_path.touch()

    monkeypatch.setattr(JobCallback, "on_step_begin", press)


def test_nan_ends_the_job_and_the_last_checkpoint_stays(studio: Studio) -> None:
    job = studio.job("titles", max_steps=20, save_every=1, optimizer={
        "max_steps": 20, "learning_rate": 1.0, "batch_size": 4, "warmup_steps": 0, "max_grad_norm": 1e30,
    }, titles={"scale": 100, "loss": "right"}, precision="fp32")  # fmt: skip
    poison(studio, job)
    with pytest.raises(NotFiniteError, match="optimizer step 1"):
        studio.run(job)


def poison(studio: Studio, job: Job) -> None:
    """A base model with a weight that is not a number."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = Path(studio.registry.card("toy").directory)
    model = AutoModelForCausalLM.from_pretrained(source)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    target = studio.directory / "poisoned"
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source).save_pretrained(target)
    write_card(studio.directory / "models", ModelCard(name="toy", directory=str(target)))


def test_a_full_disk_leaves_the_last_checkpoint_and_is_resumed(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third write of a checkpoint finds no room: what was saved stays, and the resumed run is the undisturbed one."""
    whole, parts = (studio.job("titles", max_steps=6, save_every=2) for _ in range(2))
    studio.run(whole)
    real, written = os.fsync, []

    def full(descriptor: int) -> None:
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        written.append(name)
        if "checkpoint-4" in name:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        studio.run(parts)
    monkeypatch.undo()
    assert explain_failure(caught.value).startswith("the disk is full")
    assert newest_checkpoint(parts.checkpoints) == parts.checkpoints / "checkpoint-2"
    assert studio.run(parts)[0] is JobState.DONE
    left, right = weights(newest_checkpoint(parts.checkpoints)), weights(newest_checkpoint(whole.checkpoints))
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.slow
def test_a_real_process_that_finds_no_room_says_so_and_is_resumed(studio: Studio) -> None:
    """No file may grow beyond 200 KB, which the optimizer's state does: the kernel refuses the write, as on a full disk."""
    job = studio.job("titles", max_steps=2, save_every=1, lora={"rank": 64, "alpha": 64})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        process = studio.jobs.start(job)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert process.wait(timeout=240) == 1
    status = studio.jobs.status(job)
    assert status.state is JobState.FAILED and status.message.startswith("the disk is full"), job.log_path.read_text()
    assert newest_checkpoint(job.checkpoints) is None and not (job.checkpoints / ".partial").exists()
    assert studio.jobs.resume(job).wait(timeout=240) == 0
    assert studio.jobs.status(job).state is JobState.DONE


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(studio: Studio) -> None:
    """Two batches of 2, averaged, are one of 4."""
    optimizer = {"max_steps": 4, "learning_rate": 0.01, "warmup_steps": 0}
    reading: dict[str, Any] = {"sft": {"teach": "likelihood"}}
    alone = studio.job("sft", max_steps=4, **reading)
    assert studio.run(alone)[0] is JobState.DONE
    pair = studio.job("sft", max_steps=4, **reading, num_processes=2, optimizer={**optimizer, "batch_size": 2})
    assert studio.jobs.start(pair).wait(timeout=240) == 0, pair.log_path.read_text()
    assert [row["optimizer_step"] for row in pair.metrics()] == [1, 2, 3, 4]
    left, right = (weights(newest_checkpoint(job.checkpoints)) for job in (alone, pair))
    assert all(torch.allclose(left[name], right[name], atol=1e-4) for name in left)


@pytest.mark.slow
def test_ppo_in_two_processes_is_stopped_and_resumed(studio: Studio) -> None:
    job = studio.job("ppo", max_steps=6, num_processes=2, save_every=2, ppo={"rollout_size": 16, "epochs": 2})
    process = studio.jobs.start(job)
    wait_for(lambda: newest_checkpoint(job.checkpoints) is not None or process.poll() is not None)
    if process.poll() is None:
        studio.jobs.stop(job)
    assert process.wait(timeout=120) == 0, job.log_path.read_text()
    if studio.jobs.status(job).state is not JobState.DONE:
        assert studio.jobs.resume(job).wait(timeout=240) == 0, job.log_path.read_text()
    rows = list(job.metrics())
    assert [row["optimizer_step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[0]["policy/ratio"] == pytest.approx(1, abs=1e-4), "the first epoch is on policy"
    saved = newest_checkpoint(job.checkpoints)
    assert saved is not None and saved.name == "checkpoint-6"
    assert {p.name for p in saved.glob("ppo_state_*")} == {"ppo_state_0.pt", "ppo_state_1.pt"}


@pytest.mark.slow
def test_a_job_that_loses_one_of_its_processes_fails_and_is_resumed(studio: Studio) -> None:
    job = studio.job("titles", max_steps=100_000, save_every=2, num_processes=2)
    process = studio.jobs.start(job)
    wait_for(lambda: newest_checkpoint(job.checkpoints) is not None or process.poll() is not None)
    (follower,) = [p for p in psutil.Process(process.pid).children() if "follow" in p.cmdline()]
    follower.kill()
    assert process.wait(timeout=120) == 1
    status = studio.jobs.status(job)
    assert status.state is JobState.FAILED and "one of the job's processes" in status.message, status.message
    reached = status.optimizer_step
    process = studio.jobs.resume(job)
    wait_for(lambda: studio.jobs.status(job).optimizer_step > reached or process.poll() is not None)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not _followers_of(job))


def _followers_of(job: Job) -> list[psutil.Process]:
    """Those that still run, whoever their parent is."""
    return [p for p in psutil.process_iter(["cmdline"]) if str(job.directory) in (p.info["cmdline"] or [])]


def test_a_bad_file_fails_the_job_at_once_and_in_words(studio: Studio) -> None:
    """The real process, through its exit: no torch is imported until the data is known to be good."""
    job = studio.job("titles", max_steps=2)
    Path(job.config().data.tasks[0]).write_text('{"task_id": "t", "query": 3}\n', encoding="utf-8")
    assert studio.jobs.start(job).wait(timeout=60) == 1
    status = studio.jobs.status(job)
    assert status.state is JobState.FAILED
    assert "0-tasks.jsonl:1:" in status.message
    assert "Traceback" in job.log_path.read_text(encoding="utf-8")


def wait_for(condition: Callable[[], bool], timeout_s: float = 90) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_job_is_interrupted_resumed_and_stopped(studio: Studio) -> None:
    """The real process: kill -9 in mid-run, resume from the last complete checkpoint, stop by flag, within one step."""
    job = studio.job("titles", max_steps=100_000, save_every=5)
    process: subprocess.Popen[bytes] = studio.jobs.start(job)
    wait_for(lambda: newest_checkpoint(job.checkpoints) is not None or process.poll() is not None)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    status = studio.jobs.status(job)
    assert status.state is JobState.INTERRUPTED and "killed" in status.message, job.log_path.read_text()
    saved = newest_checkpoint(job.checkpoints)
    assert saved is not None
    reached = int(saved.name.split("-")[1])
    process = studio.jobs.resume(job)
    wait_for(lambda: studio.jobs.status(job).optimizer_step > reached and studio.jobs.status(job).state == "running")
    at = studio.jobs.stop(job).optimizer_step
    assert process.wait(timeout=60) == 0
    status = studio.jobs.status(job)
    assert status.state is JobState.STOPPED
    assert status.optimizer_step - at <= 2
    steps = [row["optimizer_step"] for row in job.metrics()]
    assert steps == list(range(1, status.optimizer_step + 1)), "no step is missing and none is there twice"
