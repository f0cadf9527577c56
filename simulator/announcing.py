"""Announcing visits where no answer comes back: on a topic.

The summit publishes a visit once and hears nothing more of it. What became of
its copies is asked of the service, which knows every visit that it accepted.
"""

from __future__ import annotations

__all__ = ["TopicAnnouncer", "VisitLookup"]

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from models.visits import FannedOutVisit, SummitVisit
from simulator.fan_out import Answer

#: Seconds between two looks.
_PAUSE = 0.3
#: Visits that are followed at once.
_VISITS = 64


class VisitLookup(Protocol):
    """Knows what became of visits."""

    def __call__(self, visit: FannedOutVisit) -> Answer | None:
        """Return the answer to a visit; None while there is none."""


class TopicAnnouncer:
    """Publishes visits, then looks for what became of their copies.

    Parameters
    ----------
    publish : callable
        Publishes a visit.
    look_up : `VisitLookup`
    timeout : `float`, optional
        Seconds after which a visit without a result is given up.
    """

    def __init__(
        self, *, publish: Callable[[SummitVisit], None], look_up: VisitLookup, timeout: float = 600.0
    ) -> None:
        self._publish = publish
        self._look_up = look_up
        self._timeout = timeout
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=_VISITS, thread_name_prefix="look-up")

    def announce(
        self, visit: SummitVisit, detectors: Sequence[int], on_answer: Callable[[int, Answer], None]
    ) -> list[Future[None]]:
        """Publish a visit; see `simulator.observing.Announcer.announce`."""
        self._publish(visit)
        copies = [visit.fan_out(detector) for detector in detectors]
        return [self._pool.submit(self._follow, copies, on_answer)]

    def close(self, *, wait: bool = True) -> None:
        """Look no further; see `simulator.observing.Announcer.close`."""
        if not wait:
            self._stop.set()
        self._pool.shutdown(wait=wait, cancel_futures=not wait)

    def _follow(self, visits: list[FannedOutVisit], on_answer: Callable[[int, Answer], None]) -> None:
        deadline = time.monotonic() + self._timeout
        while visits and time.monotonic() < deadline and not self._stop.wait(_PAUSE):
            still_open = []
            for visit in visits:
                answer = self._look_up(visit)
                if answer is None:
                    still_open.append(visit)
                else:
                    on_answer(visit.detector, answer)
            visits = still_open
        detail = f"the service told no result within {self._timeout:g} s; did the fan-out send it the visit?"
        for visit in visits:
            on_answer(visit.detector, Answer(None, {"detail": detail}))
