"""Messages on their way between the bus and an agent."""

from __future__ import annotations

__all__ = ["STOMP", "JournalEntry", "ReceivedMessage"]

from dataclasses import dataclass
from datetime import datetime

#: Kind of an `models.events.OutboxMessage` that goes to the bus; its topic is
#: the destination.
STOMP = "stomp"


@dataclass(frozen=True)
class ReceivedMessage:
    """A message as it came.

    Attributes
    ----------
    destination : `str`
        ``/topic/...`` or ``/queue/...``.
    text : `str`
        The body.
    message_id : `str` or `None`
        The broker's name for it; the same if it is delivered again.
    """

    destination: str
    text: str
    message_id: str | None = None


@dataclass(frozen=True)
class JournalEntry:
    """A message that has come and is not settled.

    Attributes
    ----------
    id : `int`
        Later messages have greater ones.
    received : `datetime.datetime`
        When it came, UTC.
    """

    id: int
    destination: str
    text: str
    received: datetime
