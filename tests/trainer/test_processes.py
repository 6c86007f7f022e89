"""Jobs in processes of their own, one and two each: what they say when they fail, and that a kill is survived."""

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
from wholejobs import Studio, weights

from trainer.checkpoints import newest_checkpoint
from trainer.config import dump_config, make_config, overlay
from trainer.jobs import Job, JobState


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
@pytest.mark.parametrize("kind", ["sft", "ppo", "ppo-exclusions"])
def test_divided_gradients_and_optimizer_give_the_same_and_are_resumed(studio: Studio, kind: str) -> None:
    """DeepSpeed's ZeRO-2, all weights trained: as two processes that each hold everything, stopped in between or not."""
    pytest.importorskip("deepspeed", reason="deepspeed is not installed (extra `deepspeed`)")
    optimizer = {"max_steps": 4, "learning_rate": 0.001, "warmup_steps": 0, "batch_size": 2}
    shared: dict[str, Any] = {"lora": None, "num_processes": 2, "optimizer": optimizer, "save_every": 2}
    made = []
    for sharding, parts in (("none", [4]), ("zero2", [2, 4])):
        job = studio.job(kind, max_steps=4, **shared, sharding=sharding, sft={"teach": "likelihood"})
        for max_steps in parts:
            part = overlay(job.config().model_dump(mode="json"), {"optimizer": {"max_steps": max_steps}})
            (job.directory / "config.json").write_text(dump_config(make_config(part)), encoding="utf-8")
            job.write_status(job.written_status().model_copy(update={"state": JobState.STOPPED}))  # so far it was all
            assert studio.jobs.start(job).wait(timeout=400) == 0, job.log_path.read_text()
            assert newest_checkpoint(job.checkpoints) == job.checkpoints / f"checkpoint-{max_steps}"
        assert [row["optimizer_step"] for row in job.metrics()] == [1, 2, 3, 4]
        made.append(load_file(job.checkpoints / "checkpoint-4" / "model.safetensors"))
    assert all(torch.allclose(made[0][name], made[1][name], atol=1e-5) for name in made[0])


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


def wait_for(condition: Callable[[], bool], timeout_s: float = 180) -> None:
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
