"""The monitor under Gunicorn, started from Python."""

from __future__ import annotations

__all__ = ["run_monitor"]

from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]

from app.logging import configure_logging
from app.streaming.monitor_factory import create_monitor
from app.web.server import GunicornLogger, memory_directory
from config.streaming.settings import StreamingSettings

#: Requests that are answered at once; who listens to messages takes one.
_THREADS = 24
#: Seconds for answers under way when the monitor ends, that an idle
#: connection is kept, and without a sign of life until a worker is replaced.
_GRACE = 10
_KEEP_ALIVE = 75
_HUNG = 120


class _Server(BaseApplication):
    """Gunicorn with given settings instead of a command line."""

    def __init__(self, settings: StreamingSettings, *, bind: str) -> None:
        self._settings = settings
        self._bind = bind
        super().__init__()

    def load_config(self) -> None:
        """Set what the monitor asks for."""
        for name, value in _options(self._bind).items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Build the application, in the worker process."""
        return create_monitor(self._settings)


def run_monitor(settings: StreamingSettings, *, host: str, port: int) -> None:
    """Serve until told to stop; does not return.

    Parameters
    ----------
    settings : `config.streaming.settings.StreamingSettings`
    host : `str`
    port : `int`
    """
    configure_logging(settings.log_levels)
    _Server(settings, bind=f"[{host}]:{port}" if ":" in host else f"{host}:{port}").run()


def _options(bind: str) -> dict[str, Any]:
    def on_starting(server: Arbiter) -> None:
        server.handle_hup = server.handle_term
        server.handle_int = server.handle_term

    return {
        "bind": bind,
        # One: the bus lets a subscription in once.
        "workers": 1,
        "worker_class": "app.streaming.monitor_worker.MonitorWorker",
        "threads": _THREADS,
        "timeout": _HUNG,
        "graceful_timeout": _GRACE,
        "keepalive": _KEEP_ALIVE,
        "worker_tmp_dir": memory_directory(),
        "control_socket_disable": True,
        "logger_class": GunicornLogger,
        "on_starting": on_starting,
    }
