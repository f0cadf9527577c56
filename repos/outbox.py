"""Messages that wait in the ledger's database until a broker has them.

Any number of processes may send from one outbox: each leases what it is about
to send. A lease is short; a process that dies with one leaves its messages to
the others.
"""

from __future__ import annotations

__all__ = ["Outbox"]

from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from models.events import OutboxMessage, StoredMessage
from models.visits import VisitKey
from repos.ledger_database import reading, writing
from repos.ledger_tables import OUTBOX


class Outbox:
    """Keeps messages until they are acknowledged.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`
        Of the ledger's database, see `repos.ledger_database`.
    owner : `str`, optional
        Names this process in the rows that it leases.
    exclusive : `bool`, optional
        Whether no other process sends from this outbox, so that leases that
        are there are those of a process that died.
    now : callable, optional
        Returns the present time, aware.
    table : `sqlalchemy.Table`, optional
        Where the messages are; one without the columns of a visit will do.
    key : `str`, optional
        Whose messages are meant, if it is not all of them.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        owner: str = "",
        exclusive: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        table: sa.Table = OUTBOX,
        key: str | None = None,
    ) -> None:
        self._engine = engine
        self._owner = owner
        self._exclusive = exclusive
        self._now = now
        self._table = table
        # Earlier versions marked what had arrived in place of deleting it.
        ours = [] if key is None else [table.c.key == key]
        self._here = sa.and_(table.c.acknowledged.is_(None), *ours)
        self._pending = sa.and_(self._here, table.c.refused.is_(None))

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
        query = sa.select(self._table).where(self._pending).order_by(self._table.c.id).limit(limit)
        if kind is not None:
            query = query.where(self._table.c.kind == kind)
        with reading(self._engine) as connection:
            return [_stored(row) for row in connection.execute(query).mappings()]

    def lanes(self) -> list[tuple[str, str]]:
        """Return kinds and topics of messages that are free to be sent.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = sa.select(self._table.c.kind, self._table.c.topic).where(self._free()).distinct()
        with reading(self._engine) as connection:
            return [(kind, topic) for kind, topic in connection.execute(query)]

    def lease(self, kind: str, topic: str, *, limit: int, seconds: float) -> list[StoredMessage]:
        """Take messages to send, the oldest first; nobody else gets them while
        the lease lasts.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        oldest = (
            sa.select(self._table.c.id)
            .where(self._table.c.kind == kind, self._table.c.topic == topic, self._free())
            .order_by(self._table.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        # A list of ids in place of a subquery, which PostgreSQL might run
        # again for every row.
        with writing(self._engine) as connection:
            ids = list(connection.execute(oldest).scalars())
            if not ids:
                return []
            lease = self._table.update().where(self._table.c.id.in_(ids)).values(self._leased(seconds))
            rows = connection.execute(lease.returning(*self._table.c)).mappings().all()
        return sorted((_stored(row) for row in rows), key=lambda stored: stored.id)

    def renew(self, ids: Collection[int], *, seconds: float) -> None:
        """Extend leases, unless others have taken over.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        self._update(ids, self._leased(seconds))

    def release(self, ids: Collection[int]) -> None:
        """Give leases back; the messages may be sent by whoever can.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        self._update(ids, {"owner": None, "leased_until": None})

    def acknowledge(self, ids: Collection[int]) -> None:
        """Delete messages that the broker has.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        if ids:
            with writing(self._engine) as connection:
                connection.execute(self._table.delete().where(self._table.c.id.in_(ids)))

    def refuse(self, id_: int, reason: str) -> None:
        """Set a message aside that the broker will not have. It stays, marked,
        until someone clears the mark or deletes it.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        with writing(self._engine) as connection:
            connection.execute(self._table.update().where(self._table.c.id == id_).values(refused=reason))

    def count_pending(self) -> dict[str, int]:
        """Return how many messages of each kind wait to be sent.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        return self._count(self._pending)

    def count_refused(self) -> dict[str, int]:
        """Return how many messages of each kind are set aside.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        return self._count(sa.and_(self._here, self._table.c.refused.is_not(None)))

    def _free(self) -> sa.ColumnElement[bool]:
        free = [self._table.c.owner.is_(None), self._table.c.leased_until < self._now()]
        if self._exclusive:
            free.append(self._table.c.owner != self._owner)
        return sa.and_(self._pending, sa.or_(*free))

    def _leased(self, seconds: float) -> dict[str, object]:
        return {"owner": self._owner, "leased_until": self._now() + timedelta(seconds=seconds)}

    def _update(self, ids: Collection[int], values: dict[str, object]) -> None:
        if ids:
            mine = self._table.c.id.in_(ids), self._table.c.owner == self._owner
            with writing(self._engine) as connection:
                connection.execute(self._table.update().where(*mine).values(values))

    def _count(self, which: sa.ColumnElement[bool]) -> dict[str, int]:
        query = sa.select(self._table.c.kind, sa.func.count()).where(which).group_by(self._table.c.kind)
        with reading(self._engine) as connection:
            return dict(connection.execute(query).tuples().all())


def _stored(row: sa.RowMapping) -> StoredMessage:
    message = OutboxMessage(
        kind=row["kind"],
        topic=row["topic"],
        key=row["key"],
        payload=bytes(row["payload"]),
        visit=VisitKey(row["instrument"], row["group"], row["detector"]) if "instrument" in row else None,
    )
    return StoredMessage(id=row["id"], message=message, created=row["created"])
