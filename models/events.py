"""Messages that leave the system, and the envelope in which they wait.

The fields of messages are fixed by the programs that read them; see
``docs/messages.md``.
"""

from __future__ import annotations

__all__ = [
    "ACKNOWLEDGED",
    "ALERT",
    "BUTLER_WRITER",
    "BatchFile",
    "BatchIngested",
    "DatasetMessage",
    "Delivery",
    "DimensionRecordMessage",
    "FileMessage",
    "OutboxMessage",
    "PromptOutput",
    "StoredMessage",
]

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StrictFloat,
    StrictInt,
    StrictStr,
)

from models.versions import VersionedMessage
from models.visits import VisitKey

#: Kind of an `OutboxMessage` that goes to the writer.
BUTLER_WRITER = "butler-writer"
#: Kind of an `OutboxMessage` that holds an alert.
ALERT = "alert"


@dataclass(frozen=True)
class OutboxMessage:
    """A message that waits until a broker has acknowledged it."""

    kind: str
    """`BUTLER_WRITER` or `ALERT`; decides which cluster it goes to."""
    topic: str
    """Kafka topic it goes to."""
    key: str | None
    """Kafka key, if any; sent as UTF-8."""
    payload: bytes
    """The message as it is sent."""
    visit: VisitKey | None = None
    """The visit it belongs to; the outbox fills this in from the claim."""


@dataclass(frozen=True)
class StoredMessage:
    """A message in the outbox."""

    id: int
    """Its place in the outbox; later messages have greater ids."""
    message: OutboxMessage
    """The message."""
    created: datetime
    """When it was stored, UTC."""


@dataclass(frozen=True)
class Delivery:
    """What became of a message.

    Attributes
    ----------
    arrived : `bool`
        Whether the broker has it.
    refused : `str` or `None`
        Why the broker will never have it as it is.
    failed : `str` or `None`
        Why it could not be sent this time.
    """

    arrived: bool = False
    refused: str | None = None
    failed: str | None = None


#: The broker has it.
ACKNOWLEDGED = Delivery(arrived=True)


def _inside(path: str) -> str:
    """Refuse paths that may lead out of the datastore, or nowhere."""
    parts = path.split("/")
    if path.startswith("/") or "://" in path or ".." in parts or "\0" in path or parts[-1] == "":
        raise ValueError(f"{path!r} is no path of a file relative to the datastore's root")
    return path


class _Part(BaseModel):
    # Part of a message; like the Butler, it takes fields that it does not know.
    model_config = ConfigDict(frozen=True, extra="ignore")


class DimensionRecordMessage(_Part):
    """A dimension record, in the Butler's ``to_simple()`` form."""

    definition: StrictStr
    """Name of the dimension element."""
    record: dict[str, JsonValue]
    """Column values."""


class DatasetMessage(_Part):
    """A dataset in a file, in the Butler's ``to_simple()`` form."""

    dataset_type_name: StrictStr
    """Its dataset type."""
    run: Annotated[StrictStr, Field(min_length=1)]
    """The RUN collection that holds it."""
    data_id: dict[str, StrictFloat | StrictInt | StrictStr]
    """Its data id."""


class FileMessage(_Part):
    """A file in place and what it holds, in the Butler's ``to_simple()`` form."""

    refs: Annotated[dict[UUID, DatasetMessage], Field(min_length=1)]
    """Its datasets by dataset id."""
    path: Annotated[StrictStr, AfterValidator(_inside)]
    """Path relative to the datastore's root."""
    formatter: StrictStr | None = None
    """Full name of the formatter class."""


class PromptOutput(VersionedMessage):
    """What the service tells the writer of a finished visit-detector."""

    message_name: ClassVar[str] = "writer message"

    type: Literal["pp-output"]
    """Always the same."""
    dimension_records: tuple[DimensionRecordMessage, ...]
    """Records in the order in which they must be inserted."""
    datasets: tuple[FileMessage, ...]
    """Files already at their final place."""
    dataset_types: tuple[dict[str, JsonValue], ...] | None = None
    """Dataset types to register; sent only where that is allowed."""

    def to_payload(self) -> bytes:
        """Return the JSON text that is sent; unset `dataset_types` are left
        out, because readers in the field accept no extra field.
        """
        # Records may hold NaN, which the Butler writes and reads as such.
        return json.dumps(self.to_message(), separators=(",", ":")).encode()

    def to_message(self) -> dict[str, Any]:
        """Return exactly the fields that are sent, as JSON values."""
        unset = {"dataset_types"} if self.dataset_types is None else set()
        return {**self.model_dump(mode="json", exclude=unset), **self.sent_version()}


class BatchIngested(BaseModel):
    """What the writer tells the world of a batch that is in the registry."""

    model_config = ConfigDict(frozen=True)

    type: Literal["batch-ingested"] = "batch-ingested"
    """Always the same."""
    batch_id: UUID
    """Names the batch."""
    origin: Literal["prompt_processing"] = "prompt_processing"
    """Always the same."""
    batch_file: str
    """Name of the file that lists its datasets (`BatchFile`)."""


class BatchFile(BaseModel):
    """The datasets of a batch, as they stand in its file."""

    model_config = ConfigDict(frozen=True)

    batch_id: UUID
    """Names the batch."""
    datasets: tuple[UUID, ...]
    """Every dataset in the batch's messages, once; also those that the
    registry held before.
    """
