"""Messages that wait in the ledger's database until a broker has them."""

from __future__ import annotations

__all__ = ["Outbox", "StoredMessage"]

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from models.events import OutboxMessage
from models.visits import VisitKey
from repos.ledger_database import reading, writing
from repos.ledger_tables import OUTBOX


@dataclass(frozen=True)
class StoredMessage:
    """A message in the outbox."""

    id: int
    """Its place in the outbox; later messages have greater ids."""
    message: OutboxMessage
    """The message."""
    created: datetime
    """When it was stored, UTC."""


class Outbox:
    """Keeps messages until they are acknowledged.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`
        Of the ledger's database, see `repos.ledger_database`.
    now : callable, optional
        Returns the present time, aware.
    """

    def __init__(self, engine: sa.Engine, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._engine = engine
        self._now = now

    @staticmethod
    def add(
        connection: sa.Connection, messages: Iterable[OutboxMessage], visit: VisitKey, created: datetime
    ) -> None:
        """Store the messages of a visit, in the caller's transaction."""
        rows = [
            {
                "kind": message.kind,
                "topic": message.topic,
                "key": message.key,
                "payload": message.payload,
                **visit._asdict(),
                "created": created,
            }
            for message in messages
        ]
        if rows:
            connection.execute(OUTBOX.insert(), rows)

    def pending(self, *, kind: str | None = None, limit: int = 100) -> list[StoredMessage]:
        """Return messages that no broker has acknowledged, the oldest first.

        Parameters
        ----------
        kind : `str`, optional
            Only messages of this kind.
        limit : `int`, optional
            Number of messages.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = sa.select(OUTBOX).where(OUTBOX.c.acknowledged.is_(None)).order_by(OUTBOX.c.id).limit(limit)
        if kind is not None:
            query = query.where(OUTBOX.c.kind == kind)
        with reading(self._engine) as connection:
            return [_stored(row) for row in connection.execute(query).mappings()]

    def acknowledge(self, ids: Iterable[int]) -> None:
        """Note that the broker has these messages.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        ids = list(ids)
        query = OUTBOX.update().where(OUTBOX.c.id.in_(ids), OUTBOX.c.acknowledged.is_(None))
        with writing(self._engine) as connection:
            connection.execute(query.values(acknowledged=self._now()))

    def count_pending(self) -> dict[str, int]:
        """Return how many messages of each kind wait.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = (
            sa.select(OUTBOX.c.kind, sa.func.count())
            .where(OUTBOX.c.acknowledged.is_(None))
            .group_by(OUTBOX.c.kind)
        )
        with reading(self._engine) as connection:
            return dict(connection.execute(query).all())


def _stored(row: sa.RowMapping) -> StoredMessage:
    message = OutboxMessage(
        kind=row["kind"],
        topic=row["topic"],
        key=row["key"],
        payload=row["payload"],
        visit=VisitKey(row["instrument"], row["group"], row["detector"]),
    )
    return StoredMessage(id=row["id"], message=message, created=row["created"])
