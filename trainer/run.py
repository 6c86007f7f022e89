"""The process of one training job: `python -m trainer.run JOB_DIRECTORY MODELS_DIRECTORY [follow]`.

It waits for its turn on the device, estimates its memory, trains, ranks before and after, and says in words how it ended. Everything it says is in
the job's directory; nobody has to be there to listen. It is started by `trainer.jobs`.
"""

import gc
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import psutil
from filelock import FileLock, Timeout

from ranker.backends import load_backend
from ranker.errors import JobError, RankingStudioError
from ranker.prompts import PROMPT_VERSION
from trainer.checkpoints import PARTIAL, Provenance, newest_checkpoint, read_provenance, write_whole
from trainer.comparison import (
    GivenUpError,
    count_tasks,
    describe_set,
    judged_sets,
    rank_all,
    ranking_config,
    write_comparison,
)
from trainer.config import JobConfig
from trainer.estimate import typical_tokens, work_of_step
from trainer.examples import make_held_out_examples
from trainer.failures import explain_failure
from trainer.followers import FOLLOW, Followers, stay_with_leader
from trainer.jobs import ROOT, Job, Jobs, JobState, process_start_time
from trainer.material import Material, read_material
from trainer.memory import check_memory, estimate_memory
from trainer.modelcards import ADAPTER_CONFIG, ModelCard
from trainer.registry import Registry

if TYPE_CHECKING:
    from trainer.callbacks import Heartbeat
    from trainer.learner import Learner

log = logging.getLogger(__name__)
POLL_S: Final = 0.5
SAMPLED: Final = 64
"""Examples whose lengths are looked at."""
OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRL_EXPERIMENTAL_SILENCE": "1",  # it is pinned, and canary tests read it
}


def main(arguments: list[str]) -> int:
    """Returns 0 if the job is done or was stopped, 2 for other arguments; whatever goes wrong is put into its status."""
    if len(arguments) not in (2, 3) or arguments[2:] not in ([], [FOLLOW]):
        log.error("usage: python -m trainer.run JOB_DIRECTORY MODELS_DIRECTORY [follow]")
        return 2
    os.environ.update({name: os.environ.get(name, value) for name, value in OFFLINE.items()})
    job, models_dir = Job(Path(arguments[0])), Path(arguments[1])
    if arguments[2:]:
        stay_with_leader()
        _follow(job, Registry(models_dir))
        return 0
    sys.excepthook = partial(_say_failed, job)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: job.stop_path.touch())
    _say(
        job,
        JobState.QUEUED,
        "waits for its turn",
        pid=os.getpid(),
        process_started_at_s=process_start_time(os.getpid()),
    )
    jobs = Jobs(job.directory.parent, models_dir=models_dir)
    lock = FileLock(job.directory.parent / f".device-{job.written_status().device}.lock")
    if not _wait_for_device(job, jobs, lock):
        _say(job, JobState.STOPPED, "stopped before it began")
        return 0
    with lock:
        _say(job, JobState.STARTING, "reads data and model")
        state, message = _run(job, Registry(models_dir))
        _say(job, state, message)
    sys.excepthook = sys.__excepthook__  # what a library says while the process ends is no failure of the job
    return 0


def _wait_for_device(job: Job, jobs: Jobs, lock: FileLock) -> bool:
    """One job a device. False: somebody stopped it while it waited."""
    while not job.stop_path.exists():
        ahead = jobs.ahead_of(job)
        if not ahead:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                pass
            else:
                return True
        message = f"waits behind {len(ahead)} other jobs" if ahead else "waits for the device"
        if job.written_status().message != message:
            _say(job, JobState.QUEUED, message)
        time.sleep(POLL_S)
    return False


def _run(job: Job, registry: Registry) -> tuple[JobState, str]:
    """Train from the beginning or from the newest complete checkpoint; then rank tasks before and after."""
    card, config = _find_base(job.config(), registry)
    material = read_material(config)
    from trainer.callbacks import Heartbeat

    others = Followers([str(job.directory), str(registry.models_dir)], config.num_processes)
    with Heartbeat(job) as heartbeat:
        num_steps, is_stopped = _train(job, config, card, material, heartbeat, others)
        saved = f"checkpoint-{num_steps} is saved"
        if is_stopped and num_steps < config.optimizer.max_steps:
            return JobState.STOPPED, f"stopped; {saved}"
        try:
            said = _compare(job, config, card, material)
        except GivenUpError:
            return JobState.STOPPED, f"trained, {saved}; stopped while it ranked: resume measures again"
        except RankingStudioError as error:
            said = f"; before and after could not be ranked: {error}"
    return JobState.DONE, f"done; {saved}{said}"


