"""Tables of the visit ledger; the same in every database."""

from __future__ import annotations

__all__ = ["OUTBOX", "VISITS", "metadata"]

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC times, also where the database has no time zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Convert to UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times in the ledger must have a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Put back the time zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData()

#: One row a (instrument, group, detector, deployment id).
VISITS = sa.Table(
    "visits",
    metadata,
    sa.Column("instrument", sa.Text, primary_key=True),
    sa.Column("group", sa.Text, primary_key=True),
    sa.Column("detector", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("deployment_id", sa.Text, primary_key=True),
    sa.Column("day_obs", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("leased_until", UtcDateTime, comment="From then on another may take over; null: never."),
    sa.Column("created", UtcDateTime, nullable=False),
    sa.Column("started", UtcDateTime, nullable=False),
    sa.Column("finished", UtcDateTime),
    sa.Column("visit", sa.Text, nullable=False, comment="The message, JSON."),
    sa.Column("outcome", sa.Text, comment="models.outcomes.VisitOutcome, JSON."),
    sa.Index("visits_by_day", "day_obs", "started"),
    sa.Index("visits_by_state", "state"),
)

#: Messages that wait until a broker has acknowledged them; then they are gone.
OUTBOX = sa.Table(
    "outbox",
    metadata,
    # SQLite numbers rows by itself only in columns of just this type.
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("key", sa.Text),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("instrument", sa.Text, nullable=False),
    sa.Column("group", sa.Text, nullable=False),
    sa.Column("detector", sa.BigInteger, nullable=False),
    sa.Column("created", UtcDateTime, nullable=False),
    sa.Column("acknowledged", UtcDateTime, comment="Older versions kept rows that had arrived."),
    sa.Column("owner", sa.Text, comment="Who is sending this row; null: nobody."),
    sa.Column("leased_until", UtcDateTime, comment="From then on another may send it."),
    sa.Column("refused", sa.Text, comment="Why the broker will not have it; null: it may."),
    sa.Index("outbox_pending", "acknowledged", "id"),
    sa.Index("outbox_lanes", "kind", "topic", "id"),
)
