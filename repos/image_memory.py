"""Who wants to hear of which images, and what has arrived lately.

Shared by everything that listens for images. Runs in the parent process.
"""

from __future__ import annotations

__all__ = ["ImageMemory", "Subscription"]

import logging
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from models.raws import FoundImage, RawKey

_log = logging.getLogger(__name__)


class Subscription:
    """A wish to hear of the images of one detector; made by `ImageMemory.subscribe`."""

    def __init__(
        self,
        *,
        instrument: str,
        detector: int,
        detector_name: str | None,
        callback: Callable[[FoundImage], None],
        on_close: Callable[[Subscription], None],
    ) -> None:
        self._instrument = instrument
        self._detector = detector
        self._detector_name = detector_name
        self._callback = callback
        self._on_close = on_close

    def wants(self, raw: RawKey) -> bool:
        """Say whether an image may be of this detector."""
        if raw.instrument != self._instrument:
            return False
        if raw.detector is not None:
            return raw.detector == self._detector
        # Without the detector's name nothing can be excluded here; whoever
        # asked can tell.
        return self._detector_name is None or raw.detector_name == self._detector_name

    def deliver(self, found: FoundImage) -> None:
        """Hand over an image; a callback that fails disturbs nobody else."""
        try:
            self._callback(found)
        except Exception:
            _log.exception("An image could not be handed over: %s", found.location)

    def close(self) -> None:
        """End the subscription. A delivery may still be under way."""
        self._on_close(self)


@dataclass(frozen=True)
class _Arrival:
    found: FoundImage
    time: float
    version: Hashable


class ImageMemory:
    """Hands images to those who asked, and remembers them for a while.

    Parameters
    ----------
    memory : `float`
        Seconds for which images are remembered, for visits that are announced
        after their images.
    clock : callable, optional
        Monotonic time in seconds.
    """

    def __init__(self, memory: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory = memory
        self._clock = clock
        self._lock = threading.Lock()
        self._arrivals: dict[str, _Arrival] = {}
        self._subscriptions: list[Subscription] = []

    def subscribe(
        self,
        instrument: str,
        detector: int,
        detector_name: str | None,
        callback: Callable[[FoundImage], None],
    ) -> Subscription:
        """Deliver the images of a detector, those of the recent past first.

        Parameters
        ----------
        instrument : `str`
        detector : `int`
        detector_name : `str` or `None`
            Full name, for keys that hold no number.
        callback : callable
            Called with each `models.raws.FoundImage`, from any thread; should
            not block. The same image may come more than once.

        Returns
        -------
        subscription : `Subscription`
            To be closed.
        """
        subscription = Subscription(
            instrument=instrument,
            detector=detector,
            detector_name=detector_name,
            callback=callback,
            on_close=self._unsubscribe,
        )
        with self._lock:
            self._prune()
            # Registered in the same breath as the past is read: what arrives
            # meanwhile may come twice, but nothing falls in between.
            self._subscriptions.append(subscription)
            past = [a.found for a in self._arrivals.values() if subscription.wants(a.found.raw)]
        for found in past:
            subscription.deliver(found)
        return subscription

    def add(self, found: FoundImage, version: Hashable) -> None:
        """Deliver an image, unless this version of it has been already."""
        with self._lock:
            known = self._arrivals.get(found.location)
            if known is not None and known.version == version:
                return
            # Taken out first, so that the order stays that of arrival.
            self._arrivals.pop(found.location, None)
            self._arrivals[found.location] = _Arrival(found, self._clock(), version)
            self._prune()
            interested = [s for s in self._subscriptions if s.wants(found.raw)]
        for subscription in interested:
            subscription.deliver(found)

    def remove(self, location: str) -> None:
        """Forget an image that is gone."""
        with self._lock:
            self._arrivals.pop(location, None)

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

    def _prune(self) -> None:
        oldest = self._clock() - self._memory
        expired: list[str] = []
        for location, arrival in self._arrivals.items():
            if arrival.time >= oldest:
                break
            expired.append(location)
        for location in expired:
            del self._arrivals[location]
