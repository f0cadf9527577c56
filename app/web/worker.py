"""The Gunicorn worker that carries the service."""

from __future__ import annotations

__all__ = ["PromptWorker"]

import signal
import sys
from types import FrameType

from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from app.web.service import PromptService
from models.errors import InvalidConfiguration
from services.slots.process import TemplateProcess


class PromptWorker(ThreadWorker):
    """A threaded worker that starts and stops the service with itself.

    Attributes
    ----------
    template : `services.slots.process.TemplateProcess` or `None`
        Set by the server before it forks, if it has one.
    """

    template: TemplateProcess | None = None
    _service: PromptService | None = None

    def init_signals(self) -> None:
        """Let SIGHUP count as SIGTERM, and leave Ctrl-C to the server."""
        super().init_signals()
        signal.signal(signal.SIGHUP, self.handle_exit)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def load_wsgi(self) -> None:
        """Load the application and start its service: here, after the last
        fork and before the first request.
        """
        if self.template is not None:
            self.template.disown()
        try:
            super().load_wsgi()
            self._service = self.wsgi.extensions["prompt-service"]
            self._service.start(self.template)
        except InvalidConfiguration as error:
            self.log.critical("The service cannot start: %s", error)
            # The server takes this as a reason not to try again.
            sys.exit(Arbiter.APP_LOAD_ERROR)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop accepting, and tell the visits to stop."""
        super().handle_exit(sig, frame)
        # Not here, in the middle of anything: in the main loop.
        self.method_queue.defer(self._begin_shutdown)

    def is_parent_alive(self) -> bool:
        """Whether the server is there; without it, this is like SIGTERM."""
        alive: bool = super().is_parent_alive()
        if not alive:
            self._begin_shutdown()
        return alive

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
