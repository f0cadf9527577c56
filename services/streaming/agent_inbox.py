"""Messages that came for an agent, from their arrival until they have taken effect."""

from __future__ import annotations

__all__ = ["Inbox"]

import json
import logging

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.bus import JournalEntry, ReceivedMessage
from models.streaming.messages import Message, read_message
from services.streaming.agent_logic import AgentLogic
from services.streaming.journal import Journal

_log = logging.getLogger(__name__)

#: Messages that are applied at once.
_HANDFUL = 1000
#: How often a message may fail in a way that nobody foresaw.
_TRIES = 3


class Inbox:
    """Keeps messages in the journal, and has them applied.

    Parameters
    ----------
    name, namespace : `str`
        Of the agent. Messages of other namespaces, and of none, are not for
        it.
    journal : `services.streaming.journal.Journal`
    logic : `services.streaming.agent_logic.AgentLogic`
    """

    def __init__(self, *, name: str, namespace: str, journal: Journal, logic: AgentLogic) -> None:
        self._name = name
        self._namespace = namespace
        self._journal = journal
        self._logic = logic
        self._odd: dict[int, int] = {}

    def take_in(self, message: ReceivedMessage) -> bool:
        """Keep a message if it is for us; say whether it is. It is on disk
        when this returns.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it cannot be kept.
        """
        if not self._is_ours(message):
            return False
        self._journal.receive(message)
        return True

    def _is_ours(self, message: ReceivedMessage) -> bool:
        try:
            body = json.loads(message.text)
        except (ValueError, RecursionError):
            _log.error("A message on %s is not JSON: %.200r", message.destination, message.text)
            return False
        # As all agents in the field: a message that names no namespace is nobody's.
        return isinstance(body, dict) and body.get("namespace") == self._namespace

    def apply(self) -> bool:
        """Apply messages that wait; say whether there were any.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the agent's database is away.
        Exception
            Raised if a message fails as nobody foresaw; it comes again, a few
            times.
        """
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
            _log.exception("%s fails at a %s message.", self._name, message.msg_type)
            self._refuse(entry, f"{type(error).__name__}: {error}")
        else:
            self._odd.pop(entry.id, None)
            self._journal.settle([entry.id])

    def _read(self, entry: JournalEntry) -> Message | None:
        try:
            return read_message(entry.text)
        except InvalidMessage as error:
            self._refuse(entry, str(error))
            return None

    def _refuse(self, entry: JournalEntry, reason: str) -> None:
        _log.error("%s sets a message aside: %s. It says: %.300s", self._name, reason, entry.text)
        self._odd.pop(entry.id, None)
        self._journal.refuse(entry.id, reason)
