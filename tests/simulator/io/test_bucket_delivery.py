"""Raws into a bucket, told of on Kafka as stores in the field do."""

from __future__ import annotations

import json
import time

import boto3
import pytest
from kafka import KafkaConsumer

from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.kafka_access import KafkaAccess
from models.notifications import CreatedObject, read_notification
from simulator.io.bucket_delivery import BucketDelivery
from simulator.io.topic_writer import TopicWriter
from simulator.servers.kafka import KafkaServer
from simulator.servers.process import free_port
from simulator.servers.s3 import S3Server
from tests.servers import unique_name

pytestmark = pytest.mark.servers

#: With what stores encode in a key: the colons of a group, a blank, a plus.
KEY = "SmallCam/3/2027-01-15T08:00:20.000/0/2027011407220/i_c0003 7835+/SmallCam_D03.fits"


@pytest.fixture
def bucket(s3: S3Server) -> str:
    name = unique_name("raws")
    s3.create_bucket(name)
    return name


def read(sent: list[bytes]) -> list[CreatedObject]:
    return [created for message in sent for created in read_notification(message)]


def test_object_and_notification(s3: S3Server, bucket: str) -> None:
    sent: list[bytes] = []
    delivery = BucketDelivery(bucket=bucket, notify=sent.append, endpoint_url=s3.endpoint_url)
    staged = delivery.stage(KEY, b"pixels")
    client = boto3.client("s3", endpoint_url=s3.endpoint_url)
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)
    assert sent == []

    before = time.time()
    at = staged.release()
    assert before <= at <= time.time()
    stored = client.get_object(Bucket=bucket, Key=KEY)
    assert stored["Body"].read() == b"pixels"

    (created,) = read(sent)
    assert (created.bucket, created.decoded_key) == (bucket, KEY)
    assert created.time == pytest.approx(at, abs=0.0011)
    assert created.version[0] == stored["ETag"].strip('"')
    (record,) = json.loads(sent[0])["Records"]
    # Whoever tries the key as it was sent finds nothing, as in the field.
    assert "%3A" in record["s3"]["object"]["key"] and "+" in record["s3"]["object"]["key"]
    assert record["eventName"] == "ObjectCreated:Put"
    assert record["s3"]["object"]["size"] == 6


def test_nothing_was_there_before_its_release(s3: S3Server, bucket: str) -> None:
    sent: list[bytes] = []
    BucketDelivery(bucket=bucket, notify=sent.append, endpoint_url=s3.endpoint_url).stage(KEY, b"").discard()
    assert sent == []
    assert boto3.client("s3", endpoint_url=s3.endpoint_url).list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_an_image_is_not_kept_once_it_is_delivered(s3: S3Server, bucket: str) -> None:
    delivery = BucketDelivery(bucket=bucket, notify=lambda _: None, endpoint_url=s3.endpoint_url)
    staged = delivery.stage(KEY, b"pixels")
    staged.release()
    with pytest.raises(RuntimeError, match="cannot be delivered again"):
        staged.release()


def test_credentials_in_the_address(s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    url = s3.endpoint_url.replace("http://", "http://key:se%2Fcret@")
    delivery = BucketDelivery(bucket=bucket, notify=lambda _: None, endpoint_url=url)
    delivery.check()
    delivery.deliver(KEY, b"pixels")


def test_a_bucket_that_is_missing(s3: S3Server) -> None:
    missing = unique_name()
    sent: list[bytes] = []
    delivery = BucketDelivery(bucket=missing, notify=sent.append, endpoint_url=s3.endpoint_url)
    with pytest.raises(InvalidConfiguration, match=f"no bucket {missing} on {s3.endpoint_url}"):
        delivery.check()
    with pytest.raises(TemporarilyUnavailable, match=f"bucket {missing} .* takes no images"):
        delivery.deliver(KEY, b"pixels")
    assert sent == []


def test_a_server_that_is_away(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    nobody = f"http://127.0.0.1:{free_port()}"
    delivery = BucketDelivery(bucket="raws", notify=lambda _: None, endpoint_url=nobody)
    with pytest.raises(TemporarilyUnavailable, match=nobody):
        delivery.check()


def test_told_on_a_topic_once_it_is_there(s3: S3Server, kafka: KafkaServer, bucket: str) -> None:
    topic = kafka.create_topic(unique_name("notices"))
    writer = TopicWriter(address=KafkaAccess(kafka.bootstrap), topic=topic)
    delivery = BucketDelivery(bucket=bucket, notify=writer.send, endpoint_url=s3.endpoint_url)
    keys = [KEY.replace("D03", f"D{number:02d}") for number in range(3)]
    for key in keys:
        delivery.deliver(key, key.encode())
    writer.close()

    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=kafka.bootstrap,
        auto_offset_reset="earliest",
        consumer_timeout_ms=20_000,
    )
    messages = [next(consumer).value for _ in keys]
    consumer.close()
    found = read(messages)
    assert [created.decoded_key for created in found] == keys
    client = boto3.client("s3", endpoint_url=s3.endpoint_url)
    for created in found:
        name = created.decoded_key
        assert name is not None
        assert client.get_object(Bucket=created.bucket, Key=name)["Body"].read() == name.encode()
