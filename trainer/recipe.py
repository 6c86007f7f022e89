"""The recipes of the adapters that we ship: what they learn from, in which amounts, and how. Ours.

    python -m trainer.recipe make ranker --from DIRECTORY --out WORK     # tasks, jobs, and the adapter in WORK/assets
    python -m trainer.recipe make reasoner --from DIRECTORY --out WORK   # run again, it goes on

`ranker` decides by likelihood. It reads what people chose in a row (kind `sft`, teach `likelihood`), and then compares whole pools
(kind `titles`), first those with one item that was chosen, then many more with several. `reasoner` writes a reason and an answer. It imitates
rationales (kind `sft`), and is then rewarded for its exclusions (kind `ppo`). `routing` is no adapter that we ship: it goes on from the shipped
ranker and learns in its upper layers which language models are typically best for a kind of question, which costs films and games a point or two
(`trainer/NOTES.md`). `data RECIPE` alone writes the tasks and the configurations of the jobs, for `python launch.py train`, and `ship CHECKPOINT`
puts an adapter into assets/.

Reads the training side (80% of the users or queries, by a hash of their ids) of public raw files below DIRECTORY and nothing
of the test side. The amounts are for a GPU: some eight minutes each on a large one, a day or more on two cores.
"""

import argparse
import json
import logging
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ranker.datasets import dump_tasks, import_source
from ranker.errors import JobError, RankingStudioError
from ranker.schema import Correction, CorrectionKind, RankingTask, Record
from trainer.checkpoints import PROVENANCE, newest_checkpoint, read_provenance
from trainer.config import read_config
from trainer.corrections import dump_corrections
from trainer.examples import is_held_out
from trainer.fetch import SMOLLM2
from trainer.jobs import Job, Jobs, JobState
from trainer.modelcards import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from trainer.orders import tiers_of_labels
from trainer.registry import BASE_MODEL, SHIPPED, SHIPPED_MODEL, Registry

log = logging.getLogger(__name__)


class Share(Record):
    """One source and how many of its tasks are taken, drawn at random with the recipe's seed."""

    name: str
    folder: str
    recipe: str
    options: Mapping[str, Any] = {}
    num_tasks: int | None = None
    """None = all."""
    is_said: bool = False
    """The best of its relevance are written as corrections, and its tasks without a label: a penalty on leaving the policy at the start is for
    what is replayed, not for these."""


class Stage(Record):
    """One job, which goes on with the adapter of the one before it."""

    name: str
    shares: tuple[Share, ...]
    config: Mapping[str, Any]


SEED: Final = 0
CHOOSING_SHARE: Final = 0.04
MOVIES_1M: Final = {"folder": "movies/ml-1m", "recipe": "rec-movie"}
MOVIES_100K: Final = {"folder": "movies/ml-100k", "recipe": "rec-movie"}
GAMES: Final = {"folder": "amazon/games_llmrank", "recipe": "rec-game"}
MUSIC: Final = {"folder": "amazon/cds_vinyl_flower", "recipe": "rec-music"}


def _windows(name: str, source: Mapping[str, str], num_tasks: int | None = None, **options: Any) -> Share:
    """Several tasks a user: what came before any of their items, and that item."""
    return Share(name=name, options={"target": "random", "min_history": 3, **options}, num_tasks=num_tasks, **source)


def _routers(some: int | None = None) -> tuple[Share, ...]:
    name = "router" if some is None else "some-router"
    return tuple(
        Share(name=f"{name}-{s}", folder="routing/llmrouter_9llm", recipe=f"router-{s}", num_tasks=some)
        for s in ("performance", "balance", "cost")
    )


def _passages(*sizes: int) -> tuple[Share, ...]:
    return tuple(Share(name=f"passage-{n}", folder="passage/msmarco_dev_lists", recipe=f"passage-{n}") for n in sizes)


