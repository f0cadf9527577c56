"""The port on which Prometheus reads metrics, as the field expects."""

from __future__ import annotations

__all__ = ["MetricsPort"]

import logging
from collections.abc import Callable

from prometheus_client import CollectorRegistry, start_http_server

_log = logging.getLogger(__name__)


class MetricsPort:
    """Serves metrics on a port of their own.

    Parameters
    ----------
    port : `int`
        0 for none.
    registry : `prometheus_client.CollectorRegistry`

    Attributes
    ----------
    trouble : `str` or `None`
        Why they are not served, if so.
    """

    def __init__(self, port: int, registry: CollectorRegistry) -> None:
        self._port = port
        self._registry = registry
        self._stop: Callable[[], None] | None = None
        self.trouble: str | None = None

    def start(self) -> None:
        """Begin to serve; a port that cannot be had is no reason to stop."""
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
        """Serve no longer."""
        if self._stop is not None:
            self._stop()
