"""The closing loop, measured: does a job that folds corrections in make the model agree with the people who corrected?

    python -m trainer.loop_bench --tasks ml-100k/ --data-dir DIR --out loop.json

Simulated annotators follow a rule that the model does not know ("prefers older films"), misjudge one candidate in ten, and
correct the rankings of some tasks. One job learns from that, another from the same corrections with the candidates exchanged
(placebo). All three models then rank tasks that nobody corrected, by iterative elimination with scored answers and no thought.
Agreement is the share of the pairs that the rule (without mistakes) tells apart and the ranking has in the right order.
"""

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ranker.backends import Backend, load_backend
from ranker.datasets import dump_tasks, import_source, load_tasks
from ranker.elimination import RankConfig, rank_tasks
from ranker.errors import JobError
from ranker.schema import RankingTask, RankingTrace
from ranker.statistics import bootstrap_interval, compare
from trainer.checkpoints import newest_checkpoint
from trainer.config import make_config
from trainer.corrections import dump_corrections
from trainer.examples import is_held_out
from trainer.jobs import Job, Jobs, JobState
from trainer.orders import Tiers
from trainer.registry import Registry
from trainer.simulate import RULES, order_by_rule, simulate_corrections

log = logging.getLogger(__name__)
HELD_OUT_SHARE = 0.2


def main(arguments: list[str]) -> int:
    """Prints and writes the figures. Returns 0."""
    options = _parser().parse_args(arguments)
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    tasks = _read_tasks(options)
    held_out = [t for t in tasks if is_held_out(t.task_id, HELD_OUT_SHARE)][: options.measured]
    corrected = [t for t in tasks if not is_held_out(t.task_id, HELD_OUT_SHARE)][: options.corrected]
    corrections = simulate_corrections(corrected, options.rule, noise=options.noise, seed=options.seed)
    options.work.mkdir(parents=True, exist_ok=True)
    dump_tasks([*corrected, *held_out], options.work / "tasks.jsonl")
    dump_corrections(corrections, options.work / "corrections.jsonl")
    registry = Registry(options.data_dir / "models")
    card = registry.card(options.model)
    report: dict[str, Any] = {
        "rule": options.rule,
        "noise": options.noise,
        "model": card.name,
        "num_corrected": len(corrections),
        "num_held_out": len(held_out),
        "jobs": {},
    }
    measured = {"before": _measure(load_backend(Path(card.directory), name=card.name), held_out, options.rule)}
    _say(measured)
    for name, placebo in (("after", "none"), ("placebo", "shuffled-corrections")):
        job = _train(options, placebo)
        report["jobs"][name] = json.loads((job.directory / "result.json").read_text(encoding="utf-8"))
        backend = load_backend(Path(card.directory), name=name, adapter=newest_checkpoint(job.checkpoints))
        measured[name] = _measure(backend, held_out, options.rule)
        _say(measured)
    report["agreement"] = {name: bootstrap_interval(values)._asdict() for name, values in measured.items()}
    for other in ("before", "placebo"):
        report[f"after_minus_{other}"] = compare(measured["after"], measured[other])._asdict()
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    log.info("%s", json.dumps(report, indent=2))
    return 0


def pair_agreement(ranking: Sequence[str], order: Tiers) -> float | None:
    """Share of the pairs of different tiers that `ranking` has in the right order; None if there is no such pair."""
    place = {i: k for k, i in enumerate(ranking)}
    pairs = [(a, b) for k, high in enumerate(order) for low in order[k + 1 :] for a in high for b in low]
    return sum(place[a] < place[b] for a, b in pairs) / len(pairs) if pairs else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer.loop_bench", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tasks", type=Path, required=True, help="a file of tasks, or a directory of interactions")
    parser.add_argument("--data-dir", type=Path, required=True, help="has models/; jobs/ are written there")
    parser.add_argument("--work", type=Path, default=Path("loop-bench"), help="where the corrections are written")
    parser.add_argument("--out", type=Path, default=Path("loop-bench.json"))
    parser.add_argument("--model", help="default: the default model")
    parser.add_argument("--rule", choices=tuple(RULES), default="older")
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corrected", type=int, default=200, help="tasks that are corrected")
    parser.add_argument("--measured", type=int, default=60, help="held-out tasks that are ranked")
    parser.add_argument("--max-steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--candidates", type=int, default=6, help="of a directory of interactions")
    parser.add_argument("--history", type=int, default=3, help="of a directory of interactions")
    return parser


def _read_tasks(options: argparse.Namespace) -> list[RankingTask]:
    if options.tasks.is_dir():
        plan = import_source(options.tasks, options={"history": options.history, "num_candidates": options.candidates})
        return list(plan.tasks())
    return list(load_tasks(options.tasks))


def _train(options: argparse.Namespace, placebo: str) -> Job:
    """Run one job to its end, as `train` does."""
    config = make_config(
        {
            "kind": "titles",
            "name": f"loop {options.rule} {placebo}",
            "model": options.model,
            "placebo": placebo,
            "data": {
                "tasks": [str(options.work / "tasks.jsonl")],
                "corrections": [str(options.work / "corrections.jsonl")],
            },
            "examples": {
                "num_examples": 4 * options.max_steps,
                "correction_share": 1.0,
                "hard_share": 0.0,
                "held_out_share": HELD_OUT_SHARE,
                "small_pools": 0.5,
            },
            "optimizer": {"max_steps": options.max_steps, "batch_size": 4},
            "save_every": 1000,
            "num_threads": options.threads,
        }
    )
    jobs = Jobs(options.data_dir / "jobs", models_dir=options.data_dir / "models")
    job = jobs.create(config)
    jobs.start(job).wait()
    status = jobs.status(job)
    if status.state is not JobState.DONE:
        raise JobError(f"jobs: {job.job_id}: {status.state.value}: {status.message}")
    return job


def _measure(backend: Backend, tasks: Sequence[RankingTask], rule: str) -> list[float]:
    """Agreement on each task, in the order of `tasks`."""

    async def run() -> list[RankingTrace]:
        traces = [trace async for trace in rank_tasks(tasks, backend, RankConfig(think_tokens=0))]
        await backend.aclose()
        return traces

    rankings = {trace.task_id: trace.ranking for trace in asyncio.run(run())}
    found: Iterable[float | None] = (pair_agreement(rankings[t.task_id], order_by_rule(t, RULES[rule])) for t in tasks)
    return [value for value in found if value is not None]


def _say(measured: dict[str, list[float]]) -> None:
    name, values = list(measured.items())[-1]
    interval = bootstrap_interval(values)
    text = f"{name}: agreement {interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}] on {len(values)} tasks"
    log.info("%s %s", time.strftime("%H:%M:%S"), text)


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    sys.exit(main(sys.argv[1:]))
