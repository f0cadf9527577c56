"""Alerts: send what a pipeline found, as soon as it has found it."""

from __future__ import annotations

__all__ = ["AlertPublisher", "AlertSink", "PublishedAlerts"]

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from models.events import OutboxMessage
from models.visits import FannedOutVisit

_log = logging.getLogger(__name__)

#: Storage class by which a task's output is known to hold alert packets.
ALERT_STORAGE_CLASS = "AlertPackets"


class AlertSink(Protocol):
    """Where alerts go."""

    def send(
        self, packets: Any, visit: FannedOutVisit, exposure: int
    ) -> tuple[str, tuple[OutboxMessage, ...]]:
        """Send, or prepare for sending, the alert packets of an exposure.

        Returns
        -------
        place : `str`
            Where they are, for people; empty if they wait in the outbox.
        messages : `tuple` [`models.events.OutboxMessage`, ...]
            What remains to be sent.
        """


@dataclass
class PublishedAlerts:
    """Alerts of one visit so far.

    Attributes
    ----------
    begun : `bool`
        Whether any may have left the house, also by a sending that failed.
    count : `int`
    files : `list` [`str`]
    messages : `list` [`models.events.OutboxMessage`]
    last_unix : `float` or `None`
        When the last were durable, UTC unix seconds.
    """

    begun: bool = False
    count: int = 0
    files: list[str] = field(default_factory=list)
    messages: list[OutboxMessage] = field(default_factory=list)
    last_unix: float | None = None


class AlertPublisher:
    """Sends the alert packets among a task's outputs.

    Parameters
    ----------
    sink : `AlertSink`
    """

    def __init__(self, *, sink: AlertSink) -> None:
        self._sink = sink

    @staticmethod
    def alert_refs(refs: Iterable[Any]) -> list[Any]:
        """Choose the references to alert packets."""
        return [ref for ref in refs if ref.datasetType.storageClass_name == ALERT_STORAGE_CLASS]

    def publish(self, packets: Any, visit: FannedOutVisit, exposure: int, published: PublishedAlerts) -> None:
        """Send packets and add them to what was published.

        An exposure without alerts is published too, as an empty file or no
        message: whoever waits learns that there is nothing.
        """
        published.begun = published.begun or bool(len(packets))
        place, messages = self._sink.send(packets, visit, exposure)
        published.count += len(packets)
        published.last_unix = time.time()
        published.messages.extend(messages)
        if place:
            published.files.append(place)
        _log.info("Published %d alerts of exposure %d.", len(packets), exposure)
