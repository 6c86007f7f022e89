"""Datasets, tasks, traces, steps and their full-text search."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "dataset",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("provenance", sa.Text, nullable=False),
        sa.Column("num_tasks", sa.Integer, nullable=False),
        sa.Column("domains", sa.Text, nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("deleted_at", sa.String),
        sa.UniqueConstraint("name", "version"),
    )
    op.create_index("ix_dataset_sha256", "dataset", ["sha256"])
    op.create_table(
        "task",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("dataset_id", sa.Integer, sa.ForeignKey("dataset.id"), nullable=False),
        sa.Column("task_id", sa.String, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("domain", sa.String, nullable=False),
        sa.Column("query", sa.String, nullable=False),
        sa.Column("summary", sa.String, nullable=False),
        sa.Column("num_candidates", sa.Integer, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.UniqueConstraint("dataset_id", "task_id"),
        sa.UniqueConstraint("dataset_id", "position"),
    )
    op.create_table(
        "trace",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("trace_id", sa.String, nullable=False, unique=True),
        sa.Column("task_pk", sa.Integer, sa.ForeignKey("task.id"), nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("mode", sa.String, nullable=False),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("prompt_version", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("parent_trace_id", sa.String, sa.ForeignKey("trace.trace_id")),
        sa.Column("branch_step_index", sa.Integer),
        sa.Column("ranking", sa.Text),
        sa.Column("totals", sa.Text, nullable=False),
        sa.Column("rank_of_relevant", sa.Integer),
        sa.Column("error", sa.String),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("started_at", sa.String),
        sa.Column("finished_at", sa.String),
        sa.Column("heartbeat", sa.String),
    )
    op.create_index("ix_trace_task_pk", "trace", ["task_pk"])
    op.create_index("ix_trace_state", "trace", ["state"])
    op.create_index("ix_trace_created_at", "trace", ["created_at"])
    op.create_table(
        "step",
        sa.Column("trace_pk", sa.Integer, sa.ForeignKey("trace.id"), primary_key=True),
        sa.Column("step_index", sa.Integer, primary_key=True),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("excluded_id", sa.String, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_index("ix_step_outcome", "step", ["outcome", "trace_pk"])
    # Tasks never change, so their index need not keep the text; that of traces grows step by step.
    op.execute(
        "CREATE VIRTUAL TABLE task_text USING fts5"
        "(query, candidates, content='', prefix='2 3', tokenize='unicode61 remove_diacritics 2')"
    )
    op.execute(
        "CREATE VIRTUAL TABLE trace_text USING fts5"
        "(query, candidates, reasoning, prefix='2 3', tokenize='unicode61 remove_diacritics 2')"
    )
    # Collect 16 MiB of index before it is written out (default 1 MiB): halves the time of a large import.
    op.execute("INSERT INTO task_text (task_text, rank) VALUES ('hashsize', 16777216)")
