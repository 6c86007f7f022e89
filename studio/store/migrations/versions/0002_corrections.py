"""Annotators, corrections, drafts, assignments and guidelines."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "annotator",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String, nullable=False, unique=True),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("forgotten_at", sa.String),
    )
    op.create_table(
        "correction",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("correction_id", sa.String, nullable=False, unique=True),
        sa.Column("task_pk", sa.Integer, sa.ForeignKey("task.id"), nullable=False),
        sa.Column("annotator_pk", sa.Integer, sa.ForeignKey("annotator.id"), nullable=False),
        sa.Column("trace_id", sa.String),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("duration_s", sa.Float),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("supersedes", sa.String, sa.ForeignKey("correction.correction_id"), unique=True),
        sa.Column("model", sa.String),
        sa.Column("prompt_version", sa.String),
        sa.Column("guideline_version", sa.Integer),
        sa.Column("is_gold", sa.Boolean, nullable=False),
    )
    op.create_index("ix_correction_task", "correction", ["task_pk", "annotator_pk", "subject"])
    op.create_index("ix_correction_annotator_pk", "correction", ["annotator_pk"])
    op.create_table(
        "draft",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("annotator_pk", sa.Integer, sa.ForeignKey("annotator.id"), nullable=False),
        sa.Column("task_pk", sa.Integer, sa.ForeignKey("task.id"), nullable=False),
        sa.Column("revision", sa.Integer),
        sa.Column("base_revision", sa.Integer, nullable=False),
        sa.Column("payload", sa.Text),
        sa.Column("saved_at", sa.String, nullable=False),
        sa.UniqueConstraint("annotator_pk", "task_pk", "revision"),
    )
    op.create_table(
        "assignment",
        sa.Column("annotator_pk", sa.Integer, sa.ForeignKey("annotator.id"), primary_key=True),
        sa.Column("task_pk", sa.Integer, sa.ForeignKey("task.id"), primary_key=True),
        sa.Column("expires_at", sa.String, nullable=False),
        sa.Column("skipped_at", sa.String),
    )
    op.create_index("ix_assignment_task_pk", "assignment", ["task_pk"])
    op.create_table(
        "guideline",
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("dataset", sa.String),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
    )
    op.create_index("ix_guideline_dataset", "guideline", ["dataset"])
    # What is written once is never written again: not by this program, and not by another one.
    for column in ("payload", "kind", "task_pk", "supersedes", "created_at"):
        op.execute(
            f"CREATE TRIGGER correction_{column}_is_final BEFORE UPDATE OF {column} ON correction "
            "BEGIN SELECT RAISE(ABORT, 'corrections are append-only'); END"
        )
    op.execute(
        "CREATE TRIGGER correction_is_kept BEFORE DELETE ON correction "
        "BEGIN SELECT RAISE(ABORT, 'corrections are append-only'); END"
    )
