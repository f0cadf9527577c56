"""How far a run is: enough for another process to go on with it."""

from __future__ import annotations

__all__ = ["BEGINNING", "CannotGoOn", "Ending", "Pause", "Progress"]

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from models.errors import PromptProcessingError


class CannotGoOn(PromptProcessingError):
    """A run that was interrupted cannot be gone on with."""


class Ending(StrEnum):
    """Why a run is over."""

    COMPLETE = "complete"
    DURATION = "duration limit"
    STOPPED = "stopped"
    FAILED = "failed"


class Pause(BaseModel):
    """An operator had data taking stand still.

    Attributes
    ----------
    after : `int`
        How many messages the run had before its ``pause_run``.
    until : `float` or `None`
        Tick at which it went on; None if it has not.
    """

    model_config = ConfigDict(frozen=True)

    after: int
    until: int | float | None = None


class Progress(BaseModel):
    """What has happened in a run. All else follows from its parameters.

    Attributes
    ----------
    told : `int`
        How many messages it has.
    files : `int`
        How many files.
    tick : `float`
        Of the last message.
    clock : `float`
        Until when its time has passed, at least.
    pauses : `tuple` [`Pause`, ...]
        By operators, in order.
    ended : `Ending` or `None`
        Why ``end_run`` was sent; None if it was not.
    """

    model_config = ConfigDict(frozen=True)

    told: int = 0
    files: int = 0
    tick: int | float = 0
    clock: int | float = 0
    pauses: tuple[Pause, ...] = ()
    ended: Ending | None = None


#: Of a run that nothing is known of yet.
BEGINNING = Progress()
