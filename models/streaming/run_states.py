"""How a run stands, from the messages about it, in whatever order they come."""

from __future__ import annotations

__all__ = ["RunStanding", "follow"]

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from models.streaming.strict_json import LONGEST_NAME, storable_text

#: Messages that say how a run stands, in the order of those of one moment.
_RANKS = {
    kind: rank
    for rank, kind in enumerate(
        ("run_imminent", "start_run", "resume_run", "stf_gen", "pause_run", "end_run")
    )
}


@dataclass(frozen=True)
class RunStanding:
    """How a run stands.

    Attributes
    ----------
    phase : `str` or `None`
        ``initializing``, ``physics`` or ``completed``.
    state, substate : `str` or `None`
        Of the DAQ, as the last message tells; ``ended`` at the end.
    tick : `float` or `None`
        Simulated time of that message, s.
    timestamp : `str`
        Its time, as it says.
    rank : `int`
        Its place among those of the same time.
    """

    phase: str | None = None
    state: str | None = None
    substate: str | None = None
    tick: float | None = None
    timestamp: str = ""
    rank: int = -1

    @property
    def ended(self) -> bool:
        """Whether the run is over, which is final."""
        return self.rank == _RANKS["end_run"]

    @property
    def position(self) -> dict[str, Any]:
        """What orders messages, to be kept with the state."""
        return {name: value for name, value in asdict(self).items() if name in ("tick", "timestamp", "rank")}


def follow(standing: RunStanding, message: Mapping[str, Any]) -> RunStanding:
    """Return how a run stands after a message.

    Messages count in the order of ``simulation_tick``, not of arrival: a
    pause that comes late changes nothing, and nothing opens a run that ended.
    Those of senders that tell no tick count in the order of their timestamps,
    or else of arrival.

    Parameters
    ----------
    standing : `RunStanding`
    message : mapping
        A message's body; types that do not tell how a run stands change
        nothing.
    """
    rank = _RANKS.get(str(message.get("msg_type")))
    if rank is None or standing.ended:
        return standing
    number = _number(message.get("simulation_tick"))
    timestamp = _text(message.get("timestamp")) or ""
    if rank == _RANKS["end_run"]:
        return RunStanding("completed", "ended", None, number, timestamp, rank)
    phase = "physics" if rank else standing.phase or "initializing"
    if not _later(standing, number, timestamp, rank):
        # It comes late, and tells no more than that the run has begun.
        return replace(standing, phase=phase)
    return RunStanding(
        phase, _text(message.get("state")), _text(message.get("substate")), number, timestamp, rank
    )


def _later(standing: RunStanding, tick: float | None, timestamp: str, rank: int) -> bool:
    if tick is not None and standing.tick is not None:
        return (tick, rank, timestamp) >= (standing.tick, standing.rank, standing.timestamp)
    if timestamp and standing.timestamp:
        return (timestamp, rank) >= (standing.timestamp, standing.rank)
    return True


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _text(value: Any) -> str | None:
    return None if value is None else storable_text(str(value), longest=LONGEST_NAME)
