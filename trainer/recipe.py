"""The recipe of the adapter that we ship: what it learns from, in which amounts, and how. Ours.

    python -m trainer.recipe make --from DIRECTORY --out WORK   # tasks, job, and the adapter in WORK/assets; run again, it goes on

In steps: `data` writes the tasks and the configuration of the job, `python launch.py train WORK/likelihood.yaml` trains, and `ship
CHECKPOINT` puts an adapter into assets/.

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
from ranker.errors import JobError, RankingStudioError
from ranker.schema import RankingTask, Record
from trainer.checkpoints import PROVENANCE, newest_checkpoint, read_provenance
from trainer.config import read_config
from trainer.fetch import SMOLLM2
from trainer.jobs import Jobs, JobState
from trainer.modelcards import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from trainer.registry import BASE_MODEL, SHIPPED_ADAPTER, Registry

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
BATCH_SIZE: Final = 8


def draw_tasks(share: Share, directory: Path) -> list[RankingTask]:
    """The training side of a source, as many tasks as its share says.

    Raises:
        DatasetError: if the files are not there or cannot be trusted.
    """
    options = {**share.options, "split": "train"}
    tasks = list(import_source(f"recipe:{share.recipe}", from_dir=directory / share.folder, options=options).tasks())
    chosen = random.Random(f"{SEED} {share.name}").sample(tasks, min(share.num_tasks, len(tasks)))
    return [t.model_copy(update={"task_id": f"{share.name}/{t.task_id}"}) for t in chosen]


def make_config(files: Sequence[str], num_examples: int) -> dict[str, Any]:
    """The job."""
    return {
        "kind": "sft",
        "name": "iranker-135m",
        "model": BASE_MODEL,
        "sft": {"teach": "likelihood"},
        "data": {"tasks": list(files)},
        "examples": {"num_examples": num_examples, "held_out_share": 0.0},
        "lora": {"rank": 32, "alpha": 64, "modules": "q_proj,v_proj,gate_proj,up_proj,down_proj", "last_layers": 12},
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
    }


def write_data(directory: Path, out: Path) -> None:
    """Draw the tasks of every share and write them, and the job's configuration, below `out`."""
    out.mkdir(parents=True, exist_ok=True)
    num_examples = 0
    for share in SHARES:
        tasks = draw_tasks(share, directory)
        dump_tasks(tasks, out / f"{share.name}.jsonl")
        num_examples += len(tasks)
        log.info("%s: %d tasks", share.name, len(tasks))
    config = make_config([f"{share.name}.jsonl" for share in SHARES], num_examples)
    (out / "likelihood.yaml").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def make(directory: Path, work: Path) -> None:
    """Draw, train, and put the adapter into `work`/assets. Run again, it goes on with what was not done.

    Raises:
        JobError: if the job fails or is stopped.
    """
    config = work / "likelihood.yaml"
    if not config.is_file():
        write_data(directory, work)
    Registry(work / "models").fetch_default()
    jobs = Jobs(work / "jobs", models_dir=work / "models")
    job = next(iter(jobs.jobs()), None) or jobs.create(read_config(config))
    if jobs.status(job).state is not JobState.DONE:
        log.info("trains; see %s", job.log_path)
        jobs.start(job).wait()
    status, checkpoint = jobs.status(job), newest_checkpoint(job.checkpoints)
    if status.state is not JobState.DONE or checkpoint is None:
        raise JobError(f"jobs: {status.job_id}: {status.message}: run the same command again to go on")
    ship(checkpoint, work / "assets")


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
    shipped = provenance.model_copy(
        update={
            "base_directory": SMOLLM2.requirement,
            "base_sha256": None,  # hangs on the version of transformers that wrote the base's config
            "config": {**provenance.config, "data": data},
        }
    )
    (target / PROVENANCE).write_text(shipped.model_dump_json(indent=2) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Returns 0, or 1 with one line that says what went wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.recipe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for name, words in (("make", "all of it"), ("data", "draw the tasks and write the job's configuration")):
        action = actions.add_parser(name, help=words)
        action.add_argument("--from", dest="source", type=Path, required=True, metavar="DIRECTORY")
        action.add_argument("--out", type=Path, required=True, metavar="WORK")
    shipping = actions.add_parser("ship", help="put the adapter of a checkpoint into assets/")
    shipping.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    shipping.add_argument("--to", type=Path, default=SHIPPED_ADAPTER, metavar="DIRECTORY")
    options = parser.parse_args(arguments)
    try:
        if options.action == "make":
            make(options.source, options.out.resolve())
        elif options.action == "data":
            write_data(options.source, options.out)
        else:
            ship(options.checkpoint, options.to)
    except RankingStudioError as error:
        log.error("trainer.recipe: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main(sys.argv[1:]))