def _train(
    job: Job, config: JobConfig, card: ModelCard, material: Material, heartbeat: "Heartbeat", others: Followers
) -> tuple[int, bool]:
    """Returns (optimizer steps that are done, somebody has stopped it)."""
    from trainer.callbacks import JobCallback
    from trainer.learner import make_learner
    from trainer.measure import compare_held_out, measure_agreement, measure_before

    checkpoint = newest_checkpoint(job.checkpoints)
    done = int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else 0
    if done >= config.optimizer.max_steps:  # transformers' Trainer would take one more step
        return done, False
    callback = JobCallback(job)
    with others:
        learner = make_learner(config, Path(card.directory), material, job.checkpoints, [callback])
        fits = _check_fits(config, learner)
        learner.trainer.provenance = make_provenance(job, config, card, material)
        held_out = make_held_out_examples(material.examples, config.measured if config.is_over_titles else 0)
        before = measure_before(job, learner.trainer.model, learner.encoder, held_out)
        job.drop_after(done)
        left_out = (
            f"; {learner.num_left_out} examples left out (too long or without a reason)" if learner.num_left_out else ""
        )
        _say(job, JobState.RUNNING, f"trains on {learner.num_examples} examples{left_out}; {fits}", optimizer_step=done)
        started = time.monotonic()
        num_steps = _optimize(job, learner, checkpoint)
        seconds = time.monotonic() - started
    after = measure_agreement(learner.trainer.model, learner.encoder, held_out)
    held = compare_held_out(before, after)
    tokens = typical_tokens(config, material.examples.train[:SAMPLED])
    share = learner.shape.num_backward_layers / learner.shape.num_layers
    weight = max(1, num_steps - done) * work_of_step(config, tokens, share).weight
    made = {"held_out": held, "peak_rss_bytes": heartbeat.peak_bytes, "seconds_per_weight": seconds / weight}
    _write_result(job, learner, num_steps - done, seconds, made)
    return num_steps, callback.is_stopped


def _follow(job: Job, registry: Registry) -> None:
    """Do every step that the leader does (see `trainer.followers`), and say nothing."""
    from trainer.callbacks import JobCallback
    from trainer.learner import make_learner

    card, config = _find_base(job.config(), registry)
    checkpoint = newest_checkpoint(job.checkpoints)
    learner = make_learner(config, Path(card.directory), read_material(config), job.checkpoints, [JobCallback(job)])
    _optimize(job, learner, checkpoint)


def _optimize(job: Job, learner: "Learner", checkpoint: Path | None) -> int:
    """Train until it is done or stopped, and leave a checkpoint of the last step. Every process does this together."""
    learner.trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    num_steps: int = learner.trainer.state.global_step
    if not (job.checkpoints / f"checkpoint-{num_steps}").is_dir():
        learner.trainer._save_checkpoint(learner.trainer.model, None)
    return num_steps


def _compare(job: Job, config: JobConfig, card: ModelCard, material: Material) -> str:
    """Rank what was held out with the model as it was and as it is now.

    Raises:
        GivenUpError: if somebody stops the job meanwhile.
    """
    sets = judged_sets(material, config.compared) if config.compared else []
    made = newest_checkpoint(job.checkpoints)
    if not sets or made is None:
        return ""
    gc.collect()  # the trainer's weights and optimizer are not needed any more
    asked, num_tasks = ranking_config(config, config.answer_format), count_tasks(sets)
    started_from = Path(config.start_from) if config.start_from else None
    rankings = []
    for when, adapter in (("before", started_from), ("after", made)):
        is_adapter = adapter is None or (adapter / ADAPTER_CONFIG).is_file()
        directory = Path(card.directory) if is_adapter or adapter is None else adapter
        backend = load_backend(directory, name=when, adapter=adapter if is_adapter else None)

        def watch(number: int, when: str = when) -> None:
            if job.stop_path.exists():
                raise GivenUpError
            _say(job, JobState.RUNNING, f"ranks tasks to compare, {when}: {number} of {num_tasks}")

        rankings.append(rank_all(sets, backend, asked, watch))
    comparison = write_comparison(job, sets, rankings[0], rankings[1], (config.model or card.name, made.name))
    return "".join(f"; {describe_set(s)}" for s in comparison["sets"][:1])


