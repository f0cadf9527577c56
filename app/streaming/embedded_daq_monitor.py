"""The monitor for a DAQ in its own process."""

from __future__ import annotations

__all__ = ["EmbeddedDaqMonitor"]

import logging
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from models.streaming.monitoring import AgentReport, ExecutionStatus
from models.streaming.names import DAQ_TYPE
from repos.streaming.embedded_monitor import EmbeddedMonitor
from repos.streaming.monitor_rows import AlreadyThere
from repos.streaming.monitor_store import MonitorStore
from simulator.daq.monitor import NewExecution

_log = logging.getLogger(__name__)

_UNDER_WAY = (ExecutionStatus.PENDING, ExecutionStatus.RUNNING)


class EmbeddedDaqMonitor:
    """A `simulator.daq.monitor.DaqMonitor` on the monitor's own store.

    Parameters
    ----------
    store : `repos.streaming.monitor_store.MonitorStore`
    before_execution : callable, optional
        Is told the id of an execution before that is registered.
    before_agent : callable, optional
        Is told the name of an agent before its first sign of life is kept.
    is_taken : callable, optional
        Says whether there was a run of a number that the monitor does not know
        of; such numbers are left out.
    """

    def __init__(
        self,
        store: MonitorStore,
        *,
        before_execution: Callable[[str], None] = lambda _: None,
        before_agent: Callable[[str], None] = lambda _: None,
        is_taken: Callable[[int], bool] = lambda _: False,
    ) -> None:
        self._store = store
        self._before_execution = before_execution
        self._before_agent = before_agent
        self._is_taken = is_taken
        self._reported: set[str] = set()
        self._monitor = EmbeddedMonitor(store)

    def next_agent_id(self) -> int:
        """Return a number that no agent has."""
        return self._store.numbers.next("agent_id")

    def next_execution_number(self, workflow_name: str) -> int:
        """Return a number that no execution has."""
        return self._store.numbers.next("workflow_execution_id")

    def next_run_number(self) -> int:
        """Return a number that no run has."""
        while self._is_taken(number := self._store.numbers.next("run_number")):
            _log.warning("Run number %d is left out: there was such a run, of another monitor.", number)
        return number

    def define_workflow(
        self, name: str, version: str, *, definition: str, parameter_values: dict[str, Any], created_by: str
    ) -> int:
        """Return the key of a workflow's definition. One that is there already
        is left as it is.
        """
        row = self._store.definitions.ensure(
            {
                "workflow_name": name,
                "version": version,
                "workflow_type": "simulation",
                "definition": definition,
                "parameter_values": parameter_values,
                "created_by": created_by,
            }
        )
        return int(row["id"])

    def ensure_namespace(self, name: str, owner: str) -> None:
        """Register a namespace if it is not."""
        self._store.namespaces.ensure(name, owner=owner)

    def begin_execution(self, execution: NewExecution) -> None:
        """Register an execution that runs."""
        self._before_execution(execution.execution_id)
        try:
            self._store.executions.add({**asdict(execution), "status": str(ExecutionStatus.RUNNING)})
        except AlreadyThere:
            # Asked again after an answer that did not arrive.
            return

    def is_over(self, execution_id: str) -> bool:
        """Say whether an execution has ended, whoever ended it."""
        execution = self._monitor.execution(execution_id)
        return execution is not None and execution.status not in _UNDER_WAY

    def begin_run(self, run_number: int, execution_id: str, *, at: datetime) -> None:
        """Register that a run is imminent."""
        self._store.run_states.ensure(
            {
                "run_number": run_number,
                "phase": "initializing",
                "state": "imminent",
                "substate": "preparing",
                "state_changed_at": at,
                "updated_at": datetime.now(UTC),
                "metadata": {
                    "execution_id": execution_id,
                    "stf_sampling_rate": None,
                    "slices_per_sample": None,
                },
            }
        )

    def end_execution(self, execution_id: str, status: ExecutionStatus, *, end_time: datetime) -> None:
        """Note how an execution ended. One that failed stays failed."""
        self._monitor.end_execution(execution_id, status, end_time=end_time)

    def end_run(self, run_number: int, *, at: datetime) -> None:
        """Note that a run is over which was imminent, and of which the bus
        says nothing.
        """
        self._store.run_states.change(
            run_number,
            {
                "phase": "completed",
                "state": "ended",
                "substate": None,
                "state_changed_at": at,
                "updated_at": datetime.now(UTC),
            },
        )

    def report(self, report: AgentReport) -> None:
        """Take a sign of life."""
        if report.instance_name not in self._reported:
            self._before_agent(report.instance_name)
            self._reported.add(report.instance_name)
        self._monitor.report(report)

    def is_served(self, namespace: str, *, besides: str) -> bool:
        """Say whether an agent other than `besides` runs workflows of a
        namespace.
        """
        return any(
            agent["agent_type"] == DAQ_TYPE and agent["instance_name"] != besides
            for agent in self._store.agents.alive(namespace)
        )
