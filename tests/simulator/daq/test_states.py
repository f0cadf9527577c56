"""The data acquisition's states and the ways between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from simulator.daq.states import (
    FLAVOURS,
    Flavour,
    IllegalTransition,
    MachineState,
    Readiness,
    State,
    StateMachine,
    allowed,
)

#: The documented readiness substates; None: the state has none.
READINESS = {
    State.OFF: {None},
    State.NO_BEAM: {Readiness.NOT_READY},
    State.BEAM: {Readiness.NOT_READY, Readiness.READY},
    State.RUN: {Readiness.PHYSICS, Readiness.STANDBY},
    State.CALIB: {Readiness.NOT_READY},
    State.TEST: {None},
}
#: The documented ways from state to state.
STATE_WAYS = {
    (State.OFF, State.NO_BEAM),
    (State.NO_BEAM, State.BEAM),
    (State.BEAM, State.RUN),
    (State.RUN, State.BEAM),
    (State.BEAM, State.NO_BEAM),
    (State.NO_BEAM, State.OFF),
}
EXISTING = [MachineState(state, r) for state, all_ in READINESS.items() for r in sorted(all_, key=str)]
states = st.sampled_from(EXISTING)
anything = st.builds(MachineState, st.sampled_from(State), st.none() | st.sampled_from(Readiness))


@given(anything)
def test_the_states_are_the_documented_ones(state: MachineState) -> None:
    if state in EXISTING:
        assert allowed(state) <= set(EXISTING)
    else:
        with pytest.raises(IllegalTransition, match=str(state)):
            allowed(state)


@given(states, states)
def test_the_ways_are_the_documented_ones(one: MachineState, other: MachineState) -> None:
    if other in allowed(one):
        assert one != other
        assert one.state == other.state or (one.state, other.state) in STATE_WAYS
    elif (one.state, other.state) in STATE_WAYS:
        # What is documented and yet forbidden: into a run that is not ready.
        assert State.RUN in (one.state, other.state) or Readiness.READY in (one.readiness, other.readiness)


def test_a_run_is_entered_ready_and_left_from_anywhere() -> None:
    physics = MachineState(State.RUN, Readiness.PHYSICS)
    standby = MachineState(State.RUN, Readiness.STANDBY)
    not_ready = MachineState(State.BEAM, Readiness.NOT_READY)
    assert [s for s in EXISTING if physics in allowed(s)] == [
        MachineState(State.BEAM, Readiness.READY),
        standby,
    ]
    assert allowed(physics) == {standby, not_ready}
    assert allowed(standby) == {physics, not_ready}


def test_every_state_but_calib_and_test_is_reached_and_left() -> None:
    seen, new = set(), {MachineState(State.OFF)}
    while new:
        seen |= new
        new = {target for state in new for target in allowed(state)} - seen
    assert {state.state for state in seen} == set(State) - {State.CALIB, State.TEST}
    assert all(allowed(state) for state in seen)


def test_luminosity_is_measured_where_there_is_beam() -> None:
    assert {state for state in State if Flavour.LUMI in FLAVOURS[state]} == {State.BEAM, State.RUN}
    assert all(FLAVOURS[state] >= set(Flavour) - {Flavour.LUMI} for state in State)


class Machine(RuleBasedStateMachine):
    """Whatever is asked of it, the machine stays in the model."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = StateMachine()

    @rule(goal=anything)
    def move(self, goal: MachineState) -> None:
        before, flavour = self.machine.state, self.machine.flavour
        legal = goal in EXISTING and goal in allowed(before)
        try:
            self.machine.move(goal.state, goal.readiness)
        except IllegalTransition:
            assert not legal
            assert (self.machine.state, self.machine.flavour) == (before, flavour)
        else:
            assert legal
            assert self.machine.state == goal
            assert self.machine.flavour in (None, flavour)

    @rule(flavour=st.sampled_from(Flavour))
    def flow(self, flavour: Flavour) -> None:
        before = self.machine.flavour
        try:
            self.machine.set_flavour(flavour)
        except IllegalTransition:
            assert flavour not in FLAVOURS[self.machine.state.state]
            assert self.machine.flavour == before
        else:
            assert self.machine.flavour == flavour

    @invariant()
    def what_flows_may_flow(self) -> None:
        flavour = self.machine.flavour
        assert flavour is None or flavour in FLAVOURS[self.machine.state.state]


TestMachine = Machine.TestCase
