"""How many people are to say something about the same task, by dataset."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "queue",
        sa.Column("dataset", sa.String, primary_key=True),
        sa.Column("overlap", sa.Integer, nullable=False),
        sa.Column("changed_at", sa.String, nullable=False),
    )