_PAIR: Final = {"num_candidates": 2}  # reading looks at the target alone
_READING: Final = Stage(
    name="reading",
    shares=(
        _windows("movies-1m-read", MOVIES_1M, items_per_task=5, **_PAIR),
        _windows("movies-100k-read", MOVIES_100K, items_per_task=5, **_PAIR),
        _windows("games-read", GAMES, items_per_task=5, **_PAIR),
        _windows("music-read", MUSIC, items_per_task=4, **_PAIR),
        *_routers(),
        *_passages(5, 7),
    ),
    config={
        "kind": "sft",
        "sft": {"teach": "likelihood"},
        "examples": {"num_examples": 69_120, "held_out_share": 0.0},
        "lora": {"rank": 32, "alpha": 64},
        "optimizer": {
            "learning_rate": 1e-3,
            "schedule": "linear",
            "warmup_steps": 40,
            "batch_size": 96,
            "max_steps": 720,
        },
        "max_prompt_tokens": 280,
        "save_every": 240,
    },
)
_BY_PAIRS: Final = {"kind": "titles", "titles": {"loss": "pairs", "answer": "likelihood"}}
_ANY_OTHERS: Final = {"held_out_share": 0.0, "small_pools": 0.0, "hard_share": 0.0}
_COMPARING: Final = Stage(
    name="comparing",
    shares=(
        _windows("movies-1m", MOVIES_1M, 2_400),
        _windows("movies-100k", MOVIES_100K, 2_000),
        _windows("games", GAMES, 3_600),
        _windows("music", MUSIC, 2_400),
        *_routers(),
    ),
    config={
        **_BY_PAIRS,
        "examples": {"num_examples": 5_600, "min_pool": 9, **_ANY_OTHERS},
        "optimizer": {
            "learning_rate": 3e-4,
            "schedule": "linear",
            "warmup_steps": 40,
            "batch_size": 16,
            "max_steps": 350,
        },
        "max_prompt_tokens": 900,
        "save_every": 250,
    },
)
_SEVERAL: Final = {"num_candidates": 24, "num_targets": 5, "min_history": 5, "items_per_task": 1}
_COMPARING_SEVERAL: Final = Stage(
    name="comparing-several",
    shares=(
        _windows("movies-1m-several", MOVIES_1M, 14_000, **_SEVERAL),
        _windows("movies-100k-several", MOVIES_100K, 5_000, **_SEVERAL),
        _windows("games-several", GAMES, 10_000, **_SEVERAL),
        _windows("music-several", MUSIC, 12_000, **_SEVERAL),
        *_routers(1_000),
        *_passages(5, 7),
    ),
    config={
        **_BY_PAIRS,
        "examples": {"num_examples": 40_000, "min_pool": 24, "max_pool": 24, **_ANY_OTHERS},
        "optimizer": {
            "learning_rate": 4e-4,
            "schedule": "linear",
            "warmup_steps": 30,
            "batch_size": 40,
            "max_steps": 900,
        },
        "max_prompt_tokens": 1_000,
        "save_every": 250,
    },
)
_NUM_SAID: Final = 3
"""Places of an order that are told apart; the rest is tied, because who is best decides."""
_NINE: Final = {"history": 10, "num_candidates": 9}


def _typical(scenario: str, num_tasks: int) -> Share:
    """Questions of a scenario with the models that are most often among the best for their kind."""
    return Share(
        name=f"typical-{scenario}",
        folder="routing/llmrouter_9llm",
        recipe=f"router-{scenario}",
        options={"relevance": "typical"},
        num_tasks=num_tasks,
        is_said=True,
    )


