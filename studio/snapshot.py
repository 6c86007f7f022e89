"""From a stored trace to the dictionary that a viewer is shown first. Its keys are the live view's contract."""

from typing import Any

from ranker.metrics import random_floor_mrr
from ranker.schema import EliminationStep, RankingTask
from studio.store import StoredTrace


def step_json(step: EliminationStep) -> dict[str, Any]:
    """A finished step as viewers get it: everything but the prompt, which is long and has its own page."""
    return step.model_dump(mode="json", exclude={"prompt"})


def task_json(task: RankingTask) -> dict[str, Any]:
    """A task: what the prompt shows of it, and what is known about relevance."""
    relevant = [i for i in task.candidate_ids if i in task.relevant_ids]
    return {
        "task_id": task.task_id,
        "domain": task.domain.value,
        "query": task.query,
        "history": list(task.history),
        "criterion": task.criterion,
        "candidates": [{"id": c.candidate_id, "title": c.title, "text": c.text} for c in task.candidates],
        "relevant": relevant or None,
        "random_mrr": random_floor_mrr(len(task.candidates), len(relevant)) if relevant else None,
    }


def trace_json(stored: StoredTrace) -> dict[str, Any]:
    """The snapshot of a stored trace; nothing is being thought in it (`current` is None)."""
    return {
        **task_json(stored.task),
        "trace_id": stored.trace_id,
        "state": stored.state.value,
        "dataset": stored.dataset,
        "dataset_id": stored.dataset_id,
        "dataset_version": stored.dataset_version,
        "model": stored.model,
        "mode": stored.mode.value,
        "seed": stored.seed,
        "think_tokens": stored.config.get("think_tokens"),
        "answer_format": stored.config.get("answer_format"),
        "parent_trace_id": stored.parent_trace_id,
        "branch_step_index": stored.branch_step_index,
        "created_at": stored.created_at,
        "steps": [step_json(step) for step in stored.steps],
        "current": None,
        "ranking": list(stored.ranking) if stored.ranking is not None else None,
        "totals": stored.totals.model_dump(mode="json"),
        "error": stored.error,
    }
