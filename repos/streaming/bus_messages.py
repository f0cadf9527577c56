"""What all forms of the bus do the same way with a message."""

from __future__ import annotations

__all__ = ["Receiver", "check_destination", "check_message", "hand_over", "is_topic"]

import logging
from collections.abc import Callable

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.bus import ReceivedMessage

_log = logging.getLogger(__name__)

#: Who takes messages; see `services.streaming.bus.Bus.subscribe`.
Receiver = Callable[[ReceivedMessage], None]

_TOPIC, _QUEUE = "/topic/", "/queue/"
#: Pauses, seconds, before a message that was not taken is offered again: they
#: double from the first to the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0


def is_topic(destination: str) -> bool:
    """Say whether everybody who listens gets each message, not one of them."""
    return destination.startswith(_TOPIC)


def check_destination(destination: str) -> None:
    """Check that a message can be sent there.

    Raises
    ------
    models.errors.InvalidMessage
        Raised if it is neither ``/topic/...`` nor ``/queue/...``.
    """
    if destination in (_TOPIC, _QUEUE) or not destination.startswith((_TOPIC, _QUEUE)):
        raise InvalidMessage(
            f"destination {destination!r} must start with {_QUEUE} or {_TOPIC}, and name one"
        )
    if any(ord(character) < ord(" ") for character in destination):
        raise InvalidMessage(f"destination {destination!r} has a control character")


def check_message(destination: str, text: str) -> None:
    """Check that a message can be sent.

    It has no length on the wire, so that brokers take it for text, and ends
    at the first NUL.

    Raises
    ------
    models.errors.InvalidMessage
        Raised if it cannot.
    """
    check_destination(destination)
    if "\0" in text:
        raise InvalidMessage(f"the message to {destination} has a NUL, which would end it on the bus")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidMessage(f"the message to {destination} is no UTF-8 text: {error}") from error


def hand_over(receive: Receiver, message: ReceivedMessage, *, wait: Callable[[float], bool]) -> bool:
    """Offer a message until it is taken, so that those behind it stay behind.

    Parameters
    ----------
    receive : callable
        Takes it by returning.
    message : `models.streaming.bus.ReceivedMessage`
    wait : callable
        Waits for that many seconds, or until it says True: give up.

    Returns
    -------
    taken : `bool`
    """
    pause = _FIRST_PAUSE
    first = True
    while True:
        try:
            receive(message)
        except Exception as error:
            # Whatever it is: the message is not safe yet and must not be lost.
            if first:
                expected = isinstance(error, TemporarilyUnavailable)
                _log.warning(
                    "A message of %s was not taken, and is offered again: %s",
                    message.destination,
                    error,
                    exc_info=not expected,
                )
            first = False
        else:
            if not first:
                _log.info("The message of %s was taken now", message.destination)
            return True
        if wait(pause):
            return False
        pause = min(2 * pause, _LONGEST_PAUSE)
