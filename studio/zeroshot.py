"""The jobs of the zero-shot protocol: for each domain, a model that is trained on the two others, as the shipped ranker begins,
in an amount that a CPU can take.

Writes the training sides of the paper's sets as files of tasks, and a job configuration for each model; whoever starts the
jobs and promotes their checkpoints then evaluates them with `--protocol zero-shot`. It does not train.
"""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Final

import yaml

from ranker.datasets import task_line
from ranker.errors import UsageError
from ranker.evaluation import ZERO_SHOT, open_preset, presets_of
from ranker.evaluation.zeroshot import DOMAINS
from ranker.schema import RankingTask
from trainer.config import make_config
from trainer.registry import BASE_MODEL

BATCH_SIZE: Final = 8
TASKS_A_SET: Final = 400
"""Training tasks taken of each of the paper's sets, in sampling order: domains then weigh about the same."""


def write_zero_shot_jobs(
    from_dir: Path, directory: Path, *, model: str | None = None, presets: Sequence[str] = (), limit: int | None = None
) -> list[Path]:
    """Write `train-DOMAIN.jsonl` and `without-DOMAIN.yaml` for every domain.

    Args:
        from_dir: raw files of the presets.
        directory: where to write; made if it is not there.
        model: that is trained; None = the plain base model, which has seen none of them.
        presets: instead of the protocol's.
        limit: tasks a set, where it is fewer than `TASKS_A_SET`.

    Returns:
        The job configurations.

    Raises:
        DatasetError: if raw files are missing.
        UsageError: if `directory` cannot be written.
    """
    by_domain: dict[str, list[Sequence[RankingTask]]] = {}
    for name in presets or presets_of(ZERO_SHOT):
        tasks = open_preset(name, from_dir, split="train").tasks[: min(TASKS_A_SET, limit or TASKS_A_SET)]
        renamed = [t.model_copy(update={"task_id": f"{name}/{t.task_id}"}) for t in tasks]
        by_domain.setdefault(tasks[0].domain.value, []).append(renamed)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        num_tasks = {}
        for domain, sets in by_domain.items():
            mixed = [task for row in zip_longest(*sets) for task in row if task is not None]
            num_tasks[domain] = len(mixed)
            text = "".join(f"{task_line(task)}\n" for task in mixed)
            (directory / f"train-{domain}.jsonl").write_text(text, encoding="utf-8")
        return [_write_job(directory, held_out, num_tasks, model) for held_out in DOMAINS if held_out in num_tasks]
    except OSError as error:
        raise UsageError(f"--configs: {directory}: {error.strerror}: choose another directory") from error


def _write_job(directory: Path, held_out: str, num_tasks: Mapping[str, int], model: str | None) -> Path:
    """A job that reads the domains that are not held out."""
    kept = [d for d in num_tasks if d != held_out]
    num_examples = sum(num_tasks[d] for d in kept)
    job = {
        "kind": "sft",
        "name": model_name(held_out),
        "model": model or BASE_MODEL,
        "sft": {"teach": "likelihood"},
        "data": {"tasks": [f"train-{d}.jsonl" for d in kept]},
        "examples": {"num_examples": num_examples, "held_out_share": 0.0},
        "lora": {"rank": 32, "alpha": 64, "modules": "q_proj,v_proj,gate_proj,up_proj,down_proj", "last_layers": 12},
        "optimizer": {
            "learning_rate": 1e-3,
            "schedule": "linear",
            "warmup_steps": 10,
            "batch_size": BATCH_SIZE,
            "max_steps": max(1, num_examples // BATCH_SIZE),
        },
        "max_prompt_tokens": 480,
        "num_threads": 1,
        "save_every": 20,
        "measured": 0,
    }
    make_config(job, place=model_name(held_out))
    path = directory / f"{model_name(held_out)}.yaml"
    head = f"# Zero-shot: trained on everything but {held_out}, to be asked about {held_out}.\n"
    path.write_text(head + yaml.safe_dump(job, sort_keys=False), encoding="utf-8")
    return path


def model_name(held_out: str) -> str:
    """What the model that has not seen a domain is called."""
    return f"without-{held_out}"


def trained_on(domains: Sequence[str] = DOMAINS) -> Mapping[str, tuple[str, ...]]:
    """Model name -> domains, as the jobs have it."""
    return {model_name(held_out): tuple(d for d in domains if d != held_out) for held_out in domains}
