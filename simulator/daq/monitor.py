"""What the data acquisition needs of the monitor."""

from __future__ import annotations

__all__ = ["DaqMonitor", "NewExecution"]

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from models.streaming.monitoring import AgentReport, ExecutionStatus


@dataclass(frozen=True)
class NewExecution:
    """An execution of a workflow that begins.

    Attributes
    ----------
    execution_id, namespace : `str`
    workflow_definition : `int`
        The monitor's key.
    executed_by : `str`
        A user.
    start_time : `datetime.datetime`
        Aware.
    parameter_values : `dict`
        JSON.
    """

    execution_id: str
    workflow_definition: int
    namespace: str
    executed_by: str
    start_time: datetime
    parameter_values: dict[str, Any]


class DaqMonitor(Protocol):
    """The monitor.

    Every method raises `models.errors.TemporarilyUnavailable` while it cannot
    be reached or answers with a failure of its own, and
    `models.errors.InvalidMessage` if it refuses what it is sent.
    """

    def next_agent_id(self) -> int:
        """Return a number that no agent has."""

    def next_execution_number(self, workflow_name: str) -> int:
        """Return a number that no execution has."""

    def next_run_number(self) -> int:
        """Return a number that no run has."""

    def define_workflow(
        self, name: str, version: str, *, definition: str, parameter_values: dict[str, Any], created_by: str
    ) -> int:
        """Return the key of a workflow's definition. One that is there already
        is left as it is.
        """

    def ensure_namespace(self, name: str, owner: str) -> None:
        """Register a namespace if it is not."""

    def begin_execution(self, execution: NewExecution) -> None:
        """Register an execution that runs."""

    def is_over(self, execution_id: str) -> bool:
        """Say whether an execution has ended, whoever ended it."""

    def begin_run(self, run_number: int, execution_id: str, *, at: datetime) -> None:
        """Register that a run is imminent."""

    def end_execution(self, execution_id: str, status: ExecutionStatus, *, end_time: datetime) -> None:
        """Note how an execution ended. One that failed stays failed."""

    def end_run(self, run_number: int, *, at: datetime) -> None:
        """Note that a run is over which was imminent, and of which the bus
        says nothing.
        """

    def report(self, report: AgentReport) -> None:
        """Take a sign of life."""

    def is_served(self, namespace: str, *, besides: str) -> bool:
        """Say whether an agent other than `besides` runs workflows of a
        namespace.
        """
