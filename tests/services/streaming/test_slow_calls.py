"""Calls that take long hold up nobody but those who want their answer."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from services.streaming.slow_calls import SlowCalls, StillBusy
from tests.repos.streaming.executing import until

#: Seconds that nobody waits in vain.
FOR_EVER = 600.0


class Gate:
    """A call that answers when the test says so."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.calls = count(1)

    def __call__(self) -> int:
        number = next(self.calls)
        self.entered.set()
        assert self.open.wait(60)
        return number


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def answer(calls: SlowCalls, key: str, what: str, do: Callable[[], object]) -> object:
    """Ask until there is an answer."""
    found: list[object] = []

    def ask() -> bool:
        try:
            found.append(calls.ask(key, what, do))
        except StillBusy:
            return False
        return True

    until(ask, 60)
    return found[0]


def test_a_prompt_answer_is_there_at_once() -> None:
    calls = SlowCalls(patience=FOR_EVER)
    assert calls.ask("run", "add", lambda: 17) == 17
    assert calls.what("run") is None and not calls.is_busy("run")


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_errors_are_raised_where_it_was_asked(error: BaseException) -> None:
    def fail() -> None:
        raise error

    calls = SlowCalls(patience=FOR_EVER)
    with pytest.raises(type(error)):
        calls.ask("run", "add", fail)
    assert calls.ask("run", "add", lambda: 1) == 1


def test_a_call_that_ends_its_thread_does_not_end_others() -> None:
    with pytest.raises(RuntimeError, match="add: it ended its thread, with 3"):
        SlowCalls(patience=FOR_EVER).ask("run", "add", lambda: sys.exit(3))


def test_too_many_threads_are_a_failure_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    calls = SlowCalls(at_once=1, patience=FOR_EVER)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="new thread"):
            calls.ask("run", "add", lambda: 1)
    assert calls.ask("run", "add", lambda: 1) == 1


def test_nothing_is_left_of_a_thousand_runs() -> None:
    calls = SlowCalls(patience=FOR_EVER)
    before = threading.active_count()
    for number in range(1000):
        assert calls.ask(f"run {number}", "add", lambda number=number: number) == number  # type: ignore[misc]
    until(lambda: threading.active_count() <= before, 60)
    assert not any(vars(calls)[name] for name in ("_calls", "_waiting", "_running", "_doubtful"))


def test_what_is_dropped_leaves_nothing(gate: Gate) -> None:
    calls = SlowCalls(at_once=1, patience=0.0)
    for name in ("first", "second"):
        with pytest.raises(StillBusy):
            calls.ask(name, "add", gate)
    for name in ("first", "second", "third"):
        calls.drop(name)
        assert calls.what(name) is None
    gate.open.set()
    assert answer(calls, "first", "add", gate) == 2, "the second was never made"


def test_a_late_answer_is_kept(gate: Gate) -> None:
    calls = SlowCalls(patience=0.0)
    with pytest.raises(StillBusy):
        calls.ask("run", "add", gate)
    assert (calls.what("run"), calls.is_busy("run")) == ("add", True)
    for what in ("add", "close"):
        with pytest.raises(StillBusy):
            calls.ask("run", what, gate)
    gate.open.set()
    until(lambda: not calls.is_busy("run"), 60)
    assert calls.what("run") == "add"
    assert calls.ask("run", "add", gate) == 1, "it was called once"
    assert answer(calls, "run", "add", gate) == 2


def test_the_answer_of_another_question_is_dropped(gate: Gate) -> None:
    gate.open.set()
    calls = SlowCalls(patience=0.0)
    with pytest.raises(StillBusy):
        calls.ask("run", "add", gate)
    until(lambda: not calls.is_busy("run"), 60)
    assert answer(calls, "run", "close", lambda: "closed") == "closed"


def test_what_hangs_holds_up_no_other(gate: Gate) -> None:
    calls = SlowCalls(at_once=2, patience=0.0)
    with pytest.raises(StillBusy):
        calls.ask("hangs", "add", gate)
    for number in range(5):
        assert answer(calls, f"run {number}", "add", lambda number=number: number) == number  # type: ignore[misc]
    assert calls.is_busy("hangs")


def test_what_hung_before_leaves_a_thread_for_others(gate: Gate) -> None:
    calls = SlowCalls(at_once=3, patience=0.0, hanging=-1.0)
    names = [f"hangs {number}" for number in range(5)]
    for name in names:
        answer(calls, name, "add", lambda: None)
    begun: list[str] = []

    def hang(name: str) -> None:
        begun.append(name)
        gate()

    for name in names:
        with pytest.raises(StillBusy):
            calls.ask(name, "add", lambda name=name: hang(name))  # type: ignore[misc]
    until(lambda: len(begun) == 2, 60)
    assert answer(calls, "run", "add", lambda: 17) == 17
    assert sorted(begun) == names[:2], "the others wait for their turn"
    gate.open.set()
    for name in names:
        answer(calls, name, "add", lambda: None)
    assert sorted(begun) == names


def test_turns_are_taken_in_order(gate: Gate) -> None:
    calls = SlowCalls(at_once=1, patience=0.0)
    with pytest.raises(StillBusy):
        calls.ask("first", "add", gate)
    done: list[int] = []
    for number in range(10):
        with pytest.raises(StillBusy):
            calls.ask(str(number), "add", lambda number=number: done.append(number))  # type: ignore[misc]
    gate.open.set()
    until(lambda: len(done) == 10, 60)
    assert done == list(range(10))


def test_the_end_waits_for_what_is_under_way_and_begins_nothing(gate: Gate) -> None:
    calls = SlowCalls(at_once=1, patience=0.0)
    for name in ("first", "second"):
        with pytest.raises(StillBusy):
            calls.ask(name, "add", gate)
    assert gate.entered.wait(60)
    calls.finish(0.0)
    assert calls.is_busy("first") and calls.what("second") is None
    gate.open.set()
    calls.finish(60.0)
    assert calls.ask("first", "add", gate) == 1
    with pytest.raises(StillBusy):
        calls.ask("second", "add", gate)
    assert next(gate.calls) == 2
