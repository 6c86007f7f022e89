"""The recipe of the adapters that we ship: what they learn from, in which amounts, and how. Ours.

    python -m trainer.recipe make --from DIRECTORY --out WORK   # everything: tasks, jobs, adapters in WORK/assets; goes on if run again

    likelihood   a first reading of every source, from the base model
    more         a second one of what the first has not read, most of it games and music    -> iranker-135m
    reasons      short reasons and the answer, from the base model                          -> iranker-135m-reasons

`data` only writes the tasks and the configurations; `ship CHECKPOINT` puts one adapter in its place. Reads the training side (80%
of the users or queries, by a hash of their ids) of public raw files below DIRECTORY and nothing of the test side. The amounts are
what a CPU core can go through in some two hours; a GPU takes all.
"""

import argparse
import json
import logging
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from ranker.datasets import dump_tasks, import_source
from ranker.errors import JobError, RankingStudioError
from ranker.schema import RankingTask, Record
from trainer.checkpoints import PROVENANCE, newest_checkpoint, read_provenance
from trainer.config import JobConfig, overlay, read_config
from trainer.fetch import SMOLLM2
from trainer.jobs import Jobs, JobState
from trainer.modelcards import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from trainer.registry import BASE_MODEL, SHIPPED_ADAPTERS, SHIPPED_MODEL, Registry

log = logging.getLogger(__name__)


class Share(Record):
    """One source and how many of its tasks each job takes, drawn at random with the recipe's seed; no two jobs take the same."""

    name: str
    folder: str
    recipe: str
    options: Mapping[str, Any] = {}
    num_tasks: int
    num_more: int = 0
    more_history: int | None = None
    """Titles of history in the second reading; None = as in the first."""
    num_reasons: int = 0


def _router(scenario: str) -> Share:
    return Share(
        name=f"router-{scenario}",
        folder="routing/llmrouter_9llm",
        recipe=f"router-{scenario}",
        num_tasks=150,
        num_more=60,
        num_reasons=40,
    )


def _passages(number: int, num_reasons: int) -> Share:
    return Share(
        name=f"passage-{number}",
        folder="passage/msmarco_dev_lists",
        recipe=f"passage-{number}",
        num_tasks=40,
        num_more=20,
        num_reasons=num_reasons,
    )


def _recommendation(name: str, folder: str, recipe: str, amounts: tuple[int, int, int], **options: Any) -> Share:
    first, more, reasons = amounts
    more_history = options.pop("more_history", None)
    return Share(
        name=name,
        folder=folder,
        recipe=recipe,
        options={"min_history": 8, **options},
        num_tasks=first,
        num_more=more,
        num_reasons=reasons,
        more_history=more_history,
    )


SHARES: Final = (
    _recommendation("movie-1m", "movies/ml-1m", "rec-movie", (600, 500, 110)),
    _recommendation("movie-100k", "movies/ml-100k", "rec-movie", (170, 260, 50), more_history=60),
    _recommendation("game", "amazon/games_llmrank", "rec-game", (300, 1550, 220)),
    _recommendation("music", "amazon/cds_vinyl_flower", "rec-music", (650, 2400, 220), min_history=5),
    _router("performance"),
    _router("balance"),
    _router("cost"),
    _passages(5, 60),
    _passages(7, 0),
)
SEED: Final = 0
BATCH_SIZE: Final = 8
MORE_STEPS: Final = 420
REASONS_STEPS: Final = 125
REASONS: Final = "iranker-135m-reasons"
_LORA: Final = {"rank": 32, "alpha": 64, "modules": "q_proj,v_proj,gate_proj,up_proj,down_proj", "last_layers": 12}


class Drawn(NamedTuple):
    """The tasks of one source, by job."""

    first: list[RankingTask]
    more: list[RankingTask]
    reasons: list[RankingTask]


def draw_tasks(share: Share, directory: Path) -> Drawn:
    """The training side of a source, as many tasks for each job as its share says.

    Raises:
        DatasetError: if the files are not there or cannot be trusted.
    """
    tasks = _training_side(share, directory, share.options)
    first = random.Random(f"{SEED} {share.name}").sample(tasks, min(share.num_tasks, len(tasks)))
    taken = {t.task_id for t in first}
    rest = [t for t in tasks if t.task_id not in taken]
    random.Random(f"{SEED} {share.name} rest").shuffle(rest)
    more, reasons = rest[: share.num_more], rest[share.num_more :][: share.num_reasons]
    if share.more_history is not None:
        longer = _training_side(share, directory, {**share.options, "history": share.more_history})
        by_id = {t.task_id: t for t in longer}
        more = [by_id[t.task_id] for t in more]
    return Drawn(first, more, reasons)


