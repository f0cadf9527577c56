"""The life of an agent: messages in, work, messages out, signs of life.

What an agent does is its `AgentLogic`; here is what all have in common. A
message is in the journal before the bus hears that it came, and stays there
until it has taken effect. The threads of the bus never wait for work: one
thread of the agent applies messages and does what is due, another tells the
monitor how it is.
"""

from __future__ import annotations

__all__ = ["Agent", "AgentFacts", "AgentLogic", "take_name"]

import json
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from models.errors import InvalidMessage, PromptProcessingError, TemporarilyUnavailable
from models.streaming.bus import JournalEntry, ReceivedMessage
from models.streaming.messages import Message, read_message
from models.streaming.monitoring import AgentReport, AgentState, AgentStatus
from models.streaming.names import agent_name
from services.outbox import OutboxDrain
from services.streaming.bus import Bus
from services.streaming.journal import Journal
from services.streaming.monitor import Monitor
from services.streaming.pulse import HEARTBEAT, Pulse
from services.streaming.upkeep import Upkeep

_log = logging.getLogger(__name__)

#: Messages that are applied at once.
_HANDFUL = 1000
#: Seconds between looks for what messages did not tell.
_RECOVERY = 30.0
#: Seconds before a second try, at first and at most.
_BACK_OFF = (0.2, 10.0)
#: How often a message may fail in a way that nobody foresaw.
_TRIES = 3
#: Seconds without a message after which those that waited have been taken, and
#: seconds after which they have though more keep coming.
_QUIET = 1.0
_LONGEST_QUIET = 20.0
#: Seconds between looks whether the bus is there for the first time.
_LOOK = 0.05
#: Where an agent's journal has the number of its name.
_NUMBER = "agent_id"


@dataclass(frozen=True)
class AgentFacts:
    """How an agent is doing.

    Attributes
    ----------
    description : `str`
        For people.
    current_stf_count, total_stf_processed : `int`
        Files in hand, and done with since the start.
    trouble : `str` or `None`
        What keeps it from its work, if anything.
    """

    state: AgentState = AgentState.READY
    description: str = ""
    current_stf_count: int = 0
    total_stf_processed: int = 0
    trouble: str | None = None


