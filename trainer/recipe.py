"""The recipes of the adapters that we ship: what they learn from, in which amounts, and how. Ours.

    python -m trainer.recipe make ranker --from DIRECTORY --out WORK     # tasks, jobs, and the adapter in WORK/assets
    python -m trainer.recipe make reasoner --from DIRECTORY --out WORK   # run again, it goes on

`ranker` decides by likelihood. It reads what people chose in a row (kind `sft`, teach `likelihood`), and then compares whole pools
(kind `titles`), first those with one item that was chosen, then many more with several; last, its upper layers learn which language models are
typically best for a kind of question, and go three quarters of that way (`trainer/NOTES.md`). `reasoner` writes a reason and an answer. It
imitates rationales (kind `sft`), and is then rewarded for its exclusions (kind `ppo`). `ranker-ppo` begins as `ranker` does, and then learns
from the reward of the candidates that it excludes (kind `ppo-exclusions`), on all three domains. `data RECIPE` alone writes the tasks and the
configurations of the jobs, for `python launch.py train`; `choosing` writes tasks of users and queries that no stage reads, and the command that
ranks them; `ship CHECKPOINT` puts an adapter into assets/.

Reads the training side (80% of the users or queries, by a hash of their ids) of public raw files below DIRECTORY and nothing
of the test side. The amounts are for a GPU: some eight minutes each on a large one, a day or more on two cores (the last stage of the ranker: an hour).
"""

import argparse
import json
import logging
import os
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from ranker.datasets import dump_tasks, import_source
from ranker.errors import JobError, RankingStudioError
from ranker.schema import Correction, CorrectionKind, RankingTask
from trainer.checkpoints import PROVENANCE, newest_checkpoint, read_provenance
from trainer.config import read_config
from trainer.corrections import dump_corrections
from trainer.examples import is_held_out
from trainer.fetch import SMOLLM2
from trainer.jobs import Job, Jobs, JobState
from trainer.modelcards import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from trainer.orders import tiers_of_labels
from trainer.registry import BASE_MODEL, SHIPPED, SHIPPED_MODEL, Registry
from trainer.stages import CHOOSING, RECIPES, Share, Stage

log = logging.getLogger(__name__)


SEED: Final = 0
CHOOSING_SHARE: Final = 0.04
_NUM_SAID: Final = 3
"""Places of an order that are told apart; the rest is tied, because who is best decides."""


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
    write_shares(stage.shares, directory, out)
    config_path(stage, out).write_text(json.dumps(make_job(stage), indent=2) + "\n", encoding="utf-8")


def write_choosing(directory: Path, out: Path) -> list[Path]:
    """Write the tasks of users and queries that no stage reads below `out`, a file a set, for `python launch.py eval`."""
    write_shares(CHOOSING, directory, out, is_for_choosing=True)
    return [out / f"{share.name}.jsonl" for share in CHOOSING]


def write_shares(shares: Sequence[Share], directory: Path, out: Path, *, is_for_choosing: bool = False) -> None:
    """Draw those that are not there yet, side by side, a process a core."""
    out.mkdir(parents=True, exist_ok=True)
    missing = [share for share in shares if not (out / f"{share.name}.jsonl").is_file()]
    if not missing:
        return
    write = partial(write_share, directory=directory, out=out, is_for_choosing=is_for_choosing)
    # spawned: the readers' own threads do not survive a fork
    with ProcessPoolExecutor(min(len(missing), os.cpu_count() or 1), get_context("spawn")) as processes:
        for share, number in zip(missing, processes.map(write, missing), strict=True):
            log.info("%s: %d tasks", share.name, number)


def write_share(share: Share, directory: Path, out: Path, *, is_for_choosing: bool = False) -> int:
    """Draw the tasks of a share and write them below `out`; returns how many there are."""
    tasks = draw_tasks(share, directory, is_for_choosing=is_for_choosing)
    if share.is_said:
        dump_corrections(map(say_best, tasks), out / _said_file(share))
        tasks = [t.model_copy(update={"relevance": {}}) for t in tasks]
    dump_tasks(tasks, out / f"{share.name}.jsonl")
    return len(tasks)


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
        before, checkpoint = checkpoint, _finish(jobs, stage, config_path(stage, work), checkpoint)
        ship(checkpoint, work / "assets" / recipe / stage.name, before=before, interpolation=stage.interpolation)


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


def ship(checkpoint: Path, target: Path, *, before: Path | None = None, interpolation: float = 1.0) -> None:
    """Copy what an adapter needs, in bfloat16 and without paths of this machine.

    Args:
        checkpoint: of the job.
        target: the directory to write.
        before: the adapter that the job began with; needed where `interpolation` is below 1.
        interpolation: where to be between `before` (0) and the checkpoint (1), in each of the two factors of a layer, not in their
            product. Source: Wortsman et al. 2022, of all weights.

    Raises:
        CheckpointError: if the checkpoint does not say what it came from.
        JobError: if the adapter before it is missing or has other weights than the checkpoint.
    """
    from safetensors.torch import load_file, save_file

    provenance = read_provenance(checkpoint)
    weights = load_file(checkpoint / ADAPTER_WEIGHTS)
    if interpolation < 1:
        if before is None:
            raise JobError(f"{checkpoint}: interpolation {interpolation:g}: between what? give the adapter before it")
        start = load_file(before / ADAPTER_WEIGHTS)
        if {name: w.shape for name, w in start.items()} != {name: w.shape for name, w in weights.items()}:
            raise JobError(
                f"{before}: is not of the same form as {checkpoint}: give the adapter that the job began with"
            )
        weights = {name: start[name].float().lerp(w.float(), interpolation) for name, w in weights.items()}
    target.mkdir(parents=True, exist_ok=True)
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
            "interpolation": interpolation,
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
    choosing = actions.add_parser(
        "choosing", help="write the tasks that no stage reads, to choose between checkpoints by"
    )
    choosing.add_argument("--from", dest="source", type=Path, required=True, metavar="DIRECTORY")
    choosing.add_argument("--out", type=Path, required=True, metavar="WORK")
    shipping = actions.add_parser("ship", help="put the adapter of a checkpoint into assets/")
    shipping.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    shipping.add_argument("--to", type=Path, default=SHIPPED[SHIPPED_MODEL], metavar="DIRECTORY")
    shipping.add_argument("--before", type=Path, metavar="ADAPTER", help="what the job began with, for --interpolation")
    shipping.add_argument(
        "--interpolation",
        type=float,
        default=1.0,
        metavar="A",
        help="where to be between that (0) and the checkpoint (1)",
    )
    options = parser.parse_args(arguments)
    if options.action == "ship" and not 0 <= options.interpolation <= 1:
        parser.error(f"--interpolation: {options.interpolation:g}: give a number from 0 to 1")
    try:
        if options.action == "make":
            make(options.recipe, options.source, options.out.resolve())
        elif options.action == "choosing":
            files = ",".join(map(str, write_choosing(options.source, options.out)))
            log.info("python launch.py eval --modes direct --seeds 1 --models A,B --datasets %s", files)
        elif options.action == "data":
            write_data(options.recipe, options.source, options.out)
        else:
            ship(options.checkpoint, options.to, before=options.before, interpolation=options.interpolation)
    except RankingStudioError as error:
        log.error("trainer.recipe: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main(sys.argv[1:]))
