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

import math
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from models.raws import FoundImage
from models.visits import FannedOutVisit
from services.awaited_images import AwaitedImages, ImageStore

#: Degrees by which an image's sky angle may differ from the announced one.
_SKY_ANGLE_TOLERANCE = 1.0


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
