"""Images from a bucket, over a real Kafka and a real S3 server, up to the ingester."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from models.errors import ImagesUnusable, NoImageArrived, TemporarilyUnavailable
from models.kafka_access import KafkaAccess
from models.pipelines import SelectedPipelines
from models.raws import FoundImage
from models.visits import FannedOutVisit
from repos.bucket_images import BucketImageStore
from repos.bucket_listener import BucketListener
from repos.s3_client import create_s3_client
from services.image_intake import ImageIntake
from services.images import ImageAwaiter
from services.slots.protocol import ProcessVisit, Stage
from services.visit_state import VisitState
from simulator.io.bucket_delivery import BucketDelivery
from simulator.io.topic_writer import TopicWriter
from simulator.servers.kafka import KafkaServer
from simulator.servers.s3 import S3Server
from tests.repos.notices import until
from tests.servers import unique_name
from tests.visits import make_visit

pytestmark = pytest.mark.servers

GROUP = "2026-11-21T02:47:26.177"
STEM = "LSSTCam/20260301/MC_O_20260301_000012/MC_O_20260301_000012_R22_S11"
FORMS = {
    "LSST": ("LSSTCam", f"{STEM}.fits", f"{STEM}.json"),
    "imSim": (
        "LSSTCam-imSim",
        "LSSTCam-imSim/20260301/17/17_r.1_94_R22_S11.fits.fz",
        "LSSTCam-imSim/20260301/17/17_r.1_94_R22_S11.json",
    ),
    "generic": ("DemoCam", f"DemoCam/94/{GROUP}/0/17/r_01/DemoCam_17.fits", None),
}


@dataclass(frozen=True)
class Image:
    """What the ingester understands of an image."""

    ingested: bytes
    exposure: int
    sky_angle: float


class Site:
    """A bucket, its notifications, a listener and a slot's view of both."""

    def __init__(self, kafka: KafkaServer, s3: S3Server, scratch: Path) -> None:
        self.kafka = kafka
        self.s3 = s3
        self.bucket = unique_name("raws-")
        self.topic = unique_name("images-")
        s3.create_bucket(self.bucket)
        kafka.create_topic(self.topic)
        self.writer = TopicWriter(address=KafkaAccess(kafka.bootstrap), topic=self.topic)
        self.delivery = BucketDelivery(
            bucket=self.bucket, notify=self.writer.send, endpoint_url=s3.endpoint_url
        )
        self.listener = BucketListener(KafkaAccess(kafka.bootstrap), topic=self.topic, bucket=self.bucket)
        self.client = create_s3_client(s3.endpoint_url)
        self.scratch = scratch
        self.store = BucketImageStore(
            client=self.client, bucket=self.bucket, directory=scratch, retry_delay=0.01
        )
        self.taken: list[bytes] = []
        self.on_wait: list[Any] = []
        self._inbox: queue.SimpleQueue[FoundImage] = queue.SimpleQueue()

    def close(self) -> None:
        self.listener.stop()
        self.store.close()
        self.writer.close()

    def listen(self) -> None:
        self.listener.start()
        until(lambda: self.listener.trouble is None)

    def wait_heard(self, form: str) -> None:
        """Wait until the listener knows of an image."""
        heard: list[FoundImage] = []
        subscription = self.listener.subscribe(FORMS[form][0], 94, "R22_S11", heard.append)
        until(lambda: heard)
        subscription.close()

    def deliver(self, form: str, content: bytes = b"pixels") -> None:
        _, key, sidecar = FORMS[form]
        if sidecar is not None:
            self.delivery.deliver(sidecar, json.dumps({"GROUPID": GROUP}).encode())
        self.delivery.deliver(key, content)

    # What a slot's channel and the ingester do.

    def report(self, stage: Stage, exposures: tuple[int, ...] = ()) -> None:
        if stage is Stage.WAITING and self.on_wait:
            self.on_wait.pop(0)()

    def images(self, timeout: float) -> list[FoundImage]:
        found = []
        try:
            found.append(self._inbox.get(timeout=timeout) if timeout else self._inbox.get_nowait())
            while True:
                found.append(self._inbox.get_nowait())
        except queue.Empty:
            return found

    def ingest(self, found: FoundImage, visit: FannedOutVisit) -> Image:
        content = self.store.fetch(found).path.read_bytes()
        return Image(content, found.raw.exposure_id, visit.cameraAngle)

    def observe(self, form: str, *, timeout: float = 120.0) -> VisitState:
        """Take the images of a visit, as admission and a slot do."""
        visit = make_visit(instrument=FORMS[form][0], detector=94, groupId=GROUP, nimages=1, duration=0.0)
        subscription = self.listener.subscribe(visit.instrument, 94, "R22_S11", self._inbox.put)
        awaiter = ImageAwaiter(store=self.store, detector_names={"R22_S11": 94}, image_timeout=timeout)
        state = VisitState(ProcessVisit(visit, SelectedPipelines((), ("A.yaml",)), "2026-03-01"))
        try:
            ImageIntake(source=awaiter, ingester=self).take(state, self, self.taken.append)  # type: ignore[arg-type]
        finally:
            subscription.close()
        return state


