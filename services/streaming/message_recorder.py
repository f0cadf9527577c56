"""The monitor hears the bus: every message is kept, with what it tells."""

from __future__ import annotations

__all__ = ["BufferedRecorder", "MessageRecorder", "MessageSink"]

import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from models.errors import TemporarilyUnavailable
from models.streaming.bus import ReceivedMessage
from models.streaming.monitoring import BusHeartbeat, RecordedMessage
from models.streaming.strict_json import LONGEST_NAME, read_json, storable_text

_log = logging.getLogger(__name__)

#: Messages that are stored at once at most, and those that may wait to be.
_BATCH = 1000
_WAITING = 20_000
#: Seconds that a message waits for company.
_COMPANY = 0.05
#: Seconds before another try to store.
_PAUSE = 0.5
#: Characters of a body that cannot be read that are kept.
_MOST_TEXT = 100_000


class MessageSink(Protocol):
    """Where messages are kept; see `repos.streaming.monitor_messages`."""

    def record(self, messages: Sequence[RecordedMessage], heartbeats: Sequence[BusHeartbeat] = ()) -> None:
        """Keep messages and what they tell of runs and agents, in one
        transaction. A message whose broker's id is known is not kept again.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database is away; nothing is kept.
        """


class MessageRecorder:
    """Keeps messages one by one: each is stored when `receive` returns, and
    is acknowledged only then.

    What has ``agent_name`` and ``status`` but no ``msg_type`` is a sign of
    life of an agent, and no message; with a ``msg_type`` it is a message like
    any other.

    Parameters
    ----------
    store : `MessageSink`
    """

    def __init__(self, store: MessageSink) -> None:
        self._store = store

    def receive(self, message: ReceivedMessage) -> None:
        """Keep a message; to be handed to a bus's ``subscribe``.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database is away; the bus delivers it again.
        """
        messages, heartbeats = _sorted([_read(message, datetime.now(UTC))])
        try:
            self._store.record(messages, heartbeats)
        except TemporarilyUnavailable:
            raise
        except Exception:
            # It would fail again, and hold up all that come after it.
            _log.exception("A message to %s is not recorded: %.1000s", message.destination, message.text)


class BufferedRecorder:
    """Keeps messages many at once, a moment after they came.

    For the bus of one process, which dies with all who talk over it: `receive`
    returns at once, and waits only while more than can be stored have come.

    Parameters
    ----------
    store : `MessageSink`
    """

    def __init__(self, store: MessageSink) -> None:
        self._store = store
        self._condition = threading.Condition()
        self._waiting: list[tuple[ReceivedMessage, datetime]] = []
        self._storing = 0
        self._stopping = False
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="message-recorder", daemon=True)

    @property
    def trouble(self) -> str | None:
        """Why messages wait, if they do."""
        return self._trouble

    def start(self) -> None:
        """Begin to store."""
        self._thread.start()

    def receive(self, message: ReceivedMessage) -> None:
        """Take a message; to be handed to a bus's ``subscribe``.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it has been stopped.
        """
        with self._condition:
            self._condition.wait_for(lambda: len(self._waiting) < _WAITING or self._stopping)
            if self._stopping:
                raise TemporarilyUnavailable("the recorder of messages has ended")
            self._waiting.append((message, datetime.now(UTC)))
            if len(self._waiting) == 1:
                self._condition.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until all that came is stored; say whether it is.

        Parameters
        ----------
        timeout : `float`
            Seconds.
        """
        with self._condition:
            return self._condition.wait_for(lambda: not self._waiting and not self._storing, timeout)

    def stop(self, timeout: float) -> None:
        """Store what came, for some seconds at most, and end."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._stopping)
                if not self._stopping:
                    self._condition.wait_for(
                        lambda: len(self._waiting) >= _BATCH or self._stopping, timeout=_COMPANY
                    )
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                self._storing = len(batch)
                if not batch:
                    return
            self._keep(batch)
            with self._condition:
                self._storing = 0
                self._condition.notify_all()

    def _keep(self, batch: Sequence[tuple[ReceivedMessage, datetime]]) -> None:
        messages, heartbeats = _sorted([_read(message, received) for message, received in batch])
        while True:
            try:
                self._store.record(messages, heartbeats)
            except TemporarilyUnavailable as error:
                if self._trouble is None:
                    _log.error("Messages of the bus wait to be recorded: %s", error)
                self._trouble = str(error)
                with self._condition:
                    if self._condition.wait_for(lambda: self._stopping, timeout=_PAUSE):
                        _log.error("%d messages of the bus are not recorded: %s", len(batch), error)
                        return
            except Exception:
                # Whatever it is: without this thread nothing would be recorded.
                if len(batch) > 1:
                    for one in batch:
                        self._keep([one])
                else:
                    _log.exception("A message is not recorded: %.1000s", batch[0][0].text)
                return
            else:
                self._trouble = None
                return


def _sorted(
    read: Sequence[RecordedMessage | BusHeartbeat],
) -> tuple[list[RecordedMessage], list[BusHeartbeat]]:
    messages = [one for one in read if isinstance(one, RecordedMessage)]
    heartbeats = [one for one in read if isinstance(one, BusHeartbeat)]
    return messages, heartbeats


def _read(message: ReceivedMessage, received: datetime) -> RecordedMessage | BusHeartbeat:
    common: dict[str, Any] = {
        "sent_at": received,
        "queue_name": message.destination,
        "broker_id": message.message_id,
    }
    try:
        body = read_json(message.text)
        if not isinstance(body, dict):
            raise ValueError(f"it is a JSON {type(body).__name__}, not an object")
    except ValueError as error:
        return RecordedMessage(
            **common,
            is_successful=False,
            error_message=storable_text(str(error)),
            message_metadata={"text": storable_text(message.text, longest=_MOST_TEXT)},
        )
    agent, status, kind = (_text(body.get(name)) for name in ("agent_name", "status", "msg_type"))
    if kind is None and agent and status:
        return BusHeartbeat(
            agent_name=agent,
            agent_type=_text(body.get("agent_type")) or "other",
            status=status,
            received=received,
        )
    return RecordedMessage(
        **common,
        message_type=kind,
        sender_agent=_text(body.get("sender")),
        recipient_agent=_text(body.get("recipient")),
        namespace=_text(body.get("namespace")),
        execution_id=_text(body.get("execution_id")),
        run_id=_text(body.get("run_id")),
        message_content=body,
    )


def _text(value: Any) -> str | None:
    """Return what a field says, as text that every database takes; the whole
    of it is in the message's content.
    """
    if value is None or isinstance(value, dict | list):
        return None
    return storable_text(str(value), longest=LONGEST_NAME)
