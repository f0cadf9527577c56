"""Wiring of the parent process: everything but the middleware.

Nothing here may import ``lsst`` or ``astropy``: they would cost the parent,
which only passes visits on, as much memory as a slot.
"""

from __future__ import annotations

__all__ = ["SLOT_APPLICATION", "build_service", "create_wsgi", "gunicorn_options"]

import functools
import logging
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

from flask import Flask
from prometheus_client import CollectorRegistry, start_http_server

from app.logging import configure_logging, log_labels
from app.web.application import create_app
from app.web.metrics import ServiceMetrics
from app.web.server import ServerConfig, gunicorn_settings
from app.web.service import PromptService
from config.environment import apply_library_variables
from config.instruments import InstrumentConfig, find_instrument_file, load_instrument
from config.settings import ServiceSettings, load_service_settings
from models.errors import InvalidConfiguration
from models.geometry import detector_center
from models.times import day_obs, tai_from_unix
from models.visits import FannedOutVisit
from repos.image_watch import DirectoryWatch
from repos.ledger import Ledger
from repos.ledger_database import LedgerLock, create_ledger_engine
from services.admission import VisitAdmission
from services.selection import PipelineSelector
from services.slots.pool import SlotPool
from services.slots.process import TemplateProcess
from services.slots.state import PoolConfig
from services.slots.supervisor import TemplateSupervisor

_log = logging.getLogger(__name__)

#: What the template process runs.
SLOT_APPLICATION = "app.slot_factory:prepare_template"

#: Visits that may wait for a slot: two more full focal planes of a camera that
#: has a slot for each detector, and a useful number for small ones.
_WAITING_PER_SLOT = 2
_WAITING_AT_LEAST = 64


def create_wsgi(settings: ServiceSettings | None = None) -> Flask:
    """Build the application for a WSGI server; its service is not started.

    Parameters
    ----------
    settings : `config.settings.ServiceSettings`, optional
        Read from the environment if not given.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if settings are missing or wrong, or another service uses the
        same ledger.
    """
    settings = settings or load_service_settings()
    configure_logging(settings.log_levels)
    return create_app(build_service(settings))


def gunicorn_options(settings: ServiceSettings | None = None) -> dict[str, Any]:
    """Return Gunicorn's settings by name.

    Without `settings`, this is Gunicorn's own configuration file speaking,
    first thing in its master: the libraries' variables are set here too, for
    all processes to inherit.

    Parameters
    ----------
    settings : `config.settings.ServiceSettings`, optional
        Read from the environment if not given.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if settings are missing or wrong.
    """
    if settings is None:
        apply_library_variables("service")
        settings = load_service_settings()
    config = ServerConfig(
        bind=f"{settings.host}:{settings.port}",
        visits=settings.worker_count + _queue_length(settings),
        grace_period=settings.worker_grace_period,
        slot_application=SLOT_APPLICATION,
    )
    return {"wsgi_app": "app.service_factory:create_wsgi()", **gunicorn_settings(config)}


def build_service(settings: ServiceSettings) -> PromptService:
    """Wire the service.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if something cannot be used as it is configured.
    """
    camera = _find_camera(settings)
    lock = LedgerLock(settings.ledger_url)
    lock.acquire()
    engine = create_ledger_engine(settings.ledger_url)
    ledger = Ledger(engine)
    images = _image_listener(settings)
    pool = SlotPool(
        config=_pool_config(settings),
        template=TemplateSupervisor(launch=lambda: TemplateProcess.launch(SLOT_APPLICATION)),
    )
    metrics = ServiceMetrics(instrument=settings.rubin_instrument, snapshot=pool.snapshot)
    metrics_port = _MetricsPort(settings.metrics_port, metrics.registry)
    admission = VisitAdmission(
        instrument=settings.rubin_instrument,
        detectors={d.id: d.name for d in camera.detectors} if camera is not None else None,
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
    )
    start: list[Callable[[], object]] = [images.start, metrics_port.start]
    if engine.dialect.name == "sqlite":
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
            "images": lambda: None if images.is_alive else "nobody listens; images are only looked for",
            "metrics port": lambda: metrics_port.trouble,
        },
        on_start=start,
        on_close=[images.stop, metrics_port.stop, engine.dispose, lock.release],
    )


class _MetricsPort:
    """Serves the metrics on a port of their own, as the field expects."""

    def __init__(self, port: int, registry: CollectorRegistry) -> None:
        self._port = port
        self._registry = registry
        self._stop: Callable[[], None] | None = None
        self.trouble: str | None = None

    def start(self) -> None:
        if not self._port:
            return
        try:
            server, thread = start_http_server(self._port, registry=self._registry)
        except OSError as error:
            # Alerts matter more than their count, which /metrics has too.
            self.trouble = f"cannot listen on {self._port} (PP_METRICS_PORT; 0 for none): {error.strerror}"
            _log.error("The metrics port: %s", self.trouble)
            return

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        self._stop = stop

    def stop(self) -> None:
        if self._stop is not None:
            self._stop()


def _pool_config(settings: ServiceSettings) -> PoolConfig:
    return PoolConfig(
        count=settings.worker_count,
        visit_timeout=settings.worker_timeout,
        grace_period=settings.worker_grace_period,
        queue_timeout=settings.queue_timeout,
        queue_length=_queue_length(settings),
        renew_after=settings.worker_restart_freq,
        memory_limit=settings.slot_memory_limit << 20 or None,
    )


def _queue_length(settings: ServiceSettings) -> int:
    return max(_WAITING_AT_LEAST, _WAITING_PER_SLOT * settings.worker_count)


def _find_camera(settings: ServiceSettings) -> InstrumentConfig | None:
    try:
        path = find_instrument_file(settings.rubin_instrument, settings.instrument_path)
    except InvalidConfiguration as error:
        _log.warning("Detectors and their places on the sky are not known here: %s", error)
        return None
    return load_instrument(path)


def _image_listener(settings: ServiceSettings) -> DirectoryWatch:
    if settings.image_directory is None:
        raise InvalidConfiguration(
            "IMAGE_BUCKET: this version cannot listen for images in a bucket; set PP_IMAGE_DIRECTORY instead"
        )
    return DirectoryWatch(
        settings.image_directory, memory=settings.image_memory, polling=settings.image_polling
    )


def _center(camera: InstrumentConfig | None, visit: FannedOutVisit) -> tuple[float, float] | None:
    """Return the (ra, dec) of the middle of a visit's detector."""
    detector = camera.by_id.get(visit.detector) if camera is not None else None
    if camera is None or detector is None or not visit.has_footprint:
        return None
    return detector_center(camera, detector, *visit.position, visit.cameraAngle)


def _tai_now() -> float:
    return tai_from_unix(time.time())


def _version() -> str:
    try:
        return metadata.version("prompt-processing")
    except metadata.PackageNotFoundError:
        return "not installed"
