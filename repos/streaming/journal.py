"""What an agent keeps: messages that came, messages that go, a few values."""

from __future__ import annotations

__all__ = ["AgentJournal", "add_to_outbox"]

from collections.abc import Collection, Iterable
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models.streaming.bus import STOMP, JournalEntry, ReceivedMessage
from models.streaming.messages import Message
from repos.ledger_database import reading, writing
from repos.streaming.tables import INBOX, MEMORY, OUTBOX


def add_to_outbox(
    connection: sa.Connection, destination: str, messages: Iterable[Message], *, agent: str
) -> None:
    """Store messages that an agent sends to the bus, in the caller's
    transaction.

    Parameters
    ----------
    connection : `sqlalchemy.Connection`
    destination : `str`
    messages : iterable of `models.streaming.messages.Message`
    agent : `str`
        Role and namespace of the agent, see `AgentJournal`.
    """
    created = datetime.now(UTC)
    rows = [
        {
            "kind": STOMP,
            "topic": destination,
            "key": agent,
            "payload": message.to_text().encode(),
            "created": created,
        }
        for message in messages
    ]
    if rows:
        connection.execute(OUTBOX.insert(), rows)


class AgentJournal:
    """Keeps what an agent must not lose; a `services.streaming.journal.Journal`.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`
        See `repos.streaming.database`.
    agent : `str`
        Role and namespace, such as ``data.epic``: the same at every start,
        unlike the agent's name.
    """

    def __init__(self, engine: sa.Engine, *, agent: str) -> None:
        self._engine = engine
        self._agent = agent
        insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
        self._insert = insert

    def receive(self, message: ReceivedMessage) -> bool:
        """Keep a message, on disk when this returns; False if it is kept
        already.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        row = {
            "agent": self._agent,
            "destination": message.destination,
            "message_id": message.message_id,
            "text": message.text,
            "received": datetime.now(UTC),
        }
        with writing(self._engine) as connection:
            added = connection.execute(self._insert(INBOX).values(row).on_conflict_do_nothing())
        return added.rowcount > 0

    def waiting(self, limit: int) -> list[JournalEntry]:
        """Return messages that are not settled, the oldest first.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = (
            sa.select(INBOX.c.id, INBOX.c.destination, INBOX.c.text, INBOX.c.received)
            .where(INBOX.c.agent == self._agent, INBOX.c.refused.is_(None))
            .order_by(INBOX.c.id)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            return [JournalEntry(*row) for row in connection.execute(query)]

    def settle(self, ids: Collection[int]) -> None:
        """Forget messages that have taken effect.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        if ids:
            with writing(self._engine) as connection:
                connection.execute(INBOX.delete().where(INBOX.c.id.in_(ids)))

    def refuse(self, id_: int, reason: str) -> None:
        """Set a message aside that cannot take effect.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        with writing(self._engine) as connection:
            connection.execute(INBOX.update().where(INBOX.c.id == id_).values(refused=reason))

    def counts(self) -> dict[str, int]:
        """Return how many messages are ``waiting``, and ``refused``.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        total, waiting = sa.func.count(), sa.func.count().filter(INBOX.c.refused.is_(None))
        query = sa.select(total, waiting).where(INBOX.c.agent == self._agent)
        with reading(self._engine) as connection:
            every, free = connection.execute(query).one()
        return {"waiting": free, "refused": every - free}

    def forget(self, before: datetime) -> int:
        """Remove messages that were set aside and came before a time (aware);
        return how many.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        old = INBOX.c.agent == self._agent, INBOX.c.refused.is_not(None), INBOX.c.received < before
        with writing(self._engine) as connection:
            return connection.execute(INBOX.delete().where(*old)).rowcount

    def remember(self, name: str, value: str) -> None:
        """Keep a value for the next start of this agent.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        row = {"agent": self._agent, "name": name, "value": value}
        statement = self._insert(MEMORY).values(row)
        statement = statement.on_conflict_do_update(
            index_elements=[MEMORY.c.agent, MEMORY.c.name], set_={"value": value}
        )
        with writing(self._engine) as connection:
            connection.execute(statement)

    def recall(self, name: str) -> str | None:
        """Return a value that was kept.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = sa.select(MEMORY.c.value).where(MEMORY.c.agent == self._agent, MEMORY.c.name == name)
        with reading(self._engine) as connection:
            value: str | None = connection.execute(query).scalar_one_or_none()
        return value
