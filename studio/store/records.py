"""What the store gives back: frozen records that know no SQL. Times are ISO 8601 in UTC, always of the same width."""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from ranker.errors import StoreError
from ranker.schema import Domain, EliminationStep, Mode, Outcome, RankingTask, RankingTrace, Record, Totals


def now_utc() -> str:
    """The present moment as the store writes it; the strings sort like the moments."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class NotStoredError(StoreError):
    """There is no row of that id."""


class StaleError(StoreError):
    """Something newer is there than what the caller has seen. Nothing was overwritten."""


class TraceState(StrEnum):
    """Where a trace stands."""

    QUEUED = "queued"
    """Waits for its model."""
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    """A person stopped it; it can be resumed."""
    INTERRUPTED = "interrupted"
    """The program ended in the middle; it can be resumed."""
    FAILED = "failed"
    """`error` says why; it can be resumed."""

    @property
    def is_live(self) -> bool:
        return self in (TraceState.QUEUED, TraceState.RUNNING)


class DatasetInfo(Record):
    """One immutable version of a dataset."""

    id: int
    name: str
    version: int
    """1-based; a changed file under the same name makes the next one."""
    sha256: str
    """Of the tasks' content and order, whatever the file format was."""
    source: str
    provenance: Mapping[str, Any]
    num_tasks: int
    domains: Mapping[Domain, int]
    """Tasks of each domain."""
    created_at: str
    deleted: bool


class TaskRow(Record):
    """One line of a list of tasks."""

    task_id: str
    position: int
    """0-based place in the dataset."""
    domain: Domain
    summary: str
    """The query, or the end of the history where there is no query; at most 240 characters."""
    num_candidates: int


class TaskPage(NamedTuple):
    """Some rows, and how many there are altogether."""

    rows: list[TaskRow]
    total: int


class TraceRow(Record):
    """One line of a list of traces."""

    trace_id: str
    dataset_id: int
    dataset: str
    dataset_version: int
    task_id: str
    domain: Domain
    summary: str
    num_candidates: int
    model: str
    mode: Mode
    seed: int
    state: TraceState
    ranking: tuple[str, ...] | None
    rank_of_relevant: int | None
    """1-based rank of the best relevant candidate. None = not known, or not finished."""
    totals: Totals
    parent_trace_id: str | None
    branch_step_index: int | None
    error: str | None
    created_at: str
    finished_at: str | None


class TracePage(NamedTuple):
    """Some rows, newest first, and how many there are altogether."""

    rows: list[TraceRow]
    total: int


class FinishedRanking(NamedTuple):
    """What a finished trace came to."""

    trace_id: str
    task_id: str
    model: str
    ranking: tuple[str, ...]
    rank_of_relevant: int | None


class StoredTrace(TraceRow):
    """A trace with all that is known about it. `steps` are the finished ones, with their prompts."""

    task: RankingTask
    config: Mapping[str, Any]
    prompt_version: str
    steps: tuple[EliminationStep, ...]
    started_at: str | None

    def to_trace(self) -> RankingTrace:
        """The trace as the files hold it. Only for a finished one."""
        assert self.ranking is not None, "only a finished trace has a ranking"
        return RankingTrace(
            task_id=self.task_id,
            model=self.model,
            mode=self.mode,
            seed=self.seed,
            prompt_version=self.prompt_version,
            ranking=self.ranking,
            steps=self.steps,
            totals=self.totals,
            trace_id=self.trace_id,
            parent_trace_id=self.parent_trace_id,
            branch_step_index=self.branch_step_index,
        )


class TraceFilter(Record):
    """Which traces are meant; what is None does not narrow."""

    text: str = ""
    """Words that all have to occur in query, candidates or reasoning (the last one may be the beginning of a word)."""
    dataset_id: int | None = None
    model: str | None = None
    mode: Mode | None = None
    outcome: Outcome | None = None
    """At least one step has this outcome."""
    state: TraceState | None = None
    max_rank: int | None = None
    """Largest rank of the relevant candidate (1 = only hits)."""
    min_rank: int | None = None
    since: str | None = None
    """ISO 8601, UTC; created then or later."""


class Annotator(Record):
    """A person who corrects."""

    id: int
    name: str
    created_at: str
    is_forgotten: bool


class DraftConflict(Record):
    """A save that came too late: somebody (or another tab) had saved something newer."""

    payload: Mapping[str, Any]
    base_revision: int
    """The revision that it started from."""
    saved_at: str


class Draft(Record):
    """What an author has not submitted yet of a task."""

    revision: int
    """0 = nothing was ever saved. Name it with the next save."""
    payload: Mapping[str, Any] | None
    """None = nothing saved, or what was saved has been submitted."""
    saved_at: str | None
    conflicts: tuple[DraftConflict, ...] = ()
    """Oldest first."""


class Guideline(Record):
    """One version of what annotators are told."""

    version: int
    dataset: str | None
    """Name of the dataset that it is for; None = all."""
    text: str
    """Markdown."""
    created_at: str
