"""An annotator's desk: the task that lies on it with all that is needed to correct it, and what handing in says back.

Puts together what the store and `studio.corrections` know; decides nothing about what a correction means. Knows no page.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from statistics import median
from typing import Any

from ranker.errors import UsageError
from ranker.schema import Correction, CorrectionKind, RankingTask, Record
from studio.corrections import Corrections, OrderBy, Submission
from studio.snapshot import task_json, trace_json
from studio.store import Draft, Guideline, NotStoredError, Store, StoredTrace, TraceState

MAX_GUIDELINE_CHARS = 50_000
PACE_OF = 20
"""So many of a person's last corrections make their pace."""


class Start(StrEnum):
    """What a person starts from."""

    MODEL = "model"
    """The model's ranking."""
    BLANK = "blank"
    """Nothing is ranked yet; the model's ranking can be looked at."""
    BLIND = "blind"
    """Nothing is ranked yet, and what the model said stays on the server until something is handed in."""


class Standing(Record):
    """How far a person is with a dataset, and how fast."""

    num_done: int
    num_skipped: int
    num_tasks: int
    num_today: int
    """Corrections of theirs today (UTC), in every dataset."""
    median_s: float | None
    """Of their last corrections."""
    overlap: int
    """How many people are to say something about each task."""


class Desk(Record):
    """One task on a person's desk."""

    dataset_id: int
    dataset: str
    task: Mapping[str, Any]
    """See `studio.snapshot.task_json`."""
    pool: tuple[str, ...]
    """The candidates in an order that is this person's own and says nothing."""
    trace: Mapping[str, Any] | None
    """The model's ranking (`studio.snapshot.trace_json`); None = there is none, or it is hidden."""
    trace_id: str | None
    start: Start
    """What it starts from: `model` becomes `blank` where no model has ranked it."""
    draft: Draft
    said: tuple[Correction, ...]
    """The person's own current words about it."""
    guideline: Guideline | None
    num_others: int
    """Other people who spoke about it or have it before them."""


