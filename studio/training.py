"""Training jobs as a person works with them: plan, start, follow, compare, promote, take back. Over `trainer.jobs`; no page.

The job's own files are the interface to its process, which outlives the studio: a studio that was killed finds its jobs again
as they are. What is learnt from comes straight out of the store (`studio.jobmaterial`).
"""

import logging
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from ranker.datasets import load_tasks
from ranker.errors import CheckpointError, UsageError
from ranker.schema import RankingTask, Record
from studio.jobcompare import compare_jobs, most_changed
from studio.jobfiles import MetricsFile, RolloutFile, read_log
from studio.jobmaterial import MaterialRequest, Sample, look_at, write_material
from studio.jobpresets import find_preset
from studio.store import Store
from trainer.checkpoints import complete_checkpoints, newest_checkpoint, read_provenance
from trainer.config import JobConfig, make_config, overlay
from trainer.estimate import JobEstimate, estimate_job, read_shape
from trainer.examples import make_training_examples
from trainer.jobs import ACTIVE, Job, Jobs, JobState, JobStatus, describe_resume
from trainer.memory import check_memory
from trainer.modelcards import ModelCard
from trainer.orders import tiers_of_labels
from trainer.registry import Registry

log = logging.getLogger(__name__)

SAMPLED_EXAMPLES: Final = 48
_THIS_MACHINE: Final = "this machine"
_DEVICES: Final = Path("/dev")
_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
PLACEHOLDER: Final = {"tasks": ["from the store"]}


class JobRequest(Record):
    """A new job: a preset, what differs from it, and what it learns from."""

    preset: str = "titles"
    material: MaterialRequest = MaterialRequest()
    settings: Mapping[str, Any] = {}
    """Fields of `trainer.config.JobConfig` without `data`; they win over the preset's."""


class Plan(NamedTuple):
    """What a job would be, before it starts."""

    config: JobConfig
    sample: Sample
    num_held_out: int
    """Corrections that are kept for measuring."""
    estimate: JobEstimate
    available_bytes: int
    where: str
    """What has them: the GPU, or this machine."""
    model: str

    @property
    def num_sharing(self) -> int:
        """Processes that need as much of the same memory."""
        return self.config.num_processes if self.where == _THIS_MACHINE else 1

    @property
    def needed_bytes(self) -> int:
        return self.num_sharing * self.estimate.memory.total

    @property
    def fits(self) -> bool:
        return self.needed_bytes <= self.available_bytes


