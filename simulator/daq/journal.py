"""What a data acquisition keeps, so that another process can go on for it."""

from __future__ import annotations

__all__ = ["DaqJournal", "KeptCommand", "KeptMessage", "NoJournal", "RunRecord"]

import itertools
import threading
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from models.streaming.bus import ReceivedMessage
from models.streaming.monitoring import ExecutionStatus
from simulator.daq.identity import RunIdentity
from simulator.daq.progress import BEGINNING, Progress

#: How many commands are remembered by who remembers nothing else.
_MEMORY = 1000


class KeptMessage(NamedTuple):
    """A message that the bus has not confirmed.

    Attributes
    ----------
    number : `int`
        Later messages have greater ones.
    """

    number: int
    destination: str
    text: str


class KeptCommand(NamedTuple):
    """A command that is to be followed."""

    number: int
    message: ReceivedMessage


class RunRecord(BaseModel):
    """An execution and its run, as far as they have come.

    Attributes
    ----------
    execution_id, namespace, sender : `str`
    workflow : `str`
        The `models.streaming.daq.DaqWorkflow`, as JSON.
    start_time : `datetime.datetime`
        Of the execution, UTC.
    registered : `bool`
        Whether the monitor has the execution.
    run_id : `str` or `None`
        None before it has a number.
    progress : `simulator.daq.progress.Progress`
    paused : `str` or `None`
        Why an operator wants data taking to stand still; None if not.
    stopping : `bool`
        Whether an operator wants the run ended.
    status : `models.streaming.monitoring.ExecutionStatus` or `None`
        How the execution ended; None if it has not.
    end_time : `datetime.datetime` or `None`
        When it did, UTC.
    """

    model_config = ConfigDict(frozen=True)

    execution_id: str
    namespace: str
    sender: str
    workflow: str
    start_time: datetime
    registered: bool = False
    run_id: str | None = None
    progress: Progress = BEGINNING
    paused: str | None = None
    stopping: bool = False
    status: ExecutionStatus | None = None
    end_time: datetime | None = None

    @property
    def unannounced_run(self) -> int | None:
        """Number of its run, if the bus knows nothing of that."""
        return int(self.run_id) if self.run_id is not None and not self.progress.told else None

    @property
    def identity(self) -> RunIdentity:
        """Whose run it is, and which; it must have a number.

        Raises
        ------
        ValueError
            Raised if it has none.
        """
        if self.run_id is None:
            raise ValueError(f"the run of execution {self.execution_id} has no number")
        return RunIdentity(
            namespace=self.namespace,
            execution_id=self.execution_id,
            run_id=self.run_id,
            sender=self.sender,
        )


class DaqJournal(Protocol):
    """Keeps runs, messages and commands; what a call has changed is kept,
    all of it, when the call returns.

    May be used from any thread. Methods raise
    `models.errors.TemporarilyUnavailable` if nothing can be written.
    """

    @property
    def lasting(self) -> bool:
        """Whether it outlives the process."""

    def accept(self, message: ReceivedMessage) -> int | None:
        """Keep a command to be followed; return its number, None if it is one
        that was kept before and is settled.
        """

    def waiting(self) -> Sequence[KeptCommand]:
        """Return commands that are not settled, the oldest first."""

    def settle(self, command: int) -> None:
        """Note that a command needs no following any more."""

    def post(self, destination: str, text: str, *, settles: int | None = None) -> int:
        """Keep a message to be sent, which may settle a command; return its
        number.
        """

    def save(
        self, record: RunRecord, *, message: tuple[str, str] | None = None, settles: int | None = None
    ) -> int | None:
        """Keep how an execution is now, and with it a message to be sent, as
        destination and text; return the message's number.
        """

    def runs(self) -> Sequence[RunRecord]:
        """Return executions that are not forgotten, the oldest first."""

    def forget(self, execution_id: str) -> None:
        """Keep an execution no longer."""

    def unsent(self) -> Sequence[KeptMessage]:
        """Return messages that the bus has not confirmed, the oldest first."""

    def sent(self, message: int) -> None:
        """Note that the bus has confirmed a message."""

    def close(self) -> None:
        """Let another process have it."""


class NoJournal:
    """A `DaqJournal` for who is not gone on for; remembers commands only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._settled: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._accepted: dict[int, tuple[str, str]] = {}

    @property
    def lasting(self) -> bool:
        """Whether it outlives the process."""
        return False

    def accept(self, message: ReceivedMessage) -> int | None:
        """Number a command; None if it was settled."""
        with self._lock:
            number = next(self._numbers)
            if message.message_id is not None:
                key = message.message_id, message.text
                if key in self._settled:
                    return None
                self._accepted[number] = key
            return number

    def waiting(self) -> Sequence[KeptCommand]:
        """Return nothing."""
        return ()

    def settle(self, command: int) -> None:
        """Remember a command that was settled."""
        with self._lock:
            key = self._accepted.pop(command, None)
            if key is not None:
                self._settled[key] = None
                while len(self._settled) > _MEMORY:
                    self._settled.popitem(last=False)

    def post(self, destination: str, text: str, *, settles: int | None = None) -> int:
        """Number a message."""
        if settles is not None:
            self.settle(settles)
        return next(self._numbers)

    def save(
        self, record: RunRecord, *, message: tuple[str, str] | None = None, settles: int | None = None
    ) -> int | None:
        """Number a message."""
        if settles is not None:
            self.settle(settles)
        return None if message is None else next(self._numbers)

    def runs(self) -> Sequence[RunRecord]:
        """Return nothing."""
        return ()

    def forget(self, execution_id: str) -> None:
        """Do nothing."""

    def unsent(self) -> Sequence[KeptMessage]:
        """Return nothing."""
        return ()

    def sent(self, message: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
