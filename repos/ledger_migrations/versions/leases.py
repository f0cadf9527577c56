"""Visits and messages may be leased, and taken over when the lease runs out."""

from __future__ import annotations

__all__ = ["downgrade", "upgrade"]

import sqlalchemy as sa
from alembic import op

revision = "leases"
down_revision = "first_tables"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    time = sa.DateTime(timezone=True)
    op.add_column("visits", sa.Column("leased_until", time))
    op.add_column("outbox", sa.Column("owner", sa.Text))
    op.add_column("outbox", sa.Column("leased_until", time))


def downgrade() -> None:
    """Remove the columns."""
    op.drop_column("outbox", "leased_until")
    op.drop_column("outbox", "owner")
    op.drop_column("visits", "leased_until")