def _training_side(share: Share, directory: Path, options: Mapping[str, Any]) -> list[RankingTask]:
    source = import_source(
        f"recipe:{share.recipe}", from_dir=directory / share.folder, options={**options, "split": "train"}
    )
    return [t.model_copy(update={"task_id": f"{share.name}/{t.task_id}"}) for t in source.tasks()]


def make_config(files: Sequence[str], num_examples: int) -> dict[str, Any]:
    """The job `likelihood`."""
    return {
        "kind": "sft",
        "name": SHIPPED_MODEL,
        "model": BASE_MODEL,
        "sft": {"teach": "likelihood"},
        "data": {"tasks": list(files)},
        "examples": {"num_examples": num_examples, "held_out_share": 0.0},
        "lora": _LORA,
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


def make_more_config(files: Sequence[str], num_examples: int) -> dict[str, Any]:
    """The job `more`; `start_from` is to be filled in."""
    optimizer = {"learning_rate": 7e-4, "batch_size": 4, "accumulation": 2, "max_steps": MORE_STEPS}
    return overlay(
        make_config(files, num_examples),
        {"name": f"{SHIPPED_MODEL}, more", "optimizer": optimizer, "max_prompt_tokens": 560, "compared": 0},
    )


def make_reasons_config(files: Sequence[str], num_examples: int) -> dict[str, Any]:
    """The job `reasons`."""
    optimizer = {"learning_rate": 8e-4, "warmup_steps": 8, "batch_size": 4, "max_steps": REASONS_STEPS}
    return overlay(
        make_config(files, num_examples),
        {
            "name": REASONS,
            "sft": {"teach": "rationales"},
            "examples": {"small_pools": 0.7, "hard_share": 0.2},
            "optimizer": optimizer,
            "max_prompt_tokens": 620,
            "compared": 0,
        },
    )


def write_data(directory: Path, out: Path) -> None:
    """Draw the tasks of every share and write them, and the configurations of the jobs, below `out`."""
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, list[str]] = {"likelihood": [], "more": [], "reasons": []}
    num_examples = dict.fromkeys(files, 0)
    for share in SHARES:
        for job, tasks in zip(files, draw_tasks(share, directory), strict=True):
            if tasks:
                files[job].append(f"{job}-{share.name}.jsonl")
                num_examples[job] += len(tasks)
                dump_tasks(tasks, out / files[job][-1])
        log.info("%s is drawn", share.name)
    makers = {"likelihood": make_config, "more": make_more_config, "reasons": make_reasons_config}
    for job, maker in makers.items():
        text = json.dumps(maker(files[job], num_examples[job]), indent=2)
        (out / f"{job}.yaml").write_text(text + "\n", encoding="utf-8")


def make(directory: Path, work: Path) -> None:
    """Draw, train, and put the adapters into `work`/assets. Run again, it goes on with the job that was not done.

    Raises:
        JobError: if a job fails or is stopped.
    """
    if not (work / "reasons.yaml").is_file():
        write_data(directory, work)
    Registry(work / "models").fetch_default()
    jobs = Jobs(work / "jobs", models_dir=work / "models")
    first = _run(jobs, read_config(work / "likelihood.yaml"))
    more = _run(jobs, read_config(work / "more.yaml").model_copy(update={"start_from": str(first)}))
    reasons = _run(jobs, read_config(work / "reasons.yaml"))
    ship(more, work / "assets" / SHIPPED_MODEL)
    ship(reasons, work / "assets" / REASONS)


def _run(jobs: Jobs, config: JobConfig) -> Path:
    """The last checkpoint of the job of that name, which is started, or resumed, unless it is done."""
    job = next((j for j in jobs.jobs() if j.config().name == config.name), None) or jobs.create(config)
    if jobs.status(job).state is not JobState.DONE:
        log.info("%s: trains %d steps: %s", config.name, config.optimizer.max_steps, job.log_path)
        jobs.start(job).wait()
    status, checkpoint = jobs.status(job), newest_checkpoint(job.checkpoints)
    if status.state is not JobState.DONE or checkpoint is None:
        raise JobError(f"jobs: {status.job_id}: {status.message}: run the same command again to go on")
    return checkpoint


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
    """Returns 0, or 1 if a job failed."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.recipe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for name, words in (
        ("make", "draw, train and ship"),
        ("data", "draw the tasks and write the jobs' configurations"),
    ):
        action = actions.add_parser(name, help=words)
        action.add_argument("--from", dest="source", type=Path, required=True, metavar="DIRECTORY")
        action.add_argument("--out", type=Path, required=True, metavar="WORK")
    shipping = actions.add_parser("ship", help="put the adapter of a checkpoint into assets/")
    shipping.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    shipping.add_argument("--to", type=Path, default=SHIPPED_ADAPTERS[SHIPPED_MODEL], metavar="DIRECTORY")
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
