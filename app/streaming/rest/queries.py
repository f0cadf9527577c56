"""What the lists of the REST resources can be asked for."""

from __future__ import annotations

__all__ = [
    "AgentQuery",
    "DefinitionQuery",
    "EveryQuery",
    "ExecutionQuery",
    "FileQuery",
    "JobsQuery",
    "LogQuery",
    "MessageQuery",
    "RunQuery",
    "StreamQuery",
]

import logging
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.streaming.rest.values import Count, Free, Integer, Moment, Uuid


def _level(value: Any) -> Any:
    """Read a level of a log: its number or its name."""
    text = str(value).strip()
    if text.isascii() and text.isdigit() and len(text) < 6:
        return int(text)
    number = logging.getLevelNamesMapping().get(text.upper())
    if number is None:
        raise ValueError("is no level: use a number, or DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return number


#: Rows that are asked for.
Limit = Annotated[Count, Field(ge=1, le=100_000)]


class EveryQuery(BaseModel):
    """What every list can be asked for; other parameters are ignored, as in
    the field.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    limit: Limit | None = None
    offset: Count = 0


class ExecutionQuery(EveryQuery):
    """Executions of workflows."""

    status: Free | None = None
    namespace: Free | None = None
    executed_by: Free | None = None
    workflow_name: Free | None = None


class DefinitionQuery(EveryQuery):
    """Definitions of workflows."""

    workflow_name: Free | None = None
    version: Free | None = None


class RunQuery(EveryQuery):
    """Runs."""

    run_number: Integer | None = None


class FileQuery(EveryQuery):
    """STF files."""

    stf_filename: Free | None = None
    run_number: Integer | None = None
    status: Free | None = None
    machine_state: Free | None = None
    workflow_id: Uuid | None = None


class MessageQuery(EveryQuery):
    """Messages of the bus."""

    execution_id: Free | None = None
    run_id: Free | None = None
    message_type: Free | None = None
    namespace: Free | None = None
    sender_agent: Free | None = None
    start_time: Moment | None = None
    end_time: Moment | None = None


class LogQuery(EveryQuery):
    """Logs."""

    app_name: Free | None = None
    instance_name: Free | None = None
    execution_id: Free | None = None
    level: Annotated[int, BeforeValidator(_level)] | None = None
    search: Free | None = None
    start_time: Moment | None = None
    end_time: Moment | None = None


class AgentQuery(EveryQuery):
    """Agents."""

    namespace: Free | None = None
    status: Free | None = None
    agent_type: Free | None = None
    instance_name: Free | None = None


class JobsQuery(BaseModel):
    """Jobs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    days: Annotated[Count, Field(le=36500)] = 7
    status: Free | None = None
    username: Free | None = None
    site: Free | None = None
    taskid: Integer | None = None
    reqid: Integer | None = None
    limit: Limit | None = None
    before_id: Integer | None = None


class StreamQuery(BaseModel):
    """Messages as they come; lists are separated by commas."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    msg_types: Free | None = None
    agents: Free | None = None
    run_ids: Free | None = None
    namespace: Free | None = None
    execution_id: Free | None = None
