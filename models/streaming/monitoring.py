"""What the monitor keeps, in the form of its REST resources.

Fields are those that agents in the field read and write. Times are aware.
"""

from __future__ import annotations

__all__ = [
    "FINAL_STATUSES",
    "SILENCE",
    "AgentLife",
    "AgentReport",
    "AgentState",
    "AgentStatus",
    "BusHeartbeat",
    "Execution",
    "ExecutionStatus",
    "FileTally",
    "FileUpdate",
    "NewStfFile",
    "RecordedMessage",
    "Run",
    "RunState",
    "StfFile",
    "StfStatus",
    "SystemAgent",
    "agent_life",
]

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field

#: After so long without a sign of life an agent counts as gone.
SILENCE = timedelta(minutes=3)


class StfStatus(StrEnum):
    """Where an STF file is on its way."""

    REGISTERED = "registered"
    PROCESSING = "processing"
    PROCESSED = "processed"
    FAILED = "failed"
    DONE = "done"


#: Statuses that do not change any more.
FINAL_STATUSES = frozenset({StfStatus.PROCESSED, StfStatus.FAILED, StfStatus.DONE})


class ExecutionStatus(StrEnum):
    """How an execution of a workflow stands."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TERMINATED = "terminated"


class AgentStatus(StrEnum):
    """How an agent is."""

    UNKNOWN = "UNKNOWN"
    OK = "OK"
    WARNING = "WARNING"
    ERROR = "ERROR"
    EXITED = "EXITED"


class AgentState(StrEnum):
    """What an agent does."""

    STARTING = "STARTING"
    READY = "READY"
    PROCESSING = "PROCESSING"
    EXITED = "EXITED"


class AgentLife(StrEnum):
    """Whether an agent is there."""

    ALIVE = "alive"
    SILENT = "silent"
    ENDED = "ended"


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Run(_Row):
    """A run; ``run_id`` is the monitor's own key, not the run's number."""

    run_id: int
    run_number: int
    start_time: datetime | None = None
    end_time: datetime | None = None
    run_conditions: dict[str, Any] | None = None


class NewStfFile(_Row):
    """A file that is to be registered.

    Attributes
    ----------
    file_size_bytes : `int`
    checksum : `str`
        Adler-32, eight hexadecimal digits.
    machine_state : `str`
        The message's ``state``.
    """

    stf_filename: str
    file_size_bytes: int | None = None
    checksum: str | None = None
    machine_state: str = "unknown"
    status: StfStatus = StfStatus.REGISTERED
    metadata: dict[str, Any] = Field(default_factory=dict)


class StfFile(NewStfFile):
    """A registered file; ``run`` is the monitor's key of the run."""

    file_id: UUID
    run: int
    created_at: datetime | None = None


class FileTally(_Row):
    """The files of one status.

    Attributes
    ----------
    latest : `StfFile`
        The one that was registered last.
    """

    count: int
    latest: StfFile


class FileUpdate(_Row):
    """A change of a registered file.

    Attributes
    ----------
    metadata : `dict`
        Entries to add or replace; the others stay.
    """

    file_id: UUID
    status: StfStatus
    metadata: dict[str, Any] = Field(default_factory=dict)


class Execution(_Row):
    """An execution of a workflow."""

    execution_id: str
    namespace: str | None = None
    status: ExecutionStatus | str = ExecutionStatus.PENDING
    start_time: datetime | None = None
    end_time: datetime | None = None
    executed_by: str | None = None
    parameter_values: dict[str, Any] | None = None
    workflow_definition: int | None = None


class RunState(_Row):
    """How a run stands, as its messages tell."""

    run_number: int
    phase: str | None = None
    state: str | None = None
    substate: str | None = None
    state_changed_at: datetime | None = None
    metadata: dict[str, Any] | None = None


class SystemAgent(_Row):
    """An agent, as the monitor has it."""

    instance_name: str
    agent_type: str
    namespace: str | None = None
    status: AgentStatus | str = AgentStatus.UNKNOWN
    last_heartbeat: datetime | None = None


class AgentReport(_Row):
    """A heartbeat."""

    instance_name: str
    agent_type: str
    status: AgentStatus = AgentStatus.OK
    description: str = ""
    mq_connected: bool = False
    pid: int | None = None
    hostname: str | None = None
    operational_state: AgentState = AgentState.READY
    namespace: str | None = None
    workflow_enabled: bool = True
    current_stf_count: int = 0
    total_stf_processed: int = 0
    metadata: dict[str, Any] = Field(default_factory=dict)


class RecordedMessage(_Row):
    """A message of the bus as the monitor keeps it.

    Attributes
    ----------
    message_content : `dict` or `None`
        The body; None if it is no JSON object.
    message_metadata : `dict` or `None`
        What else is known: ``text`` of a body that could not be read.
    sent_at : `datetime.datetime`
        When the monitor received it.
    queue_name : `str`
        The destination.
    broker_id : `str` or `None`
        The broker's name for it, the same if it is delivered again.
    """

    message_id: UUID = Field(default_factory=uuid4)
    message_type: str | None = None
    sender_agent: str | None = None
    recipient_agent: str | None = None
    namespace: str | None = None
    execution_id: str | None = None
    run_id: str | None = None
    message_content: dict[str, Any] | None = None
    message_metadata: dict[str, Any] | None = None
    sent_at: datetime
    queue_name: str
    is_successful: bool = True
    error_message: str | None = None
    broker_id: str | None = None


class BusHeartbeat(_Row):
    """A sign of life that came over the bus."""

    agent_name: str
    agent_type: str = "other"
    status: str
    received: datetime


def agent_life(agent: Mapping[str, Any], now: datetime) -> AgentLife:
    """Return whether an agent is there, fell silent, or said that it ended.

    Parameters
    ----------
    agent : mapping
        The monitor's row of it, with a ``last_heartbeat``.
    now : `datetime.datetime`
        Aware.
    """
    exited = agent["status"] == AgentStatus.EXITED
    if now - agent["last_heartbeat"] <= SILENCE:
        return AgentLife.ENDED if exited else AgentLife.ALIVE
    # The monitor writes EXITED for whom it has not heard, too, but later
    # than their last sign of life.
    said_so = exited and agent["updated_at"] - agent["last_heartbeat"] < SILENCE
    return AgentLife.ENDED if said_so else AgentLife.SILENT
