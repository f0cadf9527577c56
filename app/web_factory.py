"""Wiring of the service that takes visits over HTTP, under Gunicorn."""

from __future__ import annotations

__all__ = ["create_wsgi", "gunicorn_options"]

from typing import Any

from flask import Blueprint, Flask

from app.configured_files import check_configured_files
from app.logging import configure_logging
from app.service_factory import SLOT_APPLICATION, build_service, queue_length
from app.web.application import create_app
from app.web.server import ServerConfig, gunicorn_settings
from config.environment import apply_library_variables
from config.settings import ServiceSettings, load_service_settings


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
    return create_app(build_service(settings), streaming=_streaming_pages(settings))


def _streaming_pages(settings: ServiceSettings) -> Blueprint | None:
    """Return the streaming workflow's pages, if its monitor's database is
    known. Visits need neither it nor what is imported here.
    """
    if settings.monitor_database is None:
        return None
    from app.streaming.pages.blueprint import streaming_pages
    from app.streaming.pages.sources import monitor_jobs, monitor_records

    return streaming_pages(monitor_records(settings.monitor_database), jobs=monitor_jobs(), visits=True)


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
        Raised if settings, or files that they name, are missing or wrong.
    """
    if settings is None:
        apply_library_variables("service")
        settings = load_service_settings()
    check_configured_files(settings)
    config = ServerConfig(
        bind=f"{settings.host}:{settings.port}",
        visits=settings.worker_count + queue_length(settings),
        grace_period=settings.worker_grace_period,
        slot_application=SLOT_APPLICATION,
    )
    return {"wsgi_app": "app.web_factory:create_wsgi()", **gunicorn_settings(config)}
