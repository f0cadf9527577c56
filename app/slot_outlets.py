"""Where a slot's images come from and where its results go, as the settings
say: directories on one machine, buckets and brokers in service.
"""

from __future__ import annotations

__all__ = ["create_alert_sink", "create_handover", "create_image_store"]

from typing import Any

from config.instruments import InstrumentConfig
from config.settings import ServiceSettings
from models.errors import InvalidConfiguration
from repos.alert_files import AlertFileSink
from repos.alert_topic import AlertFraming, AlertTopicSink
from repos.bucket_images import BucketImageStore
from repos.central import CentralRepo
from repos.handover import DirectHandover, WriterHandover
from repos.image_store import DirectoryImageStore
from repos.raw_presence import RawPresence
from repos.s3_client import create_s3_client
from services.alerts import AlertSink, CopyingAlertSink
from services.export import Handover
from services.images import ImageStore


def create_image_store(
    settings: ServiceSettings, camera: InstrumentConfig, *, s3_description: Any = None
) -> ImageStore:
    """Return where raw images are read.

    `s3_description` is that of `repos.s3_client.load_service_description`.
    """
    if settings.image_directory is not None:
        return DirectoryImageStore(settings.image_directory)
    if settings.image_bucket is None:
        raise InvalidConfiguration("IMAGE_BUCKET or PP_IMAGE_DIRECTORY must be set: raws come from there")
    return BucketImageStore(
        client=create_s3_client(
            settings.s3_endpoint_url,
            validate_buckets=not settings.lsst_disable_bucket_validation,
            description=s3_description,
        ),
        bucket=settings.image_bucket,
        directory=settings.local_repos,
        presence=RawPresence(settings.raw_microservice) if settings.raw_microservice else None,
        detector_names={d.id: d.name for d in camera.detectors},
    )


def create_alert_sink(settings: ServiceSettings) -> AlertSink:
    """Return where alerts go: to Kafka, to files, or to both."""
    directory = settings.alert_files
    files = AlertFileSink(directory) if directory is not None else None
    if not settings.ap_kafka_server:
        assert files is not None, "without Kafka there is always a directory"
        return files
    topic = AlertTopicSink(
        settings.ap_kafka_topic or "",
        framing=AlertFraming(settings.alert_framing),
        schema_id=settings.alert_schema_id,
    )
    return CopyingAlertSink(topic, copies=files) if files is not None else topic


def create_handover(settings: ServiceSettings, central: CentralRepo) -> Handover:
    """Return what makes exported files known to the central registry."""
    if settings.use_kafka_butler_writer:
        return WriterHandover(
            topic=settings.butler_writer_kafka_topic or "",
            with_dataset_types=settings.register_dataset_types,
        )
    return DirectHandover(central.registry_writer)
