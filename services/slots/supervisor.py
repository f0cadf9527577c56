"""Keeps a template process at hand for the parent."""

from __future__ import annotations

__all__ = ["TemplateSupervisor"]

import logging
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from services.slots.process import SlotProcess, SlotUnavailable, TemplateProcess
from services.slots.protocol import (
    Exited,
    ForkSlot,
    HowExited,
    OpenControl,
    SlotBroken,
    SlotReady,
    TemplateReady,
)

_log = logging.getLogger(__name__)


class TemplateSupervisor:
    """Starts slots from a template process, which is started again if it died.

    Safe to use from several threads.

    Parameters
    ----------
    launch : callable
        Starts a template process.
    patience : `float`
        Seconds that a template process may take to get ready.
    """

    def __init__(
        self,
        *,
        launch: Callable[[], TemplateProcess],
        patience: float = 120.0,
    ) -> None:
        self._launch = launch
        self._template: TemplateProcess | None = None
        self._adopted: TemplateProcess | None = None
        self._patience = patience
        self._lock = threading.Lock()
        self._control: Connection | None = None
        self._ready: TemplateReady | None = None
        self._closed = False

    def adopt(self, template: TemplateProcess) -> None:
        """Use a template process that runs already and belongs to somebody
        else, as long as it lives.
        """
        self._template = self._adopted = template

    @property
    def ready(self) -> TemplateReady | None:
        """The present template process, if it is ready."""
        return self._ready

    def start_slot(self, order: ForkSlot, timeout: float) -> SlotProcess:
        """Start a slot and wait until it is warm.

        Raises
        ------
        services.slots.process.SlotUnavailable
            Raised if it cannot be had within `timeout` seconds, or at all.
        """
        deadline = time.monotonic() + timeout
        template = self._ensure()
        connection = template.connect(order)
        try:
            if not connection.poll(max(0.0, deadline - time.monotonic())):
                raise SlotUnavailable(f"slot {order.number} was not ready after {timeout:.0f} s")
            answer = connection.recv()
        except (EOFError, OSError) as error:
            connection.close()
            raise SlotUnavailable(f"slot {order.number} ended while it was set up") from error
        except SlotUnavailable:
            connection.close()
            raise
        match answer:
            case SlotReady(pid=pid, deployment_id=deployment_id):
                return SlotProcess(pid=pid, deployment_id=deployment_id, connection=connection)
            case SlotBroken(detail=detail):
                connection.close()
                raise SlotUnavailable(f"slot {order.number} could not be set up: {detail}")
        connection.close()
        raise SlotUnavailable(f"slot {order.number} gave a strange answer: {answer!r}")

    def how_exited(self, pid: int, timeout: float) -> int | None:
        """Return a dead slot's exit code, negative for a signal; `None` if it
        cannot be told.
        """
        with self._lock:
            if self._control is None:
                return None
            deadline = time.monotonic() + timeout
            try:
                self._control.send(HowExited(pid=pid))
                while self._control.poll(max(0.0, deadline - time.monotonic())):
                    answer = self._control.recv()
                    if isinstance(answer, Exited) and answer.pid == pid:
                        return answer.code
            except (EOFError, OSError):
                self._forget()
            return None

    def close(self) -> None:
        """Let go of the template process, and end it if it was started here."""
        with self._lock:
            self._closed = True
            self._forget()
            if self._template is not None and self._template is not self._adopted:
                self._template.stop()
            self._template = None

    def _ensure(self) -> TemplateProcess:
        """Return a template process that is ready."""
        with self._lock:
            if self._closed:
                raise SlotUnavailable("the service is shutting down")
            if self._control is not None and _is_closed(self._control):
                self._forget()
            if self._control is None:
                self._control, self._ready = self._open()
            assert self._template is not None
            return self._template

    def _open(self) -> tuple[Connection, TemplateReady]:
        if self._template is not None:
            try:
                return self._greet(self._template)
            except SlotUnavailable as error:
                _log.error("The template process must be started again: %s", error)
                if self._template is not self._adopted:
                    self._template.stop(timeout=0.0)
                self._template = None
        self._template = self._launch()
        return self._greet(self._template)

    def _greet(self, template: TemplateProcess) -> tuple[Connection, TemplateReady]:
        connection = template.connect(OpenControl())
        try:
            if connection.poll(self._patience):
                ready = connection.recv()
                if isinstance(ready, TemplateReady):
                    return connection, ready
            reason = f"it was not ready after {self._patience:.0f} s"
        except (EOFError, OSError):
            reason = "it ended while it was set up; its log says why"
        connection.close()
        raise SlotUnavailable(f"the template process could not be used: {reason}")

    def _forget(self) -> None:
        if self._control is not None:
            self._control.close()
        self._control = None
        self._ready = None


def _is_closed(connection: Connection) -> bool:
    """Whether the other end is gone; an answer that came too late is dropped."""
    try:
        while connection.poll(0):
            connection.recv()
    except (EOFError, OSError):
        return True
    return False
