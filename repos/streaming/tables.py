"""Tables of the streaming workflow's database that every agent uses.

Those of the monitor, the catalogue and each agent are in modules of their
own, in the same `sqlalchemy.MetaData`.
"""

from __future__ import annotations

__all__ = ["INBOX", "MEMORY", "OUTBOX", "metadata", "row_id"]

import sqlalchemy as sa

from repos.ledger_tables import UtcDateTime

metadata = sa.MetaData()


def row_id() -> sa.Column[int]:
    """Return a column that numbers rows by itself in every database."""
    # SQLite does so only in columns of just this type.
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)


#: Messages from their arrival until they have taken effect.
INBOX = sa.Table(
    "inbox",
    metadata,
    row_id(),
    sa.Column("agent", sa.Text, nullable=False, comment="Role and namespace of the agent that it came to."),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("message_id", sa.Text, comment="The broker's name for it."),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("received", UtcDateTime, nullable=False),
    sa.Column("refused", sa.Text, comment="Why it cannot take effect; null: it may."),
    sa.UniqueConstraint("agent", "message_id", name="inbox_message_once"),
    sa.Index("inbox_waiting", "agent", "refused", "id"),
)

#: Messages that wait until the bus has them; then they are gone.
OUTBOX = sa.Table(
    "agent_outbox",
    metadata,
    row_id(),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("key", sa.Text, comment="Role and namespace of the agent that sends it."),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("created", UtcDateTime, nullable=False),
    sa.Column("acknowledged", UtcDateTime, comment="Not used; as in the ledger's outbox."),
    sa.Column("owner", sa.Text, comment="Who is sending this row; null: nobody."),
    sa.Column("leased_until", UtcDateTime, comment="From then on another may send it."),
    sa.Column("refused", sa.Text, comment="Why the bus will not have it; null: it may."),
    sa.Index("agent_outbox_lanes", "kind", "topic", "id"),
)

#: Values that an agent keeps from one start to the next.
MEMORY = sa.Table(
    "agent_memory",
    metadata,
    sa.Column("agent", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
