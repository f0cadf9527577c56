"""An observatory on servers: raws in a bucket, notifications and visits on Kafka."""

from __future__ import annotations

import io
import json
import struct
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote_plus

import boto3
import fastavro
import pytest
from kafka import KafkaConsumer

from config.instruments import InstrumentConfig
from models.errors import TemporarilyUnavailable
from models.kafka_access import KafkaAccess
from simulator.io.surroundings import Surroundings, observatory_in
from simulator.io.topic_writer import TopicWriter
from simulator.observing import Timing
from simulator.plan import Plan
from simulator.schedule import plan_simulated
from simulator.servers.kafka import KafkaServer
from simulator.servers.process import free_port
from simulator.servers.s3 import S3Server
from simulator.servers.schema_registry import SchemaRegistryServer
from tests.servers import unique_name

pytestmark = pytest.mark.servers


class Results(BaseHTTPRequestHandler):
    """A service that has processed everything."""

    def do_GET(self) -> None:
        body = json.dumps({"state": "processed", "attempts": 1, "asked": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Results)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def plan(camera: InstrumentConfig) -> Plan:
    return plan_simulated(
        seed=3, visits=1, detectors=2, transients=0, instrument=camera, start=time.time(), survey="s"
    )


def read(kafka: KafkaServer, topic: str, count: int) -> list[bytes]:
    consumer = KafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=20_000
    )
    try:
        return [next(consumer).value for _ in range(count)]
    finally:
        consumer.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For clusters that are never found."""
    monkeypatch.setattr("simulator.io.topic_writer._BOOTSTRAP_TIMEOUT", 2.0)


@pytest.mark.parametrize("avro", [True, False])
def test_a_visit_on_servers(
    *,
    avro: bool,
    plan: Plan,
    service: str,
    kafka: KafkaServer,
    s3: S3Server,
    schema_registry: SchemaRegistryServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket, visits, notices = unique_name(), kafka.create_topic(unique_name()), unique_name()
    s3.create_bucket(bucket)
    kafka.create_topic(notices)
    # Once as anybody, once as somebody over TLS.
    monkeypatch.setenv("SSL_CERT_FILE", str(kafka.authority))
    named = KafkaAccess(kafka.tls_bootstrap, kafka.username, kafka.password, "sasl_ssl")
    surroundings = Surroundings(
        url=service,
        bucket=bucket,
        endpoint_url=s3.endpoint_url,
        bucket_topic=notices,
        kafka=KafkaAccess(kafka.bootstrap) if avro else named,
        visit_topic=visits,
        schema_registry=schema_registry.url if avro else None,
    )
    with observatory_in(surroundings, timing=Timing(lead=0.1, exposure=0.1)) as observatory:
        reports = observatory.observe(plan)

    assert [(report.status, report.visit.detector) for report in reports] == [(200, 0), (200, 1)]
    [announced] = read(kafka, visits, 1)
    message = decoded(announced, schema_registry) if avro else json.loads(announced)
    group = reports[0].visit.groupId
    assert (message["groupId"], message["instrument"]) == (group, "SmallCam")
    assert {"private_sndStamp", "private_efdStamp", "private_rcvStamp", "private_seqNum"} <= set(message)
    assert "detector" not in message

    client = boto3.client("s3", endpoint_url=s3.endpoint_url)
    stored = {
        entry["Key"]: client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
        for entry in client.list_objects_v2(Bucket=bucket)["Contents"]
    }
    assert stored == {frame.key: frame.read() for frame in plan.frames}
    told = [json.loads(notice)["Records"][0] for notice in read(kafka, notices, 2)]
    assert {record["eventName"] for record in told} == {"ObjectCreated:Put"}
    assert {record["s3"]["bucket"]["name"] for record in told} == {bucket}
    assert {unquote_plus(record["s3"]["object"]["key"]) for record in told} == set(stored)


def decoded(message: bytes, registry: SchemaRegistryServer) -> dict[str, object]:
    magic, number = struct.unpack(">bI", message[:5])
    assert magic == 0
    with urllib.request.urlopen(f"{registry.url}/schemas/ids/{number}") as response:
        schema = json.loads(json.load(response)["schema"])
    datum = fastavro.schemaless_reader(io.BytesIO(message[5:]), schema, None)
    assert isinstance(datum, dict)
    return datum["message"]


@pytest.mark.usefixtures("impatient")
def test_a_cluster_that_is_away(tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    surroundings = Surroundings(
        url="http://h", image_dir=tmp_path, kafka=KafkaAccess(nobody), visit_topic="visits"
    )
    with (
        pytest.raises(TemporarilyUnavailable, match=f"no Kafka broker answers at {nobody}"),
        observatory_in(surroundings),
    ):
        pass


@pytest.mark.usefixtures("impatient")
def test_a_cluster_that_does_not_let_us_in(tmp_path: Path, kafka: KafkaServer) -> None:
    stranger = KafkaAccess(kafka.sasl_bootstrap, username=kafka.username, password="guess")
    surroundings = Surroundings(url="http://h", image_dir=tmp_path, kafka=stranger, visit_topic="visits")
    with (
        pytest.raises(TemporarilyUnavailable, match=f"as {kafka.username}.* check address, user") as caught,
        observatory_in(surroundings),
    ):
        pass
    assert "guess" not in str(caught.value)


@pytest.mark.usefixtures("impatient")
def test_a_certificate_that_nobody_knows(kafka: KafkaServer) -> None:
    address = KafkaAccess(kafka.tls_bootstrap, kafka.username, kafka.password, "sasl_ssl")
    with pytest.raises(TemporarilyUnavailable, match="no Kafka broker answers"):
        TopicWriter(address=address, topic="visits")


def test_a_certificate_that_nobody_looks_at(kafka: KafkaServer) -> None:
    address = KafkaAccess(kafka.tls_bootstrap, kafka.username, kafka.password, "sasl_ssl", verify=False)
    topic = kafka.create_topic(unique_name())
    writer = TopicWriter(address=address, topic=topic)
    try:
        writer.send(b"hello")
    finally:
        writer.close()
    assert read(kafka, topic, 1) == [b"hello"]


def test_a_registry_that_is_away(tmp_path: Path, kafka: KafkaServer) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    topic = kafka.create_topic(unique_name())
    surroundings = Surroundings(
        url="http://h",
        image_dir=tmp_path,
        kafka=KafkaAccess(kafka.bootstrap),
        visit_topic=topic,
        schema_registry=nobody,
    )
    with (
        pytest.raises(TemporarilyUnavailable, match=f"the schema registry at {nobody}"),
        observatory_in(surroundings),
    ):
        pass


def test_a_topic_that_is_missing(
    tmp_path: Path, kafka: KafkaServer, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    import simulator.io.topic_writer

    monkeypatch.setattr(simulator.io.topic_writer, "_SEND_TIMEOUT", 2.0)
    missing = unique_name()
    surroundings = Surroundings(
        url="http://h", image_dir=tmp_path, kafka=KafkaAccess(kafka.bootstrap), visit_topic=missing
    )
    with (
        observatory_in(surroundings, timing=Timing(lead=0.1, exposure=0.1)) as observatory,
        pytest.raises(TemporarilyUnavailable, match=f"topic {missing} takes no message"),
    ):
        observatory.observe(plan)