_ROUTING: Final = Stage(
    name="routing",
    shares=(
        _typical("performance", 850),
        _typical("balance", 280),
        _typical("cost", 280),
        _windows("movies-1m-9", MOVIES_1M, 90, **_NINE),
        _windows("movies-100k-9", MOVIES_100K, 40, **_NINE),
        _windows("games-9", GAMES, 60, **_NINE),
        _windows("music-9", MUSIC, 60, **_NINE),
        Share(name="some-passage-5", folder="passage/msmarco_dev_lists", recipe="passage-5", num_tasks=12),
    ),
    config={
        "model": SHIPPED_MODEL,
        "kind": "titles",
        "titles": {"loss": "pairs", "answer": "likelihood", "kl_weight": 2.0},
        "examples": {"num_examples": 7_040, "min_pool": 9, "max_pool": 9, "correction_share": 0.8, **_ANY_OTHERS},
        "lora": {"rank": 32, "alpha": 64, "last_layers": 4, "kept_gb": 4.0},
        "optimizer": {
            "learning_rate": 4e-4,
            "schedule": "linear",
            "warmup_steps": 20,
            "batch_size": 16,
            "max_steps": 440,
        },
        "max_prompt_tokens": 700,
        "save_every": 110,
    },
)
_SMALL_POOL: Final = {"history": 10, "num_candidates": 8}
_WORDS: Final = (
    _windows("movies-1m-8", MOVIES_1M, 2_400, **_SMALL_POOL),
    _windows("movies-100k-8", MOVIES_100K, 1_200, **_SMALL_POOL),
    _windows("games-8", GAMES, 3_000, **_SMALL_POOL),
    _windows("music-8", MUSIC, 2_400, **_SMALL_POOL),
    *_routers(1_000),
    *_passages(5),
)
_ANY_POOL: Final = {
    "held_out_share": 0.0,
    "max_pool": 9,
    "small_pools": 0.5,
    "hard_share": 0.2,
    "fixed_share": 0.4,
}
_IMITATING: Final = Stage(
    name="imitating",
    shares=_WORDS,
    config={
        "kind": "sft",
        "examples": {"num_examples": 8_000, **_ANY_POOL},
        "lora": {"rank": 16, "alpha": 32},
        "optimizer": {
            "learning_rate": 1e-3,
            "schedule": "linear",
            "warmup_steps": 20,
            "batch_size": 32,
            "max_steps": 250,
        },
        "max_prompt_tokens": 640,
        "save_every": 250,
    },
)
_EXCLUDING: Final = Stage(
    name="excluding",
    shares=_WORDS,
    config={
        "kind": "ppo",
        "examples": {"num_examples": 12_000, "seed": 1, **_ANY_POOL},
        # a thought names the candidate first, some forty tokens before the reward: lambda below 1 would hardly reach that token
        "ppo": {"rollout_size": 768, "epochs": 1, "lam": 1.0, "max_completion_tokens": 80},
        "optimizer": {"learning_rate": 2e-4, "warmup_steps": 10, "batch_size": 32, "max_steps": 480},
        "max_prompt_tokens": 640,
        "save_every": 100,
    },
)
RECIPES: Final[Mapping[str, tuple[Stage, ...]]] = {
    "ranker": (_READING, _COMPARING, _COMPARING_SEVERAL),
    "reasoner": (_IMITATING, _EXCLUDING),
    "routing": (_ROUTING,),
}


def draw_tasks(share: Share, directory: Path, *, is_for_choosing: bool = False) -> list[RankingTask]:
    """The training side of a source, as many tasks as its share says.

    Args:
        is_for_choosing: the users and queries of the training side that no stage reads, to choose between checkpoints by.

    Raises:
        DatasetError: if the files are not there or cannot be trusted.
    """
    options = {**share.options, "split": "train"}
    source = import_source(f"recipe:{share.recipe}", from_dir=directory / share.folder, options=options)
    tasks = [t for t in source.tasks() if _is_for_choosing(share, t) == is_for_choosing]
    number = len(tasks) if share.num_tasks is None else min(share.num_tasks, len(tasks))
    chosen = random.Random(f"{SEED} {share.name}").sample(tasks, number)
    return [t.model_copy(update={"task_id": f"{share.name}/{t.task_id}"}) for t in chosen]


def _is_for_choosing(share: Share, task: RankingTask) -> bool:
    """By user or query, the same for every share of a folder."""
    group, _, _ = task.task_id.partition("@")
    return is_held_out(f"{share.folder}/{group}", CHOOSING_SHARE)


def write_data(recipe: str, directory: Path, out: Path) -> None:
    """Write the data of every stage below `out`."""
    for stage in RECIPES[recipe]:
        write_stage(stage, directory, out)


def write_stage(stage: Stage, directory: Path, out: Path) -> None:
    """Draw the tasks of every share that is not there yet, and write them and the job's configuration below `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for share in stage.shares:
        if (out / f"{share.name}.jsonl").is_file():
            continue
        tasks = draw_tasks(share, directory)
        if share.is_said:
            dump_corrections(map(say_best, tasks), out / _said_file(share))
            tasks = [t.model_copy(update={"relevance": {}}) for t in tasks]
        dump_tasks(tasks, out / f"{share.name}.jsonl")
        log.info("%s: %d tasks", share.name, len(tasks))
    config_path(stage, out).write_text(json.dumps(make_job(stage), indent=2) + "\n", encoding="utf-8")


def say_best(task: RankingTask) -> Correction:
    """The best of a task's relevance, one after another, before all others, as somebody would say it."""
    tiers = tiers_of_labels(task)
    rest = [i for tier in tiers[_NUM_SAID:] for i in tier]
    order = [list(tier) for tier in tiers[:_NUM_SAID]] + ([rest] if rest else [])
    return Correction(
        correction_id=f"said/{task.task_id}",
        task_id=task.task_id,
        kind=CorrectionKind.RANKING,
        author="trainer.recipe",
        created_at="2026-11-27T00:00:00+00:00",
        payload={"order": order},
    )


