"""The life of an agent: messages in, work, messages out, signs of life.

What an agent does is its `AgentLogic`; here is what all have in common. A
message is in the journal before the bus hears that it came, and stays there
until it has taken effect. The threads of the bus never wait for work: one
thread of the agent applies messages and does what is due, another tells the
monitor how it is.
"""

from __future__ import annotations

__all__ = ["Agent", "take_name"]

import logging
import os
import random
import socket
import threading
import time

from models.errors import PromptProcessingError
from models.streaming.bus import ReceivedMessage
from models.streaming.monitoring import AgentReport, AgentState, AgentStatus
from models.streaming.names import agent_name
from services.outbox import OutboxDrain
from services.streaming.agent_inbox import Inbox
from services.streaming.agent_logic import AgentLogic
from services.streaming.agent_sending import LONGEST_QUIET, QUIET, Sending
from services.streaming.bus import Bus
from services.streaming.journal import Journal
from services.streaming.monitor import Monitor
from services.streaming.pulse import HEARTBEAT, Pulse
from services.streaming.upkeep import Upkeep

_log = logging.getLogger(__name__)

#: Seconds between looks for what messages did not tell.
_RECOVERY = 30.0
#: Seconds before a second try, at first and at most.
_BACK_OFF = (0.2, 10.0)
#: Seconds between looks whether the bus is there for the first time.
_LOOK = 0.05
#: Where an agent's journal has the number of its name.
_NUMBER = "agent_id"


def take_name(*, agent_type: str, user: str, monitor: Monitor, journal: Journal) -> str:
    """Return the name of an agent that starts.

    Its number is the monitor's to give. While the monitor is away, the agent
    goes on under the name it had, or under its process id.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if the agent's own database is away.
    """
    number: str | None
    try:
        number = str(monitor.next_agent_id())
    except PromptProcessingError as error:
        number = journal.recall(_NUMBER)
        _log.warning("The monitor gave no agent id, %s; the name has %s.", error, number or "the process id")
    else:
        journal.remember(_NUMBER, number)
    return agent_name(agent_type, user, number or f"p{os.getpid()}")