class Training:
    """The jobs of one studio. Callable from any thread."""

    def __init__(self, store: Store, registry: Registry, jobs_dir: Path, models_dir: Path) -> None:
        self._store, self._registry, self._dir = store, registry, jobs_dir
        self._jobs = Jobs(jobs_dir, models_dir=models_dir)
        self._files: dict[str, tuple[MetricsFile, RolloutFile]] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    def make_config(self, request: JobRequest) -> JobConfig:
        """The request as a checked config whose data is still in the store.

        Raises:
            UsageError: `job: field: value: fix`.
        """
        if "data" in request.settings:
            raise UsageError("job: data: is taken from the store: choose datasets instead")
        settings = overlay(find_preset(request.preset).settings, request.settings)
        return make_config({**settings, "data": PLACEHOLDER}, place="job")

    def plan(self, request: JobRequest) -> Plan:
        """Steps, time and memory of a job, without starting or writing anything.

        Raises:
            UsageError: if the settings are wrong or there is nothing to learn from.
            CheckpointError: if there is no such model.
        """
        config = self.make_config(request)
        sample = look_at(self._store, request.material)
        card = self._base_of(config.model)
        num_examples = min(SAMPLED_EXAMPLES, config.examples.num_examples)
        found = make_training_examples(
            sample.tasks, sample.corrections, config.examples.model_copy(update={"num_examples": num_examples})
        )
        if not found.train:
            raise UsageError(
                "job: datasets: nothing is known of any task: choose tasks with relevance, or correct some"
            )
        shape = read_shape(Path(card.directory), card.num_parameters or 0, config)
        estimate = estimate_job(
            config.asked_as(card.answer_format),
            shape,
            found.train,
            bytes_per_weight=_bytes_per_weight(config),
            is_on_gpu=_has_gpu(),
            seconds_per_weight=self._seconds_per_weight(config),
        )
        model = config.model or self._registry.default_name()
        return Plan(config, sample, len(found.held_out_corrections), estimate, *free_memory(), model)

    def start(self, request: JobRequest) -> JobStatus:
        """Write the material down, and start the job (or queue it, if another one has the device).

        Raises:
            UsageError: as `plan`.
            JobError: if there is no room.
        """
        config = self.make_config(request)
        self._base_of(config.model)  # before anything is written
        with tempfile.TemporaryDirectory(prefix=".material-", dir=self._dir) as directory:
            data = write_material(self._store, request.material, Path(directory))
            if config.placebo == "shuffled-corrections" and not data["corrections"]:
                raise UsageError("job: placebo: there are no corrections to shuffle: correct some tasks first")
            job = self._jobs.create(make_config({**config.model_dump(mode="json"), "data": data}, place="job"))
        return self._launch(job)

    def jobs(self) -> list[JobStatus]:
        """All jobs, the newest first."""
        self._reap()
        return [self._jobs.status(job) for job in self._jobs.jobs()]

    def job(self, job_id: str) -> Job:
        """Raises UsageError if there is none of that id."""
        return self._jobs.job(job_id)

    def status(self, job_id: str) -> JobStatus:
        """Where it stands."""
        self._reap()
        return self._jobs.status(self.job(job_id))

    def stop(self, job_id: str) -> JobStatus:
        """Ask it to stop within one optimizer step, with a checkpoint. Raises JobError if it does not run."""
        return self._jobs.stop(self.job(job_id))

    def resume(self, job_id: str) -> JobStatus:
        """Go on from the newest complete checkpoint. Raises JobError if it runs or is done."""
        return self._launch(self.job(job_id))

    def clone(self, job_id: str, changes: Mapping[str, Any] | None = None) -> JobStatus:
        """Start a new job with the same data and settings but for `changes`. Raises UsageError if they are wrong."""
        changes = changes or {}
        if "data" in changes:
            raise UsageError("job: data: a clone has the data of its model: start a new job instead")
        return self._launch(self._jobs.clone(self.job(job_id), changes))

    def placebo(self, job_id: str) -> JobStatus:
        """The same job on nothing that could be learnt: corrections shuffled, or (rollouts) a reward by lot.

        Raises:
            UsageError: if it is a placebo, or learns from no corrections.
        """
        config = self.job(job_id).config()
        if config.placebo != "none":
            raise UsageError(f"job: {job_id}: is a placebo itself: choose the job that it belongs to")
        kind = "random-reward" if config.has_reward else "shuffled-corrections"
        if kind == "shuffled-corrections" and not config.data.corrections:
            raise UsageError(f"job: {job_id}: learns from no corrections: there is nothing to shuffle")
        name = f"{config.name or job_id}, placebo"[:80]
        return self.clone(job_id, {"placebo": kind, "name": name})

    def set_priority(self, job_id: str, priority: int) -> JobStatus:
        """Move it in the queue: 0 goes first."""
        job = self.job(job_id)
        self._jobs.set_priority(job, priority)
        return self._jobs.status(job)

    def promote(self, job_id: str) -> ModelCard:
        """Make the job's newest checkpoint the ranker.

        Raises:
            CheckpointError: if it has none, or its base model has changed since.
        """
        job = self.job(job_id)
        checkpoint = newest_checkpoint(job.checkpoints)
        if checkpoint is None:
            raise CheckpointError(f"job: {job_id}: has no checkpoint yet: wait for one, or stop it (that makes one)")
        return self._registry.promote(str(checkpoint))

    def undo_promote(self) -> str:
        """Make the model the ranker that was so before. Returns its name; raises UsageError if there is none."""
        return self._registry.undo_promote()

    def view(self, job_id: str) -> dict[str, Any]:
        """Everything about a job but its metrics and rollouts, as JSON."""
        job = self.job(job_id)
        status, config = self.status(job_id), job.config()
        checkpoint = newest_checkpoint(job.checkpoints)
        is_active = status.state in ACTIVE and status.num_starts > 0
        return {
            "status": status.model_dump(mode="json"),
            "config": config.model_dump(mode="json"),
            "heartbeat": job.heartbeat(),
            "result": job.result(),
            "comparison": most_changed(job.comparison()),
            "checkpoints": [path.name for path in complete_checkpoints(job.checkpoints)],
            "provenance": None if checkpoint is None else read_provenance(checkpoint).model_dump(mode="json"),
            "resumes": describe_resume(job),
            "can": {
                "stop": is_active and status.state is not JobState.STOPPING,
                "resume": not is_active and status.state is not JobState.DONE,
                "promote": checkpoint is not None,
                "undo": self._registry.replaced_name() is not None,
                "placebo": config.placebo == "none",
            },
            "promoted": self._is_promoted(job_id),
            "default_model": self._registry.default_name(),
            "replaced_model": self._registry.replaced_name(),
        }

    def live(self, job_id: str, *, after: int = -1, generation: int = 0) -> dict[str, Any]:
        """What changes while a job runs: its status, and the metrics behind optimizer step `after`."""
        metrics, rollouts = self._files_of(job_id)
        found = metrics.after(after, generation)
        status = self.status(job_id)
        return {
            "status": status.model_dump(mode="json"),
            "generation": found.generation,
            "metrics": found.rows,
            "num_rollouts": rollouts.count(),
            "is_active": status.state in ACTIVE and status.num_starts > 0,
        }

    def rollout(self, job_id: str, number: int) -> dict[str, Any] | None:
        """One completion that was kept, None if there is none of that number."""
        return self._files_of(job_id)[1].get(number)

    def task(self, job_id: str, task_id: str) -> RankingTask:
        """A task that a job learns from. Raises UsageError if it has none of that id."""
        for path in self.job(job_id).config().data.tasks:
            for task in load_tasks(Path(path)):
                if task.task_id == task_id:
                    return task
        raise UsageError(f"job: {job_id}: task: {task_id[:80]!r}: is not there: choose another")

    def labelled_task(self, job_id: str) -> RankingTask:
        """The first task that a job learns from and that has labels. Raises UsageError if there is none."""
        for path in self.job(job_id).config().data.tasks:
            for task in load_tasks(Path(path)):
                if tiers_of_labels(task):
                    return task
        raise UsageError(f"job: {job_id}: none of its tasks has labels: open a completion instead")

    def log(self, job_id: str) -> str:
        """The end of the job's log."""
        return read_log(self.job(job_id).log_path)

    def compare(self, job_id: str, other_id: str) -> dict[str, Any]:
        """Two jobs side by side: settings that differ, and paired differences on the tasks that both ranked."""
        return compare_jobs(self.job(job_id), self.job(other_id))

    def wait(self, job_id: str) -> JobStatus:
        """Wait for the end of a job that this object started (benchmarks and tests)."""
        with self._lock:
            child = self._children.get(job_id)
        if child is not None:
            child.wait()
        return self.status(job_id)

    def _launch(self, job: Job) -> JobStatus:
        child = self._jobs.start(job)
        with self._lock:
            self._children[job.job_id] = child
        return self._jobs.status(job)

    def _reap(self) -> None:
        """Let the system forget children that have ended."""
        with self._lock:
            self._children = {job_id: child for job_id, child in self._children.items() if child.poll() is None}

    def _base_of(self, name: str | None) -> ModelCard:
        card = self._registry.card(name)
        if card.engine != "transformers":
            raise UsageError(f"job: model: {card.name}: cannot be trained: choose a model with weights")
        return card

    def _is_promoted(self, job_id: str) -> bool:
        return f"-{job_id}-" in self._registry.default_name()

    def _files_of(self, job_id: str) -> tuple[MetricsFile, RolloutFile]:
        job = self.job(job_id)
        with self._lock:
            return self._files.setdefault(job_id, (MetricsFile(job.metrics_path), RolloutFile(job.rollouts_path)))

    def _seconds_per_weight(self, config: JobConfig) -> float | None:
        """Of the newest finished job of this kind, model and precision."""
        model = config.model or self._registry.default_name()
        for job in self._jobs.jobs():
            result = job.result()
            if result is None or not result.get("seconds_per_weight"):
                continue
            other = job.config()
            if (other.kind, other.model, other.precision, other.num_threads, other.num_processes) == (
                config.kind, model, config.precision, config.num_threads, config.num_processes,
            ):  # fmt: skip
                return float(result["seconds_per_weight"])
        return None


