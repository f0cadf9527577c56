"""The part of an outbox that is one agent's."""

from __future__ import annotations

__all__ = ["AgentOutbox"]

from datetime import datetime

import sqlalchemy as sa

from repos.ledger_database import writing
from repos.outbox import Outbox
from repos.streaming.tables import OUTBOX


class AgentOutbox(Outbox):
    """Keeps what one agent sends; others may share its table.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`
        See `repos.streaming.database`.
    agent : `str`
        Role and namespace of the agent, as its journal has it. It runs once
        at a time: leases that are there when it starts are those of an
        earlier life.
    owner : `str`
        Names this process in the rows that it leases.
    """

    def __init__(self, engine: sa.Engine, *, agent: str, owner: str) -> None:
        super().__init__(engine, owner=owner, exclusive=True, table=OUTBOX, key=agent)
        self._refused = sa.and_(OUTBOX.c.key == agent, OUTBOX.c.refused.is_not(None))

    def forget(self, before: datetime) -> int:
        """Remove messages that were refused and are from before a time
        (aware); return how many.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        with writing(self._engine) as connection:
            statement = OUTBOX.delete().where(self._refused, OUTBOX.c.created < before)
            return connection.execute(statement).rowcount
