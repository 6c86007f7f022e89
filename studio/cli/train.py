"""`train` and `jobs`: training jobs from the command line. A job is a process of its own and outlives the terminal."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.cli.options import add_data_dir, add_json, example, find_dataset, open_library, read_settings
from studio.cli.output import print_json, print_table

if TYPE_CHECKING:
    from studio.settings import Settings
    from trainer.config import JobConfig
    from trainer.jobs import Job, Jobs, JobStatus

POLL_S = 0.5


def add_parser(commands: Any) -> None:
    """Add both to the command line."""
    _add_train(commands)
    _add_jobs(commands)


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train on tasks and corrections",
        description="Start a training job from a file of YAML or JSON and follow it; Ctrl-C stops it with a checkpoint.\n"
        "The job is a process of its own: with --detach, or if the terminal goes away, it goes on.",
        epilog=example("train films.yaml", "train films.yaml --detach"),
    )
    train.add_argument("config", metavar="CONFIG", type=Path, help="what to train on and how (see trainer/config.py)")
    train.add_argument("--detach", action="store_true", help="do not wait for it")
    add_data_dir(train)
    add_json(train)
    train.set_defaults(run=train_job)


def _add_jobs(commands: Any) -> None:
    group = commands.add_parser("jobs", help="training jobs", description="Training jobs.", epilog=example("jobs list"))
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, run, text in (
        ("list", list_jobs, "show them, the newest first"),
        ("show", show_job, "show one: state, progress, last metrics, checkpoints"),
        ("stop", stop_job, "stop one after the present optimizer step, with a checkpoint"),
        ("resume", resume_job, "continue one from its newest complete checkpoint"),
    ):
        usage = "jobs list" if name == "list" else f"jobs {name} 20261123-101500-3fa9"
        action = actions.add_parser(
            name, help=text, description=f"{text[:1].upper()}{text[1:]}.", epilog=example(usage)
        )
        if name != "list":
            action.add_argument("job_id", metavar="ID", help="see `jobs list`")
        if name == "resume":
            action.add_argument("--detach", action="store_true", help="do not wait for it")
        action.set_defaults(run=run)
        add_data_dir(action)
        add_json(action)


def train_job(arguments: argparse.Namespace) -> int:
    """`train`"""
    from studio.cli.models import ensure_model
    from trainer.config import read_config
    from trainer.registry import Registry

    config = read_config(arguments.config)
    settings = read_settings(arguments)
    ensure_model(Registry(settings.models_dir), config.model)
    jobs = _jobs(settings)
    job = jobs.create(_with_datasets_as_files(config, settings))
    return _start(jobs, job, arguments)


def list_jobs(arguments: argparse.Namespace) -> int:
    """`jobs list`"""
    jobs = _jobs(read_settings(arguments))
    statuses = [jobs.status(job) for job in jobs.jobs()]
    if arguments.json:
        print_json([status.model_dump(mode="json") for status in statuses])
    elif not statuses:
        print("No job yet: `python launch.py train CONFIG.yaml` starts one.")
    else:
        rows = [
            (s.job_id, s.kind, s.state.value, f"{s.optimizer_step}/{s.max_steps}", s.name, s.message) for s in statuses
        ]
        print_table(("id", "kind", "state", "steps", "name", "what"), rows)
    return 0


def show_job(arguments: argparse.Namespace) -> int:
    """`jobs show`"""
    from trainer.checkpoints import complete_checkpoints
    from trainer.comparison import describe_set

    jobs = _jobs(read_settings(arguments))
    job = jobs.job(arguments.job_id)
    status, metrics = jobs.status(job), list(job.metrics())
    checkpoints = [str(path) for path in complete_checkpoints(job.checkpoints)]
    if arguments.json:
        last = metrics[-1] if metrics else None
        print_json(
            {**status.model_dump(mode="json"), "metrics": last, "checkpoints": checkpoints, "log": str(job.log_path)}
        )
        return 0
    print(f"{status.job_id}  {status.kind}  {status.state.value}  step {status.optimizer_step} of {status.max_steps}")
    print(status.message)
    for row in metrics[-1:]:
        shown = {k: v for k, v in row.items() if k not in ("time", "optimizer_step")}
        print_table(("metric", f"step {row['optimizer_step']}"), [(k, f"{v:.4g}") for k, v in shown.items()])
    for name, value in ((job.result() or {}).get("held_out") or {}).items():
        if name != "num_decisions":
            print(f"held out, {name.replace('_', ' ')}: {_interval(value)}")
    for one in (job.comparison() or {}).get("sets", ()):
        print(f"before and after, {describe_set(one)}")
    print("\n".join(["checkpoints:", *(checkpoints or ["none yet"]), f"log: {job.log_path}"]))
    return 0


def _interval(value: dict[str, float]) -> str:
    middle = value.get("mean", value.get("difference", 0.0))
    return f"{middle:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def stop_job(arguments: argparse.Namespace) -> int:
    """`jobs stop`"""
    jobs = _jobs(read_settings(arguments))
    return _print_status(jobs.stop(jobs.job(arguments.job_id)), arguments)


def resume_job(arguments: argparse.Namespace) -> int:
    """`jobs resume`"""
    jobs = _jobs(read_settings(arguments))
    return _start(jobs, jobs.job(arguments.job_id), arguments)


def _start(jobs: "Jobs", job: "Job", arguments: argparse.Namespace) -> int:
    jobs.start(job)
    if arguments.detach:
        return _print_status(jobs.status(job), arguments)
    return _follow(jobs, job, arguments)


def _follow(jobs: "Jobs", job: "Job", arguments: argparse.Namespace) -> int:
    """Say how it goes until it ends; Ctrl-C asks it to stop and goes on waiting."""
    from trainer.jobs import ACTIVE, JobState

    said = ""
    while True:
        try:
            status = jobs.status(job)
            progress = f" {status.optimizer_step}/{status.max_steps}" if status.optimizer_step else ""
            line = f"{status.job_id}: {status.state.value}{progress}: {status.message}"
            if line != said:
                print(line, file=sys.stderr, flush=True)
                said = line
            if status.state not in ACTIVE:
                break
            time.sleep(POLL_S)
        except KeyboardInterrupt:
            job.stop_path.touch()
    if arguments.json:
        print_json(status.model_dump(mode="json"))
    return {JobState.DONE: 0, JobState.STOPPED: 130}.get(status.state, 1)


def _print_status(status: "JobStatus", arguments: argparse.Namespace) -> int:
    if arguments.json:
        print_json(status.model_dump(mode="json"))
    else:
        print(f"{status.job_id}: {status.state.value}: {status.message}")
    return 0


def _jobs(settings: "Settings") -> "Jobs":
    from trainer.jobs import Jobs

    return Jobs(settings.jobs_dir, models_dir=settings.models_dir)


def _with_datasets_as_files(config: "JobConfig", settings: "Settings") -> "JobConfig":
    """Write the stored datasets that the config names to files, which is what a job reads."""
    named = (*config.data.tasks, *config.data.evaluation)
    names = [name for name in named if not Path(name).is_file()]
    if not names:
        return config
    settings.exports_dir.mkdir(exist_ok=True)
    paths = {}
    with open_library(settings) as library:
        for name in names:
            info = find_dataset(library, name)
            paths[name] = settings.exports_dir / f"{info.name}-{info.version}.jsonl"
            library.export_file(info.id, paths[name])
    found = {
        kind: tuple(str(paths.get(name, name)) for name in getattr(config.data, kind))
        for kind in ("tasks", "evaluation")
    }
    return config.model_copy(update={"data": config.data.model_copy(update=found)})
