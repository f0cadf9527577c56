"""Waiting for the raw images of a visit.

An image may come before its nextVisit, before anyone listens, twice, or
never. So the parent process listens from the moment the visit is accepted;
here, in the slot, we look at what has been heard, look for what exists, wait,
and look once more.
"""

from __future__ import annotations

__all__ = [
    "AwaitedImages",
    "ImageAwaiter",
    "ImageListener",
    "ImageStore",
    "ImageSubscription",
    "sky_angle_agrees",
]

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from models.errors import ImagesUnusable, NoImageArrived
from models.raws import FoundImage, RawKey
from models.visits import FannedOutVisit

_log = logging.getLogger(__name__)

#: Seconds for which the sidecar of an image is waited for.
_SIDECAR_TIMEOUT = 2.0
#: Seconds between two looks for a sidecar.
_SIDECAR_DELAY = 0.1
#: Snaps that are always looked for when a visit does not say how many it has;
#: beyond that, as long as there are any.
_USUAL_SNAPS = 2
#: Snaps that are looked for at most, whatever a visit says.
_MOST_SNAPS = 100
#: What stands for the end of the wait; its steps themselves yield nothing.
_OVER = "over"
#: Degrees by which an image's sky angle may differ from the announced one.
_SKY_ANGLE_TOLERANCE = 1.0


class ImageStore(Protocol):
    """Where raw images are kept: a directory or a bucket."""

    def find_existing(self, instrument: str, detector: int, group: str, snap: int) -> list[FoundImage]:
        """Return the images of one snap that exist and can be looked up."""

    def read_sidecar_group(self, raw: RawKey) -> str | None:
        """Return the group that an image's sidecar tells.

        Does not wait: None if the sidecar is not there yet.
        """

    def local_path(self, found: FoundImage) -> Path:
        """Return where an image can be read on this machine."""


class ImageSubscription(Protocol):
    """A wish to hear of images."""

    def close(self) -> None:
        """End it."""


class ImageListener(Protocol):
    """Hears of raw images when they arrive; lives in the parent process."""

    def start(self) -> None:
        """Begin to listen."""

    def stop(self) -> None:
        """Stop listening."""

    def subscribe(
        self,
        instrument: str,
        detector: int,
        detector_name: str | None,
        callback: Callable[[FoundImage], None],
    ) -> ImageSubscription:
        """Deliver the images of a detector, those of the recent past first."""


