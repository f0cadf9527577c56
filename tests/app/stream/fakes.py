"""A stream, a ledger and workers in memory, with a clock that is wound by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from app.stream.driver import DriverConfig, StreamDriver
from models.errors import AlreadyInProgress, StaleVisit, TemporarilyUnavailable
from models.outcomes import Result, VisitOutcome
from models.stream_claims import ClaimedEntry
from models.stream_entries import to_stream_entry
from models.visits import FannedOutVisit
from services.admission import Answer
from tests.visits import make_visit

T = TypeVar("T")

CLAIM_IDLE = 60.0


class Killed(BaseException):
    """The worker is gone, as after SIGKILL."""


@dataclass
class Pending:
    consumer: str
    since: float
    deliveries: int


class Server:
    """What Redis keeps of a stream and its group."""

    def __init__(self) -> None:
        self.now = 0.0
        self.entries: dict[str, Mapping[bytes, bytes]] = {}
        self.unread: list[str] = []
        self.pending: dict[str, Pending] = {}
        self.acknowledged: list[str] = []
        self.consumers: set[str] = set()
        #: Entries whose owner is alive and gives signs of life.
        self.held: set[str] = set()
        self._ids = itertools.count(1)

    def add(self, fields: Mapping[bytes, bytes]) -> str:
        entry_id = f"{next(self._ids)}-0"
        self.entries[entry_id] = fields
        self.unread.append(entry_id)
        return entry_id

    def add_visit(self, group: str) -> str:
        entry = to_stream_entry(make_visit(groupId=group))
        return self.add({name.encode(): value.encode() for name, value in entry.items()})


class FakeStream:
    """One consumer; see `app.stream.parts.VisitStream`.

    ``faults`` says of each command in turn what happens to it: "ok", "lost"
    (it never arrives) or "unheard" (its answer is lost).
    """

    def __init__(self, server: Server, consumer: str, faults: Iterator[str]) -> None:
        self._server = server
        self._consumer = consumer
        self._faults = faults
        self.before_acknowledging: Callable[[], None] = lambda: None

    def open(self) -> None:
        self._maybe(lambda: None)

    def read(self, wait: float) -> ClaimedEntry | None:
        def effect() -> ClaimedEntry | None:
            self._server.consumers.add(self._consumer)
            if not self._server.unread:
                self._server.now += wait
                return None
            return self._give(self._server.unread.pop(0), 1)

        return self._maybe(effect)

    def take_over(self) -> ClaimedEntry | None:
        def effect() -> ClaimedEntry | None:
            for entry_id, pending in self._server.pending.items():
                idle = self._server.now - pending.since
                if idle >= CLAIM_IDLE and entry_id not in self._server.held:
                    return self._give(entry_id, pending.deliveries + 1)
            return None

        return self._maybe(effect)

    def recover(self, known: Mapping[str, int]) -> ClaimedEntry | None:
        def effect() -> ClaimedEntry | None:
            for entry_id, pending in self._server.pending.items():
                if pending.consumer == self._consumer and pending.deliveries > known.get(entry_id, 0):
                    return self._give(entry_id, pending.deliveries)
            return None

        return self._maybe(effect)

    def refresh(self, entry_id: str) -> bool:
        return True

    def put_back(self, entry_id: str, *, deliveries: int, again_in: float) -> None:
        def effect() -> None:
            pending = self._server.pending.get(entry_id)
            if pending is not None and pending.consumer == self._consumer:
                pending.deliveries = deliveries
                pending.since = self._server.now - CLAIM_IDLE + again_in

        self._maybe(effect)

    def acknowledge(self, entry_id: str) -> None:
        self.before_acknowledging()

        def effect() -> None:
            if self._server.pending.pop(entry_id, None) is not None:
                self._server.acknowledged.append(entry_id)

        self._maybe(effect)

    def leave(self) -> bool:
        def effect() -> bool:
            if any(pending.consumer == self._consumer for pending in self._server.pending.values()):
                return False
            self._server.consumers.discard(self._consumer)
            return True

        return self._maybe(effect)

    def _give(self, entry_id: str, deliveries: int) -> ClaimedEntry:
        self._server.pending[entry_id] = Pending(self._consumer, self._server.now, deliveries)
        return ClaimedEntry(entry_id=entry_id, fields=self._server.entries[entry_id], deliveries=deliveries)

    def _maybe(self, effect: Callable[[], T]) -> T:
        fault = next(self._faults, "ok")
        if fault == "lost":
            raise TemporarilyUnavailable("not reached")
        value = effect()
        if fault == "unheard":
            raise TemporarilyUnavailable("no answer")
        return value


@dataclass
class Books:
    """What the ledger knows, and what the visits went through."""

    running: set[str] = field(default_factory=set)
    results: dict[str, Result] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    fruitless: dict[str, int] = field(default_factory=dict)
    away: bool = False


class FakeVisits:
    """Processes visits as ``script`` says, else well; see
    `app.stream.parts.Visits`.
    """

    def __init__(self, books: Books, script: Iterator[str], events: Mapping[str, Callable[[], None]]) -> None:
        self._books = books
        self._script = script
        self._events = events

    def handle(self, visit: FannedOutVisit) -> Answer:
        group, books = visit.groupId, self._books
        if group in books.running:
            raise AlreadyInProgress("another processes it")
        if books.results.get(group) is Result.PROCESSED:
            return Answer(visit=visit, outcome=VisitOutcome(result=Result.PROCESSED), repeated=True)
        deed = next(self._script, "processed")
        if deed == "stale":
            books.results.setdefault(group, Result.FAILED)
            raise StaleVisit("too late")
        if deed == "no-slot":
            books.fruitless[group] = books.fruitless.get(group, 0) + 1
            raise TemporarilyUnavailable("no slot")
        books.runs[group] = books.runs.get(group, 0) + 1
        books.running.add(group)
        if deed in self._events:
            self._events[deed]()
            deed = "processed"
        books.running.discard(group)
        if deed in ("killed", "interrupted"):
            books.fruitless[group] = books.fruitless.get(group, 0) + 1
        if deed == "killed":
            raise Killed
        result = Result(deed)
        if result is not Result.INTERRUPTED:
            books.results[group] = result
        return Answer(visit=visit, outcome=VisitOutcome(result=result))

    def write_off(self, visit: FannedOutVisit, why: str) -> Answer:
        if self._books.away:
            raise TemporarilyUnavailable("no ledger")
        if visit.groupId in self._books.running:
            raise AlreadyInProgress("another processes it")
        result = self._books.results.setdefault(visit.groupId, Result.FAILED)
        return Answer(visit=visit, outcome=VisitOutcome(result=result))


def make_driver(
    server: Server,
    stream: FakeStream,
    visits: FakeVisits,
    *,
    listen_timeout: float = 5.0,
    max_visits: int = 0,
    ready: Callable[[float], bool] = lambda _: True,
    malformed: Callable[[str], None] = lambda _: None,
) -> StreamDriver:
    """Make a driver on the server's clock."""
    return StreamDriver(
        config=DriverConfig(
            claim_idle=CLAIM_IDLE,
            retry_delay=0.0,
            listen_timeout=listen_timeout,
            start_timeout=30.0,
            max_visits=max_visits,
        ),
        stream=stream,
        visits=visits,
        ready=ready,
        malformed=malformed,
        clock=lambda: server.now,
    )
