"""What the Gunicorn workers of all services have in common."""

from __future__ import annotations

__all__ = ["CarriedService", "ServiceWorker"]

import signal
import sys
from types import FrameType
from typing import Any, ClassVar, Protocol

from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from models.errors import InvalidConfiguration


class CarriedService(Protocol):
    """What lives as long as its worker."""

    def begin_shutdown(self) -> None:
        """Let go of those who wait for an answer."""

    def close(self) -> None:
        """End."""


class ServiceWorker(ThreadWorker):
    """A threaded worker that starts and stops a service with itself.

    Attributes
    ----------
    extension : `str`
        Name of the service among the application's extensions.
    """

    extension: ClassVar[str]
    _service: CarriedService | None = None

    def start_service(self, service: Any) -> None:
        """Start the service: after the last fork, before the first request."""
        service.start()

    def init_signals(self) -> None:
        """Leave Ctrl-C to the server."""
        super().init_signals()
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def load_wsgi(self) -> None:
        """Load the application and start its service."""
        try:
            super().load_wsgi()
            self._service = self.wsgi.extensions[self.extension]
            self.start_service(self._service)
        except InvalidConfiguration as error:
            self.log.critical("The %s cannot start: %s", self.extension, error)
            # The server takes this as a reason not to try again.
            sys.exit(Arbiter.APP_LOAD_ERROR)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Accept nothing more, and tell those who wait."""
        super().handle_exit(sig, frame)
        # Not here, in the middle of anything: in the main loop.
        self.method_queue.defer(self.begin_shutdown)

    def run(self) -> None:
        """Serve until told to stop."""
        try:
            super().run()
        finally:
            if self._service is not None:
                self._service.close()

    def begin_shutdown(self) -> None:
        """Tell the service that the end is near."""
        if self._service is not None:
            self._service.begin_shutdown()
