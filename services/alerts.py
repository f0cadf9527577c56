"""Alerts: send what a pipeline found, as soon as it has found it."""

from __future__ import annotations

__all__ = ["AlertPublisher", "AlertSink", "CopyingAlertSink", "Outlet", "PublishedAlerts"]

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from models.events import OutboxMessage
from models.visits import FannedOutVisit

_log = logging.getLogger(__name__)

#: Storage class by which a task's output is known to hold alert packets.
ALERT_STORAGE_CLASS = "AlertPackets"

#: Has messages sent at once.
Outlet = Callable[[Sequence[OutboxMessage]], None]


class AlertSink(Protocol):
    """Where alerts go."""

    def send(self, packets: Any, visit: FannedOutVisit, exposure: int, outlet: Outlet) -> str:
        """Send the alert packets of an exposure.

        Parameters
        ----------
        packets : sequence
        visit : `models.visits.FannedOutVisit`
        exposure : `int`
        outlet : callable
            Takes messages for a broker, and has them sent at once.

        Returns
        -------
        place : `str`
            Where they are, for people; empty if they went to a broker.
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

    def send(self, packets: Any, visit: FannedOutVisit, exposure: int, outlet: Outlet) -> str:
        """Send to both."""
        place = self._sink.send(packets, visit, exposure, outlet)
        try:
            copy = self._copies.send(packets, visit, exposure, outlet)
        except Exception:  # of a disk, or of whatever copies are made on
            _log.exception("There is no copy of the %d alerts of exposure %d.", len(packets), exposure)
            return place
        return place or copy


@dataclass
class PublishedAlerts:
    """Alerts of one visit so far.

    Attributes
    ----------
    begun : `bool`
        Whether any may have left the house, also by a sending that failed.
    count : `int`
    files : `list` [`str`]
    last_unix : `float` or `None`
        When the last were on disk, or given to the parent for a broker; UTC
        unix seconds.
    """

    begun: bool = False
    count: int = 0
    files: list[str] = field(default_factory=list)
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

    def publish(
        self, packets: Any, visit: FannedOutVisit, exposure: int, published: PublishedAlerts, outlet: Outlet
    ) -> None:
        """Send packets and add them to what was published.

        An exposure without alerts is published too, as an empty file or no
        message: whoever waits learns that there is nothing.
        """
        published.begun = published.begun or bool(len(packets))
        given: list[float] = []

        def give(messages: Sequence[OutboxMessage]) -> None:
            if messages:
                given.append(time.time())
                outlet(messages)

        place = self._sink.send(packets, visit, exposure, give)
        published.count += len(packets)
        if place:
            published.files.append(place)
        if given:
            published.last_unix = given[-1]
        elif place:
            published.last_unix = time.time()
        _log.info("Published %d alerts of exposure %d.", len(packets), exposure)
