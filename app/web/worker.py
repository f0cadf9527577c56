"""The Gunicorn worker that carries the service."""

from __future__ import annotations

__all__ = ["PromptWorker"]

import signal
from types import FrameType

from gunicorn.workers.gthread import ThreadWorker

from app.web.service import PromptService
from services.slots.process import TemplateProcess


class PromptWorker(ThreadWorker):  # type: ignore[misc]
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
        super().load_wsgi()
        self._service = self.wsgi.extensions["prompt-service"]
        if self.template is not None:
            self.template.disown()
        self._service.start(self.template)

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
