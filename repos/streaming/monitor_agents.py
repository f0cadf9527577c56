"""Agents, and what they listen to."""

from __future__ import annotations

__all__ = ["AgentStore", "SubscriberStore"]

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models.streaming.monitoring import SILENCE, AgentStatus
from repos.ledger_database import writing
from repos.streaming.monitor_rows import Page, Resource, Row, insert_new
from repos.streaming.monitor_tables import AGENTS, SUBSCRIBERS


class AgentStore(Resource):
    """Agents, by the names with which they sign."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(
            engine, AGENTS, title="system agent", newest_first=True, order=AGENTS.c.last_heartbeat
        )

    def heartbeat(self, values: Mapping[str, Any]) -> tuple[Row, bool]:
        """Take a sign of life; return the agent, and whether it is new.

        Parameters
        ----------
        values : mapping
            By column, ``instance_name`` among them; what is not told stays.
        """
        now = datetime.now(UTC)
        told = {**values, "last_heartbeat": now, "updated_at": now}
        told.setdefault("status", AgentStatus.OK)
        new = {
            "agent_type": "other",
            "description": "",
            "workflow_enabled": True,
            "current_stf_count": 0,
            "total_stf_processed": 0,
            "created_at": now,
            **told,
        }
        insert = postgresql.insert if self.engine.dialect.name == "postgresql" else sqlite.insert
        upsert = insert(AGENTS).values(new)
        upsert = upsert.on_conflict_do_update(index_elements=[AGENTS.c.instance_name], set_=told)
        with writing(self.engine) as connection:
            row = dict(connection.execute(upsert.returning(*AGENTS.columns)).mappings().one())
            _mark_silent(connection, now)
        return row, row["created_at"] == now

    def mark_silent(self) -> None:
        """Note which agents have not been heard of for `SILENCE`."""
        with writing(self.engine) as connection:
            _mark_silent(connection, datetime.now(UTC))

    def listed(
        self,
        *,
        namespace: str | None = None,
        status: str | None = None,
        agent_type: str | None = None,
        instance_name: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Page:
        """Return agents, those heard of last first.

        Parameters
        ----------
        namespace, status, agent_type, instance_name : `str`, optional
        limit, offset : `int`, optional
        """
        wanted = {
            "namespace": namespace,
            "status": status,
            "agent_type": agent_type,
            "instance_name": instance_name,
        }
        conditions = [AGENTS.c[name] == value for name, value in wanted.items() if value is not None]
        return self.page(*conditions, limit=limit, offset=offset)

    def heard_since(self, time: datetime) -> list[Row]:
        """Return agents that were heard of since a time (aware)."""
        return self.find(AGENTS.c.last_heartbeat >= time)

    def alive(self, namespace: str) -> list[Row]:
        """Return the agents of a namespace that were heard of lately and did
        not say that they ended.
        """
        return self.find(
            AGENTS.c.namespace == namespace,
            AGENTS.c.status != AgentStatus.EXITED,
            AGENTS.c.last_heartbeat >= datetime.now(UTC) - SILENCE,
        )


class SubscriberStore(Resource):
    """Who listens to what."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine, SUBSCRIBERS, title="subscriber")

    def ensure(self, name: str, description: str) -> None:
        """Note that somebody listens to something."""
        now = datetime.now(UTC)
        values = {
            "subscriber_name": name,
            "description": description,
            "fraction": 1.0,
            "is_active": True,
            "created_at": now,
            "updated_at": now,
        }
        with writing(self.engine) as connection:
            insert_new(connection, SUBSCRIBERS, values)


def _mark_silent(connection: sa.Connection, now: datetime) -> None:
    # Whoever gives a sign of life just now has its row; to wait for it with a
    # row of our own would be to wait for each other.
    silent = (
        sa.select(AGENTS.c.id)
        .where(AGENTS.c.status != AgentStatus.EXITED, AGENTS.c.last_heartbeat < now - SILENCE)
        .with_for_update(skip_locked=True)
    )
    connection.execute(
        AGENTS.update()
        .where(AGENTS.c.id.in_(silent))
        .values(status=AgentStatus.EXITED, operational_state="EXITED", updated_at=now)
    )
