"""Training for the browser tests: film tasks with corrections, a model that trains in seconds, a job that is over."""

import json
import time
from pathlib import Path

from hostile import TEXT

from ranker.datasets import dump_tasks
from ranker.schema import Candidate, Domain, RankingTask
from ranker.statistics import bootstrap_interval, compare
from studio.corrections import Corrections, Submission
from studio.settings import Settings
from studio.store import Store
from trainer.config import make_config
from trainer.jobs import ACTIVE, Jobs, JobState
from trainer.modelcards import ModelCard, write_card
from trainer.simulate import simulate_corrections

YEARS = (1931, 1994, 1967, 2003)
JOB_ID = "20260101-000000-aaaa"
DRAWN_ID = "20260101-000000-bbbb"


def film_tasks() -> list[RankingTask]:
    """24 tasks of four films, the oldest of which is the right one."""
    tasks = []
    for number in range(24):
        films = tuple(Candidate(candidate_id=str(k), text=f"F{k} ({y + number % 5})") for k, y in enumerate(YEARS))
        tasks.append(
            RankingTask(task_id=f"f{number}", domain=Domain.OTHER, query="old", candidates=films, relevance={"0": 1})
        )
    return tasks


def fill_training(data_dir: Path, toy_model_dir: Path) -> None:
    """The tasks, twelve corrections by Ann, and the toy model."""
    settings = Settings(data_dir=data_dir)
    card = ModelCard(name="toy", directory=str(toy_model_dir), sha256="toy-hash", num_parameters=60_000)
    write_card(settings.models_dir, card)
    store = Store(settings.database_path)
    info = store.datasets.add("films", film_tasks(), source="test")
    for one in simulate_corrections(film_tasks()[:12], "older", noise=0):
        said = Submission(task_id=one.task_id, kind=one.kind, payload=one.payload, author="ann")
        Corrections(store).submit(info.id, said)
    store.close()


def stop_jobs(data_dir: Path) -> None:
    """Whatever a test has left running ends."""
    jobs = Jobs(data_dir / "jobs", models_dir=data_dir / "models")
    for job in jobs.jobs():
        if jobs.status(job).state in ACTIVE and jobs.status(job).num_starts:
            jobs.stop(job)
    end = time.monotonic() + 60
    while any(jobs.status(j).state in ACTIVE and jobs.status(j).num_starts for j in jobs.jobs()):
        assert time.monotonic() < end, "a job does not stop"
        time.sleep(0.1)


def make_drawn_job(data_dir: Path) -> str:
    """A job that drew one elimination, with hostile titles. Returns its id."""
    jobs = Jobs(data_dir / "jobs", models_dir=data_dir / "models")
    dump_tasks(film_tasks(), data_dir / "films.jsonl")
    raw = {"kind": "ppo-exclusions", "model": "toy", "data": {"tasks": [str(data_dir / "films.jsonl")]}}
    made = jobs.create(make_config(raw))
    made.directory.rename(made.directory.with_name(DRAWN_ID))
    job = jobs.job(DRAWN_ID)
    over = {"job_id": DRAWN_ID, "state": JobState.DONE, "num_starts": 1, "created_at": "2026-01-01T00:00:00+00:00"}
    job.write_status(job.written_status().model_copy(update=over))
    known = {"excluded": TEXT, "probability": 0.25, "grade": 1.0, "floor": 0.5, "reward": 1.34, "advantage": -0.125}
    steps = [known, {**known, "grade": None, "excluded": "Heat"}]
    line = {"optimizer_step": 0, "task_id": "f0", "asked": [TEXT, "old"], "steps": steps, "left": ["Ran", TEXT]}
    job.rollouts_path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    return DRAWN_ID


def make_finished_job(data_dir: Path) -> Path:
    """The files of a job as its process would have left them."""
    jobs = Jobs(data_dir / "jobs", models_dir=data_dir / "models")
    tasks = film_tasks()
    dump_tasks(tasks, data_dir / "films.jsonl")
    config = make_config(
        {"kind": "ppo", "name": TEXT[:70], "model": "toy", "data": {"tasks": [str(data_dir / "films.jsonl")]}}
    )
    made = jobs.create(config)
    folder = made.directory.with_name(JOB_ID)
    made.directory.rename(folder)
    job = jobs.job(JOB_ID)
    status = job.written_status()
    job.write_status(
        status.model_copy(
            update={"job_id": JOB_ID, "state": JobState.DONE, "num_starts": 1, "optimizer_step": 4, "max_steps": 4,
                    "message": TEXT, "created_at": "2026-01-01T00:00:00+00:00"}
        )
    )  # fmt: skip
    names = ("loss", "objective/score", "exclusion/grade", "exclusion/random_floor", "objective/kl", "entropy",
             "clip_ratio/region_mean", "value/loss", "value/explained_variance", "completions/mean_length", "exclusion/grade/pool_3")  # fmt: skip
    rows = [{"optimizer_step": n, "time": 10.0 + n, **dict.fromkeys(names, n / 10)} for n in (1, 2, 3, 4)]
    job.metrics_path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    parts = {"exclusion": -1.0, "ranking": 0.0, "format": -1.0, "tags": -0.75, "length": 0.0, "total": -2.75}
    rollout = {
        "task_id": "f0", "pool": ["0", "1", "2"], "grades": {"0": 0.0, "1": 1.0, "2": 1.0}, "tiers": [["0"], ["1", "2"]],
        "mode": "iterative", "prompt": TEXT, "completion": TEXT, "parts": parts, "num_tokens": 9,
    }  # fmt: skip
    lines = [{"optimizer_step": n, "advantage": advantage, **rollout} for n, advantage in ((0, -0.5), (2, 0.5))]
    job.rollouts_path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    job.log_path.write_text(TEXT, encoding="utf-8")
    before, after = [0.5, 0.5, 0.75], [0.75, 0.75, 1.0]
    ranking = [c.title for c in tasks[0].candidates]
    changed = [
        {"task_id": f"f{k}", "domain": "other", "query": TEXT, "before": b, "after": a, "moved": 2,
         "ranking_before": ranking, "ranking_after": ranking[::-1]}
        for k, (b, a) in enumerate(zip(before, after, strict=True))
    ]  # fmt: skip
    one = {
        "name": "held-out corrections", "metric": "agreement", "num_tasks": 3, "num_left_out": 0, "floor": 0.5,
        "before": bootstrap_interval(before)._asdict(), "after": bootstrap_interval(after)._asdict(),
        "after_minus_before": compare(after, before)._asdict(), "tasks": changed,
    }  # fmt: skip
    job.comparison_path.write_text(
        json.dumps({"before": "toy", "after": "checkpoint-4", "sets": [one]}), encoding="utf-8"
    )
    return folder
