"""Broker and monitor, as operators use them."""

from __future__ import annotations

__all__ = ["BrokerLink", "linked"]

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from app.streaming.bus_factory import create_stomp_bus
from config.streaming.settings import StreamingSettings
from models.errors import TemporarilyUnavailable
from models.streaming.messages import COMMAND_QUEUE, Message
from models.streaming.monitoring import AgentState, AgentStatus
from models.streaming.names import DAQ_TYPE
from repos.streaming.monitor_client import MonitorClient
from repos.streaming.monitor_http import MonitorHttp
from repos.streaming.monitor_overview import HttpOverview, Overview
from repos.streaming.stomp_bus import StompBus

#: Seconds until a broker that does not answer is an error.
_CONNECT = 10.0
_GLANCE = 0.1


class BrokerLink:
    """A connection to both.

    Parameters
    ----------
    settings : `config.streaming.settings.StreamingSettings`

    Attributes
    ----------
    monitor : `services.streaming.monitor.Monitor`
    overview : `repos.streaming.monitor_overview.Overview`
    """

    def __init__(self, settings: StreamingSettings) -> None:
        self._monitor_url = settings.monitor_url
        http = MonitorHttp(str(settings.monitor_url), token=settings.api_token.get_secret_value())
        self.monitor = MonitorClient(http)
        self.overview: Overview = HttpOverview(http)
        self._bus: StompBus = create_stomp_bus(settings, client_id=f"cmd-sender-{os.getpid()}")
        self._where = f"{settings.activemq_host}:{settings.activemq_port}"

    def connect(self) -> None:
        """Connect to the broker.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it is not there.
        """
        self._bus.start()
        deadline = time.monotonic() + _CONNECT
        while not self._bus.connected:
            if time.monotonic() > deadline:
                why = self._bus.trouble or "it does not answer"
                raise TemporarilyUnavailable(
                    f"the broker at {self._where} does not let us in: {why}; see ACTIVEMQ_HOST, "
                    "ACTIVEMQ_PORT, ACTIVEMQ_USER, ACTIVEMQ_PASSWORD and ACTIVEMQ_USE_SSL"
                )
            time.sleep(_GLANCE)

    def command(self, message: Message) -> None:
        """Send a command."""
        self._bus.send(COMMAND_QUEUE, message.to_text())

    def runners(self) -> dict[str, str]:
        """Return namespaces that are served, and by which runner."""
        return {str(row.get("namespace")): str(row.get("instance_name")) for row in self._runners()}

    def check_idle(self, namespace: str) -> None:
        """Check that a runner of a namespace has no run: it takes one at a time.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if each has one; the text says which.
        """
        rows = [row for row in self._runners() if row.get("namespace") == namespace]
        if rows and all(row.get("operational_state") == AgentState.PROCESSING for row in rows):
            raise TemporarilyUnavailable(
                f"{rows[0].get('instance_name')} is busy ({rows[0].get('description')}); "
                "wait for its end, or end it with `testbed stop`"
            )

    def check_served(self, namespace: str) -> None:
        """Check that somebody runs workflows of a namespace.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if nobody does; the text says what is served.
        """
        served = self.runners()
        if namespace not in served:
            others = ", ".join(f"{name} (by {runner})" for name, runner in sorted(served.items())) or "none"
            raise TemporarilyUnavailable(
                f"nobody runs workflows of the namespace {namespace}; namespaces that are served: {others}"
            )

    def _runners(self) -> list[Mapping[str, Any]]:
        try:
            rows = self.overview.agents()
        except TemporarilyUnavailable as error:
            raise TemporarilyUnavailable(
                f"{error}. Asked at {self._monitor_url}, as SWF_MONITOR_URL says; "
                "`prompt-processing monitor` starts one"
            ) from error
        return [
            row
            for row in rows
            if row.get("agent_type") == DAQ_TYPE
            and row.get("status") != AgentStatus.EXITED
            # The monitor takes minutes to know of one that was killed.
            and not _died_here(row)
        ]

    def close(self) -> None:
        """Let go of both."""
        self._bus.stop(_CONNECT)
        self.monitor.close()


def _died_here(row: Mapping[str, Any]) -> bool:
    """Say whether an agent was a process of this machine, and is none any more."""
    process = row.get("pid")
    if not process or row.get("hostname") != socket.gethostname():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):
        # Somebody else's, or no number of a process here.
        return False
    return False


@contextmanager
def linked(settings: StreamingSettings) -> Iterator[BrokerLink]:
    """Connect to broker and monitor for a while.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if the broker is not there.
    """
    link = BrokerLink(settings)
    try:
        link.connect()
        yield link
    finally:
        link.close()
