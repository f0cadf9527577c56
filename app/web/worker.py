"""The Gunicorn worker that carries the service."""

from __future__ import annotations

__all__ = ["PromptWorker"]

import signal

from app.service_worker import ServiceWorker
from app.web.service import PromptService
from services.slots.process import TemplateProcess


class PromptWorker(ServiceWorker):
    """A threaded worker that starts and stops the service with itself.

    Attributes
    ----------
    template : `services.slots.process.TemplateProcess` or `None`
        Set by the server before it forks, if it has one.
    """

    extension = "prompt-service"
    template: TemplateProcess | None = None

    def init_signals(self) -> None:
        """Let SIGHUP count as SIGTERM, and leave Ctrl-C to the server."""
        super().init_signals()
        signal.signal(signal.SIGHUP, self.handle_exit)

    def load_wsgi(self) -> None:
        """Load the application and start its service."""
        if self.template is not None:
            self.template.disown()
        super().load_wsgi()

    def start_service(self, service: PromptService) -> None:
        """Start the service with the template process that was made for it."""
        service.start(self.template)

    def is_parent_alive(self) -> bool:
        """Whether the server is there; without it, this is like SIGTERM."""
        alive: bool = super().is_parent_alive()
        if not alive:
            self.begin_shutdown()
        return alive
