"""Accounts, sessions and tokens of people, for a studio that is open to others."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("annotator_pk", sa.Integer, sa.ForeignKey("annotator.id"), primary_key=True),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("password_hash", sa.String, nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
    )
    for name in ("session", "token"):
        op.create_table(
            name,
            sa.Column("token_hash", sa.String, primary_key=True),
            sa.Column("annotator_pk", sa.Integer, sa.ForeignKey("annotator.id"), nullable=False),
            sa.Column("created_at", sa.String, nullable=False),
            sa.Column("expires_at", sa.String, nullable=False),
        )
        op.create_index(f"ix_{name}_annotator_pk", name, ["annotator_pk"])
