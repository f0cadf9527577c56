"""Tests of how a run stands."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.streaming.run_states import RunStanding, follow

RUN = [
    ("run_imminent", 5, "beam", "not_ready"),
    ("start_run", 13.1, "run", "physics"),
    ("stf_gen", 14.2, "run", "physics"),
    ("stf_gen", 16.4, "run", "physics"),
    ("pause_run", 16.6, "run", "standby"),
    ("resume_run", 19.7, "run", "physics"),
    ("stf_gen", 20.8, "run", "physics"),
    ("end_run", 23.2, None, None),
]


def body(kind: str, tick: float | None, state: str | None, substate: str | None) -> dict[str, Any]:
    return {"msg_type": kind, "simulation_tick": tick, "state": state, "substate": substate}


BODIES = [body(*message) for message in RUN]


def after(bodies: list[dict[str, Any]], standing: RunStanding | None = None) -> RunStanding:
    standing = standing or RunStanding()
    for each in bodies:
        standing = follow(standing, each)
    return standing


@pytest.mark.parametrize(
    ("count", "phase", "state", "substate"),
    [
        (1, "initializing", "beam", "not_ready"),
        (2, "physics", "run", "physics"),
        (5, "physics", "run", "standby"),
        (6, "physics", "run", "physics"),
        (8, "completed", "ended", None),
    ],
)
def test_it_follows_the_messages(count: int, phase: str, state: str, substate: str | None) -> None:
    standing = after(BODIES[:count])
    assert (standing.phase, standing.state, standing.substate) == (phase, state, substate)


@given(st.permutations(BODIES), st.integers(0, len(BODIES)))
def test_order_of_arrival_does_not_matter(bodies: list[dict[str, Any]], repeated: int) -> None:
    assert after([*bodies, *bodies[:repeated]]) == after(BODIES)


@given(st.permutations(BODIES[:-1]))
def test_order_of_arrival_does_not_matter_while_it_runs(bodies: list[dict[str, Any]]) -> None:
    standing = after(bodies)
    assert (standing.phase, standing.state, standing.substate) == ("physics", "run", "physics")
    assert standing == after(BODIES[:-1])


def test_a_pause_that_comes_late_does_not_open_a_run_that_ended() -> None:
    ended = after(BODIES)
    assert follow(ended, body("pause_run", 99.0, "run", "standby")) == ended
    assert follow(ended, body("start_run", None, "run", "physics")) == ended


def test_an_earlier_pause_that_comes_late_changes_nothing() -> None:
    running = after(BODIES[:6])
    assert follow(running, BODIES[4]) == running


def test_without_ticks_timestamps_order() -> None:
    early = {
        "msg_type": "pause_run",
        "state": "run",
        "substate": "standby",
        "timestamp": "2026-01-01T00:00:01",
    }
    late = {
        "msg_type": "resume_run",
        "state": "run",
        "substate": "physics",
        "timestamp": "2026-01-01T00:00:02",
    }
    assert after([late, early]).substate == after([early, late]).substate == "physics"


def test_without_ticks_and_timestamps_arrival_orders() -> None:
    pause, resume = body("pause_run", None, "run", "standby"), body("resume_run", None, "run", "physics")
    assert after([resume, pause]).substate == "standby"


@pytest.mark.parametrize("kind", ["stf_ready", "run_workflow_failed", None, 7])
def test_other_messages_change_nothing(kind: object) -> None:
    assert follow(RunStanding(), {"msg_type": kind, "state": "x"}) == RunStanding()


@pytest.mark.parametrize("tick", [True, "5", [1], None])
def test_ticks_that_are_no_numbers_are_none(tick: object) -> None:
    assert follow(RunStanding(), {"msg_type": "start_run", "simulation_tick": tick}).tick is None
