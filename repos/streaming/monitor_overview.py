"""What people ask of a monitor: who is there, and what ran lately."""

from __future__ import annotations

__all__ = ["HttpOverview", "Overview", "StoreOverview"]

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from models.errors import TemporarilyUnavailable
from repos.streaming.monitor_http import MonitorHttp
from repos.streaming.monitor_store import MonitorStore

Row = Mapping[str, Any]


class Overview(Protocol):
    """Rows have the names of the monitor's resources. Every method raises
    `models.errors.TemporarilyUnavailable` while the monitor is away.
    """

    def agents(self, namespace: str | None = None) -> Sequence[Row]:
        """Return agents, of a namespace or of all."""

    def executions(self, namespace: str | None = None, *, limit: int) -> Sequence[Row]:
        """Return executions, those that began last first."""

    def run_number(self, execution_id: str) -> int | None:
        """Return the run of an execution; None before it has one."""

    def run(self, run_number: int) -> Row | None:
        """Return a run; None until somebody registered it."""


class StoreOverview:
    """An `Overview` of a monitor's own database."""

    def __init__(self, store: MonitorStore) -> None:
        self._store = store

    def agents(self, namespace: str | None = None) -> list[Row]:
        """Return agents, of a namespace or of all."""
        return [*self._store.agents.listed(namespace=namespace).items]

    def executions(self, namespace: str | None = None, *, limit: int) -> list[Row]:
        """Return executions, those that began last first."""
        return [*self._store.executions.listed(namespace=namespace, limit=limit).items]

    def run_number(self, execution_id: str) -> int | None:
        """Return the run of an execution; None before it has one."""
        return _of_execution(self._store.run_states.find(), execution_id)

    def run(self, run_number: int) -> Row | None:
        """Return a run; None until somebody registered it."""
        return self._store.runs.by_number(run_number)


class HttpOverview:
    """An `Overview` of a monitor over HTTP, the field's or this project's."""

    def __init__(self, http: MonitorHttp) -> None:
        self._http = http

    def agents(self, namespace: str | None = None) -> list[Row]:
        """Return agents, of a namespace or of all."""
        # The field's monitor has no filter.
        rows = self._rows("systemagents/")
        return [row for row in rows if namespace is None or row.get("namespace") == namespace]

    def executions(self, namespace: str | None = None, *, limit: int) -> list[Row]:
        """Return executions, those that began last first."""
        rows = self._rows("workflow-executions/", {"namespace": namespace} if namespace else None)
        rows = sorted(rows, key=lambda row: str(row.get("start_time") or ""), reverse=True)
        return rows[:limit]

    def run_number(self, execution_id: str) -> int | None:
        """Return the run of an execution; None before it has one."""
        return _of_execution(self._rows("run-states/"), execution_id)

    def run(self, run_number: int) -> Row | None:
        """Return a run; None until somebody registered it."""
        rows = self._rows("runs/", {"run_number": str(run_number)})
        return next((row for row in rows if row.get("run_number") == run_number), None)

    def _rows(self, path: str, params: Mapping[str, str] | None = None) -> list[Row]:
        rows = self._http.get(path, params)
        if not isinstance(rows, list):
            raise TemporarilyUnavailable(f"the monitor: {path} gave no list")
        return [row for row in rows if isinstance(row, dict)]


def _of_execution(states: Iterable[Row], execution_id: str) -> int | None:
    numbers = [
        int(row["run_number"])
        for row in states
        if (row.get("metadata") or {}).get("execution_id") == execution_id
    ]
    return max(numbers, default=None)
