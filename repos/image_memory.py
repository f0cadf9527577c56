"""Who wants to hear of which images, and what has arrived lately.

Shared by everything that listens for images. Runs in the parent process.
"""

from __future__ import annotations

__all__ = ["ImageMemory", "Subscription"]

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from models.raws import FoundImage, RawKey

_log = logging.getLogger(__name__)

#: Instrument and detector, whichever way a key tells it: number or name.
_Address: TypeAlias = tuple[str, int | str]


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

    @property
    def addresses(self) -> tuple[_Address, ...] | None:
        """Where the images of this detector are kept; None if any of the
        instrument's may be one.
        """
        if self._detector_name is None:
            return None
        return (self._instrument, self._detector), (self._instrument, self._detector_name)

    def deliver(self, found: FoundImage) -> None:
        """Hand over an image; a callback that fails disturbs nobody else."""
        try:
            self._callback(found)
        except Exception:
            _log.exception("An image could not be handed over: %s", found.location)

    def close(self) -> None:
        """End the subscription. A delivery may still be under way."""
        self._on_close(self)


@dataclass(frozen=True, slots=True)
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
        # A whole camera's images of many visits are remembered: whoever asks
        # for one detector's must not look through them all.
        self._arrivals: dict[_Address, dict[str, _Arrival]] = {}
        self._order: deque[_Arrival] = deque()
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
            past = [a for a in self._past(subscription) if subscription.wants(a.found.raw)]
        for arrival in sorted(past, key=lambda a: a.time):
            subscription.deliver(arrival.found)
        return subscription

    def add(self, found: FoundImage, version: Hashable) -> None:
        """Deliver an image, unless this version of it has been already."""
        with self._lock:
            here = self._arrivals.setdefault(_address(found.raw), {})
            known = here.get(found.location)
            if known is not None and known.version == version:
                return
            here[found.location] = arrival = _Arrival(found, self._clock(), version)
            self._order.append(arrival)
            self._prune()
            interested = [s for s in self._subscriptions if s.wants(found.raw)]
        for subscription in interested:
            subscription.deliver(found)

    def remove(self, location: str) -> None:
        """Forget an image that is gone."""
        with self._lock:
            for address, here in list(self._arrivals.items()):
                if here.pop(location, None) and not here:
                    del self._arrivals[address]

    def _past(self, subscription: Subscription) -> Iterator[_Arrival]:
        for address in subscription.addresses or list(self._arrivals):
            yield from self._arrivals.get(address, {}).values()

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

    def _prune(self) -> None:
        oldest = self._clock() - self._memory
        while self._order and self._order[0].time < oldest:
            expired = self._order.popleft()
            address, location = _address(expired.found.raw), expired.found.location
            here = self._arrivals.get(address, {})
            # It may have come again since.
            if here.get(location) is expired:
                del here[location]
                if not here:
                    del self._arrivals[address]


def _address(raw: RawKey) -> _Address:
    return raw.instrument, raw.detector if raw.detector is not None else raw.detector_name or ""
