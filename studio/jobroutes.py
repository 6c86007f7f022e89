"""The HTTP routes of training jobs: for the Train page's script, which follows a job, and for other programs."""

import itertools
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse
from pydantic import Field

from ranker.errors import UsageError
from ranker.schema import RankingTask, Record
from studio.context import Context
from studio.inspector import describe_example, example_of_rollout, example_of_task, inspect_completion
from studio.store import NotStoredError
from studio.training import JobRequest, describe_plan
from trainer.examples import TrainingExample
from trainer.modelcards import ModelCard
from trainer.orders import tiers_of_labels

MAX_LOOKED_AT = 100
"""Tasks of a dataset among which the inspector looks for one with labels."""


class CloneRequest(Record):
    """The body of `POST /api/jobs/{id}/clone`."""

    changes: Mapping[str, Any] = {}
    """Fields of the config that differ."""
    placebo: bool = False
    """The same job on nothing that could be learnt."""


class PriorityRequest(Record):
    """The body of `PUT /api/jobs/{id}/priority`."""

    priority: Annotated[int, Field(ge=0, le=100)]


class InspectRequest(Record):
    """The body of `POST /api/rewards/inspect`: a kept rollout of a job, or a task of a dataset, and what was written.

    A job without a rollout gives its first task with labels; nothing at all gives that of any dataset.
    """

    job: str | None = None
    rollout: Annotated[int, Field(ge=0)] | None = None
    dataset: int | None = None
    task: str | None = None
    completion: str | None = None
    """None = the rollout's own."""


def add_job_routes(router: APIRouter, context: Context) -> None:
    """Add them to `router`."""
    _add_lists(router, context)
    _add_actions(router, context)

    @router.post("/api/rewards/inspect")
    def inspect(body: InspectRequest) -> dict[str, Any]:
        example, own = _example(context, body)
        completion = own if body.completion is None else body.completion
        return {
            "example": describe_example(example),
            "completion": completion,
            **inspect_completion(completion, example),
        }


def _add_lists(router: APIRouter, context: Context) -> None:
    training = context.training

    @router.get("/api/jobs")
    def jobs() -> dict[str, Any]:
        return {"jobs": [status.model_dump(mode="json") for status in training.jobs()]}

    @router.get("/api/jobs/{job_id}")
    def job(job_id: str) -> dict[str, Any]:
        return training.view(_known(context, job_id))

    @router.get("/api/jobs/{job_id}/live")
    def live(job_id: str, after: int = -1, generation: Annotated[int, Query(ge=0)] = 0) -> dict[str, Any]:
        return training.live(_known(context, job_id), after=after, generation=generation)

    @router.get("/api/jobs/{job_id}/rollouts/{number}")
    def rollout(job_id: str, number: int) -> dict[str, Any]:
        found = training.rollout(_known(context, job_id), number)
        if found is None:
            raise NotStoredError(f"job: {job_id}: rollout: {number}: is not there: choose a smaller number")
        return found

    @router.get("/api/jobs/{job_id}/log")
    def log(job_id: str) -> PlainTextResponse:
        return PlainTextResponse(training.log(_known(context, job_id)))

    @router.get("/api/jobs/{job_id}/compare")
    def compare(job_id: str, other: str) -> dict[str, Any]:
        return training.compare(_known(context, job_id), _known(context, other))


def _add_actions(router: APIRouter, context: Context) -> None:
    training = context.training

    @router.post("/api/jobs/estimate")
    def estimate(body: JobRequest) -> dict[str, Any]:
        plan = training.plan(body)
        return {
            "words": describe_plan(plan),
            "fits": plan.fits,
            "memory_bytes": plan.needed_bytes,
            "memory": plan.estimate.memory._asdict(),
            "available_bytes": plan.available_bytes,
            "optimizer_steps": plan.estimate.optimizer_steps,
            "seconds": plan.estimate.seconds,
        }

    @router.post("/api/jobs", status_code=201)
    def start(body: JobRequest) -> dict[str, Any]:
        return training.start(body).model_dump(mode="json")

    @router.post("/api/jobs/{job_id}/stop")
    def stop(job_id: str) -> dict[str, Any]:
        return training.stop(_known(context, job_id)).model_dump(mode="json")

    @router.post("/api/jobs/{job_id}/resume")
    def resume(job_id: str) -> dict[str, Any]:
        return training.resume(_known(context, job_id)).model_dump(mode="json")

    @router.post("/api/jobs/{job_id}/clone", status_code=201)
    def clone(job_id: str, body: CloneRequest) -> dict[str, Any]:
        known = _known(context, job_id)
        made = training.placebo(known) if body.placebo else training.clone(known, body.changes)
        return made.model_dump(mode="json")

    @router.put("/api/jobs/{job_id}/priority")
    def priority(job_id: str, body: PriorityRequest) -> dict[str, Any]:
        return training.set_priority(_known(context, job_id), body.priority).model_dump(mode="json")

    @router.post("/api/jobs/{job_id}/promote")
    def promote(job_id: str) -> ModelCard:
        return training.promote(_known(context, job_id))

    @router.post("/api/models/undo-promote")
    def undo_promote() -> dict[str, str]:
        return {"model": training.undo_promote()}


def _known(context: Context, job_id: str) -> str:
    """The id, if there is such a job: 404 and not 400 if there is none."""
    try:
        return context.training.job(job_id).job_id
    except UsageError as error:
        raise NotStoredError(str(error)) from error


def _example(context: Context, body: InspectRequest) -> tuple[TrainingExample, str]:
    if body.job is not None and body.rollout is None:
        return example_of_task(context.training.labelled_task(_known(context, body.job))), ""
    if body.job is not None:
        rollout = context.training.rollout(_known(context, body.job), body.rollout or 0)
        if rollout is None:
            raise NotStoredError(f"inspector: rollout: {body.rollout}: is not there: choose another")
        return example_of_rollout(rollout, context.training.task(body.job, rollout["task_id"])), rollout["completion"]
    if body.dataset is not None and body.task is not None:
        return example_of_task(context.library.task(body.dataset, body.task)), ""
    return example_of_task(_any_labelled_task(context)), ""


def _any_labelled_task(context: Context) -> RankingTask:
    for info in context.library.datasets():
        for task in itertools.islice(context.library.iter_tasks(info.id), MAX_LOOKED_AT):
            if tiers_of_labels(task):
                return task
    raise UsageError("inspector: task: no dataset has known relevance: import one that does")