class AgentLogic(Protocol):
    """What an agent does. Its methods are called from one thread."""

    def receive(self, messages: Sequence[Message]) -> None:
        """Apply messages, in order, to state that lasts.

        Nothing is asked of anybody here but the agent's database, and the
        same message may come again.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database is away: all of them come again.
        models.errors.InvalidMessage
            Raised if one cannot take effect. It is set aside if it was alone;
            else all come again, one by one.
        """

    def advance(self) -> float | None:
        """Do what is due, a second's worth or so.

        Returns
        -------
        seconds : `float` or `None`
            When more is due; None: when a message comes.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if nothing could be done.
        """

    def recover(self) -> None:
        """Look for what messages did not tell, or told while nobody listened.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it cannot be looked for now.
        """

    def facts(self) -> AgentFacts:
        """Say how it is doing; from any thread, without waiting."""


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
        quiet: float = _QUIET,
        patience: float = _LONGEST_QUIET,
    ) -> None:
        self.name = name
        self._agent_type = agent_type
        self._namespace = namespace
        self._bus = bus
        self._journal = journal
        self._logic = logic
        self._drain = drain
        self._upkeep = upkeep
        self._recovery = recovery
        self._quiet = quiet
        self._patience = patience
        self._last_message = time.monotonic()
        self._without_bus = time.monotonic()
        self._draining = False
        self._trouble: str | None = None
        self._odd: dict[int, int] = {}
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
        deadline = time.monotonic() + timeout
        self._pulse.end()
        if self._upkeep is not None:
            self._upkeep.end()
        self._stop.set()
        self._wake.set()
        if self._worker.is_alive():
            self._worker.join(timeout)
        if self._draining:
            self._drain.stop(max(0.0, deadline - time.monotonic()))
        self._bus.stop(max(0.1, deadline - time.monotonic()))
        self._pulse.join(max(0.1, deadline - time.monotonic()))
        if self._upkeep is not None:
            self._upkeep.join(max(0.1, deadline - time.monotonic()))

    def _take_in(self, message: ReceivedMessage) -> None:
        """Keep a message that is for us; called by the bus, which acknowledges
        it afterwards.
        """
        if self._is_ours(message):
            self._journal.receive(message)
            self._last_message = time.monotonic()
            self._wake.set()

    def _is_ours(self, message: ReceivedMessage) -> bool:
        try:
            body = json.loads(message.text)
        except (ValueError, RecursionError):
            _log.error("A message on %s is not JSON: %.200r", message.destination, message.text)
            return False
        # As all agents in the field: a message that names no namespace is nobody's.
        return isinstance(body, dict) and body.get("namespace") == self._namespace

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
                busy = self._apply()
                if not busy and time.monotonic() - looked > self._recovery:
                    looked = time.monotonic()
                    self._logic.recover()
                due = 0.0 if busy else self._logic.advance()
                due = self._start_drain(due)
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

    def _start_drain(self, due: float | None) -> float | None:
        """Start to send, once it is known what earlier lives sent already.

        A message that was sent, but whose row outlived its sender, has come
        back to us among those that waited at the bus.
        """
        if self._draining:
            self._drain.wake()
            return due
        if self._drain.counts().get("waiting"):
            now = time.monotonic()
            if not self._bus.connected:
                self._last_message = self._without_bus = now
            # A run that sends without pause must not hold them back to its end.
            if now - self._last_message < self._quiet and now - self._without_bus < self._patience:
                return self._quiet / 4 if due is None else min(due, self._quiet / 4)
        self._draining = True
        self._drain.start()
        return due

    def _apply(self) -> bool:
        """Apply messages that wait; say whether there were any."""
        entries = self._journal.waiting(_HANDFUL)
        if not entries:
            return False
        good = [(entry, message) for entry in entries if (message := self._read(entry)) is not None]
        try:
            self._logic.receive([message for _, message in good])
        except TemporarilyUnavailable:
            raise
        except Exception:
            for entry, message in good:
                self._apply_one(entry, message)
        else:
            self._journal.settle([entry.id for entry, _ in good])
        return True

    def _apply_one(self, entry: JournalEntry, message: Message) -> None:
        try:
            self._logic.receive([message])
        except TemporarilyUnavailable:
            raise
        except InvalidMessage as error:
            self._refuse(entry, str(error))
        except Exception as error:
            tries = self._odd[entry.id] = self._odd.get(entry.id, 0) + 1
            if tries < _TRIES:
                raise
            _log.exception("%s fails at a %s message.", self.name, message.msg_type)
            self._refuse(entry, f"{type(error).__name__}: {error}")
        else:
            self._journal.settle([entry.id])

    def _read(self, entry: JournalEntry) -> Message | None:
        try:
            return read_message(entry.text)
        except InvalidMessage as error:
            self._refuse(entry, str(error))
            return None

    def _refuse(self, entry: JournalEntry, reason: str) -> None:
        _log.error("%s sets a message aside: %s. It says: %.300s", self.name, reason, entry.text)
        self._odd.pop(entry.id, None)
        self._journal.refuse(entry.id, reason)

    def _describe(self) -> AgentReport:
        facts = self._logic.facts()
        trouble = facts.trouble or self._trouble or self._drain.trouble
        connected = self._bus.connected
        state = facts.state if connected or facts.state is AgentState.EXITED else AgentState.STARTING
        description = facts.description or f"{self._agent_type} agent."
        return AgentReport(
            instance_name=self.name,
            agent_type=self._agent_type,
            status=AgentStatus.OK if connected and not trouble else AgentStatus.WARNING,
            description=f"{description} {trouble}" if trouble else description,
            mq_connected=connected,
            pid=os.getpid(),
            hostname=socket.gethostname(),
            operational_state=state,
            namespace=self._namespace,
            current_stf_count=facts.current_stf_count,
            total_stf_processed=facts.total_stf_processed,
            metadata={} if self._upkeep is None else dict(self._upkeep.backlog),
        )
