"""The tables as SQLModel classes. Migrations make them; nothing outside `studio.store` sees them.

Records are kept as the JSON text that `ranker.schema` writes: one source of truth for their shape. The columns beside them
are what lists are filtered and sorted by. The full-text tables `task_text` and `trace_text` exist in SQL only (FTS5).
"""

from sqlalchemy import Column, Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel


class DatasetTable(SQLModel, table=True):
    """One version of a dataset. Its tasks never change; deleting only marks it."""

    __tablename__ = "dataset"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: int | None = Field(default=None, primary_key=True)
    name: str
    version: int
    sha256: str = Field(index=True)
    source: str
    provenance: str = Field(sa_column=Column(Text, nullable=False))
    num_tasks: int
    domains: str = Field(sa_column=Column(Text, nullable=False))
    created_at: str
    deleted_at: str | None = None


class TaskTable(SQLModel, table=True):
    """One task. `id` is the row of `task_text` too."""

    __tablename__ = "task"
    __table_args__ = (UniqueConstraint("dataset_id", "task_id"), UniqueConstraint("dataset_id", "position"))

    id: int | None = Field(default=None, primary_key=True)
    dataset_id: int = Field(foreign_key="dataset.id")
    task_id: str
    position: int
    domain: str
    query: str
    summary: str
    num_candidates: int
    record: str = Field(sa_column=Column(Text, nullable=False))


class TraceTable(SQLModel, table=True):
    """One ranking of one task, whatever became of it. `id` is the row of `trace_text` too."""

    __tablename__ = "trace"
    __table_args__ = (Index("ix_trace_state", "state"), Index("ix_trace_created_at", "created_at"))

    id: int | None = Field(default=None, primary_key=True)
    trace_id: str = Field(unique=True)
    task_pk: int = Field(foreign_key="task.id", index=True)
    model: str
    mode: str
    seed: int
    config: str = Field(sa_column=Column(Text, nullable=False))
    prompt_version: str
    state: str
    parent_trace_id: str | None = Field(default=None, foreign_key="trace.trace_id")
    branch_step_index: int | None = None
    ranking: str | None = Field(default=None, sa_column=Column(Text))
    totals: str = Field(sa_column=Column(Text, nullable=False))
    rank_of_relevant: int | None = None
    error: str | None = None
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    heartbeat: str | None = None


class StepTable(SQLModel, table=True):
    """One finished step of a trace."""

    __tablename__ = "step"
    __table_args__ = (Index("ix_step_outcome", "outcome", "trace_pk"),)

    trace_pk: int = Field(foreign_key="trace.id", primary_key=True)
    step_index: int = Field(primary_key=True)
    outcome: str
    excluded_id: str
    record: str = Field(sa_column=Column(Text, nullable=False))


class AnnotatorTable(SQLModel, table=True):
    """A person who corrects. The name can be taken away; the row, and what they said, stays."""

    __tablename__ = "annotator"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    created_at: str
    forgotten_at: str | None = None


class CorrectionTable(SQLModel, table=True):
    """One thing that one person said. Never changed; a later row names it in `supersedes`."""

    __tablename__ = "correction"
    __table_args__ = (Index("ix_correction_task", "task_pk", "annotator_pk", "subject"),)

    id: int | None = Field(default=None, primary_key=True)
    correction_id: str = Field(unique=True)
    task_pk: int = Field(foreign_key="task.id")
    annotator_pk: int = Field(foreign_key="annotator.id", index=True)
    trace_id: str | None = None
    kind: str
    subject: str
    created_at: str
    duration_s: float | None = None
    reason: str
    payload: str = Field(sa_column=Column(Text, nullable=False))
    supersedes: str | None = Field(default=None, foreign_key="correction.correction_id", unique=True)
    model: str | None = None
    prompt_version: str | None = None
    guideline_version: int | None = None
    is_gold: bool = False


class DraftTable(SQLModel, table=True):
    """What somebody has not submitted yet. `revision` None = a save that came too late and was kept beside."""

    __tablename__ = "draft"
    __table_args__ = (UniqueConstraint("annotator_pk", "task_pk", "revision"),)

    id: int | None = Field(default=None, primary_key=True)
    annotator_pk: int = Field(foreign_key="annotator.id")
    task_pk: int = Field(foreign_key="task.id")
    revision: int | None = None
    base_revision: int
    payload: str | None = Field(default=None, sa_column=Column(Text))
    saved_at: str


class AssignmentTable(SQLModel, table=True):
    """Who has which task before them, until when; or has skipped it."""

    __tablename__ = "assignment"

    annotator_pk: int = Field(foreign_key="annotator.id", primary_key=True)
    task_pk: int = Field(foreign_key="task.id", primary_key=True, index=True)
    expires_at: str
    skipped_at: str | None = None


class GuidelineTable(SQLModel, table=True):
    """One version of what annotators are told, in Markdown. Never changed."""

    __tablename__ = "guideline"

    version: int | None = Field(default=None, primary_key=True)
    dataset: str | None = Field(default=None, index=True)
    text: str = Field(sa_column=Column(Text, nullable=False))
    created_at: str


class AccountTable(SQLModel, table=True):
    """A person's way in. Taken away with their name."""

    __tablename__ = "account"

    annotator_pk: int = Field(foreign_key="annotator.id", primary_key=True)
    role: str
    password_hash: str
    created_at: str


class SessionTable(SQLModel, table=True):
    """One login in one browser; only the hash of what the browser holds is kept."""

    __tablename__ = "session"

    token_hash: str = Field(primary_key=True)
    annotator_pk: int = Field(foreign_key="annotator.id", index=True)
    created_at: str
    expires_at: str


class TokenTable(SQLModel, table=True):
    """One bearer token of a program; only its hash is kept."""

    __tablename__ = "token"

    token_hash: str = Field(primary_key=True)
    annotator_pk: int = Field(foreign_key="annotator.id", index=True)
    created_at: str
    expires_at: str


class QueueTable(SQLModel, table=True):
    """How the tasks of a dataset (all its versions) are given out."""

    __tablename__ = "queue"

    dataset: str = Field(primary_key=True)
    overlap: int
    changed_at: str
