"""What people do with an outbox: look at it, put messages back, throw them
away.
"""

from __future__ import annotations

__all__ = ["OutboxDesk", "open_agent_outbox", "open_ledger_outbox"]

from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime

import sqlalchemy as sa

from models.held_messages import HeldMessage, Holding, Selection
from repos.ledger_database import create_ledger_engine, reading, writing
from repos.ledger_tables import OUTBOX
from repos.streaming.database import create_streaming_engine
from repos.streaming.tables import OUTBOX as AGENT_OUTBOX

#: Rows that are named in a statement at once.
_HANDFUL = 500


class OutboxDesk:
    """An outbox as people see it; its owner may run or not.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`
        See `repos.ledger_database` and `repos.streaming.database`.
    table : `sqlalchemy.Table`
        Where the messages are.
    role : `str`, optional
        Of the agents whose messages are meant, in all their namespaces; all
        messages if not given.
    now : callable, optional
        Returns the present time, aware.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        table: sa.Table = OUTBOX,
        role: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._table = table
        self._role = role
        self._now = now

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def count(self, selection: Selection) -> int:
        """Return how many messages fit.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        query = sa.select(sa.func.count()).select_from(self._table).where(self._fits(selection))
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one()

    def messages(self, selection: Selection, limit: int | None = None) -> list[HeldMessage]:
        """Return the messages that fit, the oldest first.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        columns = [column for column in self._table.c if column.name != "payload"]
        size = sa.func.length(self._table.c.payload).label("size")
        query = sa.select(*columns, size).where(self._fits(selection)).order_by(self._table.c.id).limit(limit)
        now = self._now()
        with reading(self._engine) as connection:
            return [_held(row, now) for row in connection.execute(query).mappings()]

    def payloads(self, selection: Selection) -> Iterator[tuple[int, bytes]]:
        """Yield the ids of the messages that fit, and what they say.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        for message in self.messages(selection):
            query = sa.select(self._table.c.payload).where(self._table.c.id == message.id)
            with reading(self._engine) as connection:
                payload = connection.execute(query).scalar_one_or_none()
            if payload is not None:
                yield message.id, bytes(payload)

    def requeue(self, selection: Selection) -> int:
        """Have refused messages that fit sent once more; return how many.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        refused = self._fits(selection), self._table.c.refused.is_not(None)
        afresh = {"refused": None, "owner": None, "leased_until": None}
        with writing(self._engine, durable=True) as connection:
            return connection.execute(self._table.update().where(*refused).values(afresh)).rowcount

    def drop(self, ids: Collection[int]) -> int:
        """Delete messages but those that are just leaving; return how many
        were.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        given, dropped = sorted(ids), 0
        with writing(self._engine, durable=True) as connection:
            for start in range(0, len(given), _HANDFUL):
                some = self._fits(Selection(ids=given[start : start + _HANDFUL]))
                statement = self._table.delete().where(some, ~self._leaving())
                dropped += connection.execute(statement).rowcount
        return dropped

    def _fits(self, selection: Selection) -> sa.ColumnElement[bool]:
        table = self._table
        # Earlier versions marked what had arrived in place of deleting it.
        fits: list[sa.ColumnElement[bool]] = [table.c.acknowledged.is_(None)]
        if self._role is not None:
            fits.append(table.c.key.startswith(f"{self._role}.", autoescape=True))
        if selection.ids is not None:
            fits.append(table.c.id.in_(selection.ids))
        if selection.kind is not None:
            fits.append(table.c.kind == selection.kind)
        if selection.topic is not None:
            fits.append(table.c.topic == selection.topic)
        match selection.holding:
            case Holding.REFUSED:
                fits.append(table.c.refused.is_not(None))
            case Holding.LEAVING:
                fits.append(self._leaving())
            case Holding.WAITING:
                fits += [table.c.refused.is_(None), ~self._leaving()]
        return sa.and_(*fits)

    def _leaving(self) -> sa.ColumnElement[bool]:
        table = self._table
        return sa.and_(
            table.c.refused.is_(None),
            table.c.owner.is_not(None),
            table.c.leased_until.is_not(None),
            table.c.leased_until > self._now(),
        )


def open_ledger_outbox(url: str, *, read_only: bool = False) -> OutboxDesk:
    """Open the outbox of a ledger that is there already.

    Parameters
    ----------
    url : `str`
        SQLAlchemy URL of the ledger.
    read_only : `bool`, optional
        Whether to look only.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if there is no ledger, or it refuses us.
    models.errors.TemporarilyUnavailable
        Raised if the database cannot be reached.
    """
    engine = create_ledger_engine(url, read_only=True)
    if not read_only:
        # It is there, and as we know it: nothing is made or upgraded now.
        engine.dispose()
        engine = create_ledger_engine(url)
    return OutboxDesk(engine)


def open_agent_outbox(url: str, *, setting: str, role: str, read_only: bool = False) -> OutboxDesk:
    """Open the outbox of agents of one role, which is there already.

    Parameters
    ----------
    url : `str`
        SQLAlchemy URL of the agent's database.
    setting : `str`
        The setting that holds it, for errors.
    role : `str`
        Such as ``data``.
    read_only : `bool`, optional
        Whether to look only.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if there is no database, or it refuses us.
    models.errors.TemporarilyUnavailable
        Raised if the database cannot be reached.
    """
    engine = create_streaming_engine(url, setting=setting, read_only=True)
    if not read_only:
        engine.dispose()
        engine = create_streaming_engine(url, setting=setting)
    return OutboxDesk(engine, table=AGENT_OUTBOX, role=role)


def _held(row: sa.RowMapping, now: datetime) -> HeldMessage:
    if row["refused"] is not None:
        holding = Holding.REFUSED
    elif row["owner"] is not None and row["leased_until"] is not None and row["leased_until"] > now:
        holding = Holding.LEAVING
    else:
        holding = Holding.WAITING
    about = (
        f"{row['instrument']} {row['group']} {row['detector']}"
        if "instrument" in row
        else str(row["key"] or "")
    )
    return HeldMessage(
        id=row["id"],
        kind=row["kind"],
        topic=row["topic"],
        key=row["key"],
        size=row["size"],
        about=about,
        created=row["created"],
        holding=holding,
        reason=row["refused"],
    )
