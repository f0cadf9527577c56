"""The visit ledger: claims, results, what survives."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.events import ALERT, BUTLER_WRITER, OutboxMessage
from models.ledger import RUNNING, Claim
from models.outcomes import Result, Timings, VisitOutcome
from models.visits import FannedOutVisit, VisitKey
from repos.ledger import Ledger
from repos.ledger_database import LedgerLock, create_ledger_engine
from repos.ledger_tables import VISITS
from repos.outbox import Outbox

DAY = 20250401
DEPLOYMENT = "deployment-1"
THREADS = 32


class Clock:
    """Time that passes one second a look."""

    def __init__(self) -> None:
        self.time = datetime(2025, 4, 2, 3, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


def make_visit(group: str = "g1", detector: int = 3) -> FannedOutVisit:
    return FannedOutVisit(
        salIndex=1,
        scriptSalIndex=2,
        groupId=group,
        coordinateSystem=2,
        position=(10.0, -5.0),
        startTime=1.7e9,
        rotationSystem=2,
        cameraAngle=0.0,
        filters="r",
        dome=2,
        duration=30.0,
        nimages=1,
        instrument="DemoCam",
        survey="deep",
        totalCheckpoints=1,
        private_sndStamp=1.7e9,
        detector=detector,
    )


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'state' / 'ledger.sqlite3'}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        found: str = request.getfixturevalue("sqlite_url")
        return found
    return request.getfixturevalue("postgresql").create_database(f"ledger_{uuid4().hex}")


@pytest.fixture
def engine(url: str) -> sa.Engine:
    return create_ledger_engine(url)


@pytest.fixture
def ledger(engine: sa.Engine) -> Ledger:
    return Ledger(engine, owner="host:1", now=Clock())


def outcome(result: Result, **fields: object) -> VisitOutcome:
    return VisitOutcome(result=result, title="t", detail="d", **fields)


def test_the_first_claim_is_granted(ledger: Ledger) -> None:
    assert ledger.claim(make_visit(), DEPLOYMENT, DAY) == Claim(granted=True, attempt=1)
    record = ledger.visit(make_visit().key)
    assert record is not None
    assert (record.state, record.attempts, record.owner) == (RUNNING, 1, "host:1")
    assert record.visit == make_visit()
    assert record.created == record.started
    assert record.finished is None
    assert record.outcome is None


def test_a_claimed_visit_is_not_granted_again(ledger: Ledger) -> None:
    ledger.claim(make_visit(), DEPLOYMENT, DAY)
    assert ledger.claim(make_visit(), DEPLOYMENT, DAY) == Claim(granted=False, attempt=1)


@pytest.mark.parametrize("result", [Result.PROCESSED, Result.NOT_RETRIABLE])
def test_final_results_stand(ledger: Ledger, result: Result) -> None:
    ledger.claim(make_visit(), DEPLOYMENT, DAY)
    given = outcome(result, exposures=(12,), outputs=5, timings=Timings(total=1.5), warnings=("w",))
    ledger.finish(make_visit(), DEPLOYMENT, DAY, given)
    for _ in range(2):
        assert ledger.claim(make_visit(), DEPLOYMENT, DAY) == Claim(granted=False, attempt=1, outcome=given)


@pytest.mark.parametrize("result", [Result.FAILED, Result.INTERRUPTED])
def test_other_results_may_be_tried_again(ledger: Ledger, result: Result) -> None:
    for attempt in (1, 2, 3):
        assert ledger.claim(make_visit(), DEPLOYMENT, DAY) == Claim(granted=True, attempt=attempt)
        ledger.finish(make_visit(), DEPLOYMENT, DAY, outcome(result))
    record = ledger.visit(make_visit().key)
    assert record is not None
    assert record.attempts == 3
    assert record.created < record.started < record.finished
    assert record.state == result
    assert record.in_error


@pytest.mark.parametrize(
    ("visit", "deployment"),
    [
        (make_visit(group="g2"), DEPLOYMENT),
        (make_visit(detector=4), DEPLOYMENT),
        (make_visit().model_copy(update={"instrument": "Other"}), DEPLOYMENT),
        (make_visit(), "deployment-2"),
    ],
)
def test_each_part_of_the_key_counts(ledger: Ledger, visit: FannedOutVisit, deployment: str) -> None:
    ledger.claim(make_visit(), DEPLOYMENT, DAY)
    ledger.finish(make_visit(), DEPLOYMENT, DAY, outcome(Result.PROCESSED))
    assert ledger.claim(visit, deployment, DAY).granted


def test_one_of_many_threads_wins(ledger: Ledger) -> None:
    start = threading.Barrier(THREADS)
    visits = [make_visit(group=f"g{n}") for n in range(4)]

    def claim(_: int) -> list[bool]:
        granted = []
        for visit in visits:
            start.wait()
            granted.append(ledger.claim(visit, DEPLOYMENT, DAY).granted)
        return granted

    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(claim, range(THREADS)))
    assert [sum(a) for a in zip(*answers, strict=True)] == [1] * len(visits)


def test_one_of_many_threads_wins_a_second_attempt(ledger: Ledger) -> None:
    ledger.claim(make_visit(), DEPLOYMENT, DAY)
    ledger.finish(make_visit(), DEPLOYMENT, DAY, outcome(Result.FAILED))
    start = threading.Barrier(THREADS)

    def claim(_: int) -> Claim:
        start.wait()
        return ledger.claim(make_visit(), DEPLOYMENT, DAY)

    with ThreadPoolExecutor(THREADS) as threads:
        answers = Counter(threads.map(claim, range(THREADS)))
    assert answers == {Claim(granted=True, attempt=2): 1, Claim(granted=False, attempt=2): THREADS - 1}


def test_many_threads_finish_without_losing_anything(ledger: Ledger, engine: sa.Engine) -> None:
    def process(detector: int) -> None:
        visit = make_visit(detector=detector)
        assert ledger.claim(visit, DEPLOYMENT, DAY).granted
        message = OutboxMessage(BUTLER_WRITER, "topic", None, str(detector).encode())
        ledger.finish(visit, DEPLOYMENT, DAY, outcome(Result.PROCESSED), [message])

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(process, range(3 * THREADS)))
    assert ledger.counts(DAY) == {"processed": 3 * THREADS}
    pending = Outbox(engine).pending(limit=1000)
    assert sorted(int(m.message.payload) for m in pending) == list(range(3 * THREADS))


def test_a_result_without_claim_is_recorded(ledger: Ledger) -> None:
    ledger.finish(make_visit(), DEPLOYMENT, DAY, outcome(Result.PROCESSED, outputs=2))
    record = ledger.visit(make_visit().key)
    assert record is not None
    assert (record.state, record.attempts) == ("processed", 1)
    assert record.outcome == outcome(Result.PROCESSED, outputs=2)
    assert not ledger.claim(make_visit(), DEPLOYMENT, DAY).granted


def test_a_result_may_be_recorded_again(ledger: Ledger, engine: sa.Engine) -> None:
    ledger.claim(make_visit(), DEPLOYMENT, DAY)
    result = outcome(Result.PROCESSED, timings=Timings(total=1.25))
    message = OutboxMessage(BUTLER_WRITER, "topic", None, b"1")
    for _ in range(2):
        ledger.finish(make_visit(), DEPLOYMENT, DAY, result, [message])
    assert len(Outbox(engine).pending()) == 1


LEASE = timedelta(seconds=60)


class Processes:
    """Two that share a ledger, and the time."""

    def __init__(self, engine: sa.Engine) -> None:
        self.time = datetime(2025, 4, 2, 3, tzinfo=UTC)
        self.first, self.second = (
            Ledger(engine, owner=name, lease=LEASE, now=lambda: self.time) for name in ("first", "second")
        )

    def wait(self, part: float) -> None:
        self.time += part * LEASE


@pytest.fixture
def processes(engine: sa.Engine) -> Processes:
    return Processes(engine)


def test_a_claim_passes_on_when_its_lease_has_run_out(processes: Processes) -> None:
    assert processes.first.claim(make_visit(), DEPLOYMENT, DAY).granted
    processes.wait(0.99)
    assert not processes.second.claim(make_visit(), DEPLOYMENT, DAY).granted
    processes.wait(0.02)
    assert processes.second.claim(make_visit(), DEPLOYMENT, DAY) == Claim(granted=True, attempt=2)
    assert not processes.first.refresh(make_visit(), DEPLOYMENT)
    assert not processes.first.claim(make_visit(), DEPLOYMENT, DAY).granted


def test_a_claim_that_is_refreshed_stays(processes: Processes) -> None:
    assert processes.first.claim(make_visit(), DEPLOYMENT, DAY).granted
    for _ in range(9):
        processes.wait(1 / 3)
        assert processes.first.refresh(make_visit(), DEPLOYMENT)
        assert not processes.second.claim(make_visit(), DEPLOYMENT, DAY).granted


def test_there_is_nothing_to_refresh_after_the_end(processes: Processes) -> None:
    processes.first.claim(make_visit(), DEPLOYMENT, DAY)
    processes.first.finish(make_visit(), DEPLOYMENT, DAY, outcome(Result.PROCESSED))
    assert not processes.first.refresh(make_visit(), DEPLOYMENT)
    processes.wait(2)
    assert processes.second.claim(make_visit(), DEPLOYMENT, DAY).outcome is not None


@pytest.mark.parametrize("late", [Result.FAILED, Result.INTERRUPTED])
def test_a_late_failure_does_not_end_the_work_of_another(processes: Processes, late: Result) -> None:
    processes.first.claim(make_visit(), DEPLOYMENT, DAY)
    processes.wait(2)
    processes.second.claim(make_visit(), DEPLOYMENT, DAY)
    processes.first.finish(make_visit(), DEPLOYMENT, DAY, outcome(late))
    assert processes.second.refresh(make_visit(), DEPLOYMENT)


def test_the_first_result_that_stands_counts(processes: Processes, engine: sa.Engine) -> None:
    processes.first.claim(make_visit(), DEPLOYMENT, DAY)
    processes.wait(2)
    processes.second.claim(make_visit(), DEPLOYMENT, DAY)
    message = OutboxMessage(BUTLER_WRITER, "topic", None, b"1")
    processes.first.finish(make_visit(), DEPLOYMENT, DAY, outcome(Result.PROCESSED, outputs=1), [message])
    processes.second.finish(make_visit(), DEPLOYMENT, DAY, outcome(Result.NOT_RETRIABLE))
    record = processes.first.visit(make_visit().key)
    assert record is not None
    assert record.state == Result.PROCESSED
    assert len(Outbox(engine).pending()) == 1


def test_one_of_many_takes_over(processes: Processes, engine: sa.Engine) -> None:
    processes.first.claim(make_visit(), DEPLOYMENT, DAY)
    processes.wait(2)
    start = threading.Barrier(THREADS)
    ledgers = [Ledger(engine, owner=str(n), lease=LEASE, now=lambda: processes.time) for n in range(THREADS)]

    def claim(ledger: Ledger) -> bool:
        start.wait()
        return ledger.claim(make_visit(), DEPLOYMENT, DAY).granted

    with ThreadPoolExecutor(THREADS) as threads:
        assert sum(threads.map(claim, ledgers)) == 1


def test_result_and_messages_are_one_transaction(
    ledger: Ledger, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.claim(make_visit(), DEPLOYMENT, DAY)

    def fail(*_: object) -> None:
        raise sa.exc.OperationalError("insert", {}, OSError("database or disk is full"))

    monkeypatch.setattr(Outbox, "add", fail)
    with pytest.raises(TemporarilyUnavailable, match="disk is full"):
        ledger.finish(make_visit(), DEPLOYMENT, DAY, outcome(Result.PROCESSED))
    record = ledger.visit(make_visit().key)
    assert record is not None
    assert record.state == RUNNING


ALERTS = [OutboxMessage(ALERT, "alerts", str(n), b"%d" % n) for n in range(3)]
#: What becomes of a visit that sent alerts and was not heard of again.
LOST = outcome(Result.NOT_RETRIABLE, alerts=3)


def pending(engine: sa.Engine) -> list[bytes]:
    return [stored.message.payload for stored in Outbox(engine).pending()]


def test_messages_may_leave_before_the_result(ledger: Ledger, engine: sa.Engine) -> None:
    ledger.claim(make_visit(), DEPLOYMENT, DAY)
    assert ledger.send(make_visit(), DEPLOYMENT, DAY, ALERTS, LOST)
    assert pending(engine) == [b"0", b"1", b"2"]
    assert Outbox(engine).pending()[0].message.visit == make_visit().key
    record = ledger.visit(make_visit().key)
    assert record is not None
    # What may become of it is nobody's business yet.
    assert (record.state, record.outcome, record.finished) == (RUNNING, None, None)
    assert ledger.refresh(make_visit(), DEPLOYMENT)
    given = outcome(Result.PROCESSED, alerts=3)
    ledger.finish(make_visit(), DEPLOYMENT, DAY, given, [OutboxMessage(BUTLER_WRITER, "topic", None, b"w")])
    assert pending(engine) == [b"0", b"1", b"2", b"w"]
    assert ledger.claim(make_visit(), DEPLOYMENT, DAY).outcome == given


def test_somebody_is_told_of_messages(engine: sa.Engine) -> None:
    told: list[int] = []
    ledger = Ledger(engine, on_messages=lambda: told.append(len(pending(engine))))
    ledger.send(make_visit(), DEPLOYMENT, DAY, ALERTS, LOST)
    assert told == [3]


def test_sending_may_be_repeated(ledger: Ledger, engine: sa.Engine) -> None:
    ledger.claim(make_visit(), DEPLOYMENT, DAY)
    for _ in range(3):
        assert ledger.send(make_visit(), DEPLOYMENT, DAY, ALERTS[:2], LOST)
    more = outcome(Result.NOT_RETRIABLE, alerts=4)
    for _ in range(2):
        assert ledger.send(make_visit(), DEPLOYMENT, DAY, ALERTS[2:], more)
    assert pending(engine) == [b"0", b"1", b"2"]


def test_a_visit_that_could_not_be_claimed_may_send(ledger: Ledger, engine: sa.Engine) -> None:
    assert ledger.send(make_visit(), DEPLOYMENT, DAY, ALERTS, LOST)
    # With the row of an earlier attempt, too.
    ledger.finish(make_visit("again"), DEPLOYMENT, DAY, outcome(Result.INTERRUPTED))
    assert ledger.send(make_visit("again"), DEPLOYMENT, DAY, ALERTS, LOST)
    assert len(pending(engine)) == 6
    assert ledger.recover_orphans() == [make_visit().key, make_visit("again").key]


@pytest.mark.parametrize("result", [Result.PROCESSED, Result.NOT_RETRIABLE])
def test_a_visit_that_is_over_sends_nothing(ledger: Ledger, engine: sa.Engine, result: Result) -> None:
    ledger.claim(make_visit(), DEPLOYMENT, DAY)
    ledger.finish(make_visit(), DEPLOYMENT, DAY, outcome(result))
    assert not ledger.send(make_visit(), DEPLOYMENT, DAY, ALERTS, LOST)
    assert pending(engine) == []
    assert ledger.claim(make_visit(), DEPLOYMENT, DAY).outcome == outcome(result)


def test_nobody_sends_for_another(processes: Processes, engine: sa.Engine) -> None:
    processes.first.claim(make_visit(), DEPLOYMENT, DAY)
    processes.wait(2)
    processes.second.claim(make_visit(), DEPLOYMENT, DAY)
    assert not processes.first.send(make_visit(), DEPLOYMENT, DAY, ALERTS, LOST)
    assert processes.second.send(make_visit(), DEPLOYMENT, DAY, ALERTS[:1], LOST)
    assert pending(engine) == [b"0"]


def test_what_was_sent_of_is_not_tried_again(processes: Processes, engine: sa.Engine) -> None:
    processes.first.claim(make_visit(), DEPLOYMENT, DAY)
    processes.first.send(make_visit(), DEPLOYMENT, DAY, ALERTS, LOST)
    assert processes.second.claim(make_visit(), DEPLOYMENT, DAY) == Claim(granted=False)
    # It renewed its lease with that, and died.
    processes.wait(1.01)
    for _ in range(2):
        assert processes.second.claim(make_visit(), DEPLOYMENT, DAY) == Claim(granted=False, outcome=LOST)
    record = processes.first.visit(make_visit().key)
    assert record is not None
    assert (record.state, record.outcome, record.finished) == (Result.NOT_RETRIABLE, LOST, processes.time)
    # Or did not: what it made in the end is not thrown away.
    processes.first.finish(make_visit(), DEPLOYMENT, DAY, outcome(Result.PROCESSED, outputs=1))
    assert processes.second.claim(make_visit(), DEPLOYMENT, DAY).outcome == outcome(
        Result.PROCESSED, outputs=1
    )
    assert len(pending(engine)) == 3


def test_what_another_has_sent_is_not_sent_with_a_late_result(
    processes: Processes, engine: sa.Engine
) -> None:
    processes.first.claim(make_visit(), DEPLOYMENT, DAY)
    processes.wait(2)
    processes.second.claim(make_visit(), DEPLOYMENT, DAY)
    assert processes.second.send(make_visit(), DEPLOYMENT, DAY, ALERTS, LOST)
    assert not processes.first.send(make_visit(), DEPLOYMENT, DAY, ALERTS, LOST)
    # Who was taken for dead would send them with its result.
    processes.first.finish(make_visit(), DEPLOYMENT, DAY, outcome(Result.PROCESSED, outputs=1), ALERTS)
    assert len(pending(engine)) == 3
    assert processes.second.refresh(make_visit(), DEPLOYMENT)
    processes.second.finish(make_visit(), DEPLOYMENT, DAY, outcome(Result.PROCESSED, outputs=2))
    assert processes.first.claim(make_visit(), DEPLOYMENT, DAY).outcome == outcome(
        Result.PROCESSED, outputs=2
    )


def test_a_repeated_sending_knows_its_own_after_it_was_taken_for_dead(
    processes: Processes, engine: sa.Engine
) -> None:
    processes.first.claim(make_visit(), DEPLOYMENT, DAY)
    assert processes.first.send(make_visit(), DEPLOYMENT, DAY, ALERTS, LOST)
    # The connection broke in the commit, and stayed away for long.
    processes.wait(1.01)
    assert processes.second.claim(make_visit(), DEPLOYMENT, DAY).outcome == LOST
    assert processes.first.send(make_visit(), DEPLOYMENT, DAY, ALERTS, LOST)
    assert len(pending(engine)) == 3


def test_a_service_that_starts_again_does_not_send_twice(url: str) -> None:
    first = create_ledger_engine(url)
    ledger = Ledger(first)
    for group in ("sent", "not sent"):
        ledger.claim(make_visit(group), DEPLOYMENT, DAY)
    ledger.send(make_visit("sent"), DEPLOYMENT, DAY, ALERTS, LOST)
    first.dispose()
    engine = create_ledger_engine(url)
    again = Ledger(engine)
    assert set(again.recover_orphans()) == {make_visit("sent").key, make_visit("not sent").key}
    assert again.claim(make_visit("sent"), DEPLOYMENT, DAY) == Claim(granted=False, outcome=LOST)
    assert again.claim(make_visit("not sent"), DEPLOYMENT, DAY) == Claim(granted=True, attempt=2)
    assert len(pending(engine)) == 3


def test_messages_and_testament_are_one_transaction(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.claim(make_visit(), DEPLOYMENT, DAY)

    def fail(*_: object) -> None:
        raise sa.exc.OperationalError("insert", {}, OSError("database or disk is full"))

    monkeypatch.setattr(Outbox, "add", fail)
    with pytest.raises(TemporarilyUnavailable, match="disk is full"):
        ledger.send(make_visit(), DEPLOYMENT, DAY, ALERTS, LOST)
    ledger.recover_orphans()
    assert ledger.claim(make_visit(), DEPLOYMENT, DAY) == Claim(granted=True, attempt=2)


def test_a_rehearsal_leaves_nothing(ledger: Ledger) -> None:
    ledger.rehearse()
    ledger.rehearse()
    assert ledger.visits() == []
    assert ledger.claim(make_visit(), DEPLOYMENT, DAY).granted


def test_everything_survives_a_restart(url: str) -> None:
    first = create_ledger_engine(url)
    ledger = Ledger(first)
    ledger.claim(make_visit("done"), DEPLOYMENT, DAY)
    ledger.finish(make_visit("done"), DEPLOYMENT, DAY, outcome(Result.PROCESSED))
    ledger.claim(make_visit("running"), DEPLOYMENT, DAY)
    first.dispose()

    again = Ledger(create_ledger_engine(url))
    assert again.claim(make_visit("done"), DEPLOYMENT, DAY).outcome == outcome(Result.PROCESSED)
    assert again.recover_orphans() == [VisitKey("DemoCam", "running", 3)]
    record = again.visit(make_visit("running").key)
    assert record is not None
    assert record.state == Result.INTERRUPTED
    assert record.outcome is not None
    assert "ended while" in record.outcome.detail
    assert again.recover_orphans() == []
    assert again.claim(make_visit("running"), DEPLOYMENT, DAY) == Claim(granted=True, attempt=2)


def test_a_service_killed_in_a_claim_leaves_a_sound_ledger(url: str) -> None:
    code = (
        "import os, signal\n"
        "from tests.repos.test_ledger import *\n"
        f"engine = create_ledger_engine({url!r})\n"
        "Ledger(engine).claim(make_visit('before'), DEPLOYMENT, DAY)\n"
        "with engine.begin() as c:\n"
        "    c.execute(VISITS.delete())\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=False, capture_output=True)
    assert done.returncode == -9, done.stderr
    assert [r.visit.groupId for r in Ledger(create_ledger_engine(url)).visits()] == ["before"]


def test_visits_of_a_night(ledger: Ledger) -> None:
    for day, group in ((DAY - 1, "old"), (DAY, "a"), (DAY, "b")):
        ledger.claim(make_visit(group), DEPLOYMENT, day)
    ledger.finish(make_visit("a"), DEPLOYMENT, DAY, outcome(Result.PROCESSED))
    assert [r.visit.groupId for r in ledger.visits(DAY)] == ["b", "a"]
    assert [r.visit.groupId for r in ledger.visits(limit=1)] == ["b"]
    assert [r.visit.groupId for r in ledger.visits()] == ["b", "a", "old"]
    assert ledger.counts(DAY) == {"processed": 1, RUNNING: 1}
    assert ledger.last_day() == DAY


def test_an_empty_ledger(ledger: Ledger) -> None:
    assert ledger.visits() == []
    assert ledger.visit(make_visit().key) is None
    assert ledger.counts(DAY) == {}
    assert ledger.last_day() is None


def test_the_last_record_of_a_visit_counts(ledger: Ledger) -> None:
    for deployment in ("z", "a"):
        ledger.claim(make_visit(), deployment, DAY)
    record = ledger.visit(make_visit().key)
    assert record is not None
    assert record.deployment_id == "a"


def test_times_are_utc_and_aware(engine: sa.Engine) -> None:
    east = Clock()
    zone = timedelta(hours=-4)
    ledger = Ledger(engine, now=lambda: east().astimezone(timezone(zone)))
    ledger.claim(make_visit(), DEPLOYMENT, DAY)
    record = ledger.visit(make_visit().key)
    assert record is not None
    assert record.started == east.time
    assert record.started.utcoffset() == timedelta(0)
    naive = Ledger(engine, now=lambda: datetime(2025, 1, 1))  # noqa: DTZ001 (the point of the test)
    with pytest.raises(sa.exc.StatementError, match="time zone"):
        naive.claim(make_visit("g2"), DEPLOYMENT, DAY)


def test_readers_do_not_wait_for_a_writer(url: str, engine: sa.Engine, ledger: Ledger) -> None:
    ledger.claim(make_visit(), DEPLOYMENT, DAY)
    with engine.begin() as writer:
        writer.execute(VISITS.delete())
        other = Ledger(create_ledger_engine(url, read_only=True))
        assert len(other.visits()) == 1
        assert len(ledger.visits()) == 1


def test_a_reader_cannot_write(url: str, ledger: Ledger) -> None:
    ledger.claim(make_visit(), DEPLOYMENT, DAY)
    reader = Ledger(create_ledger_engine(url, read_only=True))
    with pytest.raises(TemporarilyUnavailable, match=r"read-?only"):
        reader.claim(make_visit("g2"), DEPLOYMENT, DAY)


def test_a_reader_makes_no_ledger(url: str) -> None:
    with pytest.raises(InvalidConfiguration, match=r"no ledger|no tables"):
        create_ledger_engine(url, read_only=True)


def test_two_services_cannot_share_a_ledger(sqlite_url: str) -> None:
    first, second = LedgerLock(sqlite_url), LedgerLock(sqlite_url)
    first.acquire()
    with pytest.raises(InvalidConfiguration, match="another service uses the ledger"):
        second.acquire(timeout=0.05)
    # Looking is allowed all the time.
    create_ledger_engine(sqlite_url).dispose()
    assert Ledger(create_ledger_engine(sqlite_url, read_only=True)).visits() == []
    first.release()
    second.acquire()
    second.release()


def test_a_server_needs_no_lock() -> None:
    first, second = (LedgerLock("postgresql+psycopg://host/ledger") for _ in range(2))
    first.acquire()
    second.acquire(timeout=0)
    second.release()


@pytest.mark.parametrize("url", ["nonsense", "sqlite://", "sqlite:///:memory:"])
def test_unusable_urls(url: str) -> None:
    with pytest.raises(InvalidConfiguration, match="PP_LEDGER_URL"):
        create_ledger_engine(url)
    with pytest.raises(InvalidConfiguration, match="PP_LEDGER_URL"):
        LedgerLock(url)


@pytest.fixture
def unusable(tmp_path: Path) -> Callable[[str], str]:
    def make(kind: str) -> str:
        path = tmp_path / "file"
        path.write_bytes(b"x" * 4096)
        return f"sqlite:///{path if kind == 'not a database' else path / 'ledger.sqlite3'}"

    return make


@pytest.mark.parametrize("kind", ["not a database", "not a directory"])
def test_unusable_files(unusable: Callable[[str], str], kind: str) -> None:
    with pytest.raises(InvalidConfiguration, match=r"the ledger .* cannot be opened"):
        create_ledger_engine(unusable(kind))


def test_a_ledger_that_cannot_be_locked(unusable: Callable[[str], str]) -> None:
    with pytest.raises(InvalidConfiguration, match="cannot be locked"):
        LedgerLock(unusable("not a directory")).acquire()


def test_results_wait_for_the_disk_and_claims_do_not(sqlite_url: str) -> None:
    levels: list[str] = []
    engine = create_ledger_engine(sqlite_url)
    ledger = Ledger(engine)

    @sa.event.listens_for(engine, "commit")
    def look(connection: sa.Connection) -> None:
        levels.append(connection.exec_driver_sql("PRAGMA synchronous").scalar_one())

    ledger.claim(make_visit(), DEPLOYMENT, DAY)
    ledger.finish(make_visit(), DEPLOYMENT, DAY, outcome(Result.PROCESSED))
    ledger.claim(make_visit("g2"), DEPLOYMENT, DAY)
    ledger.send(make_visit("g2"), DEPLOYMENT, DAY, [ALERTS[0]], LOST)
    # SQLite's numbers for NORMAL and FULL.
    assert levels == [1, 2, 1, 2]
