"""The writer as an operator runs it, on PostgreSQL and Kafka: whatever is sent
to it, and whatever happens to it, every good dataset is told of once.
"""

from __future__ import annotations

import collections
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from app.demo.service_process import free_port
from benchmarks.writer_load import YARDSTICK, WriterLoad
from simulator.servers.kafka import KafkaServer
from simulator.servers.postgresql import PostgreSQLServer
from tests.servers import unique_name
from tests.topics import committed

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture(scope="module")
def load(postgresql: PostgreSQLServer, tmp_path_factory: pytest.TempPathFactory) -> WriterLoad:
    database = postgresql.create_database(unique_name("central"))
    return WriterLoad(tmp_path_factory.mktemp("writer") / "central", database)


class Scene:
    """A writer that can be started, killed and told to end."""

    def __init__(self, load: WriterLoad, kafka: KafkaServer, root: Path) -> None:
        self.kafka = kafka
        self.topic = kafka.create_topic(unique_name(), 2)
        self.events_topic = kafka.create_topic(unique_name())
        self.letters_topic = kafka.create_topic(f"{self.topic}-dead-letter")
        self.lists = root / "lists"
        self.log = root / "writer.log"
        self.port = free_port()
        self.variables = {
            **os.environ,
            "PYTHONPATH": str(YARDSTICK),
            "BUTLER_REPOSITORY": str(load.root),
            "KAFKA_CLUSTER": kafka.sasl_bootstrap,
            "KAFKA_USERNAME": kafka.username,
            "KAFKA_PASSWORD": kafka.password,
            "KAFKA_TOPIC": self.topic,
            "KAFKA_OUTPUT_TOPIC": self.events_topic,
            "OUTPUT_DATASET_LIST_DIRECTORY": str(self.lists),
            "PP_METRICS_PORT": str(self.port),
            "PP_WRITER_BATCH_SIZE": "8",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self.log, "ab") as output:
            command = [sys.executable, "-m", "app.cli", "writer"]
            self.process = subprocess.Popen(command, env=self.variables, stdout=output, stderr=output)

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(120)

    def send(self, *messages: bytes) -> None:
        producer = KafkaProducer(bootstrap_servers=self.kafka.bootstrap)
        for message in messages:
            producer.send(self.topic, message)
        producer.flush()
        producer.close()

    def committed(self, topic: str) -> list[bytes]:
        return [record.value for record in committed(self.kafka.bootstrap, topic)]

    def told(self) -> collections.Counter[str]:
        """Return how often each dataset is in the file of an event."""
        told: collections.Counter[str] = collections.Counter()
        for event in map(json.loads, self.committed(self.events_topic)):
            told.update(json.loads((self.lists / event["batch_file"]).read_text())["datasets"])
        return told

    def metric(self, name: str) -> float:
        try:
            text = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics").read().decode()
        except OSError:
            return -1.0
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name}"))

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 180
        while not condition():
            assert self.process is not None and self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.1)


@pytest.fixture
def scene(load: WriterLoad, kafka: KafkaServer, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(load, kafka, tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def _ids(load: WriterLoad, first: int, count: int) -> set[str]:
    return {str(id_) for id_ in load.expected(first, count)}


def _with_other_ids(message: bytes) -> bytes:
    """Return a message whose datasets are those of another under other ids."""
    changed: dict[str, Any] = json.loads(message)
    for file in changed["datasets"]:
        file["refs"] = {str(uuid.uuid4()): ref for ref in file["refs"].values()}
    return json.dumps(changed).encode()


def test_good_and_bad_messages(load: WriterLoad, scene: Scene) -> None:
    good = load.messages(0, 20)
    bad = [
        b"",
        b"not JSON",
        json.dumps({**json.loads(good[0]), "schemaVersion": 9}).encode(),
        _with_other_ids(good[3]),
    ]
    # Repeated, out of order, and the conflict in the same batch or later.
    scene.send(*good[10:], bad[0], good[3], bad[1], *good[:10], good[3], bad[2])
    scene.start()
    scene.until(lambda: scene.metric("prompt_processing_writer_batch_messages_sum") >= 24)
    scene.send(bad[3])
    scene.until(lambda: scene.metric("prompt_processing_writer_set_aside_total") >= 4)
    assert scene.metric("prompt_processing_writer_lag_messages") >= 0
    assert scene.end(signal.SIGTERM) == 0
    assert set(scene.told()) == _ids(load, 0, 20)
    assert sorted(scene.committed(scene.letters_topic)) == sorted(bad)
    found = [str(id_) for id_ in load.registered()]
    assert len(found) == len(set(found)) and set(found) >= _ids(load, 0, 20)
    log = [json.loads(line) for line in scene.log.read_text().splitlines()]
    assert sum("is set aside" in line["message"] for line in log) == 4
    assert any("schemaVersion 9" in line["message"] for line in log)


def test_killed_and_told_to_hang_up(load: WriterLoad, scene: Scene) -> None:
    scene.send(*load.messages(100, 40))
    scene.start()
    scene.until(lambda: scene.metric("prompt_processing_writer_batch_messages_sum") >= 8)
    assert scene.end(signal.SIGKILL) == -signal.SIGKILL
    scene.start()
    scene.until(lambda: set(scene.told()) == _ids(load, 100, 40))
    assert scene.end(signal.SIGHUP) == 0
    assert set(scene.told().values()) == {1}


def test_a_database_that_goes_and_comes(load: WriterLoad, scene: Scene, postgresql: PostgreSQLServer) -> None:
    scene.start()
    scene.send(*load.messages(200, 8))
    scene.until(lambda: scene.metric("prompt_processing_writer_batch_messages_sum") >= 8)
    later = load.messages(208, 8)
    postgresql.stop()
    try:
        scene.send(*later)
        scene.until(lambda: scene.metric("prompt_processing_writer_degraded") == 1)
    finally:
        postgresql.start()
    scene.until(lambda: scene.metric("prompt_processing_writer_batch_messages_sum") >= 16)
    assert scene.metric("prompt_processing_writer_degraded") == 0
    assert scene.end(signal.SIGTERM) == 0
    assert scene.told() == dict.fromkeys(_ids(load, 200, 16), 1)
    assert scene.committed(scene.letters_topic) == []


def test_a_second_writer_takes_the_place_of_the_first(load: WriterLoad, scene: Scene) -> None:
    scene.send(*load.messages(300, 4))
    scene.start()
    scene.until(lambda: scene.metric("prompt_processing_writer_batch_messages_sum") >= 4)
    first = scene.process
    assert first is not None
    scene.variables["PP_METRICS_PORT"] = "0"
    scene.start()
    scene.until(lambda: first.poll() is not None or _sent(scene, load))
    assert first.wait(120) == 1
    assert "run one replica only" in scene.log.read_text()
    scene.until(lambda: set(scene.told()) >= _ids(load, 300, 4))


_numbers = iter(range(310, 400))


def _sent(scene: Scene, load: WriterLoad) -> bool:
    """Give whoever writes something to do."""
    scene.send(*load.messages(next(_numbers), 1))
    return False
