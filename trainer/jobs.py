"""Training jobs: one directory and one child process each, detached from whoever started it.

    jobs/<id>/config.json     what the job was told, checked
    jobs/<id>/data/           copies of what it reads, so that it can be resumed whatever becomes of the originals
    jobs/<id>/status.json     written by the job alone, whole or not at all
    jobs/<id>/heartbeat.json  written by the job every few seconds
    jobs/<id>/stop            somebody wants it to stop;  priority: somebody has moved it in the queue
    jobs/<id>/metrics.jsonl   one line a logged optimizer step;  rollouts.jsonl, log.txt, checkpoints/
    jobs/<id>/result.json     time and memory;  comparison.json: tasks ranked before and after

Whoever reads decides by the process itself whether a job still runs: its id *and* its start time, because ids are used again.
This module starts and reads jobs; what they do is in `trainer.run`. No torch.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil
from pydantic import ValidationError

from ranker.errors import JobError, UsageError
from ranker.schema import Record
from trainer.checkpoints import newest_checkpoint, write_whole
from trainer.config import DataFiles, JobConfig, dump_config, make_config, overlay, read_config
from trainer.failures import explain_disappearance
from trainer.registry import Registry

ROOT: Final = Path(__file__).resolve().parent.parent
JOB_ID: Final = re.compile(r"\d{8}-\d{6}-[a-z0-9]{4}")
STARTING_GRACE_S: Final = 60.0
"""How long a job may take until its process has written its first status."""


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Its process is gone without having said why."""
    DONE = "done"


ACTIVE: Final = frozenset({JobState.QUEUED, JobState.STARTING, JobState.RUNNING, JobState.STOPPING})


class JobStatus(Record):
    """What is known of a job at one moment."""

    job_id: str
    state: JobState
    kind: str
    name: str = ""
    device: str = "cpu"
    priority: int = 10
    created_at: str
    launched_at_s: float = 0.0
    """Unix time of the last start."""
    pid: int | None = None
    process_started_at_s: float | None = None
    optimizer_step: int = 0
    max_steps: int = 0
    message: str = ""
    """In words: what is going on, or why it ended."""
    num_starts: int = 0


class Job(NamedTuple):
    """The files of one job."""

    directory: Path

    @property
    def job_id(self) -> str:
        return self.directory.name

    @property
    def config_path(self) -> Path:
        return self.directory / "config.json"

    @property
    def checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    @property
    def stop_path(self) -> Path:
        return self.directory / "stop"

    @property
    def metrics_path(self) -> Path:
        return self.directory / "metrics.jsonl"

    @property
    def rollouts_path(self) -> Path:
        return self.directory / "rollouts.jsonl"

    @property
    def log_path(self) -> Path:
        return self.directory / "log.txt"

    @property
    def comparison_path(self) -> Path:
        return self.directory / "comparison.json"

    def config(self) -> JobConfig:
        """What it was told."""
        return read_config(self.config_path)

    def priority(self) -> int:
        """Its place in the queue: lower goes first. A file of its own, because the status is the job's alone."""
        try:
            return int((self.directory / "priority").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return self.written_status().priority

    def written_status(self) -> JobStatus:
        """What the job itself wrote last.

        Raises:
            JobError: if that cannot be read.
        """
        path = self.directory / "status.json"
        try:
            return JobStatus.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            reason = str(error).split("\n", 1)[0]
            raise JobError(f"{path}: cannot be read: {reason}: delete the job's folder") from error

    def write_status(self, status: JobStatus) -> None:
        """For the job's own process (and whoever starts it)."""
        write_whole(self.directory / "status.json", status.model_dump_json(indent=2) + "\n")

    def heartbeat(self) -> dict[str, Any] | None:
        """Time and memory as the job last reported them."""
        return _read_object(self.directory / "heartbeat.json")

    def result(self) -> dict[str, Any] | None:
        """Time, memory, and the comparison on held-out decisions; None before the job has ended."""
        return _read_object(self.directory / "result.json")

    def comparison(self) -> dict[str, Any] | None:
        """Tasks ranked before and after (see `trainer.comparison`); None before that is known."""
        return _read_object(self.comparison_path)

    def metrics(self) -> Iterator[dict[str, Any]]:
        """The logged optimizer steps, oldest first."""
        return read_rows(self.metrics_path)

    def rollouts(self) -> Iterator[dict[str, Any]]:
        """Completions that were kept for reading, with the parts of their reward."""
        return read_rows(self.rollouts_path)

    def drop_after(self, optimizer_step: int) -> None:
        """Forget what was logged behind the checkpoint that a resumed run goes on from."""
        for path, last in ((self.metrics_path, optimizer_step), (self.rollouts_path, optimizer_step - 1)):
            if path.exists():
                kept = [row for row in read_rows(path) if row["optimizer_step"] <= last]
                write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))


