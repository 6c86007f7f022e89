"""The recipe of the adapter that we ship: what it learns from, in which amounts, and how. Ours.

    python -m trainer.recipe data --from DIRECTORY --out WORK   # writes tasks and the configuration of the first job
    python launch.py train WORK/likelihood.yaml                 # what follows what; `jobs resume` goes on where it was stopped
    python -m trainer.recipe compare CHECKPOINT --out WORK      # writes the configuration of the second job, which goes on from there
    python launch.py train WORK/pairs.yaml                      # the better candidate above the worse one
    python -m trainer.recipe ship CHECKPOINT                    # puts the adapter of a checkpoint into assets/

Reads the training side (80% of the users or queries, by a hash of their ids) of public raw files below DIRECTORY and nothing
of the test side. No task is in both jobs: what the first one has read, it knows by heart. The amounts are what two CPU cores can
go through in about an hour and a half; a GPU takes all.
"""

import argparse
import json
import logging
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ranker.datasets import dump_tasks, import_source, load_tasks
from ranker.schema import RankingTask, Record
from trainer.checkpoints import PROVENANCE, read_provenance
from trainer.fetch import SMOLLM2
from trainer.registry import ADAPTER_CONFIG, ADAPTER_WEIGHTS, BASE_MODEL, SHIPPED_ADAPTER

log = logging.getLogger(__name__)


class Share(Record):
    """One source and how many of its tasks are taken, drawn at random with the recipe's seed."""

    name: str
    folder: str
    recipe: str
    options: Mapping[str, Any] = {}
    num_read: int
    """Tasks of the first job: the best candidate behind what is asked."""
    num_compared: int
    """Other tasks, for the second job: all candidates of each."""


def _titles(name: str, folder: str, recipe: str, min_history: int, num_read: int, num_compared: int) -> Share:
    options = {"min_history": min_history}
    return Share(name=name, folder=folder, recipe=recipe, options=options, num_read=num_read, num_compared=num_compared)


def _router(scenario: str) -> Share:
    name = f"router-{scenario}"
    return Share(name=name, folder="routing/llmrouter_9llm", recipe=name, num_read=150, num_compared=320)


def _passages(number: int, num_read: int, num_compared: int) -> Share:
    name = f"passage-{number}"
    return Share(
        name=name, folder="passage/msmarco_dev_lists", recipe=name, num_read=num_read, num_compared=num_compared
    )


SHARES: Final = (
    _titles("movie-1m", "movies/ml-1m", "rec-movie", 8, 600, 180),
    _titles("movie-100k", "movies/ml-100k", "rec-movie", 8, 170, 60),
    _titles("game", "amazon/games_llmrank", "rec-game", 8, 300, 480),
    _titles("music", "amazon/cds_vinyl_flower", "rec-music", 5, 650, 640),
    _router("performance"),
    _router("balance"),
    _router("cost"),
    _passages(5, 40, 30),
    _passages(7, 40, 10),
)
SEED: Final = 0
BATCH_SIZE: Final = 8
LORA: Final = {"rank": 32, "alpha": 64, "modules": "q_proj,v_proj,gate_proj,up_proj,down_proj", "last_layers": 12}


def draw_tasks(share: Share, directory: Path) -> tuple[list[RankingTask], list[RankingTask]]:
    """Of the training side of a source: the tasks that are read, and others that are compared.

    Raises:
        DatasetError: if the files are not there or cannot be trusted.
    """
    options = {**share.options, "split": "train"}
    tasks = list(import_source(f"recipe:{share.recipe}", from_dir=directory / share.folder, options=options).tasks())
    read = random.Random(f"{SEED} {share.name}").sample(tasks, min(share.num_read, len(tasks)))
    known = {t.task_id for t in read}
    others = [t for t in tasks if t.task_id not in known]
    compared = random.Random(f"{SEED} {share.name} compared").sample(others, min(share.num_compared, len(others)))
    return _named(share, read), _named(share, compared)


def _named(share: Share, tasks: Sequence[RankingTask]) -> list[RankingTask]:
    return [t.model_copy(update={"task_id": f"{share.name}/{t.task_id}"}) for t in tasks]


def reading_config(files: Sequence[str], num_examples: int) -> dict[str, Any]:
    """The first job."""
    return {
        "kind": "sft",
        "name": "iranker-135m, reading",
        "model": BASE_MODEL,
        "sft": {"teach": "likelihood"},
        "data": {"tasks": list(files)},
        "examples": {"num_examples": num_examples, "held_out_share": 0.0},
        "lora": LORA,
        "optimizer": {
            "learning_rate": 1e-3,
            "schedule": "linear",
            "warmup_steps": 10,
            "batch_size": BATCH_SIZE,
            "max_steps": num_examples // BATCH_SIZE,
        },
        "max_prompt_tokens": 480,
        "num_threads": 1,
        "save_every": 20,
        "measured": 0,
        "compared": 0,
    }


