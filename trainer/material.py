"""What a job trains on: its files read, checked and made into examples. No torch, so that a bad file is found at once."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ranker.datasets import load_tasks
from ranker.errors import JobError
from ranker.schema import Correction, RankingTask
from ranker.tracefile import read_traces
from trainer.config import JobConfig
from trainer.corrections import load_corrections
from trainer.demonstrations import Demonstration, find_demonstrations
from trainer.examples import ExampleSet, latest_corrections, make_training_examples
from trainer.simulate import shuffle_corrections


class Material(NamedTuple):
    """What a job trains on and from."""

    examples: ExampleSet
    correction_ids: tuple[str, ...]
    data_sha256: dict[str, str]
    demonstrations: list[Demonstration]
    evaluation: dict[str, list[RankingTask]]
    """Name of a set -> its tasks."""


def read_material(config: JobConfig) -> Material:
    """Tasks and corrections of the job's files, as examples.

    Raises:
        DatasetError: if a file cannot be trusted.
        JobError: if nothing can be learnt from it.
    """
    data = config.data
    tasks = [task for name in data.tasks for task in load_tasks(Path(name))]
    corrections = [c for name in data.corrections for c in load_corrections(Path(name))]
    used = _placebo(corrections, tasks, config.seed) if config.placebo == "shuffled-corrections" else corrections
    examples = make_training_examples(tasks, used, config.examples)
    if not examples.train:
        raise JobError("data: nothing is known of any task: give tasks with relevance, or corrections of them")
    if used is not corrections:  # what people said about held-out tasks is what the placebo, too, is measured by
        kept_apart = {task.task_id for task in examples.held_out}
        true = [c for c in latest_corrections(corrections) if c.task_id in kept_apart]
        examples = examples._replace(held_out_corrections=true)
    ids = sorted({i for e in examples.train for i in e.correction_ids})
    traces = [trace for name in data.traces for trace in read_traces(Path(name))]
    return Material(
        examples,
        tuple(ids),
        {Path(name).name: _sha256(Path(name)) for name in (*data.tasks, *data.corrections, *data.traces)},
        find_demonstrations(tasks, used, traces, config.examples) if config.kind == "sft" else [],
        {set_name(name): list(load_tasks(Path(name))) for name in data.evaluation},
    )


def set_name(path: str) -> str:
    """What a file of the job's folder is called on the page: `3-films.jsonl` -> `films`."""
    return re.sub(r"^c*\d+-", "", Path(path).stem)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _placebo(corrections: Sequence[Correction], tasks: Sequence[RankingTask], seed: int) -> list[Correction]:
    by_id = {task.task_id: task for task in tasks}
    rankings = [c for c in latest_corrections(corrections) if c.task_id in by_id and "order" in c.payload]
    return shuffle_corrections(rankings, by_id, seed)
