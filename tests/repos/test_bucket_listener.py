"""Hearing of images by notifications on a real Kafka."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient

from models.kafka_access import KafkaAccess
from models.raws import FoundImage
from repos.bucket_listener import BucketListener
from repos.kafka_clients import create_admin, create_producer
from simulator.servers.kafka import KafkaServer
from tests.repos.notices import Inbox, notice, record, until
from tests.servers import unique_name

pytestmark = pytest.mark.servers


class Bench:
    """A topic of its own, a producer, and listeners on it."""

    def __init__(self, kafka: KafkaServer, topic: str) -> None:
        self.kafka = kafka
        self.topic = topic
        self.access = KafkaAccess(kafka.bootstrap)
        self._producers: dict[str | None, KafkaProducer] = {}
        self._listeners: list[BucketListener] = []

    def listen(self, **options: Any) -> BucketListener:
        listener = BucketListener(self.access, **{"topic": self.topic, "bucket": "raws", **options})
        self._listeners.append(listener)
        listener.start()
        return listener

    def listen_well(self, **options: Any) -> tuple[BucketListener, Inbox]:
        """Return a listener that is there, and who hears all of Cam 3."""
        listener, inbox = self.listen(**options), Inbox()
        listener.subscribe("Cam", 3, "D3", inbox)
        until(lambda: listener.trouble is None)
        return listener, inbox

    def send(self, message: bytes | None, *, codec: str | None = None, **options: Any) -> int:
        """Send a message; return its offset."""
        if codec not in self._producers:
            self._producers[codec] = create_producer(self.access, compression_type=codec)
        offset: int = self._producers[codec].send(self.topic, message, **options).get(120).offset
        return offset

    def admin(self) -> KafkaAdminClient:
        return create_admin(self.access)

    def close(self) -> None:
        for listener in self._listeners:
            listener.stop()
        for producer in self._producers.values():
            producer.close(timeout=1)


@pytest.fixture
def bench(kafka: KafkaServer) -> Iterator[Bench]:
    topic = unique_name("images-")
    kafka.create_topic(topic)
    made = Bench(kafka, topic)
    yield made
    made.close()


@pytest.fixture
def bench_without_topic(kafka: KafkaServer) -> Iterator[Bench]:
    made = Bench(kafka, unique_name("images-"))
    yield made
    made.close()


def key(exposure: int, *, detector: int = 3, group: str = "g", name: str = "x.fits") -> str:
    return f"Cam/{detector}/{group}/0/{exposure}/r_01/{name}"


def test_heard_when_it_arrives(bench: Bench) -> None:
    _, inbox = bench.listen_well()
    bench.send(notice(key(1)))
    inbox.wait_for(1)
    [image] = inbox.images
    assert image.location == f"s3://raws/{key(1)}"
    assert image.raw.group == "g"
    assert image.landed == pytest.approx(1795229246.177)


def test_recent_past_is_heard_and_no_more(bench: Bench) -> None:
    ago = int(1e3 * (time.time() - 3600))
    bench.send(notice(key(1)), timestamp_ms=ago)
    bench.send(notice(key(2)), timestamp_ms=ago + 10)
    bench.send(notice(key(3)))
    _, inbox = bench.listen_well()
    bench.send(notice(key(4)))
    inbox.wait_for(3, 4)
    assert inbox.exposures == [3, 4]


def test_past_that_is_all_too_old(bench: Bench) -> None:
    bench.send(notice(key(1)), timestamp_ms=int(1e3 * (time.time() - 3600)))
    _, inbox = bench.listen_well()
    bench.send(notice(key(2)))
    inbox.wait_for(2)
    assert inbox.exposures == [2]


def test_whoever_asks_later_hears_of_what_was(bench: Bench) -> None:
    listener, first = bench.listen_well()
    bench.send(notice(key(1)))
    first.wait_for(1)
    late = Inbox()
    listener.subscribe("Cam", 3, "D3", late)
    assert late.exposures == [1]


def test_two_processes_hear_the_same(bench: Bench) -> None:
    _, first = bench.listen_well()
    _, second = bench.listen_well()
    bench.send(notice(key(1)))
    first.wait_for(1)
    second.wait_for(1)


def test_duplicates_and_disorder(bench: Bench) -> None:
    _, inbox = bench.listen_well()
    for exposure in (3, 1, 3, 2, 1):
        bench.send(notice(key(exposure), eTag=f"tag{exposure}", sequencer="1"))
    # The same key with other content is news: the first may have been cut.
    bench.send(notice(key(1), eTag="another", sequencer="2"))
    bench.send(notice(key(9)))
    inbox.wait_for(9)
    assert inbox.exposures == [3, 1, 2, 1, 9]


def test_what_is_skipped_costs_nothing_else(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    _, inbox = bench.listen_well()
    bench.send(b"not JSON")
    bench.send(None, key=b"tombstone")
    bench.send(b"\xff\xfe\x00")
    bench.send(b'{"Event": "s3:TestEvent"}')
    bench.send(b'{"Records": [7, {"eventName": "ObjectCreated:Put"}]}')
    records = [
        record(key(1)),
        {"eventName": "ObjectCreated:Put", "s3": {}},
        record(key(2), event="ObjectRemoved:Delete"),
        record(key(3), bucket="others"),
        record("readme.txt"),
        record(key(4, name="x.json")),
        record(key(5)),
    ]
    bench.send(json.dumps({"Records": records}).encode())
    inbox.wait_for(1, 5)
    assert inbox.exposures == [1, 5]
    assert caplog.text.count("malformed record") == 3


def test_sidecars_are_no_images(bench: Bench) -> None:
    listener, _ = bench.listen_well()
    inbox = Inbox()
    listener.subscribe("LSSTCam", 94, "R22_S11", inbox)
    stem = "LSSTCam/20260301/MC_O_20260301_000012/MC_O_20260301_000012_R22_S11"
    bench.send(notice(f"{stem}.json", f"{stem}.fits"))
    inbox.wait_for(2026030100012)
    assert [image.raw.key for image in inbox.images] == [f"{stem}.fits"]


def test_key_that_came_encoded(bench: Bench) -> None:
    _, inbox = bench.listen_well()
    bench.send(notice("Cam/3/2026-11-21T02%3A47%3A26/0/1/r_01/a+b.fits"))
    bench.send(notice("Cam%2F3%2Fg%2F0%2F2%2Fr_01%2Fx.fits"))
    bench.send(notice("Cam/3/g/0/3/r%5F01/x.fits"))
    inbox.wait_for(1, 2, 3)
    # Which of the two exists is for the reader to find out; they differ in
    # what they say of the visit.
    assert [image.raw.group for image in inbox.images if image.raw.exposure_id == 1] == [
        "2026-11-21T02%3A47%3A26",
        "2026-11-21T02:47:26",
    ]
    assert [image.raw.key for image in inbox.images if image.raw.exposure_id == 2] == [
        "Cam/3/g/0/2/r_01/x.fits"
    ]


@pytest.mark.parametrize("bucket", ["tenant:raws", "raws"])
def test_tenant_of_the_bucket(bench: Bench, bucket: str) -> None:
    _, inbox = bench.listen_well(bucket="tenant:raws")
    bench.send(notice(key(1), bucket="other:raws"))
    bench.send(notice(key(2), bucket=bucket))
    inbox.wait_for(2)
    assert inbox.exposures == [2]
    assert inbox.images[0].location == f"s3://tenant:raws/{key(2)}"


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_topics(bench: Bench, codec: str) -> None:
    _, inbox = bench.listen_well()
    bench.send(notice(key(1)), codec=codec)
    inbox.wait_for(1)


def test_subscriber_that_fails_disturbs_nobody(bench: Bench) -> None:
    listener, inbox = bench.listen_well()

    def fail(image: FoundImage) -> None:
        raise ValueError("boom")

    listener.subscribe("Cam", 3, "D3", fail)
    bench.send(notice(key(1)))
    bench.send(notice(key(2)))
    inbox.wait_for(1, 2)


def test_topic_that_is_made_later(bench_without_topic: Bench) -> None:
    bench = bench_without_topic
    listener, inbox = bench.listen(), Inbox()
    listener.subscribe("Cam", 3, "D3", inbox)
    until(lambda: "there is no topic" in (listener.trouble or ""))
    assert bench.topic in (listener.trouble or "")
    bench.kafka.create_topic(bench.topic)
    bench.send(notice(key(1)), timestamp_ms=1)
    inbox.wait_for(1)
    assert listener.trouble is None


def test_topic_that_is_made_anew(bench: Bench) -> None:
    listener, inbox = bench.listen_well()
    bench.send(notice(key(1)))
    inbox.wait_for(1)
    admin = bench.admin()
    admin.delete_topics([bench.topic])
    until(lambda: listener.trouble)
    bench.kafka.create_topic(bench.topic)
    admin.close()
    bench.send(notice(key(2)))
    bench.send(notice(key(3)))
    inbox.wait_for(2, 3)
    until(lambda: listener.trouble is None)


def test_partitions_that_are_added(bench: Bench) -> None:
    _, inbox = bench.listen_well()
    bench.send(notice(key(1)))
    inbox.wait_for(1)
    admin = bench.admin()
    admin.create_partitions({bench.topic: 3})
    # A new producer knows them at once; the messages are as old as can be.
    for partition in (1, 2):
        bench.send(notice(key(10 + partition)), codec="gzip", partition=partition, timestamp_ms=1)
    inbox.wait_for(11, 12)
    bench.send(notice(key(2)), partition=0)
    inbox.wait_for(2)
    assert sorted(inbox.exposures) == [1, 2, 11, 12]
    admin.close()


@pytest.mark.parametrize(("reset", "heard"), [("earliest", [1, 5, 9]), ("latest", [1, 9])])
def test_offsets_that_expired(
    bench: Bench, caplog: pytest.LogCaptureFixture, reset: Any, heard: list[int]
) -> None:
    listener, inbox = bench.listen_well(offset_reset=reset)
    held, release = threading.Event(), threading.Event()

    def hold_up(image: FoundImage) -> None:
        held.set()
        release.wait(60)

    subscription = listener.subscribe("Cam", 3, "D3", hold_up)
    bench.send(notice(key(1)))
    assert held.wait(60)
    for exposure in (2, 3, 4, 5):
        bench.send(notice(key(exposure)))
    admin = bench.admin()
    admin.delete_records({TopicPartition(bench.topic, 0): 4})
    admin.close()
    subscription.close()
    with caplog.at_level(logging.WARNING):
        release.set()
        until(lambda: "has expired" in caplog.text)
    assert bench.topic in caplog.text
    bench.send(notice(key(9)))
    inbox.wait_for(9)
    assert inbox.exposures == heard


def test_cluster_that_is_nowhere() -> None:
    listener = BucketListener(KafkaAccess("127.0.0.1:1"), topic="t", bucket="raws")
    assert not listener.is_alive
    assert listener.trouble == "nobody listens; images are only looked for"
    listener.start()
    assert listener.is_alive
    assert listener.trouble == "not connected yet"
    until(lambda: "127.0.0.1:1 cannot be used" in (listener.trouble or ""))
    listener.stop()


def test_stops(bench: Bench) -> None:
    listener, inbox = bench.listen_well()
    listener.stop()
    assert not listener.is_alive
    bench.send(notice(key(1)))
    assert inbox.exposures == []


@pytest.mark.slow
def test_broker_down_at_start_and_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repos.bucket_listener._ANSWER_MS", 2_000)
    monkeypatch.setattr("repos.bucket_listener._PAUSES", (0.2, 1.0))
    monkeypatch.setattr("repos.bucket_listener._SILENCE", 0.5)
    bench.send(notice(key(1)))
    bench.kafka.stop()
    listener, inbox = bench.listen(), Inbox()
    listener.subscribe("Cam", 3, "D3", inbox)
    try:
        until(lambda: "cannot be used" in (listener.trouble or ""))
    finally:
        bench.kafka.start()
    inbox.wait_for(1)
    until(lambda: listener.trouble is None)

    bench.kafka.stop()
    try:
        until(lambda: listener.trouble)
    finally:
        bench.kafka.start()
    # What is sent before the listener is back is not lost either.
    bench.send(notice(key(2)))
    inbox.wait_for(2)
    bench.send(notice(key(3)))
    inbox.wait_for(3)
    assert inbox.exposures == [1, 2, 3]
    assert listener.trouble is None
