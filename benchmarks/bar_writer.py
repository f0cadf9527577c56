"""Bars of the writer: how fast it is, and that nothing is lost or told twice."""

from __future__ import annotations

__all__ = ["writer_deaths", "writer_speed"]

import collections
import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from kafka import KafkaConsumer, KafkaProducer
from lsst.daf.butler import Butler

from benchmarks.bar import Bar, at_least, none_of, say
from benchmarks.writer_load import YARDSTICK, WriterLoad
from models.kafka_access import KafkaAccess
from repos.writer_batches import BatchFiles
from repos.writer_queue import WriterQueue
from repos.writer_registry import WriterRegistry
from services.writer import BatchWriter
from simulator.servers.everything import ServerSet

_RATIO = 3
_RATE = 8
_FIRST = 96
_ALONE = 60
_TOGETHER = 1000

_MESSAGES = 2000
_DEATHS = 10
_PRELUDE = 16


class _Topics:
    """Topics of a writer on a broker."""

    def __init__(self, servers: ServerSet, partitions: int) -> None:
        tag = uuid.uuid4().hex[:8]
        self.bootstrap = servers.kafka.bootstrap
        self.messages = servers.kafka.create_topic(f"messages-{tag}", partitions)
        self.events = servers.kafka.create_topic(f"events-{tag}")
        self.dead_letters = servers.kafka.create_topic(f"{self.messages}-dead-letter")

    def send(self, messages: list[bytes]) -> None:
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, acks="all")
        for message in messages:
            producer.send(self.messages, message)
        producer.flush()
        producer.close()

    def committed(self, topic: str) -> list[bytes]:
        """Return all that a reader of committed messages sees."""
        consumer = KafkaConsumer(
            topic,
            bootstrap_servers=self.bootstrap,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            consumer_timeout_ms=5000,
        )
        found = [record.value for record in consumer]
        consumer.close()
        return found


class _Stopwatch:
    """Observes a writer until it has written a number of messages."""

    def __init__(self) -> None:
        self.done = 0
        self.begin: float | None = None
        self.end = 0.0
        self.target = 0
        self.stop: threading.Event = threading.Event()

    def batch(self, *, messages: int, datasets: int, seconds: float) -> None:
        self.end = time.monotonic()
        if self.begin is None:
            self.begin = self.end - seconds
        self.done += messages
        if self.done >= self.target:
            self.stop.set()

    def set_aside(self, kind: str) -> None:
        raise AssertionError(f"a message was set aside: {kind}")

    def lag(self, messages: int) -> None:
        pass

    def trouble(self, reason: str | None) -> None:
        say(f"trouble: {reason}")


def writer_speed(scratch: Path) -> Iterator[Bar]:
    """Whole writer against an ingest message by message, in one run."""
    with ServerSet() as servers:
        load = WriterLoad(scratch / "central", servers.postgresql.create_database("central"))
        from sketch.baseline import writer_ingest

        messages = load.messages(0, _FIRST + 2 * _ALONE + _TOGETHER, with_files=True)
        first, messages = messages[:_FIRST], messages[_FIRST:]
        # No repo is empty when a night begins; a database plans otherwise then.
        with Butler.from_config(str(load.root), writeable=True) as butler:
            writer_ingest(butler, first)
        topics = _Topics(servers, 1)
        topics.send(messages[_ALONE : _ALONE + _TOGETHER])
        alone = [_one_by_one(load, messages[:_ALONE])]
        together = _whole_writer(load, topics, scratch / "lists")
        alone.append(_one_by_one(load, messages[_ALONE + _TOGETHER :]))
        rate = _TOGETHER / together
        one = sum(alone) / (2 * _ALONE)
        note = (
            f"{load.datasets_per_message} datasets a message; {_TOGETHER} messages through Kafka at "
            f"{1000 / rate:.1f} ms each, {2 * _ALONE} one by one before and after at {1000 * one:.1f} ms"
        )
        yield at_least("writer: ratio to ingest message by message", one * rate, _RATIO, note)
        yield at_least("writer: messages a second", rate, _RATE, "aim 20")


def _one_by_one(load: WriterLoad, messages: list[bytes]) -> float:
    from sketch.baseline import writer_ingest

    with Butler.from_config(str(load.root), writeable=True) as butler:
        butler.registry.queryDatasetTypes(...)
        begin = time.monotonic()
        for message in messages:
            writer_ingest(butler, [message])
        return time.monotonic() - begin


