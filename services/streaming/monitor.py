"""What the agents need of the monitor.

`repos.streaming.monitor_client` asks one over HTTP, that of this project or
the one in the field; the monitor's own store serves agents in its process.
"""

from __future__ import annotations

__all__ = ["Monitor"]

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

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


class Monitor(Protocol):
    """The monitor. Whatever is asked twice has one effect.

    Every method raises `models.errors.TemporarilyUnavailable` while it cannot
    be reached or answers with a failure of its own, and
    `models.errors.InvalidMessage` if it refuses what it is sent.
    """

    def next_agent_id(self) -> int:
        """Return a number that no agent has."""

    def report(self, report: AgentReport) -> None:
        """Take a sign of life."""

    def add_subscriber(self, name: str, description: str) -> None:
        """Note that an agent listens to a destination."""

    def open_run(
        self, run_number: int, *, start_time: datetime, run_conditions: Mapping[str, Any] | None = None
    ) -> Run:
        """Register a run, or return the one of this number."""

    def close_run(self, run_number: int, *, end_time: datetime) -> None:
        """Note the end of a run."""

    def register_files(self, run_number: int, files: Sequence[NewStfFile]) -> Sequence[StfFile]:
        """Register files of a run, in this order; those that are there
        already are returned as they are.
        """

    def files(self, run_number: int, *, statuses: Collection[StfStatus] | None = None) -> Sequence[StfFile]:
        """Return files of a run, of some statuses or of all."""

    def file_names(self, run_number: int) -> Iterator[str]:
        """Yield the names of the files of a run, of which there may be many:
        they are asked for part by part. Those registered meanwhile may be
        left out.
        """

    def tally_files(self, run_number: int) -> Mapping[str, FileTally]:
        """Return how many files of a run there are of each status that any
        has; cheap, however many there are.
        """

    def update_files(self, run_number: int, updates: Sequence[FileUpdate]) -> None:
        """Change files of a run."""

    def execution(self, execution_id: str) -> Execution | None:
        """Return an execution; None if there is none of this id."""

    def end_execution(self, execution_id: str, status: ExecutionStatus, *, end_time: datetime) -> None:
        """Note how an execution ended. One that failed stays failed."""

    def executions(self, namespace: str, *, status: ExecutionStatus) -> Sequence[Execution]:
        """Return executions of a namespace that stand like this."""

    def agents(self, namespace: str) -> Sequence[SystemAgent]:
        """Return the agents of a namespace, also those that have ended."""

    def run_state(self, run_number: int) -> RunState | None:
        """Return how a run stands; None if nobody told."""

    def messages(self, execution_id: str) -> Sequence[Mapping[str, Any]]:
        """Return the bodies of the bus's messages about an execution, the
        oldest first; empty where the monitor records none.
        """
