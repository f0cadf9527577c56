"""Checks run side by side; one that does not answer holds nobody."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from app.check_runs import run_checks
from app.checks import Check
from models.errors import TemporarilyUnavailable


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """What nobody sets before the test is over."""
    event = threading.Event()
    yield event
    event.set()


def test_one_fault_does_not_hide_another() -> None:
    def unavailable() -> list[str]:
        raise TemporarilyUnavailable("away")

    def broken() -> list[str]:
        raise KeyError("x")

    checks = [
        Check("first", unavailable),
        Check("second", broken),
        Check("third", lambda: ["a", "b"]),
        Check("fourth", list),
    ]
    reported: dict[str, list[str]] = {}
    faults = run_checks(checks, report=lambda check, found: reported.update({check.name: found}))
    assert faults == ["away", "second: KeyError: 'x'", "a", "b"]
    assert reported == {
        "first": ["away"],
        "second": ["second: KeyError: 'x'"],
        "third": ["a", "b"],
        "fourth": [],
    }


def test_all_at_once() -> None:
    # Each waits for the others, so one after the other would be for ever.
    together = threading.Barrier(5)
    checks = [Check(str(i), lambda: [str(together.wait(timeout=60))]) for i in range(5)]
    assert sorted(run_checks(checks)) == ["0", "1", "2", "3", "4"]


def test_what_has_ended_is_told_while_others_run() -> None:
    told = threading.Event()

    def slow() -> list[str]:
        return [] if told.wait(60) else ["nothing was told"]

    def report(check: Check, _: list[str]) -> None:
        if check.name == "quick":
            told.set()

    assert run_checks([Check("slow", slow), Check("quick", list)], report=report) == []


def test_no_answer(never: threading.Event) -> None:
    seen: list[list[str]] = []

    def hangs() -> list[str]:
        never.wait()
        return []

    reported: list[str] = []
    faults = run_checks(
        [Check("the far server", hangs)],
        report=lambda check, _: reported.append(check.name),
        waiting=lambda checks: seen.append([c.name for c in checks]),
        patience=0.5,
    )
    assert faults == ["the far server: no answer within 0.5 s"]
    assert reported == ["the far server"]
    # People were told whom they wait for.
    assert set(map(tuple, seen)) == {("the far server",)}


def test_the_middleware_is_imported_once_and_first() -> None:
    def look() -> list[str]:
        return [] if "repos.central" in sys.modules else ["too early"]

    assert run_checks([Check(str(i), look, middleware=True) for i in range(3)]) == []


def test_a_middleware_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "repos.central", None)
    faults = run_checks([Check("light", list), Check("heavy", list, middleware=True)])
    assert len(faults) == 1 and "the middleware cannot be imported" in faults[0]


def test_nothing_to_check() -> None:
    assert run_checks([]) == []
