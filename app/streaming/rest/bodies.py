"""What can be written to the REST resources.

Fields and defaults are those of the monitor in the field; fields that nobody
here knows are ignored, as there.
"""

from __future__ import annotations

__all__ = [
    "AgentBody",
    "DefinitionBody",
    "ExecutionBody",
    "FileChange",
    "HeartbeatBody",
    "LogBody",
    "MessageBody",
    "NamespaceBody",
    "RunBody",
    "RunStateBody",
    "StateEventBody",
    "StfFileBody",
    "SubscriberBody",
    "partial",
]

import functools
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from app.streaming.rest.values import Count, Free, Integer, Json, Label, Moment, Name, Number, Uuid
from models.streaming.monitoring import AgentStatus, StfStatus


def _now() -> datetime:
    return datetime.now(UTC)


def _stf_status(value: str) -> str:
    if value not in [*StfStatus]:
        raise ValueError(f'"{value}" is not a valid choice.')
    return value


def _agent_status(value: str) -> str:
    if value not in [*AgentStatus]:
        raise ValueError(f'"{value}" is not a valid choice.')
    return value


_StfStatus = Annotated[Name, AfterValidator(_stf_status), Field(json_schema_extra={"enum": [*StfStatus]})]
_AgentStatus = Annotated[
    Name, AfterValidator(_agent_status), Field(json_schema_extra={"enum": [*AgentStatus]})
]


class Body(BaseModel):
    """Fields of one row."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    @classmethod
    def fixed(cls) -> dict[str, Any]:
        """Return the values of columns that nobody can write."""
        return {}


class _Dated(Body):
    @classmethod
    def fixed(cls) -> dict[str, Any]:
        """Return when the row was made."""
        now = _now()
        return {"created_at": now, "updated_at": now}


class NamespaceBody(_Dated):
    """A namespace."""

    name: Name
    owner: Free = ""
    description: Free = ""


class DefinitionBody(_Dated):
    """A workflow's definition."""

    workflow_name: Name
    version: Name
    workflow_type: Free = ""
    definition: Free = ""
    parameter_values: Json = Field(default_factory=dict)
    created_by: Free = ""
    created_at: Moment = Field(default_factory=_now)

    @classmethod
    def fixed(cls) -> dict[str, Any]:
        """Return when the row was made."""
        return {"updated_at": _now()}


class ExecutionBody(Body):
    """An execution of a workflow."""

    execution_id: Name
    workflow_definition: Integer | None = None
    namespace: Name | None = None
    parameter_values: Json = Field(default_factory=dict)
    performance_metrics: Json = None
    status: Name = "pending"
    start_time: Moment = Field(default_factory=_now)
    end_time: Moment | None = None
    executed_by: Free = ""


class RunBody(Body):
    """A run."""

    run_number: Count
    start_time: Moment
    end_time: Moment | None = None
    run_conditions: Json = Field(default_factory=dict)


class StfFileBody(Body):
    """An STF file."""

    run: Integer
    stf_filename: Name
    machine_state: Name = "physics"
    file_size_bytes: Count | None = None
    checksum: Free | None = None
    status: _StfStatus = "registered"
    metadata: Json = Field(default_factory=dict)
    workflow_id: Uuid | None = None
    daq_state: Free | None = None
    daq_substate: Free | None = None
    workflow_status: Free | None = None
    tf_count: Count = 0

    @classmethod
    def fixed(cls) -> dict[str, Any]:
        """Return the file's id, and when it was registered."""
        file_id: UUID = uuid4()
        return {"file_id": file_id, "created_at": _now()}


class FileChange(Body):
    """A change of one file among several."""

    file_id: Uuid
    status: _StfStatus
    metadata: dict[str, Any] = Field(default_factory=dict)


class RunStateBody(Body):
    """How a run stands."""

    run_number: Count
    phase: Free | None = None
    state: Free | None = None
    substate: Free | None = None
    target_worker_count: Count = 0
    active_worker_count: Count = 0
    stf_samples_received: Count = 0
    slices_created: Count = 0
    slices_queued: Count = 0
    slices_processing: Count = 0
    slices_completed: Count = 0
    slices_failed: Count = 0
    state_changed_at: Moment = Field(default_factory=_now)
    metadata: Json = Field(default_factory=dict)

    @classmethod
    def fixed(cls) -> dict[str, Any]:
        """Return when the row was made."""
        return {"updated_at": _now()}


class StateEventBody(Body):
    """What happened to the system."""

    timestamp: Moment = Field(default_factory=_now)
    run_number: Count | None = None
    event_type: Name
    state: Free | None = None
    substate: Free | None = None
    event_data: Json = Field(default_factory=dict)

    @classmethod
    def fixed(cls) -> dict[str, Any]:
        """Return when the row was made."""
        return {"created_at": _now()}


class MessageBody(Body):
    """A message of the bus."""

    message_id: Uuid = Field(default_factory=uuid4)
    message_type: Label | None = None
    sender_agent: Label | None = None
    recipient_agent: Label | None = None
    namespace: Label | None = None
    execution_id: Label | None = None
    run_id: Label | None = None
    message_content: dict[str, Any] = Field(default_factory=dict)
    message_metadata: Json = None
    queue_name: Label | None = None
    is_successful: bool = True
    error_message: Free | None = None

    @classmethod
    def fixed(cls) -> dict[str, Any]:
        """Return when it came."""
        return {"sent_at": _now()}


class LogBody(Body):
    """A line of an agent's log."""

    app_name: Name
    instance_name: Name
    timestamp: Moment
    level: Annotated[Count, Field(le=2**31 - 1)]
    levelname: Name
    message: Free
    module: Free | None = None
    funcname: Free | None = None
    lineno: Integer | None = None
    process: Integer | None = None
    thread: Integer | None = None
    extra_data: Json = None


class HeartbeatBody(Body):
    """A sign of life; of whatever kind and status, as in the field."""

    instance_name: Name
    agent_type: Name = "other"
    description: Free = ""
    status: Name = "OK"
    agent_url: Free | None = None
    workflow_enabled: bool = True
    current_stf_count: Count = 0
    total_stf_processed: Count = 0
    pid: Integer | None = None
    hostname: Free | None = None
    operational_state: Free | None = None
    namespace: Label | None = None
    metadata: Json = None
    mq_connected: bool | None = None


class AgentBody(HeartbeatBody):
    """An agent."""

    agent_type: Annotated[Name, Field(max_length=20)] = "other"
    status: _AgentStatus = "UNKNOWN"
    last_heartbeat: Moment | None = None
    last_stf_processed: Moment | None = None

    @classmethod
    def fixed(cls) -> dict[str, Any]:
        """Return when the row was made."""
        now = _now()
        return {"created_at": now, "updated_at": now}


class SubscriberBody(_Dated):
    """Somebody who listens to something."""

    subscriber_name: Name
    fraction: Number | None = None
    description: Free = ""
    is_active: bool = True
    delivery_type: Free | None = None


@functools.cache
def partial(body: type[Body]) -> type[Body]:
    """Return the model of a change, in which no field is needed."""
    fields: dict[str, Any] = {name: (_annotation(field), None) for name, field in body.model_fields.items()}
    return create_model(f"{body.__name__}Change", __base__=Body, **fields)


def _annotation(field: Any) -> Any:
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
