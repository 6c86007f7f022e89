"""The reward inspector: one completion, every component of its reward under every preset, and what matched. Knows no page."""

from collections.abc import Mapping
from typing import Any, Final

from ranker.errors import UsageError
from ranker.parsing import parse_order
from ranker.prompts import THINK_OPEN
from ranker.schema import Mode, RankingTask
from trainer.examples import TrainingExample
from trainer.orders import grade_exclusions, tiers_of_labels
from trainer.rewards import COMPONENTS, PRESETS, TAGS, explain, read_exclusion

MAX_COMPLETION_CHARS: Final = 40_000


def example_of_rollout(rollout: Mapping[str, Any], task: RankingTask) -> TrainingExample:
    """The decision that a kept completion was about."""
    return TrainingExample(
        task=task,
        pool=tuple(rollout["pool"]),
        grades=rollout["grades"],
        tiers=tuple(map(tuple, rollout["tiers"])),
        mode=Mode(rollout["mode"]),
        shown=tuple(rollout.get("shown", ())),
    )


def example_of_task(task: RankingTask) -> TrainingExample:
    """The first decision on a task with labels, candidates in their own order.

    Raises:
        UsageError: if nothing is known of it.
    """
    tiers = tiers_of_labels(task)
    if not tiers:
        raise UsageError(f"inspector: task: {task.task_id[:80]}: nothing is known of it: choose one with relevance")
    return TrainingExample(
        task=task, pool=task.candidate_ids, grades=grade_exclusions(tiers, task.candidate_ids), tiers=tiers
    )


def describe_example(example: TrainingExample) -> dict[str, Any]:
    """A decision as the page shows it."""
    return {
        "task_id": example.task.task_id,
        "query": example.task.query or " / ".join(example.task.history[-3:]),
        "mode": example.mode.value,
        "pool": [
            {"label": k + 1, "title": c.title, "grade": example.grades[c.candidate_id]}
            for k, c in enumerate(example.printed)
            if c.candidate_id in example.pool
        ],
    }


def inspect_completion(completion: str, example: TrainingExample) -> dict[str, Any]:
    """Every component under every preset, and what the parser found.

    Raises:
        UsageError: if the text is too long.
    """
    if len(completion) > MAX_COMPLETION_CHARS:
        raise UsageError(f"inspector: completion: {len(completion):,} characters: at most {MAX_COMPLETION_CHARS:,}")
    is_order = example.mode is Mode.DIRECT
    parsed = parse_order(completion, example.candidates) if is_order else read_exclusion(completion, example)
    rewards = {}
    for name, config in PRESETS.items():
        parts = explain(completion, example, config)
        rewards[name] = {
            **{component: getattr(parts, component) for component in COMPONENTS},
            "total": parts.total,
            "excluded": None if parts.excluded_id is None else example.task.candidate(parts.excluded_id).title,
            "grade": parts.grade,
            "floor": parts.floor,
            "is_repaired": parts.is_repaired,
        }
    text = THINK_OPEN + completion
    return {
        "outcome": parsed.outcome.value,
        "reasoning": parsed.reasoning,
        "answer": parsed.answer,
        "tags": [{"tag": tag, "count": text.count(tag)} for tag in TAGS],
        "num_words": len(completion.split()),
        "rewards": rewards,
    }
