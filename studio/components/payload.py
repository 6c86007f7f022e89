"""Tasks and traces as the browser gets them: the shape of the live view's snapshot, for what is not live too."""

from typing import Any

from ranker.schema import RankingTask
from studio.snapshot import task_json, trace_json
from studio.store import StoredTrace


def task_payload(dataset: str, task: RankingTask) -> dict[str, Any]:
    """A task that was not ranked yet: what the prompt will show of it, and what is known about relevance."""
    return {"dataset": dataset, **task_json(task)}


def trace_payload(trace: StoredTrace) -> dict[str, Any]:
    """A stored trace with every step and its exact prompt."""
    return trace_json(trace) | {"steps": [step.model_dump(mode="json") for step in trace.steps]}
