"""Wiring of the parent process: everything but the middleware.

Visits may come to it over HTTP (`app.web_factory`) or from a stream
(`app.worker_factory`). Nothing here may import ``lsst`` or ``astropy``: they
would cost the parent, which only passes visits on, as much memory as a slot.
"""

from __future__ import annotations

__all__ = ["SLOT_APPLICATION", "build_service", "queue_length"]

import functools
import os
import socket
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from importlib import metadata

from app.configured_files import find_camera
from app.kafka_access import notifications_access
from app.logging import log_labels
from app.metrics_port import MetricsPort
from app.outbox_factory import OutboxCollector, build_outbox
from app.web.metrics import ServiceMetrics
from app.web.service import PromptService
from config.instruments import InstrumentConfig
from config.settings import ServiceSettings
from models.geometry import detector_center
from models.times import day_obs, tai_from_unix
from models.visits import FannedOutVisit
from repos.bucket_listener import BucketListener
from repos.image_watch import DirectoryWatch
from repos.ledger import Ledger
from repos.ledger_database import LedgerLock, create_ledger_engine
from repos.outbox import Outbox
from repos.sasquatch import SasquatchClient
from services.admission import VisitAdmission
from services.metrics_upload import MetricsUpload
from services.selection import PipelineSelector
from services.slots.pool import SlotPool
from services.slots.process import TemplateProcess
from services.slots.state import PoolConfig
from services.slots.supervisor import TemplateSupervisor

#: What the template process runs.
SLOT_APPLICATION = "app.slot_factory:prepare_template"

#: Visits that may wait for a slot: two more full focal planes of a camera that
#: has a slot for each detector, and a useful number for small ones.
_WAITING_PER_SLOT = 2
_WAITING_AT_LEAST = 64

#: Seconds at the end in which messages may still be sent; those that cannot
#: stay in the ledger's database.
_LAST_MESSAGES = 4.0

#: Time without a sign of life after which a process is taken for dead.
_LEASE = timedelta(seconds=60)


def build_service(settings: ServiceSettings, *, lease: timedelta = _LEASE) -> PromptService:
    """Wire the service.

    Parameters
    ----------
    settings : `config.settings.ServiceSettings`
    lease : `datetime.timedelta`, optional
        Time without a sign of life after which another process may claim the
        visits of this one, where the ledger is shared.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if something cannot be used as it is configured.
    """
    camera = find_camera(settings)
    lock = LedgerLock(settings.ledger_url)
    lock.acquire()
    engine = create_ledger_engine(settings.ledger_url)
    embedded = engine.dialect.name == "sqlite"
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    outbox = build_outbox(settings, Outbox(engine, owner=owner, exclusive=embedded))
    ledger = Ledger(
        engine,
        owner=owner,
        on_messages=outbox.wake,
        # An embedded ledger is tidied up when the service starts again.
        lease=None if embedded else lease,
    )
    images = _image_listener(settings)
    pool = SlotPool(
        config=_pool_config(settings),
        template=TemplateSupervisor(launch=lambda: TemplateProcess.launch(SLOT_APPLICATION)),
    )
    metrics = ServiceMetrics(instrument=settings.rubin_instrument, snapshot=pool.snapshot)
    upload = _metrics_upload(settings)
    metrics_port = MetricsPort(settings.metrics_port, metrics.registry)
    admission = VisitAdmission(
        instrument=settings.rubin_instrument,
        detectors={d.id: d.name for d in camera.detectors},
        selector=PipelineSelector(
            main=settings.main_pipelines_config,
            preprocessing=settings.preprocessing_pipelines_config,
            detector_center=functools.partial(_center, camera),
        ),
        ledger=ledger,
        images=images,
        slots=pool,
        observer=metrics,
        message_expiration=settings.message_expiration,
        start_timeout=settings.queue_timeout,
        record_timeout=settings.worker_timeout,
        tai_now=_tai_now,
        labels=log_labels,
        refresh_interval=None if embedded else lease.total_seconds() / 3,
        metrics=upload,
    )
    metrics.registry.register(OutboxCollector(outbox))
    start: list[Callable[[], object]] = [images.start, metrics_port.start, outbox.start]
    # The outbox first: what the last visits left is sent while there is time.
    close: list[Callable[[], object]] = [
        lambda: outbox.stop(min(_LAST_MESSAGES, settings.worker_grace_period)),
        images.stop,
        metrics_port.stop,
    ]
    if upload is not None:
        start.append(upload.start)
        close.append(upload.stop)
    start.insert(0, ledger.rehearse)
    if embedded:
        start.insert(0, ledger.recover_orphans)
    return PromptService(
        instrument=settings.rubin_instrument,
        admission=admission,
        slots=pool,
        history=ledger,
        metrics=metrics,
        day_obs=lambda: day_obs(_tai_now()),
        version=_version(),
        token=settings.token.get_secret_value() or None,
        dependencies={
            "ledger": lambda: admission.ledger_trouble,
            "images": lambda: images.trouble,
            "outbox": lambda: outbox.trouble,
            "metrics port": lambda: metrics_port.trouble,
            "sasquatch": lambda: upload.trouble if upload is not None else None,
        },
        on_start=start,
        on_close=[*close, engine.dispose, lock.release],
    )


def _pool_config(settings: ServiceSettings) -> PoolConfig:
    return PoolConfig(
        count=settings.worker_count,
        visit_timeout=settings.worker_timeout,
        grace_period=settings.worker_grace_period,
        queue_timeout=settings.queue_timeout,
        queue_length=queue_length(settings),
        renew_after=settings.worker_restart_freq,
        memory_limit=settings.slot_memory_limit << 20 or None,
    )


def queue_length(settings: ServiceSettings) -> int:
    """Return how many visits may wait for a slot."""
    return max(_WAITING_AT_LEAST, _WAITING_PER_SLOT * settings.worker_count)


def _image_listener(settings: ServiceSettings) -> DirectoryWatch | BucketListener:
    if settings.image_directory is not None:
        return DirectoryWatch(
            settings.image_directory, memory=settings.image_memory, polling=settings.image_polling
        )
    access = notifications_access(settings)
    # The settings see to it that both are there.
    assert settings.image_bucket is not None and access is not None
    return BucketListener(
        access,
        topic=settings.bucket_topic,
        bucket=settings.image_bucket,
        memory=settings.image_memory,
        offset_reset=settings.bucket_notification_kafka_offset_reset,
    )


def _metrics_upload(settings: ServiceSettings) -> MetricsUpload | None:
    if not settings.sasquatch_url:
        return None
    client = SasquatchClient(
        settings.sasquatch_url,
        token=settings.sasquatch_token.get_secret_value(),
        namespace=settings.daf_butler_sasquatch_namespace,
    )
    return MetricsUpload(client)


def _center(camera: InstrumentConfig, visit: FannedOutVisit) -> tuple[float, float] | None:
    """Return the (ra, dec) of the middle of a visit's detector."""
    detector = camera.by_id.get(visit.detector)
    if detector is None or not visit.has_footprint:
        return None
    return detector_center(camera, detector, *visit.position, visit.cameraAngle)


def _tai_now() -> float:
    return tai_from_unix(time.time())


def _version() -> str:
    try:
        return metadata.version("prompt-processing")
    except metadata.PackageNotFoundError:
        return "not installed"
