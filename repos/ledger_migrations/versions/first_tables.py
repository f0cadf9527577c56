"""Visits and outbox, as the first version made them without migrations.

Ledgers of that version have the tables already, and keep them.
"""

from __future__ import annotations

__all__ = ["downgrade", "upgrade"]

import sqlalchemy as sa
from alembic import op

revision = "first_tables"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables that are not there."""
    time = sa.DateTime(timezone=True)
    op.create_table(
        "visits",
        sa.Column("instrument", sa.Text, primary_key=True),
        sa.Column("group", sa.Text, primary_key=True),
        sa.Column("detector", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("deployment_id", sa.Text, primary_key=True),
        sa.Column("day_obs", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created", time, nullable=False),
        sa.Column("started", time, nullable=False),
        sa.Column("finished", time),
        sa.Column("visit", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text),
        if_not_exists=True,
    )
    op.create_index("visits_by_day", "visits", ["day_obs", "started"], if_not_exists=True)
    op.create_index("visits_by_state", "visits", ["state"], if_not_exists=True)
    op.create_table(
        "outbox",
        # SQLite numbers rows by itself only in columns of just this type.
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("instrument", sa.Text, nullable=False),
        sa.Column("group", sa.Text, nullable=False),
        sa.Column("detector", sa.BigInteger, nullable=False),
        sa.Column("created", time, nullable=False),
        sa.Column("acknowledged", time),
        if_not_exists=True,
    )
    op.create_index("outbox_pending", "outbox", ["acknowledged", "id"], if_not_exists=True)


def downgrade() -> None:
    """Drop everything."""
    op.drop_table("outbox")
    op.drop_table("visits")
