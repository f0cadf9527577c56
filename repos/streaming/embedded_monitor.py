"""The monitor for agents in its own process."""

from __future__ import annotations

__all__ = ["EmbeddedMonitor"]

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from models.streaming.monitoring import (
    AgentReport,
    Execution,
    ExecutionStatus,
    FileTally,
    FileUpdate,
    NewStfFile,
    Run,
    RunState,
    StfFile,
    StfStatus,
    SystemAgent,
)
from repos.streaming.monitor_rows import RefusedField, Row
from repos.streaming.monitor_store import MonitorStore

#: Files that are read at once where only their names are wanted.
_PART = 1000


class EmbeddedMonitor:
    """A `services.streaming.monitor.Monitor` on the monitor's own store.

    Parameters
    ----------
    store : `repos.streaming.monitor_store.MonitorStore`
    """

    def __init__(self, store: MonitorStore) -> None:
        self._store = store

    def next_agent_id(self) -> int:
        """Return a number that no agent has."""
        return self._store.numbers.next("agent_id")

    def report(self, report: AgentReport) -> None:
        """Take a sign of life."""
        self._store.agents.heartbeat(report.model_dump())

    def add_subscriber(self, name: str, description: str) -> None:
        """Note that an agent listens to a destination."""
        self._store.subscribers.ensure(name, description)

    def open_run(
        self, run_number: int, *, start_time: datetime, run_conditions: Mapping[str, Any] | None = None
    ) -> Run:
        """Register a run, or return the one of this number."""
        row = self._store.runs.open(run_number, start_time=start_time, run_conditions=run_conditions)
        return Run.model_validate(row)

    def close_run(self, run_number: int, *, end_time: datetime) -> None:
        """Note the end of a run.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if there is no run of this number.
        """
        self._store.runs.change(self._run(run_number), {"end_time": end_time})

    def register_files(self, run_number: int, files: Sequence[NewStfFile]) -> Sequence[StfFile]:
        """Register files of a run, in this order; those that are there
        already are returned as they are.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if there is no run of this number.
        """
        if not files:
            return []
        run = self._run(run_number)
        rows = self._store.files.register([{**file.model_dump(), "run": run} for file in files])
        return [_file(row) for row in rows]

    def files(self, run_number: int, *, statuses: Collection[StfStatus] | None = None) -> Sequence[StfFile]:
        """Return files of a run, of some statuses or of all."""
        return [_file(row) for row in self._store.files.of_run(run_number, statuses=statuses)]

    def file_names(self, run_number: int) -> Iterator[str]:
        """Yield the names of the files of a run, read part by part."""
        return self._store.files.names(_PART, run_number)

    def tally_files(self, run_number: int) -> Mapping[str, FileTally]:
        """Return how many files of each status a run has."""
        tally = {}
        for status, count in self._store.files.run_counts(run_number).items():
            # Files get further meanwhile.
            if latest := self._store.files.newest(run_number, status):
                tally[status] = FileTally(count=count, latest=_file(latest))
        return tally

    def update_files(self, run_number: int, updates: Sequence[FileUpdate]) -> None:
        """Change files of a run.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if one is not there; nothing is changed.
        """
        self._store.files.update(updates)

    def execution(self, execution_id: str) -> Execution | None:
        """Return an execution; None if there is none of this id."""
        row = self._store.executions.get(execution_id)
        return None if row is None else Execution.model_validate(row)

    def end_execution(self, execution_id: str, status: ExecutionStatus, *, end_time: datetime) -> None:
        """Note how an execution ended. One that failed stays failed.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if there is none of this id.
        """
        values = {"status": str(status), "end_time": end_time}
        if self._store.executions.change(execution_id, values) is None:
            raise RefusedField("execution_id", f"there is no execution {execution_id}")

    def executions(self, namespace: str, *, status: ExecutionStatus) -> Sequence[Execution]:
        """Return executions of a namespace that stand like this."""
        page = self._store.executions.listed(namespace=namespace, status=status)
        return [Execution.model_validate(row) for row in page.items]

    def agents(self, namespace: str) -> Sequence[SystemAgent]:
        """Return the agents of a namespace, also those that have ended."""
        page = self._store.agents.listed(namespace=namespace)
        return [SystemAgent.model_validate(row) for row in page.items]

    def run_state(self, run_number: int) -> RunState | None:
        """Return how a run stands; None if nobody told."""
        row = self._store.run_states.get(run_number)
        return None if row is None else RunState.model_validate(row)

    def messages(self, execution_id: str) -> Sequence[Mapping[str, Any]]:
        """Return the bodies of the bus's messages about an execution, the
        oldest first.
        """
        return self._store.messages.bodies(execution_id)

    def _run(self, run_number: int) -> int:
        row = self._store.runs.by_number(run_number)
        if row is None:
            raise RefusedField("run_number", f"there is no run {run_number}")
        return int(row["run_id"])


def _file(row: Row) -> StfFile:
    return StfFile.model_validate({**row, "metadata": row["metadata"] or {}})
