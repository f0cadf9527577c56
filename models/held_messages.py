"""Messages that an outbox still holds, as people see them."""

from __future__ import annotations

__all__ = ["HeldMessage", "Holding", "Selection"]

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Holding(StrEnum):
    """Why a message is still in an outbox."""

    WAITING = "waiting"
    """For a broker, or for somebody who sends it."""
    LEAVING = "leaving"
    """A process is about to send it, or was when it died."""
    REFUSED = "refused"
    """The broker will not have it."""


@dataclass(frozen=True)
class HeldMessage:
    """A message in an outbox, without what it says.

    Attributes
    ----------
    id : `int`
        Names it within its database.
    kind, topic : `str`
    key : `str` or `None`
        Of the message; of an agent's, the agent.
    size : `int`
        Bytes.
    about : `str`
        The visit, or the agent, whose message it is.
    created : `datetime.datetime`
        When it was stored, UTC.
    holding : `Holding`
    reason : `str` or `None`
        Why it was refused.
    """

    id: int
    kind: str
    topic: str
    key: str | None
    size: int
    about: str
    created: datetime
    holding: Holding
    reason: str | None


@dataclass(frozen=True)
class Selection:
    """Which messages are meant: those that fit everything that is given.

    Attributes
    ----------
    ids : collection of `int` or `None`
    kind, topic : `str` or `None`
    holding : `Holding` or `None`
    """

    ids: Collection[int] | None = None
    kind: str | None = None
    topic: str | None = None
    holding: Holding | None = None
