"""Messages that brokers refuse stay in the outbox, marked."""

from __future__ import annotations

__all__ = ["downgrade", "upgrade"]

import sqlalchemy as sa
from alembic import op

revision = "refusals"
down_revision = "leases"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, and an index for those who look for messages to send."""
    op.add_column("outbox", sa.Column("refused", sa.Text))
    op.create_index("outbox_lanes", "outbox", ["kind", "topic", "id"])


def downgrade() -> None:
    """Remove them."""
    op.drop_index("outbox_lanes", "outbox")
    op.drop_column("outbox", "refused")
