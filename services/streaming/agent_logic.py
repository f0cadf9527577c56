"""What an agent does, as its life asks for it."""

from __future__ import annotations

__all__ = ["AgentFacts", "AgentLogic"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from models.streaming.messages import Message
from models.streaming.monitoring import AgentState


@dataclass(frozen=True)
class AgentFacts:
    """How an agent is doing.

    Attributes
    ----------
    description : `str`
        For people.
    current_stf_count, total_stf_processed : `int`
        Files in hand, and done with since the start.
    trouble : `str` or `None`
        What keeps it from its work, if anything.
    """

    state: AgentState = AgentState.READY
    description: str = ""
    current_stf_count: int = 0
    total_stf_processed: int = 0
    trouble: str | None = None


class AgentLogic(Protocol):
    """What an agent does. Its methods are called from one thread."""

    def receive(self, messages: Sequence[Message]) -> None:
        """Apply messages, in order, to state that lasts.

        Nothing is asked of anybody here but the agent's database, and the
        same message may come again.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database is away: all of them come again.
        models.errors.InvalidMessage
            Raised if one cannot take effect. It is set aside if it was alone;
            else all come again, one by one.
        """

    def advance(self) -> float | None:
        """Do what is due, a second's worth or so.

        Returns
        -------
        seconds : `float` or `None`
            When more is due; None: when a message comes.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if nothing could be done.
        """

    def recover(self) -> None:
        """Look for what messages did not tell, or told while nobody listened.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it cannot be looked for now.
        """

    def finish(self, timeout: float) -> None:
        """Bring to an end what is under way, within some seconds if it can be;
        nothing is called after this but `facts`.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if what came of it cannot be kept.
        """

    def facts(self) -> AgentFacts:
        """Say how it is doing; from any thread, without waiting."""
