"""Messages that leave the system, and the envelope in which they wait.

The fields of messages are fixed by the programs that read them; see
``docs/messages.md``.
"""

from __future__ import annotations

__all__ = ["ALERT", "BUTLER_WRITER", "DimensionRecordMessage", "FileMessage", "OutboxMessage", "PromptOutput"]

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, JsonValue

from models.visits import VisitKey

#: Kind of an `OutboxMessage` that goes to the writer.
BUTLER_WRITER = "butler-writer"
#: Kind of an `OutboxMessage` that holds an alert.
ALERT = "alert"


@dataclass(frozen=True)
class OutboxMessage:
    """A message that waits until a broker has acknowledged it."""

    kind: str
    """`BUTLER_WRITER` or `ALERT`."""
    topic: str
    """Kafka topic it goes to."""
    key: str | None
    """Kafka key, if any."""
    payload: bytes
    """The message as it is sent."""
    visit: VisitKey | None = None
    """The visit it belongs to; the outbox fills this in from the claim."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class DimensionRecordMessage(_Message):
    """A dimension record, in the Butler's ``to_simple()`` form."""

    definition: str
    """Name of the dimension element."""
    record: dict[str, JsonValue]
    """Column values."""


class FileMessage(_Message):
    """A file in place and what it holds, in the Butler's ``to_simple()`` form."""

    refs: dict[UUID, dict[str, JsonValue]]
    """``dataset_type_name``, ``run`` and ``data_id`` by dataset id."""
    path: str
    """Path relative to the datastore's root."""
    formatter: str | None = None
    """Full name of the formatter class."""


class PromptOutput(_Message):
    """What the service tells the writer of a finished visit-detector."""

    type: Literal["pp-output"] = "pp-output"
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
        return self.model_dump_json(exclude=self._unset()).encode()

    def to_message(self) -> dict[str, Any]:
        """Return exactly the fields that are sent, as JSON values."""
        return self.model_dump(mode="json", exclude=self._unset())

    def _unset(self) -> set[str]:
        return {"dataset_types"} if self.dataset_types is None else set()
