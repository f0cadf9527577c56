"""Messages of the streaming workflow, as they are on the bus.

Every one is a JSON object. What is read may lack fields that older senders
leave out, and may carry ones that nobody here knows; what is written has the
documented fields in the documented order.
"""

from __future__ import annotations

__all__ = [
    "COMMANDS",
    "COMMAND_QUEUE",
    "EVENTS",
    "RUN_TOPIC",
    "Command",
    "EndRun",
    "Message",
    "OtherMessage",
    "PauseRun",
    "ResumeRun",
    "RunImminent",
    "RunMessage",
    "RunWorkflow",
    "RunWorkflowFailed",
    "StartRun",
    "StatusRequest",
    "StfGen",
    "StfReady",
    "StopWorkflow",
    "naive_timestamp",
    "read_message",
]

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from models.errors import InvalidMessage
from models.streaming.names import dataset_name, stf_filename
from models.streaming.strict_json import LONGEST_NAME, read_json, storable_text

#: Where messages about runs go, and where commands go.
RUN_TOPIC = "/topic/epictopic"
COMMAND_QUEUE = "/queue/workflow_control"


def naive_timestamp(now: datetime | None = None) -> str:
    """Return a time as the bus has it: local, with microseconds, without zone."""
    return (now or datetime.now(UTC)).astimezone().replace(tzinfo=None).isoformat(timespec="microseconds")


def _digits(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


#: The number of a run, as text.
RunId = Annotated[str, BeforeValidator(_digits), StringConstraints(pattern=r"^[0-9]{1,18}$")]
#: What is kept is what a database can keep: numbers of 64 bits, names and text
#: without NUL. A message that no database took would come again for ever.
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME, pattern=r"^[^\x00]*$")]
Directory = Annotated[str, StringConstraints(min_length=1, max_length=4095, pattern=r"^[^\x00]*$")]
Text = Annotated[str, AfterValidator(storable_text)]


class Message(BaseModel):
    """What all messages have."""

    model_config = ConfigDict(
        frozen=True, extra="allow", validate_by_name=True, validate_by_alias=True, hide_input_in_errors=True
    )

    msg_type: str
    namespace: str | None = None
    sender: str | None = None

    def to_body(self) -> dict[str, Any]:
        """Return the JSON object that is sent; what is not set is left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def to_text(self) -> str:
        """Return the text that is sent."""
        return json.dumps(self.to_body())


class RunMessage(Message):
    """A message about a run.

    Attributes
    ----------
    run_id : `str`
        Digits.
    timestamp : `str`
        ISO 8601, local time of the sender without a zone.
    simulation_tick : `float`
        Seconds since the simulation began.
    """

    execution_id: Text | None = None
    run_id: RunId
    timestamp: str | None = None
    simulation_tick: int | float | None = None

    @property
    def run_number(self) -> int:
        """The run as a number."""
        return int(self.run_id)


class RunImminent(RunMessage):
    """A run is about to start."""

    msg_type: Literal["run_imminent"] = "run_imminent"
    state: Text | None = None
    substate: Text | None = None
    dataset: Name | None = None
    container: Directory | None = None
    run_conditions: dict[str, Any] | None = None

    @property
    def dataset_name(self) -> str:
        """The run's dataset; by convention where the message names none."""
        return self.dataset or dataset_name(self.run_id)


class StartRun(RunMessage):
    """Data taking began."""

    msg_type: Literal["start_run"] = "start_run"
    state: Text | None = None
    substate: Text | None = None


class StfGen(RunMessage):
    """A file is complete at its place."""

    msg_type: Literal["stf_gen"] = "stf_gen"
    filename: Name | None = None
    sequence: Count | None = None
    state: Text | None = None
    substate: Text | None = None
    size_bytes: Count | None = None
    checksum: Text | None = None

    @property
    def file(self) -> str:
        """The file's name; by convention where the message has only its number.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if it has neither.
        """
        if self.filename:
            return self.filename
        if self.sequence is None:
            raise InvalidMessage("stf_gen: filename: neither filename nor sequence is given")
        return stf_filename(self.run_id, self.sequence)


