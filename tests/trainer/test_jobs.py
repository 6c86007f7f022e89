"""Jobs from outside: files, states, the queue, what becomes of a process that is gone. No model is trained here."""

import json
import os
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from ranker.errors import JobError, UsageError
from trainer.checkpoints import write_whole
from trainer.config import JobConfig, make_config
from trainer.jobs import Job, Jobs, JobState, process_start_time
from trainer.run import _wait_for_device

NOBODY = 2**22 + 12345
"""A process id that Linux does not give out by default."""


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path / "jobs", models_dir=tmp_path / "models")


def make_job(jobs: Jobs, tmp_path: Path, **changes: object) -> Job:
    tasks = tmp_path / "films.jsonl"
    tasks.write_text("{}\n", encoding="utf-8")
    config = make_config({"kind": "titles", "data": {"tasks": [str(tasks)]}, **changes})
    return jobs.create(config)


def set_status(job: Job, **changes: object) -> None:
    job.write_status(job.written_status().model_copy(update=changes))


def as_if_running(job: Job) -> None:
    """As the job's own process would write it; here that process is the test's."""
    set_status(
        job,
        state=JobState.RUNNING,
        num_starts=1,
        launched_at_s=time.time(),
        pid=os.getpid(),
        process_started_at_s=process_start_time(os.getpid()),
    )


def test_a_job_keeps_copies_of_what_it_reads(jobs: Jobs, tmp_path: Path) -> None:
    job = make_job(jobs, tmp_path, name="films")
    (tmp_path / "films.jsonl").unlink()
    assert jobs.status(job).state is JobState.QUEUED
    assert job.config().model == "smollm2-135m-instruct", "the default of now, whatever is promoted while it waits"
    assert Path(job.config().data.tasks[0]).read_text(encoding="utf-8") == "{}\n"
    assert [j.job_id for j in jobs.jobs()] == [job.job_id]
    assert jobs.job(job.job_id) == job


def test_a_file_that_is_not_there_leaves_no_job(jobs: Jobs, tmp_path: Path) -> None:
    config = JobConfig.model_validate({"kind": "sft", "data": {"tasks": [str(tmp_path / "no.jsonl")]}})
    with pytest.raises(UsageError, match=r"no\.jsonl: no such file or dataset"):
        jobs.create(config)
    assert jobs.jobs() == []


@pytest.mark.parametrize("job_id", ["20261123-101500-3fa9", "../models", "", "x"])
def test_a_job_that_does_not_exist(jobs: Jobs, job_id: str) -> None:
    with pytest.raises(UsageError, match="no such job"):
        jobs.job(job_id)


def test_a_running_job_runs(jobs: Jobs, tmp_path: Path) -> None:
    job = make_job(jobs, tmp_path)
    as_if_running(job)
    assert jobs.status(job).state is JobState.RUNNING
    with pytest.raises(JobError, match="is running"):
        jobs.start(job)
    assert jobs.stop(job).state is JobState.STOPPING
    assert job.stop_path.exists()


def test_a_process_that_is_gone_was_interrupted(jobs: Jobs, tmp_path: Path) -> None:
    job = make_job(jobs, tmp_path)
    as_if_running(job)
    set_status(job, pid=NOBODY)
    write_whole(job.directory / "heartbeat.json", json.dumps({"time": time.time() - 3, "available_share": 0.5}))
    status = jobs.status(job)
    assert status.state is JobState.INTERRUPTED
    assert "was killed" in status.message and "resume" in status.message
    with pytest.raises(JobError, match="nothing to stop"):
        jobs.stop(job)


def test_the_id_of_a_process_that_is_used_again_deceives_nobody(jobs: Jobs, tmp_path: Path) -> None:
    job = make_job(jobs, tmp_path)
    as_if_running(job)
    set_status(job, process_started_at_s=(process_start_time(os.getpid()) or 0) - 100)
    assert jobs.status(job).state is JobState.INTERRUPTED


def test_a_process_that_never_said_anything(jobs: Jobs, tmp_path: Path) -> None:
    job = make_job(jobs, tmp_path)
    set_status(job, num_starts=1, launched_at_s=time.time())
    assert jobs.status(job).state is JobState.QUEUED
    set_status(job, launched_at_s=time.time() - 3600)
    status = jobs.status(job)
    assert status.state is JobState.INTERRUPTED and "before it said anything" in status.message


def test_the_queue_goes_by_priority_and_then_by_age(jobs: Jobs, tmp_path: Path) -> None:
    order = []
    for name, priority in [("20260101-000003-aaaa", 10), ("20260101-000001-aaaa", 10), ("20260101-000002-aaaa", 5)]:
        made = make_job(jobs, tmp_path, priority=priority)
        job = Job(made.directory.with_name(name))
        made.directory.rename(job.directory)
        as_if_running(job)
        set_status(job, job_id=name, state=JobState.QUEUED)
        order.append(job)
    late, early, urgent = order
    assert jobs.ahead_of(urgent) == []
    assert jobs.ahead_of(early) == [urgent.job_id]
    assert set(jobs.ahead_of(late)) == {urgent.job_id, early.job_id}
    set_status(urgent, pid=NOBODY)
    assert jobs.ahead_of(early) == [], "who waits in the queue must be alive"


def test_a_line_of_metrics_that_is_being_written_is_left_out(jobs: Jobs, tmp_path: Path) -> None:
    job = make_job(jobs, tmp_path)
    rows = [{"optimizer_step": n, "loss": 1.0} for n in (1, 2, 3)]
    job.metrics_path.write_text("".join(json.dumps(r) + "\n" for r in rows) + '{"optimizer_st', encoding="utf-8")
    assert list(job.metrics()) == rows
    job.drop_after(2)
    assert list(job.metrics()) == rows[:2]


def test_one_job_a_device_and_a_waiting_one_can_be_stopped(jobs: Jobs, tmp_path: Path) -> None:
    first, second = make_job(jobs, tmp_path), make_job(jobs, tmp_path)
    for job in (first, second):
        as_if_running(job)
        set_status(job, state=JobState.QUEUED)
    early, late = sorted((first, second))
    device = tmp_path / "jobs" / ".device-cpu.lock"
    held = FileLock(device, is_singleton=False)
    assert _wait_for_device(early, jobs, held)
    set_status(early, state=JobState.RUNNING)
    threading.Timer(0.3, late.stop_path.touch).start()
    assert not _wait_for_device(late, jobs, FileLock(device, is_singleton=False))
    assert late.written_status().message == "waits for the device"
    held.release()
