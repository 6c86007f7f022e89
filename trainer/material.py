"""What a job trains on: its files read, checked and made into examples. No torch, so that a bad file is found at once."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ranker.datasets import load_tasks
from ranker.errors import JobError
from ranker.schema import Correction, RankingTask
from trainer.config import JobConfig
from trainer.corrections import load_corrections
from trainer.examples import ExampleSet, latest_corrections, make_training_examples
from trainer.simulate import shuffle_corrections


class Material(NamedTuple):
    """What a job trains on and from."""

    examples: ExampleSet
    correction_ids: tuple[str, ...]
    data_sha256: dict[str, str]


def read_material(config: JobConfig) -> Material:
    """Tasks and corrections of the job's files, as examples.

    Raises:
        DatasetError: if a file cannot be trusted.
        JobError: if nothing can be learnt from it.
    """
    tasks = [task for name in config.data.tasks for task in load_tasks(Path(name))]
    corrections = [c for name in config.data.corrections for c in load_corrections(Path(name))]
    used = _placebo(corrections, tasks, config.seed) if config.placebo == "shuffled-corrections" else corrections
    examples = make_training_examples(tasks, used, config.examples)
    if not examples.train:
        raise JobError("data: nothing is known of any task: give tasks with relevance, or corrections of them")
    ids = sorted({i for e in examples.train for i in e.correction_ids})
    files = [Path(name) for name in (*config.data.tasks, *config.data.corrections)]
    return Material(examples, tuple(ids), {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files})


def _placebo(corrections: Sequence[Correction], tasks: Sequence[RankingTask], seed: int) -> list[Correction]:
    by_id = {task.task_id: task for task in tasks}
    rankings = [c for c in latest_corrections(corrections) if c.task_id in by_id and "order" in c.payload]
    return shuffle_corrections(rankings, by_id, seed)
