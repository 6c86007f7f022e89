"""The closing loop, measured: does a job that folds corrections in make the model agree with the people who corrected?

    python -m studio.loop_bench --tasks ml-100k/ --data-dir DIR --out loop.json

Simulated annotators follow a rule that the model does not know ("prefers older films") and misjudge one candidate in ten.
They submit corrections of the rankings of some tasks to the studio's store, as people do. A job takes them from there, and
another one the same corrections with the candidates exchanged (placebo). Each job ranks held-out tasks before and after, by
iterative elimination as the model decides, without a thought. Agreement is the share of the pairs that the rule (without mistakes)
tells apart and the ranking has in the right order. --kind says how the jobs learn: by title likelihood, or by PPO over exclusions.
With --ppo two more jobs follow: a warm start, then PPO over written answers from there.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ranker.datasets import import_source, load_tasks
from ranker.errors import JobError
from ranker.schema import RankingTask
from ranker.statistics import bootstrap_interval, compare
from studio.corrections import Corrections, Submission
from studio.jobmaterial import MaterialRequest
from studio.settings import Settings
from studio.store import Store
from studio.training import JobRequest, Training, describe_plan
from trainer.checkpoints import newest_checkpoint
from trainer.comparison import MAX_TEXT, describe_set
from trainer.examples import is_held_out
from trainer.jobs import Job, JobState
from trainer.orders import Tiers
from trainer.registry import Registry
from trainer.simulate import RULES, order_by_rule, simulate_corrections

log = logging.getLogger(__name__)
HELD_OUT_SHARE = 0.2


class Loop:
    """One measurement, in a data directory of its own choice."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        settings = Settings(data_dir=options.data_dir, open_browser=False)
        settings.make_directories()
        self.store = Store(settings.database_path)
        self.registry = Registry(settings.models_dir)
        self.training = Training(self.store, self.registry, settings.jobs_dir, settings.models_dir)
        self.report: dict[str, Any] = {"rule": options.rule, "noise": options.noise, "seed": options.seed, "jobs": {}}

    def correct(self, tasks: Sequence[RankingTask]) -> str:
        """Store the tasks, and what simulated annotators say about them. Returns the dataset's name."""
        name = f"loop {self.options.rule} {time.strftime('%H%M%S')}"
        info = self.store.datasets.add(name, tasks, source=str(self.options.tasks))
        said, corrections = (
            simulate_corrections(tasks, self.options.rule, noise=self.options.noise),
            Corrections(self.store),
        )
        corrected = [c for c in said if not is_held_out(c.task_id, HELD_OUT_SHARE)][: self.options.corrected]
        held_out = [c for c in said if is_held_out(c.task_id, HELD_OUT_SHARE)][: self.options.measured]
        for one in (*corrected, *held_out):
            submission = Submission(task_id=one.task_id, kind=one.kind, payload=one.payload, author=one.author)
            corrections.submit(info.id, submission)
        self.report |= {"num_corrected": len(corrected), "num_held_out_corrections": len(held_out)}
        return info.name

    def train(self, label: str, preset: str, dataset: str, settings: dict[str, Any]) -> Job:
        """Run one job to its end, as the Train page does."""
        options = self.options
        common = {
            "name": f"{dataset}, {label}",
            "model": options.model,
            "num_threads": options.threads,
            "compared": options.measured,
        }
        request = JobRequest(
            preset=preset, material=MaterialRequest(datasets=(dataset,)), settings={**common, **settings}
        )
        log.info("%s %s: %s", time.strftime("%H:%M:%S"), label, describe_plan(self.training.plan(request)))
        status = self.training.wait(self.training.start(request).job_id)
        if status.state is not JobState.DONE:
            raise JobError(f"jobs: {status.job_id}: {status.state.value}: {status.message}")
        job = self.training.job(status.job_id)
        self.report["jobs"][label] = {"job_id": job.job_id, **(job.result() or {})}
        for one in (job.comparison() or {}).get("sets", ()):
            log.info("%s %s: %s", time.strftime("%H:%M:%S"), label, describe_set(one))
            kept = {name: value for name, value in one.items() if name != "tasks"}
            self.report["jobs"][label].setdefault("comparison", []).append(kept)
        return job


def main(arguments: list[str]) -> int:
    """Prints and writes the figures. Returns 0."""
    options = _parser().parse_args(arguments)
    loop = Loop(options)
    tasks = _read_tasks(options)
    measured_on = [t for t in tasks if is_held_out(t.task_id, HELD_OUT_SHARE)][: options.measured]
    corrected = [t for t in tasks if not is_held_out(t.task_id, HELD_OUT_SHARE)][: options.corrected]
    dataset = loop.correct([*corrected, *measured_on])
    loop.report |= {"model": options.model or loop.registry.default_name(), "num_measured": len(measured_on)}
    measured: dict[str, list[float]] = {}
    for label, placebo in (("after", "none"), ("placebo", "shuffled-corrections")):
        job = loop.train(label, options.kind, dataset, _settings(options, placebo))
        if not measured:
            measured["before"] = agreements(job, measured_on, options.rule, "ranking_before")
            _say(measured)
        measured[label] = agreements(job, measured_on, options.rule, "ranking_after")
        _say(measured)
    loop.report["agreement"] = {name: bootstrap_interval(values)._asdict() for name, values in measured.items()}
    for other in ("before", "placebo"):
        loop.report[f"after_minus_{other}"] = compare(measured["after"], measured[other])._asdict()
    if options.ppo:
        _train_ppo(loop, dataset)
    loop.store.close()
    options.out.write_text(json.dumps(loop.report, indent=2) + "\n", encoding="utf-8")
    log.info("%s", json.dumps(loop.report, indent=2))
    return 0


