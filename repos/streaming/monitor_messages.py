"""Messages of the bus, and what they tell of runs and agents."""

from __future__ import annotations

__all__ = ["MessageStore"]

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models.streaming.monitoring import BusHeartbeat, RecordedMessage
from models.streaming.run_states import RunStanding, follow
from repos.ledger_database import reading, writing
from repos.streaming.monitor_rows import Page, Resource, Row, window
from repos.streaming.monitor_tables import AGENTS, MESSAGES, RUN_STATES

#: Numbers that a run can have in the tables.
_MAX_RUN = 2**63 - 1
_RUN = re.compile("[0-9]{1,30}")


class MessageStore(Resource):
    """Messages of the bus, each once, in the order in which they came."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(
            engine,
            MESSAGES,
            title="workflow message",
            key=MESSAGES.c.message_id,
            newest_first=True,
            age=MESSAGES.c.sent_at,
        )

    def record(self, messages: Sequence[RecordedMessage], heartbeats: Sequence[BusHeartbeat] = ()) -> None:
        """Keep messages and what they tell, in one transaction.

        A message whose broker's id is known is not kept again.

        Parameters
        ----------
        messages : sequence of `models.streaming.monitoring.RecordedMessage`
            In the order in which they came.
        heartbeats : sequence of `models.streaming.monitoring.BusHeartbeat`

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database is away; nothing is kept.
        """
        insert = postgresql.insert if self.engine.dialect.name == "postgresql" else sqlite.insert
        with writing(self.engine) as connection:
            if messages:
                rows = [message.model_dump() for message in messages]
                connection.execute(insert(MESSAGES).on_conflict_do_nothing(), rows)
                _follow_runs(connection, messages)
            for heartbeat in heartbeats:
                values = {
                    "status": heartbeat.status,
                    "last_heartbeat": heartbeat.received,
                    "updated_at": heartbeat.received,
                }
                new = {
                    "instance_name": heartbeat.agent_name,
                    "agent_type": heartbeat.agent_type,
                    "description": "",
                    "workflow_enabled": True,
                    "created_at": heartbeat.received,
                    **values,
                }
                upsert = insert(AGENTS).values(new)
                upsert = upsert.on_conflict_do_update(index_elements=[AGENTS.c.instance_name], set_=values)
                connection.execute(upsert)

    def bodies(self, execution_id: str, *, message_type: str | None = None) -> list[dict[str, Any]]:
        """Return the bodies of the messages about an execution, the oldest first."""
        query = (
            sa.select(MESSAGES.c.message_content)
            .where(MESSAGES.c.execution_id == execution_id, MESSAGES.c.is_successful)
            .order_by(MESSAGES.c.received_order)
        )
        if message_type is not None:
            query = query.where(MESSAGES.c.message_type == message_type)
        with reading(self.engine) as connection:
            return [dict(body) for (body,) in connection.execute(query)]

    def listed(
        self,
        *,
        namespace: str | None = None,
        execution_id: str | None = None,
        run_id: str | None = None,
        sender_agent: str | None = None,
        message_types: Collection[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Page:
        """Return messages, the newest first.

        Parameters
        ----------
        namespace, execution_id, run_id, sender_agent : `str`, optional
        message_types : collection [`str`], optional
        start, end : `datetime.datetime`, optional
            Between which they came; aware.
        limit, offset : `int`, optional
        """
        wanted = {
            "namespace": namespace,
            "execution_id": execution_id,
            "run_id": run_id,
            "sender_agent": sender_agent,
        }
        conditions = [MESSAGES.c[name] == value for name, value in wanted.items() if value is not None]
        if message_types is not None:
            conditions.append(MESSAGES.c.message_type.in_(message_types))
        return self.page(*conditions, *window(MESSAGES.c.sent_at, start, end), limit=limit, offset=offset)

    def following(
        self,
        after: int,
        *,
        namespace: str | None = None,
        execution_id: str | None = None,
        run_ids: Collection[str] | None = None,
        sender_agents: Collection[str] | None = None,
        message_types: Collection[str] | None = None,
        limit: int,
    ) -> list[Row]:
        """Return the messages that came next after a ``received_order``.

        Parameters
        ----------
        after : `int`
        namespace, execution_id : `str`, optional
        run_ids, sender_agents, message_types : collection [`str`], optional
        limit : `int`
        """
        query = sa.select(MESSAGES).where(MESSAGES.c.received_order > after)
        for name, value in {"namespace": namespace, "execution_id": execution_id}.items():
            if value is not None:
                query = query.where(MESSAGES.c[name] == value)
        several = {"run_id": run_ids, "sender_agent": sender_agents, "message_type": message_types}
        for name, values in several.items():
            if values is not None:
                query = query.where(MESSAGES.c[name].in_(values))
        with reading(self.engine) as connection:
            rows = connection.execute(query.order_by(MESSAGES.c.received_order).limit(limit))
            return [dict(row) for row in rows.mappings()]

    def latest(self) -> int:
        """Return the ``received_order`` of the newest message; 0 without any."""
        with reading(self.engine) as connection:
            return connection.execute(sa.select(sa.func.max(MESSAGES.c.received_order))).scalar_one() or 0


def _follow_runs(connection: sa.Connection, messages: Sequence[RecordedMessage]) -> None:
    """Apply what messages tell of runs."""
    by_run: dict[int, list[RecordedMessage]] = {}
    for message in messages:
        run = message.run_id or ""
        if message.is_successful and _RUN.fullmatch(run) and int(run) <= _MAX_RUN:
            by_run.setdefault(int(run), []).append(message)
    for run_number, told in by_run.items():
        query = sa.select(RUN_STATES).where(RUN_STATES.c.run_number == run_number).with_for_update()
        row = connection.execute(query).mappings().one_or_none()
        before = _standing(row)
        after = before
        for message in told:
            after = follow(after, message.message_content or {})
        if after == before:
            continue
        changed = (after.phase, after.state, after.substate) != (before.phase, before.state, before.substate)
        _store(connection, run_number, after, row, told, changed=changed)


def _standing(row: Mapping[Any, Any] | None) -> RunStanding:
    if row is None:
        return RunStanding()
    latest = row["latest"] or {}
    return RunStanding(row["phase"], row["state"], row["substate"], **latest)


def _store(
    connection: sa.Connection,
    run_number: int,
    standing: RunStanding,
    row: Mapping[Any, Any] | None,
    told: Sequence[RecordedMessage],
    *,
    changed: bool,
) -> None:
    now = datetime.now(UTC)
    values: Row = {
        "phase": standing.phase,
        "state": standing.state,
        "substate": standing.substate,
        "latest": standing.position,
        "updated_at": now,
    }
    if row is None:
        values |= {
            "run_number": run_number,
            "state_changed_at": now,
            "metadata": {"execution_id": told[0].execution_id},
        }
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        # Another monitor may have made it since; its messages are ours.
        statement = insert(RUN_STATES).values(values)
        connection.execute(statement.on_conflict_do_nothing())
        return
    if changed:
        values["state_changed_at"] = now
    connection.execute(RUN_STATES.update().where(RUN_STATES.c.run_number == run_number).values(values))