class PauseRun(RunMessage):
    """Data taking stands still."""

    msg_type: Literal["pause_run"] = "pause_run"
    state: Text | None = None
    substate: Text | None = None
    reason: str | None = None


class ResumeRun(RunMessage):
    """Data taking goes on."""

    msg_type: Literal["resume_run"] = "resume_run"
    state: Text | None = None
    substate: Text | None = None


class EndRun(RunMessage):
    """The run is over.

    Attributes
    ----------
    total_stf_files : `int`
        How many files it has. ``total_files``, which agents in the field look
        for, is read as well.
    """

    msg_type: Literal["end_run"] = "end_run"
    total_stf_files: Count | None = Field(
        default=None, validation_alias=AliasChoices("total_stf_files", "total_files")
    )


class StfReady(Message):
    """A run's first file can be processed: submit the run's task."""

    msg_type: Literal["stf_ready"] = "stf_ready"
    req_id: int = 1
    run_id: RunId
    execution_id: Text | None = None

    @property
    def run_number(self) -> int:
        """The run as a number."""
        return int(self.run_id)


class Command(Message):
    """What an operator asks of a workflow runner."""

    timestamp: str | None = None


class RunWorkflow(Command):
    """Run a workflow."""

    msg_type: Literal["run_workflow"] = "run_workflow"
    workflow_name: Name
    config: str | None = None
    realtime: bool = True
    params: dict[str, Any] = Field(default_factory=dict)
    duration: float | None = Field(default=None, ge=0)
    source: str | None = None

    def to_body(self) -> dict[str, Any]:
        """Return the JSON object that is sent; ``config`` is there even if null."""
        return {**super().to_body(), "config": self.config}


class StopWorkflow(Command):
    """End the execution that runs, or the one that is named if it runs."""

    msg_type: Literal["stop_workflow"] = "stop_workflow"
    execution_id: str | None = None


class StatusRequest(Command):
    """Log what is going on."""

    msg_type: Literal["status_request"] = "status_request"


class RunWorkflowFailed(Message):
    """A command could not be followed; sent to the topic, where the monitor
    counts it among the errors.
    """

    msg_type: Literal["run_workflow_failed"] = "run_workflow_failed"
    execution_id: str | None = None
    error: str
    timestamp: str | None = None


class OtherMessage(Message):
    """A message of a type that nobody here handles."""


#: Messages about runs, and commands, by type.
EVENTS: Mapping[str, type[Message]] = {
    "run_imminent": RunImminent,
    "start_run": StartRun,
    "stf_gen": StfGen,
    "pause_run": PauseRun,
    "resume_run": ResumeRun,
    "end_run": EndRun,
    "stf_ready": StfReady,
    "run_workflow_failed": RunWorkflowFailed,
}
COMMANDS: Mapping[str, type[Command]] = {
    "run_workflow": RunWorkflow,
    "stop_workflow": StopWorkflow,
    "status_request": StatusRequest,
}


def read_message(text: str | bytes | Mapping[str, Any]) -> Message:
    """Read a message.

    Returns
    -------
    message : `Message`
        Of the class of its type; `OtherMessage` for a type that is not known.

    Raises
    ------
    models.errors.InvalidMessage
        Raised if it is no JSON object, has no ``msg_type``, or a field is
        missing or wrong; the text names the field.
    """
    body = text
    if not isinstance(body, Mapping):
        try:
            body = read_json(body)
        except ValueError as error:
            raise InvalidMessage(f"the message is not JSON: {error}") from error
    if not isinstance(body, Mapping):
        raise InvalidMessage(f"the message is a JSON {type(body).__name__}, not an object")
    kind = body.get("msg_type")
    if not isinstance(kind, str) or not kind:
        raise InvalidMessage("msg_type: the message does not say of what type it is")
    cls = EVENTS.get(kind) or COMMANDS.get(kind) or OtherMessage
    try:
        return cls.model_validate(dict(body))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InvalidMessage(f"{kind}: {faults}") from error