class Jobs:
    """All jobs below one directory. Holds no state: any number of processes may look."""

    def __init__(self, directory: Path, *, models_dir: Path) -> None:
        self._dir, self._models_dir = directory, models_dir

    def job(self, job_id: str) -> Job:
        """Raises UsageError if there is none of that id."""
        if JOB_ID.fullmatch(job_id) and (self._dir / job_id / "config.json").is_file():
            return Job(self._dir / job_id)
        known = ", ".join(j.job_id for j in self.jobs()) or "none"
        raise UsageError(f"jobs: {job_id!r}: no such job: known are {known}")

    def jobs(self) -> list[Job]:
        """The newest first."""
        found = [p for p in self._dir.glob("*") if JOB_ID.fullmatch(p.name) and (p / "status.json").is_file()]
        return [Job(p) for p in sorted(found, reverse=True)]

    def create(self, config: JobConfig) -> Job:
        """Make the directory of a new job, with copies of its data files.

        Raises:
            UsageError: if a data file does not exist.
            JobError: if there is no room.
        """
        stamp = datetime.now(UTC)
        suffix = os.urandom(3).hex()[:4]
        job = Job(self._dir / f"{stamp:%Y%m%d-%H%M%S}-{suffix}")
        try:
            (job.directory / "data").mkdir(parents=True)
            data = DataFiles(**{name: _copy(getattr(config.data, name), job) for name in DataFiles.model_fields})
            model = config.model or Registry(self._models_dir).default_name()  # the default may be another one later
            write_whole(job.config_path, dump_config(config.model_copy(update={"data": data, "model": model})))
            job.write_status(
                JobStatus(
                    job_id=job.job_id,
                    state=JobState.QUEUED,
                    kind=config.kind,
                    name=config.name,
                    device=config.device,
                    priority=config.priority,
                    created_at=stamp.isoformat(timespec="seconds"),
                    max_steps=config.optimizer.max_steps,
                    message="waits to be started",
                )
            )
        except (OSError, UsageError) as error:
            shutil.rmtree(job.directory, ignore_errors=True)
            if isinstance(error, UsageError):
                raise
            raise JobError(
                f"{self._dir}: {error.strerror}: free some space or choose another data directory"
            ) from error
        return job

    def clone(self, job: Job, changes: Mapping[str, Any]) -> Job:
        """A new job with the same data and settings but for `changes`.

        Args:
            changes: fields of a config, nested ones as mappings; what they do not name stays.
        """
        return self.create(make_config(overlay(job.config().model_dump(mode="json"), changes), place="clone"))

    def start(self, job: Job) -> "subprocess.Popen[bytes]":
        """Start the job's process, in a session of its own: it outlives whoever started it.

        Raises:
            JobError: if it runs already or is done.
        """
        status = self.status(job)
        is_new = status.num_starts == 0
        if (status.state in ACTIVE and not is_new) or status.state is JobState.DONE:
            raise JobError(f"jobs: {job.job_id}: is {status.state.value}: start a new one")
        job.stop_path.unlink(missing_ok=True)
        (job.directory / "heartbeat.json").unlink(missing_ok=True)
        job.write_status(
            status.model_copy(
                update={
                    "state": JobState.QUEUED,
                    "pid": None,
                    "launched_at_s": time.time(),
                    "num_starts": status.num_starts + 1,
                    "message": "waits for its turn",
                }
            )
        )
        command = [sys.executable, "-m", "trainer.run", str(job.directory), str(self._models_dir)]
        with job.log_path.open("ab") as log:
            return subprocess.Popen(  # noqa: S603  (an argument list; no shell)
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, start_new_session=True
            )

    def status(self, job: Job) -> JobStatus:
        """Where the job stands, seen from outside."""
        status = job.written_status()
        status = status.model_copy(update={"priority": job.priority()})
        if status.state not in ACTIVE or status.num_starts == 0:
            return status
        if not _is_alive(status):
            status = job.written_status()  # it may have ended in between
            if status.state not in ACTIVE:
                return status
            message = explain_disappearance(job.heartbeat(), psutil.boot_time())
            return status.model_copy(update={"state": JobState.INTERRUPTED, "message": message})
        if job.stop_path.exists():
            return status.model_copy(update={"state": JobState.STOPPING, "message": "stops after this optimizer step"})
        return status

    def stop(self, job: Job) -> JobStatus:
        """Ask a job to stop: it saves a checkpoint after the present optimizer step.

        Raises:
            JobError: if it does not run.
        """
        status = self.status(job)
        if status.state not in ACTIVE:
            raise JobError(f"jobs: {job.job_id}: is {status.state.value}: there is nothing to stop")
        job.stop_path.touch()
        return self.status(job)

    def resume(self, job: Job) -> "subprocess.Popen[bytes]":
        """Start a job again from its newest complete checkpoint (from the beginning if there is none).

        Raises:
            JobError: if it runs or is done.
        """
        return self.start(job)

    def ahead_of(self, job: Job) -> list[str]:
        """Queued jobs of the same device that go before this one: lower priority number first, then older first."""
        own, place = job.written_status(), (job.priority(), job.job_id)
        found = []
        for other in self.jobs():
            status = self.status(other)
            is_waiting = status.state is JobState.QUEUED and status.num_starts > 0 and status.device == own.device
            if is_waiting and (other.priority(), other.job_id) < place:
                found.append(other.job_id)
        return found

    def set_priority(self, job: Job, priority: int) -> None:
        """Move a job in the queue.

        Raises:
            UsageError: if it is not between 0 (first) and 100.
        """
        if not 0 <= priority <= 100:
            raise UsageError(f"jobs: priority: {priority}: choose 0 (first) to 100 (last)")
        write_whole(job.directory / "priority", str(priority))


