"""Bar of a Kafka that is away while visits finish."""

from __future__ import annotations

__all__ = ["kafka_away"]

import collections
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from kafka import KafkaConsumer

from benchmarks.bar import Bar, none_of, say
from models.events import ALERT, BUTLER_WRITER, OutboxMessage
from models.kafka_access import KafkaAccess
from models.outcomes import Result, VisitOutcome
from models.visits import FannedOutVisit
from repos.ledger import Ledger
from repos.ledger_database import create_ledger_engine
from repos.outbox import Outbox
from repos.outbox_kafka import KafkaSender
from services.outbox import OutboxDrain
from simulator.servers.everything import ServerSet

_VISITS = 20
_AWAY = 30.0
_ALERTS = 50
_EVENT_BYTES = 13_000
_ALERT_BYTES = 20_000
#: Seconds after Kafka's return in which everything must have arrived.
_PATIENCE = 60.0


def kafka_away(scratch: Path) -> Iterator[Bar]:
    """Visits finish while Kafka is away; all that they say arrives later."""
    with ServerSet() as servers:
        tag = uuid.uuid4().hex[:8]
        topics = {kind: servers.kafka.create_topic(f"{kind}-{tag}", 3) for kind in (BUTLER_WRITER, ALERT)}
        for name, url in {
            "PostgreSQL": servers.postgresql.create_database("ledger"),
            "SQLite": f"sqlite:///{scratch}/ledger.sqlite3",
        }.items():
            yield from _away(servers, topics, name, url)


def _away(servers: ServerSet, topics: dict[str, str], name: str, url: str) -> Iterator[Bar]:
    engine = create_ledger_engine(url)
    store = Outbox(engine, owner="bar", exclusive=engine.dialect.name == "sqlite")
    access = KafkaAccess(servers.kafka.bootstrap)
    drain = OutboxDrain(store=store, senders={BUTLER_WRITER: KafkaSender(access), ALERT: KafkaSender(access)})
    ledger = Ledger(engine, on_messages=drain.wake)
    drain.start()
    faults: list[str] = []
    # One producer is connected when Kafka goes, the other has yet to be.
    expected = _finish(ledger, f"{name}-before", topics, alerts=0, faults=faults)
    _await_empty(store)
    servers.kafka.stop()
    gone = time.monotonic()
    threads = []
    for number in range(_VISITS):
        # Some while it goes, most while it is gone.
        time.sleep(max(0.0, gone + number * _AWAY / _VISITS - time.monotonic()))
        thread = threading.Thread(
            target=lambda n=number: expected.update(
                _finish(ledger, f"{name}-{n}", topics, alerts=_ALERTS, faults=faults)
            )
        )
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    time.sleep(max(0.0, gone + _AWAY - time.monotonic()))
    waiting = sum(store.count_pending().values())
    servers.kafka.start()
    back = time.monotonic()
    _await_empty(store)
    say(f"{name}: {waiting} messages waited; all were sent {time.monotonic() - back:.1f} s after its return")
    drain.stop(5)
    engine.dispose()
    note = f"{_VISITS} visits in {_AWAY:g} s, {waiting} messages waited"
    yield none_of(f"Kafka away ({name}): visits that failed", faults, note)
    yield none_of(
        f"Kafka away ({name}): events and alerts not there exactly once",
        _wrong(access, topics, expected, name),
    )


def _finish(
    ledger: Ledger, group: str, topics: dict[str, str], *, alerts: int, faults: list[str]
) -> dict[bytes, str]:
    """Finish a visit; return what it says, by the head of each message."""
    visit = FannedOutVisit(
        salIndex=1,
        scriptSalIndex=1,
        groupId=group,
        coordinateSystem=2,
        position=(10.0, -5.0),
        startTime=0.0,
        rotationSystem=2,
        cameraAngle=0.0,
        filters="r",
        dome=2,
        duration=30.0,
        nimages=1,
        instrument="DemoCam",
        survey="bar",
        totalCheckpoints=1,
        private_sndStamp=0.0,
        detector=0,
    )
    said = {f"{group} event".encode(): BUTLER_WRITER}
    said |= {f"{group} alert {number}".encode(): ALERT for number in range(alerts)}
    size = {BUTLER_WRITER: _EVENT_BYTES, ALERT: _ALERT_BYTES}
    event, *made = (
        OutboxMessage(kind, topics[kind], None, head + b"\n" + bytes(size[kind]))
        for head, kind in said.items()
    )
    lost = VisitOutcome(result=Result.NOT_RETRIABLE, alerts=alerts)
    try:
        ledger.claim(visit, "bar", 20261120)
        if made and not ledger.send(visit, "bar", 20261120, made, lost):
            faults.append(f"{group}: its alerts were not taken")
        ledger.finish(visit, "bar", 20261120, VisitOutcome(result=Result.PROCESSED), [event])
    except Exception as error:  # whatever it is, the visit failed
        faults.append(f"{group}: {type(error).__name__}: {error}")
    return said


def _await_empty(store: Outbox) -> None:
    deadline = time.monotonic() + _PATIENCE
    while store.count_pending() and time.monotonic() < deadline:
        time.sleep(0.05)


def _wrong(access: KafkaAccess, topics: dict[str, str], expected: dict[bytes, str], name: str) -> list[str]:
    found: collections.Counter[tuple[bytes, str]] = collections.Counter()
    for kind, topic in topics.items():
        consumer = KafkaConsumer(
            topic, bootstrap_servers=access.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=5000
        )
        found.update((record.value.partition(b"\n")[0], kind) for record in consumer)
        consumer.close()
    faults = [f"{head.decode()} did not arrive" for head, kind in expected.items() if not found[head, kind]]
    ours = {key: n for key, n in found.items() if key[0].startswith(name.encode())}
    return faults + [f"{head.decode()} arrived {n} times" for (head, _), n in ours.items() if n > 1]
