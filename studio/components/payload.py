"""Tasks and traces as the browser gets them: the shape of the live view's snapshot, for what is not live too."""

from typing import Any

from ranker.metrics import random_floor_mrr
from ranker.schema import RankingTask
from studio.snapshot import trace_json
from studio.store import StoredTrace


def task_payload(dataset: str, task: RankingTask) -> dict[str, Any]:
    """A task that was not ranked yet: what the prompt will show of it, and what is known about relevance."""
    relevant = [i for i in task.candidate_ids if i in task.relevant_ids]
    return {
        "dataset": dataset,
        "task_id": task.task_id,
        "domain": task.domain.value,
        "query": task.query,
        "history": list(task.history),
        "criterion": task.criterion,
        "candidates": [{"id": c.candidate_id, "title": c.title, "text": c.text} for c in task.candidates],
        "relevant": relevant or None,
        "random_mrr": random_floor_mrr(len(task.candidates), len(relevant)) if relevant else None,
    }


def trace_payload(trace: StoredTrace) -> dict[str, Any]:
    """A stored trace with every step and its exact prompt."""
    return trace_json(trace) | {"steps": [step.model_dump(mode="json") for step in trace.steps]}