def _whole_writer(load: WriterLoad, topics: _Topics, lists: Path) -> float:
    watch = _Stopwatch()
    watch.target = _TOGETHER
    queue = WriterQueue(
        KafkaAccess(topics.bootstrap),
        topic=topics.messages,
        output_topic=topics.events,
        dead_letter_topic=topics.dead_letters,
    )
    registry = WriterRegistry(str(load.root))
    registry.open()
    writer = BatchWriter(queue=queue, registry=registry, files=BatchFiles(str(lists)), observer=watch)
    thread = threading.Thread(target=writer.run)
    thread.start()
    watch.stop.wait(300)
    writer.stop()
    thread.join()
    queue.close()
    assert watch.begin is not None and watch.done == _TOGETHER, f"{watch.done} messages were written"
    return watch.end - watch.begin


def writer_deaths(scratch: Path) -> Iterator[Bar]:
    """Nothing is lost, doubled or told twice, however often the writer dies."""
    with ServerSet() as servers:
        load = WriterLoad(scratch / "central", servers.postgresql.create_database("central"))
        topics = _Topics(servers, 2)
        messages = load.messages(0, _MESSAGES)
        lists = scratch / "lists"
        # Producers repeat themselves, too.
        topics.send([*messages[:_PRELUDE], *messages, *messages[:: _MESSAGES // _PRELUDE]])
        events = _die_and_go_on(load, topics, lists, scratch / "writer.log")
        expected = set(load.expected(0, _MESSAGES))
        found = collections.Counter(load.registered())
        faults = [f"dataset {id_} is registered {n} times" for id_, n in found.items() if n != 1]
        faults += [f"dataset {id_} is not registered" for id_ in expected - found.keys()]
        faults += [f"dataset {id_} is of no message" for id_ in found.keys() - expected]
        note = f"{_DEATHS} deaths, {_MESSAGES} messages, {len(expected)} datasets"
        yield none_of("writer killed: datasets not exactly once in the registry", faults, note)
        yield none_of(
            "writer killed: batch events not seen exactly once", _wrong_events(events, expected, lists)
        )
        letters = topics.committed(topics.dead_letters)
        yield none_of("writer killed: messages set aside", [repr(letter[:80]) for letter in letters])


def _die_and_go_on(load: WriterLoad, topics: _Topics, lists: Path, log: Path) -> list[bytes]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(YARDSTICK),
        "BUTLER_REPOSITORY": str(load.root),
        "KAFKA_CLUSTER": topics.bootstrap,
        "KAFKA_TOPIC": topics.messages,
        "KAFKA_OUTPUT_TOPIC": topics.events,
        "OUTPUT_DATASET_LIST_DIRECTORY": str(lists),
        "PP_WRITER_BATCH_SIZE": "25",
        "PP_METRICS_PORT": "0",
    }
    chance = random.Random(1)
    for death in range(_DEATHS + 1):
        before = _settled(log)
        with open(log, "ab") as output:
            writer = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "writer"], env=environment, stdout=output, stderr=output
            )
        if death == _DEATHS:
            break
        # Once it works, at any moment of a batch.
        _await(lambda: _settled(log) > before, writer)  # noqa: B023 (called at once)
        time.sleep(chance.uniform(0.0, 2.0))
        writer.kill()
        writer.wait()
        say(f"death {death + 1}: {_settled(log)} batches were settled")
    quiet = 0
    while quiet < 3:
        before = _settled(log)
        time.sleep(3)
        quiet = quiet + 1 if _settled(log) == before else 0
        assert writer.poll() is None, f"the writer ended by itself; see {log}"
    say(f"the writer is at rest after {_settled(log)} batches")
    writer.terminate()
    assert writer.wait(30) == 0, f"the writer did not end well; see {log}"
    return topics.committed(topics.events)


def _settled(log: Path) -> int:
    return log.read_bytes().count(b"messages set aside,") if log.exists() else 0


def _await(condition: object, writer: subprocess.Popen[bytes]) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 120
    while not condition():
        assert writer.poll() is None and time.monotonic() < deadline, "the writer does not work"
        time.sleep(0.05)


def _wrong_events(events: list[bytes], expected: set[uuid.UUID], lists: Path) -> list[str]:
    batches = collections.Counter(json.loads(event)["batch_id"] for event in events)
    faults = [f"batch {batch} was told {n} times" for batch, n in batches.items() if n != 1]
    told: collections.Counter[str] = collections.Counter()
    for event in events:
        listing = json.loads((lists / json.loads(event)["batch_file"]).read_text())
        if listing["batch_id"] != json.loads(event)["batch_id"]:
            faults.append(f"the file of batch {listing['batch_id']} is another's")
        told.update(listing["datasets"])
    say(f"{len(events)} events, {len(list(lists.iterdir()))} files")
    faults += [f"dataset {id_} was not told of" for id_ in {str(i) for i in expected} - told.keys()]
    return faults
