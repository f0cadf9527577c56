"""The monitor's web application: REST resources, pages, health, metrics."""

from __future__ import annotations

__all__ = ["SERVICE", "create_monitor_app"]

from collections.abc import Sequence
from http import HTTPStatus
from zoneinfo import ZoneInfo

from flask import Blueprint, Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import HTTPException

from app.streaming.monitor_openapi import monitor_document
from app.streaming.monitor_service import MonitorService
from app.streaming.rest.answers import MAX_BODY, answer
from app.streaming.rest.blueprint import create_rest_blueprint, http_error, unavailable, unexpected
from app.streaming.rest.specs import resource_views
from app.streaming.rest.stream import MessageStream
from models.errors import TemporarilyUnavailable
from repos.streaming.monitor_store import MonitorStore
from services.streaming.workflow_records import JobSource

#: Where the application has its service.
SERVICE = "monitor-service"


def create_monitor_app(
    store: MonitorStore,
    *,
    service: MonitorService,
    stream: MessageStream,
    zone: ZoneInfo,
    token: str | None = None,
    jobs: JobSource | None = None,
    pages: Sequence[Blueprint] = (),
    version: str = "",
) -> Flask:
    """Build the application; its service is not started.

    Parameters
    ----------
    store : `repos.streaming.monitor_store.MonitorStore`
    service : `app.streaming.monitor_service.MonitorService`
    stream : `app.streaming.rest.stream.MessageStream`
        The service's.
    zone : `zoneinfo.ZoneInfo`
        That of times that come without one.
    token : `str`, optional
        Of those who write.
    jobs : `services.streaming.workflow_records.JobSource`, optional
    pages : sequence of `flask.Blueprint`, optional
        Pages for people.
    version : `str`, optional
        Of the software.
    """
    document = monitor_document(
        version,
        views=resource_views(store, zone=zone),
        has_token=token is not None,
        has_pages=bool(pages),
    )
    app = Flask("app.web")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    app.extensions[SERVICE] = service
    app.register_blueprint(create_rest_blueprint(store, zone=zone, token=token, jobs=jobs, stream=stream))
    for blueprint in pages:
        app.register_blueprint(blueprint)

    def health() -> Response:
        """Say that the process can answer."""
        return answer({"status": "healthy"})

    def ready() -> Response:
        """Say whether the database can be asked, and whether the bus is heard."""
        bus = {None: "none", True: "connected", False: "not connected"}[service.bus_connected]
        if (trouble := service.trouble()) is not None:
            body = {"status": "not ready", "detail": trouble, "bus": bus}
            return answer(body, HTTPStatus.SERVICE_UNAVAILABLE)
        return answer({"status": "ready", "bus": bus})

    def metrics() -> Response:
        """Return the metrics."""
        return Response(generate_latest(service.metrics.registry), content_type=CONTENT_TYPE_LATEST)

    app.add_url_rule("/health", view_func=health)
    app.add_url_rule("/ready", view_func=ready)
    app.add_url_rule("/metrics", view_func=metrics)
    app.add_url_rule("/openapi.json", "openapi", lambda: document)
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(TemporarilyUnavailable, unavailable)
    app.register_error_handler(Exception, unexpected)
    return app
