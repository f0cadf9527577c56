"""The whole chain on real servers: from the summit's nextVisit on Kafka to
datasets in a central repo on PostgreSQL and S3, and alerts on Kafka.
"""

from __future__ import annotations

import io
import json
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import fastavro
import pytest
import redis
from lsst.daf.butler import Butler

from app.demo.program import Program
from benchmarks.scene import SMALL_CAM
from benchmarks.service_scene import Addresses, ServiceScene
from config.instruments import load_instrument
from models.kafka_access import KafkaAccess
from repos.alert_schema import latest_alert_schema_version, load_alert_schema
from simulator.announcing import TopicAnnouncer
from simulator.io.bucket_delivery import BucketDelivery
from simulator.io.next_visit_topic import NextVisitTopic
from simulator.io.service_client import is_ready, look_up_visit
from simulator.io.topic_reader import TopicMessage, read_topic
from simulator.io.topic_writer import TopicWriter
from simulator.observatory import Observatory
from simulator.observing import Timing, VisitReport
from simulator.plan import Plan
from simulator.schedule import plan_simulated
from tests.servers import unique_name

pytestmark = [pytest.mark.slow, pytest.mark.servers, pytest.mark.timeout(600)]

#: Seconds for what follows the visits' results: drain, writer, registry.
_LATE = 150.0


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_simulated(
        seed=11,
        visits=4,
        detectors=2,
        transients=4,
        instrument=load_instrument(SMALL_CAM),
        start=time.time(),
    )


@pytest.fixture(scope="module")
def scene(
    plan: Plan,
    tmp_path_factory: pytest.TempPathFactory,
    postgresql: Any,
    kafka: Any,
    s3_server: Any,
    redis_server: Any,
    schema_registry: Any,
) -> Iterator[ServiceScene]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        addresses = Addresses(
            database=postgresql.create_database(unique_name("chain")),
            kafka=kafka.bootstrap,
            schema_registry=schema_registry.url,
            redis=redis_server.host_port,
            s3=s3_server.environment,
        )
        scene = ServiceScene(
            tmp_path_factory.mktemp("chain") / "scene",
            plan,
            addresses=addresses,
            central=f"{s3_server.create_bucket(unique_name('central'))}repo",
            # As an operator may, who names deployments.
            variables={"PP_DEPLOYMENT_ID": "chain"},
            image_bucket=s3_server.create_bucket(unique_name("raws")).removeprefix("s3://").rstrip("/"),
        )
        for name in ("next-visit", "notifications", "outputs", "ingested", "alerts"):
            kafka.create_topic(scene.topic(name))
        scene.prepare()
        yield scene


def _observe(scene: ServiceScene, plan: Plan, results_from: str) -> list[VisitReport]:
    """Announce visits as the summit does, and expose."""
    kafka = scene.addresses.kafka
    visits = TopicWriter(address=KafkaAccess(kafka), topic=scene.topic("next-visit"))
    notices = TopicWriter(address=KafkaAccess(kafka), topic=scene.topic("notifications"))
    try:
        return Observatory(
            announcer=TopicAnnouncer(
                publish=NextVisitTopic(writer=visits, schema_registry=scene.addresses.schema_registry),
                look_up=lambda visit: look_up_visit(results_from, visit),
                timeout=120.0,
            ),
            delivery=BucketDelivery(
                bucket=scene.image_bucket,
                notify=notices.send,
                endpoint_url=scene.addresses.s3["S3_ENDPOINT_URL"],
            ),
            timing=Timing(lead=2.0, exposure=1.0),
        ).observe(plan)
    finally:
        visits.close()
        notices.close()


def _messages(scene: ServiceScene, topic: str, enough: int) -> list[TopicMessage]:
    """Return what can be read of a topic, once there is enough."""
    return read_topic(
        scene.addresses.kafka,
        scene.topic(topic),
        enough=lambda messages: len(messages) >= enough,
        timeout=_LATE,
    )


def _exported(scene: ServiceScene, reports: list[VisitReport]) -> set[str]:
    """Return the ids of the visits' outputs, readable from the central repo."""
    groups = {report.visit.groupId for report in reports}
    exposures = {exposure for report in reports for exposure in report.exposure_ids}
    ids = set()
    with Butler.from_config(scene.central) as butler:
        for ref in butler.query_all_datasets("SmallCam/prompt/*", find_first=False, limit=None):
            if (groups | exposures) & set(ref.dataId.mapping.values()):
                assert butler.get(ref) is not None
                ids.add(str(ref.id))
    return ids


