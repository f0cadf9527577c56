"""How Gunicorn runs the service: one worker process with threads."""

from __future__ import annotations

__all__ = ["GunicornLogger", "ServerConfig", "gunicorn_settings", "memory_directory"]

import math
import os
from dataclasses import dataclass
from typing import Any

from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from app.web.worker import PromptWorker
from services.slots.process import TemplateProcess

#: Threads for health checks, pages and refusals while every slot is busy.
_SPARE_THREADS = 16
#: Seconds for answers to go out after the slots' time to stop is over.
_FAREWELL = 5
#: Seconds that an idle connection is kept: longer than clients and proxies
#: usually do, so that it is them who close it, and no request is lost.
_KEEP_ALIVE = 75
#: Seconds without a sign of life after which the worker is taken for hung. It
#: gives one every second whatever its requests do.
_HUNG = 120


@dataclass(frozen=True)
class ServerConfig:
    """What the server must know of the service.

    Attributes
    ----------
    bind : `str`
        ``host:port``.
    visits : `int`
        Visits that may be under way at once, waiting ones included.
    grace_period : `float`
        Seconds that visits have to stop.
    slot_application : `str`
        The ``module:function`` for the template process.
    """

    bind: str
    visits: int
    grace_period: float
    slot_application: str


class GunicornLogger(Logger):
    """Leaves Gunicorn's messages to the handlers of the root logger."""

    def setup(self, cfg: Any) -> None:
        """Take over levels, but no handlers."""
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            for handler in list(log.handlers):
                log.removeHandler(handler)
            log.propagate = True


def gunicorn_settings(config: ServerConfig) -> dict[str, Any]:
    """Return Gunicorn's settings by name, hooks included.

    The hooks start the template process before anything else, hand it to the
    worker, and end it with the server. SIGHUP, by default a reload, stops the
    server as SIGTERM does, and so does the first Ctrl-C; a second one does not
    wait.
    """
    templates: list[TemplateProcess] = []

    def on_starting(server: Arbiter) -> None:
        server.handle_hup = server.handle_term
        server.handle_int = server.handle_term
        templates.append(TemplateProcess.launch(config.slot_application))

    def pre_fork(_server: Arbiter, worker: PromptWorker) -> None:
        worker.template = templates[0]

    def on_exit(_server: Arbiter) -> None:
        for template in templates:
            template.stop()

    return {
        "bind": config.bind,
        "workers": 1,
        "worker_class": "app.web.worker.PromptWorker",
        "threads": config.visits + _SPARE_THREADS,
        "timeout": _HUNG,
        "graceful_timeout": math.ceil(config.grace_period) + _FAREWELL,
        "keepalive": _KEEP_ALIVE,
        "worker_tmp_dir": memory_directory(),
        "control_socket_disable": True,
        "logger_class": GunicornLogger,
        "on_starting": on_starting,
        "pre_fork": pre_fork,
        "on_exit": on_exit,
    }


def memory_directory() -> str | None:
    """Return a directory that is on no disk, if there is one.

    The worker's sign of life is a file's time; on a slow disk that would
    block (Gunicorn's FAQ).
    """
    path = "/dev/shm"  # noqa: S108
    return path if os.access(path, os.W_OK | os.X_OK) else None