@pytest.fixture
def site(kafka: KafkaServer, s3: S3Server, tmp_path: Path) -> Iterator[Site]:
    made = Site(kafka, s3, tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("form", FORMS)
def test_image_before_anybody_listens(site: Site, form: str) -> None:
    site.deliver(form)
    site.listen()
    site.observe(form)
    assert site.taken == [b"pixels"]


@pytest.mark.parametrize("form", FORMS)
def test_image_while_the_visit_waits(site: Site, form: str) -> None:
    site.listen()
    site.on_wait.append(lambda: site.deliver(form))
    site.observe(form)
    assert site.taken == [b"pixels"]


@pytest.mark.parametrize("form", FORMS)
def test_image_twice(site: Site, form: str) -> None:
    site.listen()
    site.deliver(form)
    site.on_wait.append(lambda: site.deliver(form))
    site.observe(form)
    assert site.taken == [b"pixels"]


def test_sidecar_after_its_image(site: Site) -> None:
    _, key, sidecar = FORMS["LSST"]
    assert sidecar is not None
    site.listen()

    def deliver() -> None:
        site.delivery.deliver(key, b"pixels")
        site.delivery.deliver(sidecar, json.dumps({"GROUPID": GROUP}).encode())

    site.on_wait.append(deliver)
    site.observe("LSST")
    assert site.taken == [b"pixels"]


def test_object_deleted_between_notification_and_read(site: Site) -> None:
    site.deliver("LSST")
    site.client.delete_object(Bucket=site.bucket, Key=FORMS["LSST"][1])
    site.listen()
    site.wait_heard("LSST")
    with pytest.raises(ImagesUnusable, match="is not in the bucket: deleted after its notification"):
        site.observe("LSST", timeout=1.0)


def test_object_deleted_and_put_again(site: Site) -> None:
    site.deliver("LSST", b"old")
    site.client.delete_object(Bucket=site.bucket, Key=FORMS["LSST"][1])
    site.listen()
    # Told to wait, after the image was looked for in vain.
    site.on_wait += [lambda: None, lambda: site.deliver("LSST", b"new")]
    site.observe("LSST")
    assert site.taken == [b"new"]


def test_no_image(site: Site) -> None:
    site.listen()
    with pytest.raises(NoImageArrived):
        site.observe("generic", timeout=0.5)


def test_bucket_missing(site: Site) -> None:
    site.store = BucketImageStore(client=site.client, bucket="not-there", directory=site.scratch)
    site.listen()
    with pytest.raises(TemporarilyUnavailable, match=r"no such bucket; check IMAGE_BUCKET"):
        site.observe("generic", timeout=0.5)


def test_server_away(site: Site) -> None:
    site.deliver("generic")
    site.listen()
    site.wait_heard("generic")
    away = create_s3_client("http://127.0.0.1:1")
    site.store = BucketImageStore(client=away, bucket=site.bucket, directory=site.scratch, retry_delay=0.01)
    with pytest.raises(TemporarilyUnavailable, match="cannot be read now"):
        site.observe("generic")


@pytest.mark.slow
def test_broker_stopped_in_mid_visit(site: Site) -> None:
    site.listen()

    def stop_and_put() -> None:
        site.kafka.stop()
        site.client.put_object(Bucket=site.bucket, Key=FORMS["generic"][1], Body=b"pixels")

    site.on_wait.append(stop_and_put)
    try:
        # Nobody could tell of it, but it is looked for.
        site.observe("generic", timeout=1.0)
        assert site.taken == [b"pixels"]
    finally:
        site.kafka.start()
    site.on_wait.append(lambda: site.deliver("LSST"))
    site.observe("LSST", timeout=60.0)
    assert site.taken == [b"pixels"] * 2