def _until_exported(scene: ServiceScene, reports: list[VisitReport]) -> set[str]:
    """Wait until the writer has registered everything."""
    enough = sum(report.body["outputs"] for report in reports)
    deadline = time.monotonic() + _LATE
    while len(found := _exported(scene, reports)) < enough and time.monotonic() < deadline:
        time.sleep(0.5)
    assert len(found) == enough
    return found


def _decoded(record: Any) -> dict[str, Any]:
    version = latest_alert_schema_version()
    major, minor = map(int, version.split("."))
    assert struct.unpack(">bI", record.value[:5]) == (0, 100 * major + minor)
    datum = io.BytesIO(record.value[5:])
    packet: dict[str, Any] = fastavro.schemaless_reader(datum, load_alert_schema(version))  # type: ignore[call-arg,assignment]
    return packet


def _check(scene: ServiceScene, reports: list[VisitReport], alerts_before: int) -> int:
    for report in reports:
        assert report.body["state"] == "processed", report.body
        assert report.body["pipeline"] == "ApPipe"
    exported = _until_exported(scene, reports)

    told = {
        dataset
        for record in _messages(scene, "ingested", 1)
        for dataset in _batch(scene, json.loads(record.value))
    }
    assert exported <= told

    alerts = sum(report.body["alerts"] for report in reports)
    assert alerts > 0
    records = _messages(scene, "alerts", alerts_before + alerts)[alerts_before:]
    assert len(records) == alerts
    packets = [_decoded(record) for record in records]
    ids = {packet["diaSourceId"] for packet in packets}
    assert len(ids) == alerts
    for record, packet in zip(records, packets, strict=True):
        assert record.key.decode() == str(packet["diaSource"]["diaObjectId"])
    return alerts_before + alerts


def _batch(scene: ServiceScene, event: dict[str, Any]) -> list[str]:
    assert set(event) == {"type", "batch_id", "origin", "batch_file"}
    assert (event["type"], event["origin"]) == ("batch-ingested", "prompt_processing")
    content = json.loads((scene.place.batches / event["batch_file"]).read_text())
    assert content["batch_id"] == event["batch_id"]
    datasets: list[str] = content["datasets"]
    return datasets


def _wait_for_group(scene: ServiceScene, timeout: float = 120.0) -> None:
    host, port = scene.addresses.redis.split(":")
    deadline = time.monotonic() + timeout
    with redis.Redis(host, int(port)) as client:
        while not client.exists(scene.topic("stream")) or not client.xinfo_groups(scene.topic("stream")):
            assert time.monotonic() < deadline, "no worker has made the consumer group"
            time.sleep(0.2)


def wait_ready(url: str, service: Program, timeout: float = 120.0) -> None:
    deadline = time.monotonic() + timeout
    while not is_ready(url):
        assert service.process.poll() is None, service.tail()
        assert time.monotonic() < deadline, service.tail()
        time.sleep(0.2)


def test_from_the_summit_to_the_central_repo(scene: ServiceScene, plan: Plan) -> None:
    url = f"http://127.0.0.1:{scene.port}"
    with (
        scene.program("writer", PP_METRICS_PORT="0") as writer,
        scene.program("fan-out", PP_METRICS_PORT="0") as fan_out,
        scene.program("serve") as service,
    ):
        wait_ready(url, service)
        over_http = _observe(scene, replace(plan, visits=plan.visits[:2]), url)
        seen = _check(scene, over_http, alerts_before=0)
        # The same through a stream: the service only tells what is in the ledger.
        fan_out.stop()
        with (
            scene.program("fan-out", PP_METRICS_PORT="0", PLATFORM="keda"),
            scene.program("worker", PP_METRICS_PORT="0", PLATFORM="keda", WORKER_COUNT="1"),
            scene.program("worker", PP_METRICS_PORT="0", PLATFORM="keda", WORKER_COUNT="1"),
        ):
            # What was written before anybody asked for it is not for them.
            _wait_for_group(scene)
            by_stream = _observe(scene, replace(plan, visits=plan.visits[2:]), url)
            _check(scene, by_stream, alerts_before=seen)
        assert writer.process.poll() is None, writer.tail()
