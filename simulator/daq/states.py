"""The states of the data acquisition, and the ways between them.

They are those of the E0-E1 state machine. ``calib`` and ``test`` are states
of it, but no way into or out of them is documented, so none is allowed.
"""

from __future__ import annotations

__all__ = [
    "FLAVOURS",
    "Flavour",
    "IllegalTransition",
    "MachineState",
    "Readiness",
    "State",
    "StateMachine",
    "allowed",
]

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from models.errors import PromptProcessingError


class State(StrEnum):
    """What the machine does."""

    OFF = "off"
    NO_BEAM = "no_beam"
    BEAM = "beam"
    RUN = "run"
    CALIB = "calib"
    TEST = "test"


class Readiness(StrEnum):
    """How far it is with that; broadcast as ``substate``."""

    NOT_READY = "not_ready"
    READY = "ready"
    PHYSICS = "physics"
    STANDBY = "standby"


class Flavour(StrEnum):
    """What kind of data flow."""

    LUMI = "lumi"
    EIC = "eic"
    EPIC = "epic"
    DAQ = "daq"
    CALIB = "calib"


class MachineState(NamedTuple):
    """A state with its substate; None where the state has none."""

    state: State
    readiness: Readiness | None = None

    def __str__(self) -> str:
        return self.state.value if self.readiness is None else f"{self.state}/{self.readiness}"


_OFF = MachineState(State.OFF)
_NO_BEAM = MachineState(State.NO_BEAM, Readiness.NOT_READY)
_BEAM = MachineState(State.BEAM, Readiness.NOT_READY)
_BEAM_READY = MachineState(State.BEAM, Readiness.READY)
_PHYSICS = MachineState(State.RUN, Readiness.PHYSICS)
_STANDBY = MachineState(State.RUN, Readiness.STANDBY)
_CALIB = MachineState(State.CALIB, Readiness.NOT_READY)
_TEST = MachineState(State.TEST)

_WAYS: Mapping[MachineState, frozenset[MachineState]] = {
    _OFF: frozenset({_NO_BEAM}),
    _NO_BEAM: frozenset({_BEAM, _OFF}),
    _BEAM: frozenset({_BEAM_READY, _NO_BEAM}),
    _BEAM_READY: frozenset({_PHYSICS, _BEAM, _NO_BEAM}),
    _PHYSICS: frozenset({_STANDBY, _BEAM}),
    _STANDBY: frozenset({_PHYSICS, _BEAM}),
    _CALIB: frozenset(),
    _TEST: frozenset(),
}

_ANYWHERE = frozenset({Flavour.EIC, Flavour.EPIC, Flavour.DAQ, Flavour.CALIB})

#: The kinds of data that can flow in a state.
FLAVOURS: Mapping[State, frozenset[Flavour]] = {
    state: _ANYWHERE | ({Flavour.LUMI} if state in (State.BEAM, State.RUN) else frozenset())
    for state in State
}


def allowed(state: MachineState) -> frozenset[MachineState]:
    """Return where the machine can go from a state.

    Raises
    ------
    IllegalTransition
        Raised if the state has no such substate.
    """
    try:
        return _WAYS[state]
    except KeyError:
        raise IllegalTransition(f"there is no state {state}") from None


class IllegalTransition(PromptProcessingError):
    """The machine cannot go there from where it is."""


class StateMachine:
    """The data acquisition's state; off at first."""

    def __init__(self) -> None:
        self._state = _OFF
        self._flavour: Flavour | None = None

    @property
    def state(self) -> MachineState:
        """Where the machine is."""
        return self._state

    @property
    def flavour(self) -> Flavour | None:
        """What kind of data flows; None if none was set."""
        return self._flavour

    def move(self, state: State, readiness: Readiness | None = None) -> None:
        """Go to another state. A kind of data that cannot flow there ends.

        Raises
        ------
        IllegalTransition
            Raised if no way leads there; the state stays what it is.
        """
        target = MachineState(state, readiness)
        allowed(target)
        if target not in allowed(self._state):
            raise IllegalTransition(f"there is no way from {self._state} to {target}")
        self._state = target
        if self._flavour not in FLAVOURS[state]:
            self._flavour = None

    def set_flavour(self, flavour: Flavour) -> None:
        """Say what kind of data flows.

        Raises
        ------
        IllegalTransition
            Raised if it cannot flow in this state.
        """
        if flavour not in FLAVOURS[self._state.state]:
            raise IllegalTransition(f"no {flavour} data flow in state {self._state}")
        self._flavour = flavour