def _find_base(config: JobConfig, registry: Registry) -> tuple[ModelCard, JobConfig]:
    """The model whose weights are loaded, and the config with what hangs on the model filled in.

    Where the model is itself the result of a job, its adapter is trained on.
    """
    card = registry.card(config.model)
    if not card.has_files:
        raise JobError(
            f"model: {card.name}: runs on a server ({card.engine}), so its weights are not here: choose a local one"
        )
    config = config.asked_as(card.answer_format)
    if card.adapter is None:
        return card, config
    base = registry.card(read_provenance(Path(card.adapter)).base_model)
    return base, config.model_copy(update={"start_from": config.start_from or card.adapter})


def _check_fits(config: JobConfig, learner: "Learner") -> str:
    """Compare the estimate with what is free.

    Raises:
        JobError: if it does not fit.
    """
    import torch

    is_gpu = learner.trainer.accelerator.device.type == "cuda"
    available = torch.cuda.mem_get_info()[0] if is_gpu else psutil.virtual_memory().available
    bytes_per_weight = next(learner.trainer.model.parameters()).element_size()
    estimate = estimate_memory(
        learner.shape,
        **learner.size._asdict(),
        bytes_per_weight=bytes_per_weight,
        num_scored_copies=2 if config.lora is None and config.has_reference else 1,
        num_shards=config.num_shards,
        is_checkpointed=config.gradient_checkpointing,
        copies_inputs=config.copies_inputs(bytes_per_weight),
        is_on_gpu=is_gpu,
    )
    where = "the GPU" if is_gpu else "this machine"
    sharing = 1 if is_gpu else config.num_processes
    return check_memory(estimate, available, where=where, is_ignored=config.ignore_memory, num_sharing=sharing)


def make_provenance(job: Job, config: JobConfig, card: ModelCard, material: Material) -> Provenance:
    """What every checkpoint of this job carries."""
    return Provenance(
        job_id=job.job_id,
        kind=config.kind,
        base_model=card.name,
        base_directory=card.directory,
        base_sha256=card.sha256,
        data_sha256=material.data_sha256,
        correction_ids=material.correction_ids,
        config=config.model_dump(mode="json"),
        prompt_version=PROMPT_VERSION,
        code_version=code_version(),
        answer_format=config.answer_format.value,
        think_tokens=config.think_tokens,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def code_version() -> str:
    """The commit that runs, `+` if files differ from it; the package's version where there is no repository."""
    from importlib import metadata

    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],  # noqa: S607
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        run = None
    if run is not None and run.returncode == 0:
        return run.stdout.strip()
    try:
        return metadata.version("ranking-studio")
    except metadata.PackageNotFoundError:
        return "unknown"


def _write_result(job: Job, learner: "Learner", num_steps: int, seconds: float, more: Mapping[str, Any]) -> None:
    result = {
        "optimizer_steps": num_steps,
        "seconds": round(seconds, 1),
        "seconds_per_step": round(seconds / max(1, num_steps), 3),
        "cpu_seconds": round(sum(psutil.Process().cpu_times()[:2]), 1),
        "num_examples": learner.num_examples,
        "num_left_out": learner.num_left_out,
        "num_trained_parameters": learner.shape.num_trained,
        **more,
    }
    write_whole(job.directory / "result.json", json.dumps(result, indent=2) + "\n")


def _say(job: Job, state: JobState, message: str, **changes: Any) -> None:
    status = job.written_status()
    job.write_status(status.model_copy(update={"state": state, "message": message, **changes}))


def _say_failed(job: Job, kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """What became of a job that something ended. If the disk is full, the small status fits where a checkpoint did not."""
    traceback.print_exception(kind, error, where)
    shutil.rmtree(job.checkpoints / PARTIAL, ignore_errors=True)
    _say(job, JobState.FAILED, explain_failure(error))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    sys.exit(main(sys.argv[1:]))
