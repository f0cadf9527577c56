"""The service under Gunicorn, started from Python."""

from __future__ import annotations

__all__ = ["run_server"]

from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

from app.logging import configure_logging
from app.web_factory import create_wsgi, gunicorn_options
from config.settings import ServiceSettings


class _Server(BaseApplication):
    """Gunicorn with given settings instead of a command line."""

    def __init__(self, settings: ServiceSettings, options: dict[str, Any]) -> None:
        self._settings = settings
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        """Set what the service asks for."""
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Build the application, in the worker process."""
        return create_wsgi(self._settings)


def run_server(settings: ServiceSettings) -> None:
    """Serve until told to stop; does not return.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if files that the settings name are missing or wrong.
    """
    configure_logging(settings.log_levels)
    _Server(settings, gunicorn_options(settings)).run()