def _read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object, None if it is not there or cannot be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """JSON Lines that a running job writes; a line that is being written is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)


def describe_resume(job: Job) -> str:
    """Where a resumed job would go on."""
    checkpoint = newest_checkpoint(job.checkpoints)
    return f"from {checkpoint.name}" if checkpoint else "from the beginning: there is no complete checkpoint"


def process_start_time(pid: int) -> float | None:
    """When that process started (unix time), None if there is none."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def _is_alive(status: JobStatus) -> bool:
    if status.pid is None:
        return time.time() - status.launched_at_s < STARTING_GRACE_S
    started = process_start_time(status.pid)
    return started is not None and abs(started - (status.process_started_at_s or 0)) < 1.0


def _copy(names: tuple[str, ...], job: Job) -> tuple[str, ...]:
    """Copy data files into the job; paths relative to its config."""
    copied = []
    for number, given in enumerate(names):
        source = Path(given)
        if not source.is_file():
            raise UsageError(f"data: {given}: no such file or dataset: give a file of tasks or the name of a dataset")
        is_copy = source.parent.name == "data" and JOB_ID.fullmatch(source.parent.parent.name) is not None
        name = re.sub(r"^c*\d+-", "", source.name) if is_copy else source.name  # a clone of a clone keeps its names
        target = job.directory / "data" / f"{number}-{name}"
        while target.exists():
            target = target.with_name("c" + target.name)
        shutil.copyfile(source, target)
        copied.append(f"data/{target.name}")
    return tuple(copied)
