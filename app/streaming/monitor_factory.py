"""Wiring of the monitor."""

from __future__ import annotations

__all__ = ["create_monitor"]

import hashlib
from importlib import metadata

from flask import Flask

from app.streaming.bus_factory import create_stomp_bus
from app.streaming.job_sources import job_source
from app.streaming.monitor_app import create_monitor_app
from app.streaming.monitor_service import MonitorService
from app.streaming.pages.blueprint import streaming_pages
from app.streaming.rest.stream import MessageStream
from config.streaming.settings import StreamingSettings
from repos.streaming.database import create_streaming_engine
from repos.streaming.monitor_store import MonitorStore


def create_monitor(settings: StreamingSettings) -> Flask:
    """Build the monitor's application; its service is not started.

    Parameters
    ----------
    settings : `config.streaming.settings.StreamingSettings`

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the database cannot be made or refuses us, or a certificate
        cannot be read.
    """
    url = settings.monitor_database_url
    store = MonitorStore.on(create_streaming_engine(url, setting="PP_MONITOR_DATABASE"))
    stream = MessageStream(store.messages, zone=settings.zone)
    # The broker keeps messages for each database that records them.
    client_id = f"monitor-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    bus = create_stomp_bus(settings, client_id=client_id) if settings.has_broker else None
    service = MonitorService(
        store=store, stream=stream, bus=bus, topic=settings.run_topic, keep=settings.monitor_keep
    )
    jobs = job_source(settings)
    return create_monitor_app(
        store,
        service=service,
        stream=stream,
        zone=settings.zone,
        token=settings.api_token.get_secret_value() or None,
        jobs=jobs,
        pages=[streaming_pages(lambda: store, jobs=jobs)],
        version=_version(),
    )


def _version() -> str:
    try:
        return metadata.version("prompt-processing")
    except metadata.PackageNotFoundError:
        return "not installed"
