"""Full traces beside the results, for whoever wants to read why a query went well or badly.

    X.tasks.jsonl    {"dataset_key", "task"}: every task that was asked, once
    X.traces.jsonl   {"key": [dataset_key, system_key, seed, task_id], "steps": [...]}: every answer of a model, with prompts

Both are append-only, a line is whole when `add` returns, and a torn last line is dropped. They are looked up by reading through
them: a reader opens a few traces of thousands. Knows no page.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from ranker.evaluation.answers import Answer, AnswerKey
from ranker.schema import EliminationStep, RankingTask

_STEPS: Final = TypeAdapter(tuple[EliminationStep, ...])


class KeptTraces:
    """The two files beside one results file."""

    def __init__(self, out: Path) -> None:
        self._tasks_path = out.with_name(out.stem + ".tasks.jsonl")
        self._traces_path = out.with_name(out.stem + ".traces.jsonl")
        self._known: set[tuple[str, str]] | None = None

    def add_tasks(self, dataset_key: str, tasks: Iterable[RankingTask]) -> None:
        """Keep the tasks that are not kept yet."""
        if self._known is None:
            _mend(self._tasks_path)
            self._known = {(line["dataset_key"], line["task"]["task_id"]) for line in _lines(self._tasks_path)}
        new = [task for task in tasks if (dataset_key, task.task_id) not in self._known]
        self._known |= {(dataset_key, task.task_id) for task in new}
        rows = [{"dataset_key": dataset_key, "task": task.model_dump(mode="json")} for task in new]
        _append(self._tasks_path, rows)

    def add(self, answer: Answer) -> None:
        """Keep the steps of an answer; one without steps needs none."""
        if answer.full_steps:
            steps = [step.model_dump(mode="json") for step in answer.full_steps]
            _append(self._traces_path, [{"key": list(answer.key), "steps": steps}])

    def task(self, dataset_key: str, task_id: str) -> RankingTask | None:
        """None if it was not kept."""
        return self.tasks(dataset_key, [task_id]).get(task_id)

    def tasks(self, dataset_key: str, task_ids: Collection[str]) -> dict[str, RankingTask]:
        """Those of `task_ids` that were kept."""
        return {
            line["task"]["task_id"]: RankingTask.model_validate(line["task"])
            for line in _lines(self._tasks_path)
            if line["dataset_key"] == dataset_key and line["task"]["task_id"] in task_ids
        }

    def steps(self, key: AnswerKey) -> tuple[EliminationStep, ...]:
        """The steps of an answer; none if they were not kept. The newest ones, if it was asked twice."""
        start, found = json.dumps({"key": list(key)}, ensure_ascii=False)[:-1].encode(), None
        if self._traces_path.exists():
            with self._traces_path.open("rb") as file:
                for line in file:
                    if line.startswith(start) and line.endswith(b"\n"):
                        found = line
        return () if found is None else _STEPS.validate_python(json.loads(found)["steps"])


def _append(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if text:
        _mend(path)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)


def _mend(path: Path) -> None:
    """Drop a last line that a killed run left torn."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, 2)
        if end and (file.seek(end - 1), file.read(1))[1] != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield json.loads(line)