class Agent:
    """Runs an `AgentLogic`.

    Parameters
    ----------
    name, agent_type, namespace : `str`
        As the monitor knows it. Messages of other namespaces, and of none,
        are not for it.
    destination : `str`
        What it listens to.
    subscription : `str`
        Name of its durable subscription.
    bus : `services.streaming.bus.Bus`
        Not started yet.
    journal : `services.streaming.journal.Journal`
    logic : `AgentLogic`
    monitor : `services.streaming.monitor.Monitor`
    drain : `services.outbox.OutboxDrain`
        Sends what the logic stored.
    upkeep : `services.streaming.upkeep.Upkeep`, optional
        Looks after journal and outbox.
    heartbeat, recovery, quiet : `float`, optional
        Seconds between signs of life, between looks for what was missed, and
        without a message until leftovers of an earlier life are sent.
    patience : `float`, optional
        Seconds with the bus until they are sent though messages keep coming.
    """

    def __init__(
        self,
        *,
        name: str,
        agent_type: str,
        namespace: str,
        destination: str,
        subscription: str,
        bus: Bus,
        journal: Journal,
        logic: AgentLogic,
        monitor: Monitor,
        drain: OutboxDrain,
        upkeep: Upkeep | None = None,
        heartbeat: float = HEARTBEAT,
        recovery: float = _RECOVERY,
        quiet: float = QUIET,
        patience: float = LONGEST_QUIET,
    ) -> None:
        self.name = name
        self._agent_type = agent_type
        self._namespace = namespace
        self._bus = bus
        self._logic = logic
        self._upkeep = upkeep
        self._recovery = recovery
        self._inbox = Inbox(name=name, namespace=namespace, journal=journal, logic=logic)
        self._sending = Sending(drain=drain, bus=bus, quiet=quiet, patience=patience)
        self._trouble: str | None = None
        self._deadline = float("inf")
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._worker = threading.Thread(target=self._work, name=f"{agent_type} work", daemon=True)
        self._pulse = Pulse(
            name=name,
            role=agent_type,
            subscription=f"{name}-{destination}",
            monitor=monitor,
            describe=self._describe,
            interval=heartbeat,
        )
        bus.subscribe(destination, self._take_in, durable=subscription)

    def start(self) -> None:
        """Begin; nothing is waited for."""
        self._bus.start()
        self._worker.start()
        self._pulse.start()
        if self._upkeep is not None:
            self._upkeep.start()

    def wake(self) -> None:
        """Have the logic look at once whether something is due."""
        self._wake.set()

    def stop(self, timeout: float) -> None:
        """End after the work in hand; what waits is there at the next start."""
        self._deadline = deadline = time.monotonic() + timeout
        self._pulse.end()
        if self._upkeep is not None:
            self._upkeep.end()
        self._stop.set()
        self._wake.set()
        if self._worker.is_alive():
            self._worker.join(timeout)
        self._sending.stop(max(0.0, deadline - time.monotonic()))
        self._bus.stop(max(0.1, deadline - time.monotonic()))
        self._pulse.join(max(0.1, deadline - time.monotonic()))
        if self._upkeep is not None:
            self._upkeep.join(max(0.1, deadline - time.monotonic()))

    def _take_in(self, message: ReceivedMessage) -> None:
        """Keep a message that is for us; called by the bus, which acknowledges
        it afterwards.
        """
        if self._inbox.take_in(message):
            self._sending.heard()
            self._wake.set()

    def _work(self) -> None:
        # A broker lets in one agent of a role and namespace. One that it keeps
        # out must not touch what the other works on.
        while not self._bus.connected:
            if self._stop.wait(_LOOK):
                return
        attempt = 0
        looked = float("-inf")
        while not self._stop.is_set():
            self._wake.clear()
            try:
                busy = self._inbox.apply()
                if not busy and time.monotonic() - looked > self._recovery:
                    looked = time.monotonic()
                    self._logic.recover()
                due = 0.0 if busy else self._logic.advance()
                if (pause := self._sending.go()) is not None:
                    due = pause if due is None else min(due, pause)
            except Exception as error:
                # Whatever it is: without this thread nothing would be done.
                foreseen = isinstance(error, PromptProcessingError)
                self._trouble = str(error) or type(error).__name__
                if attempt == 0 or not foreseen:
                    _log.error("%s cannot go on: %s", self.name, error, exc_info=not foreseen)
                first, longest = _BACK_OFF
                due = min(longest, first * 2 ** min(attempt, 8)) * random.uniform(0.75, 1.25)
                attempt += 1
                self._stop.wait(due)
                continue
            if attempt:
                _log.info("%s goes on.", self.name)
            attempt, self._trouble = 0, None
            self._wake.wait(self._recovery if due is None else min(due, self._recovery))
        try:
            self._logic.finish(max(0.0, (self._deadline - time.monotonic()) / 2))
            self._sending.go()
        except Exception as error:
            _log.warning("%s leaves some of its work to the next start: %s", self.name, error)

    def _describe(self) -> AgentReport:
        facts = self._logic.facts()
        trouble = facts.trouble or self._trouble or self._sending.trouble
        connected = self._bus.connected
        state = facts.state if connected or facts.state is AgentState.EXITED else AgentState.STARTING
        description = facts.description or f"{self._agent_type} agent."
        return AgentReport(
            instance_name=self.name,
            agent_type=self._agent_type,
            status=AgentStatus.OK if connected and not trouble else AgentStatus.WARNING,
            description=f"{description.removesuffix('.')}; {trouble}" if trouble else description,
            mq_connected=connected,
            pid=os.getpid(),
            hostname=socket.gethostname(),
            operational_state=state,
            namespace=self._namespace,
            current_stf_count=facts.current_stf_count,
            total_stf_processed=facts.total_stf_processed,
            metadata={} if self._upkeep is None else dict(self._upkeep.backlog),
        )