class Desks:
    """The desks of everybody. Callable from any thread."""

    def __init__(self, store: Store, corrections: Corrections) -> None:
        self._store = store
        self._corrections = corrections

    def next(self, author: str, dataset_id: int, *, order_by: OrderBy, start: Start) -> Desk | None:
        """The next task of the queue on the person's desk; None if nothing is left for them."""
        task = self._corrections.next_task(author, dataset_id, order_by=order_by)
        return None if task is None else self._desk(author, dataset_id, task, None, start)

    def open(
        self, author: str, dataset_id: int | None, task_id: str, *, trace_id: str | None = None, start: Start
    ) -> Desk:
        """A certain task, out of turn.

        Args:
            author: whose desk.
            dataset_id: where the task is; None = in the dataset of the trace, or the first that has it.
            task_id: which one.
            trace_id: the ranking to correct; None = the one that the draft was made from, else the newest.
            start: what to start from.

        Raises:
            NotStoredError: if there is no such task or trace.
            UsageError: if the trace is of another task.
        """
        if dataset_id is None:
            dataset_id = self._find(task_id, trace_id)
        task = self._store.datasets.task(dataset_id, task_id)
        desk = self._desk(author, dataset_id, task, trace_id, start)
        self._corrections.renew(author, dataset_id, task_id)
        return desk

    def hand_in(
        self,
        author: str,
        dataset_id: int,
        submissions: Sequence[Submission],
        *,
        draft_revision: int | None,
        draft: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Store what was said, all or nothing, and tell what it changes and what the model had said."""
        added = self._corrections.hand_in_all(dataset_id, submissions, draft_revision=draft_revision, draft=draft)
        stored = [one.correction for one in added]
        ranking = next((said for said in stored if said.kind is CorrectionKind.RANKING), None)
        change = self._corrections.change(ranking) if ranking else None
        trace_id = next((said.trace_id for said in stored if said.trace_id), None)
        return {
            "corrections": [said.model_dump(mode="json") for said in stored],
            "is_new": any(one.is_new for one in added),
            "change": None if change is None else change._asdict(),
            "trace": None if trace_id is None else trace_json(self._store.traces.get(trace_id)),
            "standing": self.standing(author, dataset_id).model_dump(mode="json"),
        }

    def standing(self, author: str, dataset_id: int) -> Standing:
        """How far a person is."""
        progress = self._corrections.progress(author, dataset_id)
        recent = self._corrections.history(author, limit=PACE_OF).rows
        durations = [said.duration_s for said in recent if said.duration_s is not None]
        return Standing(
            num_done=progress.num_done,
            num_skipped=progress.num_skipped,
            num_tasks=progress.num_tasks,
            num_today=self._store.corrections.count_since(author, datetime.now(UTC).date().isoformat()),
            median_s=round(median(durations), 1) if durations else None,
            overlap=self._corrections.overlap(dataset_id),
        )

    def guidelines(self, dataset: str | None) -> Sequence[Guideline]:
        """All versions, the one in force first."""
        return self._store.corrections.guidelines(dataset)

    def add_guideline(self, text: str, dataset: str | None) -> Guideline:
        """The next version of what annotators are told."""
        if len(text) > MAX_GUIDELINE_CHARS:
            raise UsageError(f"guidelines: text: {len(text)} characters: at most {MAX_GUIDELINE_CHARS} are kept")
        return self._store.corrections.add_guideline(text, dataset)

    def _desk(self, author: str, dataset_id: int, task: RankingTask, trace_id: str | None, start: Start) -> Desk:
        info = self._store.datasets.get(dataset_id)
        draft = self._corrections.draft(author, dataset_id, task.task_id)
        said = [c for c in self._corrections.effective(dataset_id, task.task_id) if c.author == author]
        trace = self._trace(dataset_id, task, trace_id, draft, said)
        guidelines = self.guidelines(info.name)
        if trace is None and start is Start.MODEL:
            start = Start.BLANK
        return Desk(
            dataset_id=dataset_id,
            dataset=info.name,
            task=task_json(task),
            pool=_shuffled(author, task),
            trace=None if trace is None or start is Start.BLIND else trace_json(trace),
            trace_id=None if trace is None else trace.trace_id,
            start=start,
            draft=draft,
            said=tuple(said),
            guideline=guidelines[0] if guidelines else None,
            num_others=self._corrections.num_others(author, dataset_id, task.task_id),
        )

    def _trace(
        self, dataset_id: int, task: RankingTask, asked: str | None, draft: Draft, said: Sequence[Correction]
    ) -> StoredTrace | None:
        """The finished ranking to correct: the asked one, that of the draft, that of what was said, else the newest."""
        if asked is not None:
            trace = self._store.traces.get(asked)
            if (trace.dataset_id, trace.task_id) != (dataset_id, task.task_id):
                raise UsageError(f"correct: trace: {asked[:80]}: is of another task: open it from the Traces page")
            if trace.state is not TraceState.FINISHED:
                raise UsageError(f"correct: trace: {asked[:80]}: has no ranking yet: let it finish first")
            return trace
        rows = [r for r in self._store.traces.of_task(dataset_id, task.task_id) if r.state is TraceState.FINISHED]
        known = {row.trace_id for row in rows}
        begun = (draft.payload or {}).get("trace_id")
        wanted = [begun, *(c.trace_id for c in reversed(said)), *(r.trace_id for r in rows if not r.parent_trace_id)]
        chosen = next((t for t in wanted if t in known), rows[0].trace_id if rows else None)
        return None if chosen is None else self._store.traces.get(chosen)

    def _find(self, task_id: str, trace_id: str | None) -> int:
        if trace_id is not None:
            return self._store.traces.get(trace_id).dataset_id
        for info in self._store.datasets.list():
            try:
                self._store.datasets.task(info.id, task_id)
            except NotStoredError:
                continue
            return info.id
        raise NotStoredError(f"store: task_id: {task_id[:80]!r} is not there: choose one on the Rank page")


def _shuffled(author: str, task: RankingTask) -> tuple[str, ...]:
    def place(candidate_id: str) -> bytes:
        return hashlib.sha256(f"{author}\0{task.task_id}\0{candidate_id}".encode()).digest()

    return tuple(sorted(task.candidate_ids, key=place))
