"""What an agent keeps of the messages that came."""

from __future__ import annotations

__all__ = ["Journal"]

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from models.streaming.bus import JournalEntry, ReceivedMessage


class Journal(Protocol):
    """Keeps messages from their arrival until they have taken effect, through
    the death of the agent. Every method raises
    `models.errors.TemporarilyUnavailable` while the database is away.
    """

    def receive(self, message: ReceivedMessage) -> bool:
        """Keep a message, on disk when this returns; False if it is kept
        already.
        """

    def waiting(self, limit: int) -> Sequence[JournalEntry]:
        """Return messages that are not settled, the oldest first."""

    def settle(self, ids: Collection[int]) -> None:
        """Forget messages that have taken effect."""

    def refuse(self, id_: int, reason: str) -> None:
        """Set a message aside that cannot take effect."""

    def counts(self) -> Mapping[str, int]:
        """Return how many messages are ``waiting``, and ``refused``."""

    def forget(self, before: datetime) -> int:
        """Remove messages that were set aside and came before a time (aware);
        return how many.
        """

    def remember(self, name: str, value: str) -> None:
        """Keep a value for the next start of this agent."""

    def recall(self, name: str) -> str | None:
        """Return a value that was kept."""
