"""Alerts: send what a pipeline found, as soon as it has found it."""

from __future__ import annotations

__all__ = ["AlertPublisher", "AlertSink", "CopyingAlertSink", "PublishedAlerts"]

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

    @property
    def immediate(self) -> bool:
        """Whether others may see alerts as soon as they are sent; otherwise
        they are only prepared, and go out with the visit's result.
        """

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


class CopyingAlertSink:
    """Alerts to one place, and a copy of them to another.

    Parameters
    ----------
    sink : `AlertSink`
        Where they must go.
    copies : `AlertSink`
        Where they should go too; its failures are logged and change nothing,
        so that a full disk keeps no alert from its readers.
    """

    def __init__(self, sink: AlertSink, *, copies: AlertSink) -> None:
        self._sink = sink
        self._copies = copies

    @property
    def immediate(self) -> bool:
        """Whether either shows alerts at once."""
        return self._sink.immediate or self._copies.immediate

    def send(
        self, packets: Any, visit: FannedOutVisit, exposure: int
    ) -> tuple[str, tuple[OutboxMessage, ...]]:
        """Send to both."""
        place, messages = self._sink.send(packets, visit, exposure)
        try:
            copy, more = self._copies.send(packets, visit, exposure)
        except Exception:  # of a disk, or of whatever copies are made on
            _log.exception("There is no copy of the %d alerts of exposure %d.", len(packets), exposure)
            return place, messages
        return place or copy, (*messages, *more)


@dataclass
class PublishedAlerts:
    """Alerts of one visit so far.

    Attributes
    ----------
    begun : `bool`
        Whether any may have left the house, also by a sending that failed.
        Those that wait have not.
    count : `int`
    files : `list` [`str`]
    messages : `list` [`models.events.OutboxMessage`]
        Alerts that wait for the visit's result.
    last_unix : `float` or `None`
        When the last were durable, UTC unix seconds; None if all wait.
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

    @property
    def immediate(self) -> bool:
        """Whether others may see alerts as soon as they are published."""
        return self._sink.immediate

    @staticmethod
    def alert_refs(refs: Iterable[Any]) -> list[Any]:
        """Choose the references to alert packets."""
        return [ref for ref in refs if ref.datasetType.storageClass_name == ALERT_STORAGE_CLASS]

    def publish(self, packets: Any, visit: FannedOutVisit, exposure: int, published: PublishedAlerts) -> None:
        """Send packets and add them to what was published.

        An exposure without alerts is published too, as an empty file or no
        message: whoever waits learns that there is nothing.
        """
        published.begun = published.begun or (self.immediate and bool(len(packets)))
        place, messages = self._sink.send(packets, visit, exposure)
        published.count += len(packets)
        if self.immediate:
            published.last_unix = time.time()
        published.messages.extend(messages)
        if place:
            published.files.append(place)
        _log.info("Published %d alerts of exposure %d.", len(packets), exposure)