class ImageAwaiter:
    """Waits for the images of one visit after another.

    Parameters
    ----------
    store : `ImageStore`
    detector_names : `dict` [`str`, `int`]
        Detector numbers by full name, as in the repo's ``detector`` records.
    image_timeout : `float`, optional
        Seconds to wait beyond twice the visit's duration.
    clock : callable, optional
        Monotonic time in seconds.
    """

    def __init__(
        self,
        *,
        store: ImageStore,
        detector_names: Mapping[str, int],
        image_timeout: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._detector_names = detector_names
        self._image_timeout = image_timeout
        self._clock = clock

    def await_images(
        self, visit: FannedOutVisit, channel_images: Callable[[float], list[FoundImage]]
    ) -> AwaitedImages:
        """Wait for the images of a visit; to be called after preload.

        Parameters
        ----------
        visit : `models.visits.FannedOutVisit`
        channel_images : callable
            Takes seconds; returns what the listener has delivered since the
            last call, waiting for at most that long if it is nothing.

        Returns
        -------
        images : `AwaitedImages`
            Iterate over it to wait.
        """
        return AwaitedImages(
            visit=visit,
            channel_images=channel_images,
            store=self._store,
            detector_names=self._detector_names,
            time_limit=2.0 * visit.duration + self._image_timeout,
            clock=self._clock,
        )


class AwaitedImages:
    """Iterates over the images of a visit as they arrive, each exposure once.

    Raises `models.errors.NoImageArrived` where the iteration would end
    without a single image, `models.errors.ImagesUnusable` if all that came
    were rejected. Made by `ImageAwaiter.await_images`.

    Attributes
    ----------
    warnings : `list` [`str`]
        What a person should know when the iteration is over.
    waited : `float`
        Seconds spent doing nothing but waiting.
    """

    def __init__(
        self,
        *,
        visit: FannedOutVisit,
        channel_images: Callable[[float], list[FoundImage]],
        store: ImageStore,
        detector_names: Mapping[str, int],
        time_limit: float,
        clock: Callable[[], float],
    ) -> None:
        self.warnings: list[str] = []
        self.waited = 0.0
        self._visit = visit
        self._channel_images = channel_images
        self._store = store
        self._detector_names = detector_names
        self._time_limit = time_limit
        self._clock = clock
        self._accepted: dict[int, FoundImage] = {}
        self._ready: deque[FoundImage] = deque()
        self._surplus: list[FoundImage] = []
        self._without_group: dict[str, tuple[FoundImage, float]] = {}
        self._rejections: dict[int, str] = {}
        self._steps = self._look_and_listen()

    def __iter__(self) -> AwaitedImages:
        return self

    def __next__(self) -> FoundImage:
        while True:
            if self._ready:
                return self._ready.popleft()
            if self._is_complete():
                raise StopIteration
            if next(self._steps, _OVER):
                self._finish()
                raise StopIteration

    def reject(self, found: FoundImage, reason: str) -> None:
        """Take back an image that turned out to be unreadable.

        It does not count, and the same exposure is accepted again if it is
        delivered again: most often it was caught while it was being written.
        """
        exposure = found.raw.exposure_id
        if self._accepted.pop(exposure, None) is not None:
            self._rejections[exposure] = reason
            _log.warning("Waiting for exposure %d to come again: %s", exposure, reason)
            surplus, self._surplus = self._surplus, []
            for other in surplus:
                self._accept(other)

    def _is_complete(self) -> bool:
        return 0 < self._visit.nimages <= len(self._accepted)

    def _look_and_listen(self) -> Iterator[None]:
        """Do one thing after another that may bring images."""
        self._sift(self._channel_images(0.0))
        yield
        self._look()
        deadline = self._clock() + self._time_limit
        yield
        while (left := deadline - self._clock()) > 0.0:
            self._sift(self._wait(min(left, _SIDECAR_DELAY) if self._without_group else left))
            yield
        self._sift(self._channel_images(0.0))
        self._look()
        yield

    def _wait(self, timeout: float) -> list[FoundImage]:
        begin = self._clock()
        try:
            return self._channel_images(timeout)
        finally:
            self.waited += self._clock() - begin

    def _look(self) -> None:
        visit = self._visit
        for snap in range(min(visit.nimages or _MOST_SNAPS, _MOST_SNAPS)):
            found = self._store.find_existing(visit.instrument, visit.detector, visit.groupId, snap)
            if not found and visit.nimages == 0 and snap >= _USUAL_SNAPS:
                break
            self._sift(found)

    def _sift(self, images: Sequence[FoundImage]) -> None:
        """Accept images of this visit, and those whose group has come to light."""
        now = self._clock()
        for found in images:
            if self._is_of_detector(found.raw):
                _, give_up = self._without_group.get(found.location, (found, now + _SIDECAR_TIMEOUT))
                self._without_group[found.location] = (found, give_up)
            else:
                _log.debug("Not an image of %s: %s", self._visit, found.raw.key)
        for location, (found, give_up) in list(self._without_group.items()):
            group = found.raw.group
            if group is None:
                group = self._store.read_sidecar_group(found.raw)
            if group is not None:
                del self._without_group[location]
                if group == self._visit.groupId:
                    self._accept(found)
            elif now >= give_up:
                del self._without_group[location]
                _log.warning(
                    "Image %s is left out: no sidecar %s with a GROUPID came within %g s",
                    found.raw.key,
                    found.raw.sidecar_key,
                    _SIDECAR_TIMEOUT,
                )

    def _is_of_detector(self, raw: RawKey) -> bool:
        if raw.instrument != self._visit.instrument:
            return False
        detector = raw.detector
        if detector is None and raw.detector_name is not None:
            detector = self._detector_names.get(raw.detector_name)
        return detector == self._visit.detector

    def _accept(self, found: FoundImage) -> None:
        exposure = found.raw.exposure_id
        if exposure in self._accepted:
            _log.debug("Image %s came twice", found.raw.key)
            return
        if self._is_complete():
            _log.debug("Image %s is one more than announced", found.raw.key)
            self._surplus.append(found)
            return
        _log.debug("Image of %s: %s", self._visit, found.location)
        self._accepted[exposure] = found
        self._rejections.pop(exposure, None)
        self._ready.append(found)

    def _finish(self) -> None:
        """Judge what there is when the time is over."""
        wanted, got = self._visit.nimages, len(self._accepted)
        faults = "; ".join(self._rejections.values())
        if got == 0 and faults:
            raise ImagesUnusable(f"no image of {self._visit} could be read: {faults}")
        if got == 0:
            raise NoImageArrived(
                f"no image of {self._visit} arrived within {self._time_limit:g} s after preload; "
                "check that images are delivered under the announced group and detector"
            )
        if got < wanted:
            self._warn(f"only {got} of {wanted} images arrived; processing those")
        if faults:
            self._warn(f"images left out: {faults}")

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        _log.warning("%s: %s", self._visit, text)


def sky_angle_agrees(
    angle: float | None, camera_angle: float, tolerance: float = _SKY_ANGLE_TOLERANCE
) -> bool:
    """Say whether an image's orientation is the announced one.

    Parameters
    ----------
    angle : `float` or `None`
        Of the image, focal +Y east of north, degrees.
    camera_angle : `float`
        As announced, likewise.
    tolerance : `float`, optional
        Degrees, inclusive.

    Returns
    -------
    agrees : `bool`
        False if the angle is missing or not a number.
    """
    if angle is None or not math.isfinite(angle):
        return False
    difference = math.remainder(angle - camera_angle, 360.0)
    return abs(difference) <= tolerance
