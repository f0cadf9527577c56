"""The Gunicorn worker that carries the monitor."""

from __future__ import annotations

__all__ = ["MonitorWorker"]

import signal
import sys
from types import FrameType

from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from app.streaming.monitor_app import SERVICE
from app.streaming.monitor_service import MonitorService
from models.errors import InvalidConfiguration


class MonitorWorker(ThreadWorker):
    """A threaded worker that starts and stops the monitor with itself."""

    _service: MonitorService | None = None

    def init_signals(self) -> None:
        """Leave Ctrl-C to the server."""
        super().init_signals()
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def load_wsgi(self) -> None:
        """Load the application and start its service."""
        try:
            super().load_wsgi()
            self._service = self.wsgi.extensions[SERVICE]
            self._service.start()
        except InvalidConfiguration as error:
            self.log.critical("The monitor cannot start: %s", error)
            # The server takes this as a reason not to try again.
            sys.exit(Arbiter.APP_LOAD_ERROR)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Accept nothing more, and send those away who listen."""
        super().handle_exit(sig, frame)
        # Not here, in the middle of anything: in the main loop.
        self.method_queue.defer(self._begin_shutdown)

    def run(self) -> None:
        """Serve until told to stop."""
        try:
            super().run()
        finally:
            if self._service is not None:
                self._service.close()

    def _begin_shutdown(self) -> None:
        if self._service is not None:
            self._service.begin_shutdown()
