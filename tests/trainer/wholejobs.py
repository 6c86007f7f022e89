"""A data directory with the toy model, and files that whole jobs are trained on."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ranker.datasets import dump_tasks
from ranker.schema import Candidate, Domain, RankingTask
from trainer.config import make_config
from trainer.corrections import dump_corrections
from trainer.jobs import Job, Jobs, JobState
from trainer.modelcards import ModelCard, write_card
from trainer.registry import Registry
from trainer.run import _run
from trainer.simulate import simulate_corrections


def make_task(number: int) -> RankingTask:
    years = [1930 + (number * 7 + k * 13) % 70 for k in range(4)]
    return RankingTask(
        task_id=f"t{number}",
        domain=Domain.OTHER,
        query="old",
        candidates=tuple(Candidate(candidate_id=str(k), text=f"F{k} ({year})") for k, year in enumerate(years)),
        relevance={str(years.index(min(years))): 1},
    )


TASKS = [make_task(n) for n in range(30)]


class Studio:
    """A data directory with the tiny model as its default, and files to train on."""

    def __init__(self, directory: Path, model_dir: Path) -> None:
        self.directory, self.toy_dir = directory, model_dir
        self.registry = Registry(directory / "models")
        self.jobs = Jobs(directory / "jobs", models_dir=directory / "models")
        card = ModelCard(name="toy", directory=str(model_dir), sha256="toy-hash")
        write_card(directory / "models", card)
        dump_tasks(TASKS, directory / "tasks.jsonl")
        dump_corrections(simulate_corrections(TASKS, "older", noise=0.1), directory / "corrections.jsonl")

    def job(self, kind: str, *, max_steps: int, **changes: Any) -> Job:
        values: dict[str, Any] = {
            "kind": kind,
            "model": "toy",
            "data": {
                "tasks": [str(self.directory / "tasks.jsonl")],
                "corrections": [str(self.directory / "corrections.jsonl")],
            },
            "examples": {"num_examples": 32},
            "optimizer": {"max_steps": max_steps, "batch_size": 4, "learning_rate": 0.01, "warmup_steps": 0},
            "ppo": {"rollout_size": 8, "max_completion_tokens": 6, "group_size": 2},
            "lora": {"rank": 4, "alpha": 8},
            "precision": "fp32",
            "device": "cpu",
            "save_every": 100,
            "compared": 0,
        }
        return self.jobs.create(make_config({**values, **changes}))

    def run(self, job: Job) -> tuple[JobState, str]:
        return _run(job, self.registry)


def weights(checkpoint: Path | None) -> dict[str, torch.Tensor]:
    assert checkpoint is not None
    return load_file(checkpoint / "adapter_model.safetensors")
