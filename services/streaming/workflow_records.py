"""What answers about workflows are made of."""

from __future__ import annotations

__all__ = [
    "FileRecords",
    "JobSource",
    "LogRecords",
    "MessageRecords",
    "RecordPage",
    "RunRecords",
    "WorkflowRecords",
]

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Protocol

from models.streaming.job_listing import JobListing, JobQuery

Row = dict[str, Any]


class RecordPage(Protocol):
    """Some of the rows that were asked for."""

    @property
    def items(self) -> Sequence[Row]:
        """By the names of the monitor's columns; times are aware."""

    @property
    def total(self) -> int:
        """How many there are in all."""


class ExecutionRecords(Protocol):
    """Executions of workflows."""

    def get(self, key: Any) -> Row | None:
        """Return an execution by its id."""

    def listed(
        self,
        *,
        status: str | None = None,
        namespace: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> RecordPage:
        """Return executions, those that began last first."""


class RunRecords(Protocol):
    """Runs; rows have ``phase``, and ``files`` as numbers by status."""

    def listed(
        self,
        *,
        run_number: int | None = None,
        execution_id: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> RecordPage:
        """Return runs, the highest number first."""


class FileRecords(Protocol):
    """STF files; rows have ``run_number``."""

    def listed(
        self,
        *,
        run_number: int | None = None,
        status: str | None = None,
        machine_state: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> RecordPage:
        """Return files, those registered last first."""


class MessageRecords(Protocol):
    """Messages of the bus."""

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
    ) -> RecordPage:
        """Return messages, the last received first."""


class LogRecords(Protocol):
    """What agents logged."""

    def listed(
        self,
        *,
        app_name: str | None = None,
        instance_name: str | None = None,
        execution_id: str | None = None,
        level: int | None = None,
        search: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> RecordPage:
        """Return lines of a level or a higher one, the last first."""


class AgentRecords(Protocol):
    """Agents, as their heartbeats tell."""

    def heard_since(self, time: datetime) -> Sequence[Row]:
        """Return agents that were heard of since a time, the last first."""


class WorkflowRecords(Protocol):
    """All of them; every method raises `models.errors.TemporarilyUnavailable`
    while the database is away.
    """

    @property
    def executions(self) -> ExecutionRecords:
        """Executions of workflows."""

    @property
    def runs(self) -> RunRecords:
        """Runs."""

    @property
    def files(self) -> FileRecords:
        """STF files."""

    @property
    def messages(self) -> MessageRecords:
        """Messages of the bus."""

    @property
    def logs(self) -> LogRecords:
        """What agents logged."""

    @property
    def agents(self) -> AgentRecords:
        """Agents."""


class JobSource(Protocol):
    """Knows jobs: the local executor's, or PanDA."""

    def listed(self, query: JobQuery) -> JobListing:
        """Return jobs.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if they cannot be asked for now.
        """