def _said_file(share: Share) -> str:
    return f"{share.name}-said.jsonl"


def make_job(stage: Stage) -> dict[str, Any]:
    """The configuration of a stage's job."""
    said = [_said_file(share) for share in stage.shares if share.is_said]
    return {
        "name": stage.name,
        "model": BASE_MODEL,
        "data": {"tasks": [f"{share.name}.jsonl" for share in stage.shares], "corrections": said},
        "log_every": 10,
        "measured": 0,
        "compared": 0,
        **stage.config,
    }


def config_path(stage: Stage, out: Path) -> Path:
    """Where a stage's configuration is."""
    return out / f"{stage.name}.yaml"


def make(recipe: str, directory: Path, work: Path) -> None:
    """Draw, train stage by stage, and put the adapter into `work`/assets. Run again, it goes on with what was not done.

    Raises:
        JobError: if a job fails or is stopped.
    """
    stages = RECIPES[recipe]
    if not all(config_path(stage, work).is_file() for stage in stages):
        write_data(recipe, directory, work)
    Registry(work / "models").fetch_default()
    jobs = Jobs(work / "jobs" / recipe, models_dir=work / "models")
    checkpoint: Path | None = None
    for stage in stages:
        checkpoint = _finish(jobs, stage, config_path(stage, work), checkpoint)
        ship(checkpoint, work / "assets" / recipe / stage.name)


def _finish(jobs: Jobs, stage: Stage, config: Path, before: Path | None) -> Path:
    """Train one stage to its end; returns its last checkpoint."""
    made = {jobs.status(job).name: job for job in jobs.jobs()}
    job: Job | None = made.get(stage.name)
    if job is None:
        start_from = None if before is None else str(before)
        job = jobs.create(read_config(config).model_copy(update={"start_from": start_from}))
    if jobs.status(job).state is not JobState.DONE:
        log.info("%s: trains; see %s", stage.name, job.log_path)
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
    data = {name: [Path(file).name for file in files] for name, files in provenance.config["data"].items()}
    before = provenance.config.get("start_from")
    earlier = _name_adapter(Path(before)) if before else None
    shipped = provenance.model_copy(
        update={
            "base_directory": SMOLLM2.requirement,
            "base_sha256": None,  # hangs on the version of transformers that wrote the base's config
            "correction_ids": (),  # nobody's: the recipe's own, whose file is named
            "config": {**provenance.config, "data": data, "start_from": earlier},
        }
    )
    (target / PROVENANCE).write_text(shipped.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _name_adapter(path: Path) -> str:
    """JOB/checkpoint-N, or the name of the registered model that the adapter is of."""
    return f"{path.parts[-3]}/{path.name}" if path.parent.name == "checkpoints" else path.parent.name


def main(arguments: list[str]) -> int:
    """Returns 0, or 1 with one line that says what went wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.recipe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for name, words in (("make", "all of it"), ("data", "draw the tasks and write the jobs' configurations")):
        action = actions.add_parser(name, help=words)
        action.add_argument("recipe", choices=RECIPES)
        action.add_argument("--from", dest="source", type=Path, required=True, metavar="DIRECTORY")
        action.add_argument("--out", type=Path, required=True, metavar="WORK")
    shipping = actions.add_parser("ship", help="put the adapter of a checkpoint into assets/")
    shipping.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    shipping.add_argument("--to", type=Path, default=SHIPPED[SHIPPED_MODEL], metavar="DIRECTORY")
    options = parser.parse_args(arguments)
    try:
        if options.action == "make":
            make(options.recipe, options.source, options.out.resolve())
        elif options.action == "data":
            write_data(options.recipe, options.source, options.out)
        else:
            ship(options.checkpoint, options.to)
    except RankingStudioError as error:
        log.error("trainer.recipe: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main(sys.argv[1:]))
