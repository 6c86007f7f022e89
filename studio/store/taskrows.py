"""From a task to the row that stands for it: what lists show, what search finds, what the dataset's hash is made of."""

import hashlib
from typing import NamedTuple

from ranker.schema import RankingTask

SUMMARY_CHARS = 240


class TaskFields(NamedTuple):
    """A row of `task`, and of `task_text` behind it."""

    position: int
    task_id: str
    domain: str
    query: str
    summary: str
    num_candidates: int
    record: str
    search_query: str
    search_candidates: str


def task_fields(position: int, task: RankingTask) -> TaskFields:
    """The row of `task` at `position` of its dataset."""
    return TaskFields(
        position=position,
        task_id=task.task_id,
        domain=task.domain.value,
        query=task.query,
        summary=task_summary(task),
        num_candidates=len(task.candidates),
        record=task.model_dump_json(),
        search_query=search_text(task)[0],
        # Titles only: whole texts would make the index larger than the tasks.
        search_candidates="\n".join(candidate.title for candidate in task.candidates),
    )


def task_summary(task: RankingTask) -> str:
    """One line that stands for the task in lists."""
    words = " ".join(task.query.split()) or " · ".join(" ".join(h.split()) for h in task.history[-3:])
    words = words or task.task_id
    return words if len(words) <= SUMMARY_CHARS else words[: SUMMARY_CHARS - 1] + "…"


def search_text(task: RankingTask) -> tuple[str, str]:
    """What a trace of the task is found by: the task's own words, and the candidates'."""
    own = "\n".join((task.task_id, task.query, task.criterion or "", *task.history))
    return own, "\n".join(c.text if c.title in c.text else f"{c.title}\n{c.text}" for c in task.candidates)


def chain_hash(previous: str, record: str) -> str:
    """The dataset's hash after one more task; '' is the hash of an empty one."""
    return hashlib.sha256(previous.encode() + record.encode()).hexdigest()