def _bytes_per_weight(config: JobConfig) -> int:
    """2 where the job will compute in bf16 (as `trainer.loading.choose_dtype`, without torch)."""
    if config.lora is None or config.precision == "fp32":
        return 4
    if config.precision == "bf16" or _has_gpu():
        return 2
    try:
        return 2 if "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8") else 4
    except OSError:
        return 4


def _has_gpu() -> bool:
    """Whether a job would see one."""
    return os.environ.get(_VISIBLE) not in ("", "-1") and any(_DEVICES.glob("nvidia[0-9]*"))


def free_memory() -> tuple[int, str]:
    """Bytes that a job could take now, and what has them: the first GPU that it would see, if there is one that says so, else this machine.

    The driver's own tool is asked: PyTorch would take some of a GPU's memory for this process, and keep it.
    """
    if _has_gpu():
        query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
        if visible := os.environ.get(_VISIBLE):
            query.append(f"--id={visible.split(',')[0]}")
        try:
            said = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout  # noqa: S603  (an argument list; no shell)
            return int(said.split()[0]) << 20, "the GPU"
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            log.info("nvidia-smi does not say how much memory is free on the GPU")
    return psutil.virtual_memory().available, _THIS_MACHINE


def describe_plan(plan: Plan) -> str:
    """The estimate in words: what a person reads before the start."""
    estimate, sample = plan.estimate, plan.sample
    needs = check_memory(
        estimate.memory, plan.available_bytes, where=plan.where, is_ignored=True, num_sharing=plan.num_sharing
    )
    basis = (
        "as an earlier job of this kind took here" if estimate.is_from_earlier_job else "rough, by this machine’s speed"
    )
    work = (
        f"{estimate.optimizer_steps:,} optimizer steps, about {_duration(estimate.seconds)} ({basis}), "
        f"{estimate.prompt_tokens:,} tokens an example."
    )
    data = (
        f"{sample.num_tasks:,} tasks; {sample.num_corrections:,} corrections, "
        f"{plan.num_held_out:,} of them held out for measuring."
    )
    return f"{needs[0].upper()}{needs[1:]}. {work} {data}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
