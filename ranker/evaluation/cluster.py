"""The same evaluation on Ray (extra `ray`): workers answer shards of (system, dataset, seed), this process keeps the journal.

A worker is an actor that holds the plan, so a model is loaded once a worker and a baseline is fitted once a worker and dataset.
Shards are handed out as workers become free, and answers are written into the journal as shards come back: a run that is
stopped goes on, with or without Ray. Rows, tests and files are then made by `run_evaluation` as always, which is why the
results are the same; times are those of the workers. Models are read by every worker from the same directory.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from ranker.errors import BackendError, RankingStudioError
from ranker.evaluation.answers import Answer, AnswerKey, Journal
from ranker.evaluation.runner import Gather, Plan, Report, timed_answers

SHARD_TASKS: Final = 8
"""Queries of one shard: what a stopped run loses at most, for each worker."""


class Shard(NamedTuple):
    """What is handed to a worker: places in the plan's lists, and the tasks that are not answered yet."""

    system: int
    dataset: int
    seed: int
    task_ids: tuple[str, ...]


def missing_shards(plan: Plan, journal: Journal) -> list[Shard]:
    """What the journal does not have, in the order of the plan."""
    shards = []
    for s, system in enumerate(plan.systems):
        for d, dataset in enumerate(plan.datasets):
            if not system.suits(dataset):
                continue
            for seed in plan.seeds:
                left = [
                    task.task_id
                    for task in plan.tasks(dataset, system)
                    if journal.get(AnswerKey(dataset.key, system.info.key, seed, task.task_id)) is None
                ]
                shards += [
                    Shard(s, d, seed, tuple(left[i : i + SHARD_TASKS])) for i in range(0, len(left), SHARD_TASKS)
                ]
    return shards


async def answer_shard(plan: Plan, shard: Shard) -> list[Answer]:
    """What a worker does; needs no Ray."""
    dataset, wanted = plan.datasets[shard.dataset], set(shard.task_ids)
    tasks = [task for task in dataset.tasks if task.task_id in wanted]
    stream = timed_answers(plan.systems[shard.system], dataset, tasks, shard.seed)
    return [answer async for answer in stream]


def gather_on_ray(num_workers: int, *, address: str | None = None, num_gpus: float = 0) -> Gather:
    """A `Gather` that answers on `num_workers` actors.

    Args:
        num_workers: actors, each with one CPU and its own copy of the models that it is asked about.
        address: of a running cluster (`auto` finds the one of this machine); None = start one here for this run.
        num_gpus: GPUs of one actor.

    Raises:
        BackendError: if Ray is not installed or no cluster answers.
    """
    ray = _import_ray()

    def gather(plan: Plan, journal: Journal, keep: Callable[[Answer], object], report: Report | None) -> None:
        shards = missing_shards(plan, journal)
        if not shards:
            return
        _connect(ray, address, num_workers)
        try:
            _run(ray, plan, shards, keep, report, num_workers, num_gpus)
        finally:
            ray.shutdown()

    return gather


def _run(
    ray: Any,
    plan: Plan,
    shards: Sequence[Shard],
    keep: Callable[[Answer], object],
    report: Report | None,
    num_workers: int,
    num_gpus: float,
) -> None:
    class Worker:
        def __init__(self, plan: Plan) -> None:
            self._plan = plan

        async def answer(self, shard: Shard) -> list[Answer]:
            return await answer_shard(self._plan, shard)

    actor: Any = ray.remote(num_cpus=1, num_gpus=num_gpus)(Worker)
    shared = ray.put(plan)
    workers = [actor.remote(shared) for _ in range(min(num_workers, len(shards)))]
    left = iter(shards)
    running = {worker.answer.remote(shard): (worker, shard) for worker, shard in zip(workers, left, strict=False)}
    num_done = 0
    while running:
        (ready, *_), _ = ray.wait(list(running), num_returns=1)
        worker, shard = running.pop(ready)
        for answer in _result(ray, ready):
            keep(answer)
        num_done += 1
        if report is not None:
            name, dataset = plan.systems[shard.system].info.name, plan.datasets[shard.dataset].name
            report(dataset, name, num_done, len(shards))
        if (following := next(left, None)) is not None:
            running[worker.answer.remote(following)] = (worker, following)


def _result(ray: Any, ready: Any) -> list[Answer]:
    """The answers of a shard; what went wrong in a worker as if it had gone wrong here."""
    try:
        answers: list[Answer] = ray.get(ready)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RankingStudioError):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise BackendError(f"--engine ray: a worker was lost: {reason}: run it again to go on") from error
    return answers


def _connect(ray: Any, address: str | None, num_workers: int) -> None:
    here = {"num_cpus": num_workers, "include_dashboard": False}
    options: dict[str, Any] = {"address": address} if address else here
    try:
        ray.init(log_to_driver=False, configure_logging=False, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise BackendError(f"--ray-address: {address or 'here'}: {reason}: start a cluster with `ray start`") from error


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    try:
        import ray
    except ImportError as error:
        raise BackendError("--engine ray: ray: is not installed: pip install -e '.[ray]'") from error
    return ray
