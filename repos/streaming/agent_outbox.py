"""The part of an outbox that is one agent's."""

from __future__ import annotations

__all__ = ["AgentOutbox"]

import sqlalchemy as sa

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
