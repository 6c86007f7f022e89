"""Seconds, memory and samples per second of one PPO step, beside TRL's own GRPO on the same model and batch, in one run.

    python -m trainer.step_bench --tasks assets/samples/recommendation.jsonl --data-dir DIR --out steps.json

Three jobs one after the other, with the same prompts, number of completions, their length, epochs and minibatches: TRL's GRPO as it
is, our PPO with the same `generate` of transformers, and with completions that our own forward pass writes. GRPO draws groups for a
prompt, PPO one completion for each of as many prompts, so PPO computes more different prompts.
"""

import argparse
import json
import logging
import statistics
import sys
from pathlib import Path
from typing import Any, Final

from ranker.errors import JobError
from trainer.config import make_config
from trainer.jobs import Job, Jobs, JobState

log = logging.getLogger(__name__)
JOBS: Final = (("grpo", "transformers"), ("ppo", "transformers"), ("ppo", "studio"))
"""Kind and `ppo.rollouts`; the first is what the others are compared with."""


def main(arguments: list[str]) -> int:
    """Prints and writes the figures. Returns 0."""
    options = _parser().parse_args(arguments)
    report: dict[str, Any] = {"rollout_size": options.rollout, "max_completion_tokens": options.tokens, "epochs": 2}
    first: dict[str, float] = {}
    for kind, rollouts in JOBS:
        figures = _figures(_train(options, kind, rollouts), options)
        first = first or figures
        figures["seconds_over_grpo"] = round(figures["seconds_per_rollout"] / first["seconds_per_rollout"], 3)
        figures["memory_over_grpo"] = round(figures["peak_rss_bytes"] / first["peak_rss_bytes"], 3)
        report[f"{kind}, {rollouts}"] = figures
        log.info("%s, %s: %s", kind, rollouts, json.dumps(figures))
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    log.info("%s", json.dumps(report, indent=2))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer.step_bench", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True, help="has models/; jobs/ are written there")
    parser.add_argument("--out", type=Path, default=Path("step-bench.json"))
    parser.add_argument("--model", help="default: the default model")
    parser.add_argument("--rollout", type=int, default=8, help="completions of a rollout, in minibatches of 4")
    parser.add_argument("--tokens", type=int, default=24, help="longest completion")
    parser.add_argument("--rollouts", type=int, default=3, help="the first one is not counted")
    parser.add_argument("--max-pool", type=int, default=4)
    parser.add_argument("--threads", type=int, default=0)
    return parser


def _train(options: argparse.Namespace, kind: str, rollouts: str) -> Job:
    steps_per_rollout = 2 * options.rollout // 4
    config = make_config(
        {
            "kind": kind,
            "name": f"speed of {kind}, {rollouts}",
            "model": options.model,
            "data": {"tasks": [str(options.tasks)]},
            "examples": {"num_examples": 200, "max_pool": options.max_pool},
            "ppo": {
                "rollout_size": options.rollout,
                "max_completion_tokens": options.tokens,
                "rollouts": rollouts,
                "epochs": 2,
                "group_size": 4,
            },
            "optimizer": {"max_steps": options.rollouts * steps_per_rollout, "batch_size": 4},
            "save_every": 10_000,
            "compared": 0,
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


def _figures(job: Job, options: argparse.Namespace) -> dict[str, float]:
    """Medians over the rollouts after the first, from the job's own clock."""
    rows, per_rollout = list(job.metrics()), 2 * options.rollout // 4
    seconds = [row["step_time"] for row in rows]
    whole = [sum(seconds[k : k + per_rollout]) for k in range(per_rollout, len(seconds), per_rollout)]
    result = json.loads((job.directory / "result.json").read_text(encoding="utf-8"))
    typical = statistics.median(whole)
    return {
        "seconds_per_rollout": round(typical, 2),
        "seconds_per_optimizer_step": round(typical / per_rollout, 2),
        "samples_per_second": round(options.rollout / typical, 3),
        "cpu_seconds_of_the_job": result["cpu_seconds"],
        "peak_rss_bytes": result["peak_rss_bytes"],
        "mean_prompt_and_completion_tokens": round(
            rows[-per_rollout].get("num_tokens", 0) / (len(whole) + 1) / options.rollout, 1
        ),
    }


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    sys.exit(main(sys.argv[1:]))
