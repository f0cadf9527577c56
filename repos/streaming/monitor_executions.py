"""Executions of workflows, their definitions and namespaces; and the numbers
that the monitor gives out.
"""

from __future__ import annotations

__all__ = ["DefinitionStore", "ExecutionStore", "NamespaceStore", "NumberStore"]

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from models.streaming.monitoring import ExecutionStatus
from repos.ledger_database import writing
from repos.streaming.monitor_rows import Page, Resource, Row, insert_new, window
from repos.streaming.monitor_tables import DEFINITIONS, EXECUTIONS, NAMESPACES, PERSISTENT_STATE

#: First numbers that are given out; that of runs is the one of the field.
_FIRST = {"run_number": 100010, "agent_id": 1, "workflow_execution_id": 1}

#: How an execution ends. That is not taken back: it may only go on this way.
_ENDS = (ExecutionStatus.COMPLETED, ExecutionStatus.TERMINATED, ExecutionStatus.FAILED)


class NumberStore:
    """Numbers that are given out once each.

    Parameters
    ----------
    engine : `sqlalchemy.Engine`
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def next(self, name: str) -> int:
        """Return the next number.

        Parameters
        ----------
        name : `str`
            ``run_number``, ``agent_id`` or ``workflow_execution_id``.
        """
        now = datetime.now(UTC)
        table = PERSISTENT_STATE
        with writing(self._engine) as connection:
            insert_new(connection, table, {"id": 1, "state_data": {}, "updated_at": now})
            state = connection.execute(
                sa.select(table.c.state_data).where(table.c.id == 1).with_for_update()
            ).scalar_one()
            number = int(state.get(f"next_{name}", _FIRST[name]))
            after = {
                **state,
                f"next_{name}": number + 1,
                f"last_{name}": number,
                f"last_{name}_time": now.isoformat(),
            }
            connection.execute(table.update().values(state_data=after, updated_at=now))
        return number


class NamespaceStore(Resource):
    """Namespaces."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine, NAMESPACES, title="namespace")

    def ensure(self, name: str, *, owner: str = "", description: str = "") -> tuple[Row, bool]:
        """Return a namespace and whether it is new."""
        now = datetime.now(UTC)
        values = {
            "name": name,
            "owner": owner,
            "description": description,
            "created_at": now,
            "updated_at": now,
        }
        with writing(self.engine) as connection:
            if (row := insert_new(connection, NAMESPACES, values)) is not None:
                return row, True
            query = sa.select(NAMESPACES).where(NAMESPACES.c.name == name)
            return dict(connection.execute(query).mappings().one()), False


class DefinitionStore(Resource):
    """Definitions of workflows, by name and version."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine, DEFINITIONS, title="workflow definition")

    def ensure(self, values: Mapping[str, Any]) -> Row:
        """Return the definition of this name and version; it is made if there
        is none, and otherwise left as it is.
        """
        now = datetime.now(UTC)
        with writing(self.engine) as connection:
            row = insert_new(connection, DEFINITIONS, {"created_at": now, "updated_at": now, **values})
            if row is not None:
                return row
            query = sa.select(DEFINITIONS).where(
                DEFINITIONS.c.workflow_name == values["workflow_name"],
                DEFINITIONS.c.version == values["version"],
            )
            return dict(connection.execute(query).mappings().one())

    def listed(
        self,
        *,
        workflow_name: str | None = None,
        version: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Page:
        """Return definitions of a name, a version, both or all."""
        conditions = []
        if workflow_name is not None:
            conditions.append(DEFINITIONS.c.workflow_name == workflow_name)
        if version is not None:
            conditions.append(DEFINITIONS.c.version == version)
        return self.page(*conditions, limit=limit, offset=offset)


class ExecutionStore(Resource):
    """Executions of workflows.

    One that failed stays so, and one that was terminated does not become
    completed; what comes late is not an error. An end that is known is not
    forgotten.
    """

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(
            engine,
            EXECUTIONS,
            title="workflow execution",
            newest_first=True,
            order=EXECUTIONS.c.start_time,
        )

    def settle(self, before: Row, values: Row) -> Row:
        """Leave out what would take back what the execution has become. An end
        without a time, as runners in the field tell of failures, is now.
        """
        new = dict(values)
        if "status" in new and _ended(new["status"]) < _ended(before["status"]):
            del new["status"]
            if before["end_time"] is not None:
                new.pop("end_time", None)
        if new.get("end_time") is None and before["end_time"] is not None:
            new.pop("end_time", None)
        elif new.get("end_time") is None and _ended(new.get("status", "")) >= 0:
            new["end_time"] = datetime.now(UTC)
        return new

    def listed(
        self,
        *,
        status: str | None = None,
        namespace: str | None = None,
        executed_by: str | None = None,
        workflow_name: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Page:
        """Return executions, those that began last first.

        Parameters
        ----------
        status, namespace, executed_by, workflow_name : `str`, optional
        start, end : `datetime.datetime`, optional
            Between which they began; aware.
        limit, offset : `int`, optional
        """
        conditions = [*window(EXECUTIONS.c.start_time, start, end)]
        wanted = {"status": status, "namespace": namespace, "executed_by": executed_by}
        conditions += [EXECUTIONS.c[name] == value for name, value in wanted.items() if value is not None]
        if workflow_name is not None:
            ids = sa.select(DEFINITIONS.c.id).where(DEFINITIONS.c.workflow_name == workflow_name)
            conditions.append(EXECUTIONS.c.workflow_definition.in_(ids))
        return self.page(*conditions, limit=limit, offset=offset)


def _ended(status: str) -> int:
    # Statuses of others' making end nothing.
    return next((rank for rank, end in enumerate(_ENDS) if status == end), -1)
