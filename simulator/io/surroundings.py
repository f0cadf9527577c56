"""Where an observatory's visits and raws go: the ways that a service takes."""

from __future__ import annotations

__all__ = ["Surroundings", "observatory_in"]

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.errors import InvalidConfiguration
from models.kafka_access import KafkaAccess
from simulator.announcing import TopicAnnouncer
from simulator.fan_out import FanOut
from simulator.io.bucket_delivery import BucketDelivery
from simulator.io.cloud_events import CloudEventSender
from simulator.io.delivery import DirectoryDelivery
from simulator.io.next_visit_topic import NextVisitTopic
from simulator.io.service_client import look_up_visit
from simulator.io.topic_writer import TopicWriter
from simulator.observatory import Observatory
from simulator.observing import Announcer, FrameDelivery, Progress, Timing


@dataclass(frozen=True)
class Surroundings:
    """What an observatory talks to.

    Attributes
    ----------
    url : `str`
        Of the service: visits are posted to it, or their results asked of it.
    token : `str` or `None`
        Bearer token, if the service wants one.
    image_dir : `pathlib.Path` or `None`
        Directory for raws; this or a bucket.
    bucket : `str` or `None`
        Bucket for raws.
    endpoint_url : `str` or `None`
        S3 server of the bucket.
    bucket_topic : `str`
        Topic on which new objects are told of.
    kafka : `models.kafka_access.KafkaAccess` or `None`
        Kafka cluster of both topics, and as whom to write there.
    visit_topic : `str` or `None`
        Topic of nextVisits, for a fan-out service; None posts each detector's
        visit to the service.
    schema_registry : `str` or `None`
        URL, for nextVisits as Avro; None writes them as JSON.
    """

    url: str
    token: str | None = None
    image_dir: Path | None = None
    bucket: str | None = None
    endpoint_url: str | None = None
    bucket_topic: str = "rubin-prompt-processing"
    kafka: KafkaAccess | None = None
    visit_topic: str | None = None
    schema_registry: str | None = None

    def check(self) -> None:
        """Raise `models.errors.InvalidConfiguration` unless this is enough
        and no contradiction.
        """
        if (self.image_dir is None) == (self.bucket is None):
            raise InvalidConfiguration(
                "say where raws go: the directory that the service watches (--image-dir) or its bucket "
                "(--bucket), one of them"
            )
        if self.kafka is None and (self.bucket is not None or self.visit_topic is not None):
            raise InvalidConfiguration(
                "a bucket's notifications and a topic of nextVisits need a cluster: name it with --kafka"
            )
        if self.schema_registry is not None and self.visit_topic is None:
            raise InvalidConfiguration(
                "a schema registry is of no use without a topic of nextVisits: name it with "
                "--next-visit-topic"
            )


@contextmanager
def observatory_in(
    surroundings: Surroundings, *, timing: Timing | None = None, progress: Progress | None = None
) -> Iterator[Observatory]:
    """Make an observatory; its connections last as long as the context.

    Parameters
    ----------
    surroundings : `Surroundings`
    timing : `simulator.observing.Timing`, optional
    progress : `simulator.observing.Progress`, optional

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the surroundings are incomplete, or there is no such bucket.
    models.errors.TemporarilyUnavailable
        Raised if Kafka, the schema registry or the S3 server cannot be reached.
    """
    surroundings.check()
    with ExitStack() as stack:
        delivery = _delivery(surroundings, stack)
        yield Observatory(
            announcer=_announcer(surroundings, stack), delivery=delivery, timing=timing, progress=progress
        )


def _delivery(surroundings: Surroundings, stack: ExitStack) -> FrameDelivery:
    if surroundings.image_dir is not None:
        return DirectoryDelivery(image_dir=surroundings.image_dir)
    assert surroundings.bucket is not None
    delivery = BucketDelivery(
        bucket=surroundings.bucket,
        notify=_writer(surroundings, surroundings.bucket_topic, stack).send,
        endpoint_url=surroundings.endpoint_url,
    )
    delivery.check()
    return delivery


def _announcer(surroundings: Surroundings, stack: ExitStack) -> Announcer:
    if surroundings.visit_topic is None:
        sender = CloudEventSender(url=surroundings.url, token=surroundings.token)
        stack.callback(sender.close)
        return FanOut(send=sender)
    return TopicAnnouncer(
        publish=NextVisitTopic(
            writer=_writer(surroundings, surroundings.visit_topic, stack),
            schema_registry=surroundings.schema_registry,
        ),
        look_up=lambda visit: look_up_visit(surroundings.url, visit),
    )


def _writer(surroundings: Surroundings, topic: str, stack: ExitStack) -> TopicWriter:
    assert surroundings.kafka is not None
    writer = TopicWriter(address=surroundings.kafka, topic=topic)
    stack.callback(writer.close)
    return writer