def _settings(options: argparse.Namespace, placebo: str) -> dict[str, Any]:
    examples = {"correction_share": 1.0, "hard_share": 0.0, "held_out_share": HELD_OUT_SHARE}
    optimizer: dict[str, Any] = {"max_steps": options.max_steps}
    if options.kind == "titles":
        examples |= {"num_examples": 4 * options.max_steps, "small_pools": 0.5}
        optimizer |= {"batch_size": 4}
    settings = {"placebo": placebo, "examples": examples, "optimizer": optimizer, "save_every": 1000}
    return settings if options.last_layers is None else {**settings, "lora": {"last_layers": options.last_layers}}


def _train_ppo(loop: Loop, dataset: str) -> None:
    """A warm start, then PPO from there, in free form; each compares itself before and after."""
    examples = {"correction_share": 1.0, "max_pool": 4, "held_out_share": HELD_OUT_SHARE, "num_examples": 160}
    tokens = {"max_completion_tokens": 64}  # our rationales are of 32 to 60
    warm = loop.train(
        "warm start",
        "sft",
        dataset,
        {"examples": examples, "ppo": tokens, "optimizer": {"max_steps": loop.options.warm_steps}},
    )
    start_from = str(newest_checkpoint(warm.checkpoints))
    settings = {
        "start_from": start_from,
        "examples": {**examples, "num_examples": 400},
        "ppo": {**tokens, "rollout_size": 16, "epochs": 2},
        "optimizer": {"max_steps": loop.options.ppo, "learning_rate": 1e-4},
    }
    job = loop.train("ppo", "ppo", dataset, settings)
    loop.report["jobs"]["ppo"]["curve"] = [
        {name: row.get(name) for name in ("optimizer_step", "objective/score", "exclusion/grade", "exclusion/random_floor",
         "answers/parsed", "objective/kl", "value/explained_variance", "step_time")}
        for row in job.metrics()
    ]  # fmt: skip


def pair_agreement(ranking: Sequence[str], order: Tiers) -> float | None:
    """Share of the pairs of different tiers that `ranking` has in the right order; None if there is no such pair."""
    place = {i: k for k, i in enumerate(ranking)}
    pairs = [(a, b) for k, high in enumerate(order) for low in order[k + 1 :] for a in high for b in low]
    return sum(place[a] < place[b] for a, b in pairs) / len(pairs) if pairs else None


def agreements(job: Job, tasks: Sequence[RankingTask], rule: str, when: str) -> list[float]:
    """Agreement with the rule of the rankings that the job has made of `tasks`, in their order.

    Args:
        when: `ranking_before` or `ranking_after`.
    """
    sets = (job.comparison() or {"sets": ()})["sets"]
    titles = {row["task_id"]: row[when] for one in sets if one["metric"] == "agreement" for row in one["tasks"]}
    values = []
    for task in tasks:
        if task.task_id in titles:
            by_title = {c.title[:MAX_TEXT]: c.candidate_id for c in task.candidates}
            ranking = [by_title[title] for title in titles[task.task_id]]
            value = pair_agreement(ranking, order_by_rule(task, RULES[rule]))
            values += [] if value is None else [value]
    return values


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m studio.loop_bench", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tasks", type=Path, required=True, help="a file of tasks, or a directory of interactions")
    parser.add_argument(
        "--data-dir", type=Path, required=True, help="has models/; the store and jobs/ are written there"
    )
    parser.add_argument("--out", type=Path, default=Path("loop-bench.json"))
    parser.add_argument("--model", help="default: the default model")
    parser.add_argument("--rule", choices=tuple(RULES), default="older")
    parser.add_argument("--kind", choices=("titles", "ppo-exclusions"), default="titles", help="of the two jobs")
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corrected", type=int, default=200, help="tasks that are corrected")
    parser.add_argument("--measured", type=int, default=60, help="held-out tasks that are ranked")
    parser.add_argument("--max-steps", type=int, default=60)
    parser.add_argument(
        "--ppo", type=int, default=0, metavar="STEPS", help="then a warm start, and so many steps of PPO"
    )
    parser.add_argument("--warm-steps", type=int, default=40, help="steps of the warm start")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--last-layers", type=int, metavar="N", help="train these alone; default: as the preset says")
    parser.add_argument("--candidates", type=int, default=6, help="of a directory of interactions")
    parser.add_argument("--history", type=int, default=3, help="of a directory of interactions")
    return parser


def _read_tasks(options: argparse.Namespace) -> list[RankingTask]:
    if options.tasks.is_dir():
        plan = import_source(options.tasks, options={"history": options.history, "num_candidates": options.candidates})
        return list(plan.tasks())
    return list(load_tasks(options.tasks))


def _say(measured: dict[str, list[float]]) -> None:
    name, values = list(measured.items())[-1]
    interval = bootstrap_interval(values)
    text = f"{name}: agreement {interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}] on {len(values)} tasks"
    log.info("%s %s", time.strftime("%H:%M:%S"), text)


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    sys.exit(main(sys.argv[1:]))
