"""What the writer service passes around: messages as they came, and their fate."""

from __future__ import annotations

__all__ = ["QueuedMessage", "SetAside"]

from dataclasses import dataclass


@dataclass(frozen=True)
class QueuedMessage:
    """A message and its place in the queue."""

    topic: str
    """Topic that it came from."""
    partition: int
    """Its partition."""
    offset: int
    """Its place there."""
    key: bytes | None
    """Kafka key, if any."""
    payload: bytes
    """The message; empty if it had none."""

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.topic}[{self.partition}] at {self.offset}"


@dataclass(frozen=True)
class SetAside:
    """A message that cannot go in."""

    message: QueuedMessage
    """The whole message."""
    reason: str
    """What is wrong with it."""
    kind: str
    """``malformed`` or ``conflict``."""