def comparing_config(files: Sequence[str], num_examples: int, checkpoint: Path) -> dict[str, Any]:
    """The second job. Whole pools: they are what a ranking is of, and small ones would be of what the first job knows."""
    batch_size, accumulation = 2, 2  # memory goes with the scored tokens of a batch
    return {
        "kind": "titles",
        "name": "iranker-135m, comparing",
        "model": BASE_MODEL,
        "start_from": str(checkpoint.resolve()),
        "titles": {"loss": "pairs", "answer": "likelihood"},
        "data": {"tasks": list(files)},
        "examples": {"num_examples": num_examples, "held_out_share": 0.0, "min_pool": 20, "hard_share": 0.0},
        "lora": LORA,
        "optimizer": {
            "learning_rate": 3e-4,
            "schedule": "linear",
            "warmup_steps": 10,
            "batch_size": batch_size,
            "accumulation": accumulation,
            "max_steps": num_examples // (batch_size * accumulation),
        },
        "max_prompt_tokens": 760,
        "num_threads": 1,
        "save_every": 20,
        "measured": 0,
        "compared": 0,
    }


def write_data(directory: Path, out: Path) -> None:
    """Draw the tasks of every share and write them, and the first job's configuration, below `out`."""
    out.mkdir(parents=True, exist_ok=True)
    num_read = 0
    for share in SHARES:
        read, compared = draw_tasks(share, directory)
        dump_tasks(read, out / f"{share.name}.jsonl")
        dump_tasks(compared, out / f"{share.name}-compared.jsonl")
        num_read += len(read)
        log.info("%s: %d tasks to read, %d to compare", share.name, len(read), len(compared))
    _write_config(reading_config([f"{share.name}.jsonl" for share in SHARES], num_read), out / "likelihood.yaml")


def write_comparing(checkpoint: Path, out: Path) -> None:
    """Write the second job's configuration below `out`, where the tasks are.

    Raises:
        CheckpointError: if the checkpoint does not say what it came from.
    """
    read_provenance(checkpoint)
    files = [f"{share.name}-compared.jsonl" for share in SHARES]
    num_compared = sum(1 for name in files for _ in load_tasks(out / name))
    _write_config(comparing_config(files, num_compared, checkpoint), out / "pairs.yaml")


def _write_config(config: Mapping[str, Any], path: Path) -> None:
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def ship(checkpoint: Path, target: Path) -> None:
    """Copy what an adapter needs, in bfloat16 and without paths of this machine.

    Raises:
        CheckpointError: if the checkpoint does not say what it came from.
    """
    from safetensors.torch import load_file, save_file

    provenance = read_provenance(checkpoint)
    target.mkdir(parents=True, exist_ok=True)
    weights = load_file(checkpoint / ADAPTER_WEIGHTS)
    save_file({name: w.bfloat16().contiguous() for name, w in weights.items()}, target / ADAPTER_WEIGHTS)
    adapter = json.loads((checkpoint / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    adapter["base_model_name_or_path"] = provenance.base_model
    (target / ADAPTER_CONFIG).write_text(json.dumps(adapter, indent=2) + "\n", encoding="utf-8")
    data = {**provenance.config["data"], "tasks": sorted(provenance.data_sha256)}
    start = provenance.config.get("start_from")
    first = read_provenance(Path(start)) if start else None
    shipped = provenance.model_copy(
        update={
            "base_directory": SMOLLM2.requirement,
            "base_sha256": None,  # hangs on the version of transformers that wrote the base's config
            "data_sha256": {**(first.data_sha256 if first else {}), **provenance.data_sha256},
            "config": {**provenance.config, "data": data, "start_from": first.job_id if first else None},
        }
    )
    (target / PROVENANCE).write_text(shipped.model_dump_json(indent=2) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Returns 0."""
    parser = argparse.ArgumentParser(prog="python -m trainer.recipe", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    data = actions.add_parser("data", help="draw the tasks and write the job's configuration")
    data.add_argument("--from", dest="source", type=Path, required=True, metavar="DIRECTORY")
    data.add_argument("--out", type=Path, required=True, metavar="WORK")
    comparing = actions.add_parser("compare", help="write the configuration of the second job")
    comparing.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="of the first job")
    comparing.add_argument("--out", type=Path, required=True, metavar="WORK", help="as of `data`")
    shipping = actions.add_parser("ship", help="put the adapter of a checkpoint into assets/")
    shipping.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    shipping.add_argument("--to", type=Path, default=SHIPPED_ADAPTER, metavar="DIRECTORY")
    options = parser.parse_args(arguments)
    if options.action == "data":
        write_data(options.source, options.out)
    elif options.action == "compare":
        write_comparing(options.checkpoint, options.out)
    else:
        ship(options.checkpoint, options.to)
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main(sys.argv[1:]))
