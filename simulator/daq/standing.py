"""What the monitor is to know of the agent: its name, and how it is."""

from __future__ import annotations

__all__ = ["Standing"]

import logging
import os
import socket
import threading
from collections.abc import Callable

from models.streaming.monitoring import AgentReport, AgentState, AgentStatus
from models.streaming.names import agent_name
from simulator.daq.bus import DaqBus
from simulator.daq.monitor import DaqMonitor

_log = logging.getLogger(__name__)


class Standing:
    """Name and state of an agent; may be used from any thread.

    Parameters
    ----------
    bus : `simulator.daq.bus.DaqBus`
    monitor : `simulator.daq.monitor.DaqMonitor`
        Numbers the agent.
    namespace, user, agent_type : `str`
    describe : callable
        Says in a sentence what the agent is doing.
    """

    def __init__(
        self,
        *,
        bus: DaqBus,
        monitor: DaqMonitor,
        namespace: str,
        user: str,
        agent_type: str,
        describe: Callable[[], str],
    ) -> None:
        self._bus = bus
        self._monitor = monitor
        self._namespace = namespace
        self._user = user
        self._agent_type = agent_type
        self._describe = describe
        self._naming = threading.Lock()
        self._name: str | None = None
        self._seen_bus = False
        self.state = AgentState.STARTING

    @property
    def name(self) -> str:
        """By which it signs; with the process's id while the monitor gave none."""
        return self._name or agent_name(self._agent_type, self._user, f"p{os.getpid()}")

    def keep_name(self, name: str) -> None:
        """Be who the last process was."""
        with self._naming:
            self._name = name

    def take_name(self) -> None:
        """Have the monitor number this agent, unless it has a name.

        Raises
        ------
        models.errors.TemporarilyUnavailable, models.errors.InvalidMessage
            Raised if the monitor does not.
        """
        with self._naming:
            if self._name is None:
                number = self._monitor.next_agent_id()
                self._name = agent_name(self._agent_type, self._user, number)
                _log.info("This is %s.", self._name)

    def report(self) -> AgentReport | None:
        """Return a sign of life as of now; None if it ends without a name.

        Raises
        ------
        models.errors.TemporarilyUnavailable, models.errors.InvalidMessage
            Raised if the monitor gives no name.
        """
        if self._name is None:
            if self.state is AgentState.EXITED:
                return None
            self.take_name()
        # Once each: both change under our hands.
        state, connected = self.state, self._bus.connected
        exited = state is AgentState.EXITED
        self._seen_bus = self._seen_bus or connected
        # Who waits for it to be ready may send commands then.
        if state is AgentState.READY and not self._seen_bus:
            state = AgentState.STARTING
        status = AgentStatus.EXITED if exited else AgentStatus.OK if connected else AgentStatus.WARNING
        return AgentReport(
            instance_name=self.name,
            agent_type=self._agent_type,
            status=status,
            description=self._describe(),
            mq_connected=connected,
            pid=os.getpid(),
            hostname=socket.gethostname(),
            operational_state=state,
            namespace=self._namespace,
        )
