"""An agent looks after what it keeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.errors import TemporarilyUnavailable
from models.streaming.bus import JournalEntry, ReceivedMessage
from services.streaming import upkeep as module
from services.streaming.upkeep import Upkeep

NOW = datetime(2026, 5, 4, tzinfo=UTC)


def until(what: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


class Inbox:
    """A journal of which the numbers are given."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked = 0

    def counts(self) -> Mapping[str, int]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return {"waiting": 3, "refused": 1}

    def receive(self, message: ReceivedMessage) -> bool:
        raise NotImplementedError

    def waiting(self, limit: int) -> Sequence[JournalEntry]:
        raise NotImplementedError

    def settle(self, ids: Collection[int]) -> None:
        raise NotImplementedError

    def refuse(self, id_: int, reason: str) -> None:
        raise NotImplementedError

    def forget(self, before: datetime) -> int:
        raise NotImplementedError

    def remember(self, name: str, value: str) -> None:
        raise NotImplementedError

    def recall(self, name: str) -> str | None:
        raise NotImplementedError


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def make(inbox: Inbox) -> Iterator[Callable[..., Upkeep]]:
    made: list[Upkeep] = []

    def start(**options: Any) -> Upkeep:
        outbox = {"waiting": {"stomp": 2, "other": 5}, "refused": {}}
        upkeep = Upkeep(
            **{"journal": inbox, "outbox": lambda: outbox, "look": 0.01, "now": lambda: NOW, **options}
        )
        upkeep.start()
        made.append(upkeep)
        return upkeep

    yield start
    for upkeep in made:
        upkeep.end()
        upkeep.join(120.0)


def test_it_counts_what_waits(make: Callable[..., Upkeep]) -> None:
    upkeep = make()
    until(lambda: upkeep.backlog)
    assert upkeep.backlog == {
        "inbox_waiting": 3,
        "inbox_refused": 1,
        "outbox_waiting": 7,
        "outbox_refused": 0,
    }


@pytest.mark.parametrize("error", [TemporarilyUnavailable("away"), ZeroDivisionError("a bug")])
def test_it_goes_on_whatever_goes_wrong(make: Callable[..., Upkeep], inbox: Inbox, error: Exception) -> None:
    inbox.error = error
    upkeep = make()
    until(lambda: inbox.asked > 1)
    assert upkeep.backlog == {}
    inbox.error = None
    until(lambda: upkeep.backlog)


def test_numbers_of_a_database_that_went_away_are_not_told(make: Callable[..., Upkeep], inbox: Inbox) -> None:
    upkeep = make()
    until(lambda: upkeep.backlog)
    inbox.error = TemporarilyUnavailable("away")
    until(lambda: not upkeep.backlog)


def test_what_is_old_is_removed_now_and_then(
    make: Callable[..., Upkeep], inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    asked: list[datetime] = []

    def forget(before: datetime) -> int:
        asked.append(before)
        return 4

    make(forget=[forget, lambda before: 0], keep=timedelta(days=90))
    until(lambda: inbox.asked > 5)
    assert asked == [NOW - timedelta(days=90)]
    assert [record.getMessage() for record in caplog.records if record.name == module.__name__] == [
        "Messages that were set aside before 2026-02-03 00:00:00+00:00 are removed: 4."
    ]


def test_what_is_kept_for_ever_is_kept(make: Callable[..., Upkeep], inbox: Inbox) -> None:
    asked: list[datetime] = []

    def forget(before: datetime) -> int:
        asked.append(before)
        return 0

    make(forget=[forget], keep=None)
    until(lambda: inbox.asked > 2)
    assert not asked


def test_who_never_started_has_ended(inbox: Inbox) -> None:
    upkeep = Upkeep(journal=inbox, outbox=dict)
    upkeep.end()
    upkeep.join(0.0)
    assert upkeep.backlog == {}
