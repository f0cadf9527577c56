"""Whether images were taken at the announced orientation."""

from __future__ import annotations

__all__ = ["OrientedImage", "drop_misaligned", "sky_angle_agrees"]

import logging
import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

from models.errors import ImagesUnusable
from models.visits import FannedOutVisit, RotationSystem

_log = logging.getLogger(__name__)

#: Degrees by which an image's sky angle may differ from the announced one.
_TOLERANCE = 1.0


class OrientedImage(Protocol):
    """An image whose orientation on the sky is known, or not."""

    @property
    def exposure(self) -> int:
        """Exposure id."""

    @property
    def sky_angle(self) -> float | None:
        """Focal +Y east of north, degrees."""


OrientedT = TypeVar("OrientedT", bound=OrientedImage)


def sky_angle_agrees(angle: float | None, camera_angle: float, tolerance: float = _TOLERANCE) -> bool:
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


def drop_misaligned(visit: FannedOutVisit, images: Sequence[OrientedT]) -> tuple[list[OrientedT], list[str]]:
    """Drop images that were taken at another orientation than announced.

    What was preloaded for the announced footprint would not fit them.

    Parameters
    ----------
    visit : `models.visits.FannedOutVisit`
    images : sequence of `OrientedImage`

    Returns
    -------
    kept : `list` [`OrientedImage`]
    warnings : `list` [`str`]
        One for each that was dropped.

    Raises
    ------
    models.errors.ImagesUnusable
        Raised if there were images and all are dropped.
    """
    if visit.rotationSystem is RotationSystem.NONE:
        return list(images), []
    kept, warnings = [], []
    for image in images:
        if sky_angle_agrees(image.sky_angle, visit.cameraAngle):
            kept.append(image)
        else:
            angle = "no sky angle" if image.sky_angle is None else f"sky angle {image.sky_angle:g}"
            announced = f"announced was {visit.cameraAngle:g} degrees"
            warnings.append(f"exposure {image.exposure} has {angle}, {announced}: left out")
    for warning in warnings:
        _log.warning("%s: %s", visit, warning)
    if warnings and not kept:
        raise ImagesUnusable(f"every image of {visit} was rejected: {'; '.join(warnings)}")
    return kept, warnings
