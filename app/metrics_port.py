"""The port on which Prometheus reads metrics, and Kubernetes the health."""

from __future__ import annotations

__all__ = ["MetricsPort"]

import json
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_log = logging.getLogger(__name__)

_ADDRESS = "0.0.0.0"  # noqa: S104 (it runs in a container)


class MetricsPort:
    """Serves metrics on a port of their own, at any path but ``/health``.

    ``/health`` is 200 as long as the process can answer, and lists what is
    wrong at present.

    Parameters
    ----------
    port : `int`
        0 for none.
    registry : `prometheus_client.CollectorRegistry`
    faults : callable, optional
        Returns what is wrong at present; called from other threads.

    Attributes
    ----------
    trouble : `str` or `None`
        Why they are not served, if so.
    """

    def __init__(
        self, port: int, registry: CollectorRegistry, *, faults: Callable[[], Sequence[str]] = lambda: ()
    ) -> None:
        self._port = port
        self._metrics = make_wsgi_app(registry)
        self._faults = faults
        self._stop: Callable[[], None] | None = None
        self.trouble: str | None = None

    def start(self) -> None:
        """Begin to serve; a port that cannot be had is no reason to stop."""
        if not self._port:
            return
        try:
            server = make_server(_ADDRESS, self._port, self._serve, _Server, _Handler)
        except OSError as error:
            # Alerts matter more than their count, which /metrics has too.
            self.trouble = f"cannot listen on {self._port} (PP_METRICS_PORT; 0 for none): {error.strerror}"
            _log.error("The metrics port: %s", self.trouble)
            return
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        self._stop = stop

    def stop(self) -> None:
        """Serve no longer."""
        if self._stop is not None:
            self._stop()

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/health":
            return self._metrics(environ, start_response)
        faults = [*self._faults()]
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps({"status": "degraded" if faults else "healthy", "faults": faults}).encode()]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (named so there)
        """Say nothing of each time that somebody looks."""
