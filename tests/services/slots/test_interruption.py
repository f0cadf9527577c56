from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from models.errors import InterruptSignal
from services.slots.interruption import Interruption, SlotDismissed


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    old = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    made = Interruption()
    made.install()
    yield made
    for number, handler in old.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_visit_is_interrupted_once(interruption: Interruption, number: signal.Signals) -> None:
    with pytest.raises(InterruptSignal, match=number.name), interruption.visit():
        signal.raise_signal(number)
    assert interruption.requested
    with interruption.visit():
        signal.raise_signal(number)


def test_waiting_slot_is_dismissed(interruption: Interruption) -> None:
    with pytest.raises(SlotDismissed), interruption.waiting():
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(SlotDismissed), interruption.waiting():
        pytest.fail("a slot that was told to leave waited for work")


def test_nothing_is_raised_in_between(interruption: Interruption) -> None:
    with interruption.visit():
        pass
    signal.raise_signal(signal.SIGTERM)
    assert interruption.requested


def test_shield_and_hold(interruption: Interruption) -> None:
    with interruption.visit():
        with interruption.shielded():
            signal.raise_signal(signal.SIGTERM)
        assert interruption.requested


def test_held_visit_goes_on(interruption: Interruption) -> None:
    with interruption.visit():
        interruption.hold()
        signal.raise_signal(signal.SIGTERM)
    assert interruption.requested


def test_ctrl_c_is_the_services_business(interruption: Interruption) -> None:
    with interruption.visit():
        signal.raise_signal(signal.SIGINT)
    assert not interruption.requested
