"""The recipe of the adapter that we ship: what it learns from, in which amounts, and how. Ours.

    python -m trainer.recipe --from DIRECTORY --out WORK        # writes tasks and configurations
    python launch.py train WORK/1-likelihood.yaml               # trains; `jobs resume` goes on where it was stopped

Reads the training side (80% of the users or queries, by a hash of their ids) of public raw files below DIRECTORY and nothing
of the test side. The amounts are what two CPU cores can go through in about an hour and a half; a GPU takes all.
"""

import argparse
import json
import logging
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ranker.datasets import dump_tasks, import_source
from ranker.schema import RankingTask, Record

log = logging.getLogger(__name__)


class Share(Record):
    """One source and how many of its tasks are taken, drawn at random with the recipe's seed."""

    name: str
    folder: str
    recipe: str
    options: Mapping[str, Any] = {}
    num_tasks: int


def _router(scenario: str) -> Share:
    return Share(name=f"router-{scenario}", folder="routing/llmrouter_9llm", recipe=f"router-{scenario}", num_tasks=150)


def _passages(number: int, num_tasks: int) -> Share:
    return Share(
        name=f"passage-{number}", folder="passage/msmarco_dev_lists", recipe=f"passage-{number}", num_tasks=num_tasks
    )


_ANY_LENGTH: Final = {"min_history": 8}
SHARES: Final = (
    Share(name="movie-1m", folder="movies/ml-1m", recipe="rec-movie", options=_ANY_LENGTH, num_tasks=600),
    Share(name="movie-100k", folder="movies/ml-100k", recipe="rec-movie", options=_ANY_LENGTH, num_tasks=170),
    Share(name="game", folder="amazon/games_llmrank", recipe="rec-game", options=_ANY_LENGTH, num_tasks=300),
    Share(
        name="music", folder="amazon/cds_vinyl_flower", recipe="rec-music", options={"min_history": 5}, num_tasks=650
    ),
    _router("performance"),
    _router("balance"),
    _router("cost"),
    _passages(5, 40),
    _passages(7, 40),
)
SEED: Final = 0


def draw_tasks(share: Share, directory: Path) -> list[RankingTask]:
    """The training side of a source, as many tasks as its share says.

    Raises:
        DatasetError: if the files are not there or cannot be trusted.
    """
    options = {**share.options, "split": "train"}
    tasks = list(import_source(f"recipe:{share.recipe}", from_dir=directory / share.folder, options=options).tasks())
    chosen = random.Random(f"{SEED} {share.name}").sample(tasks, min(share.num_tasks, len(tasks)))
    return [t.model_copy(update={"task_id": f"{share.name}/{t.task_id}"}) for t in chosen]


def make_configs(files: Sequence[str], num_examples: int) -> dict[str, dict[str, Any]]:
    """The jobs, in order."""
    batch = 8
    return {
        "1-likelihood": {
            "kind": "sft",
            "name": "iranker-135m, likelihood",
            "sft": {"teach": "likelihood"},
            "data": {"tasks": list(files)},
            "examples": {"num_examples": num_examples, "held_out_share": 0.0},
            "lora": {
                "rank": 32,
                "alpha": 64,
                "modules": "q_proj,v_proj,gate_proj,up_proj,down_proj",
                "last_layers": 12,
            },
            "optimizer": {
                "learning_rate": 1e-3,
                "schedule": "linear",
                "warmup_steps": 10,
                "batch_size": batch,
                "max_steps": num_examples // batch,
            },
            "max_prompt_tokens": 480,
            "num_threads": 1,
            "save_every": 20,
            "measured": 0,
        }
    }


def main(arguments: list[str]) -> int:
    """Writes everything below --out; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m trainer.recipe", description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, required=True, metavar="DIRECTORY")
    parser.add_argument("--out", type=Path, required=True, metavar="WORK")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    files, num_examples = [], 0
    for share in SHARES:
        tasks = draw_tasks(share, options.source)
        dump_tasks(tasks, options.out / f"{share.name}.jsonl")
        files.append(f"{share.name}.jsonl")
        num_examples += len(tasks)
        log.info("%s: %d tasks", share.name, len(tasks))
    for name, config in make_configs(files, num_examples).items():
        (options.out / f"{name}.yaml").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main(sys.argv[1:]))
