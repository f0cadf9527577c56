"""Image intake: turn the images of a visit into ingested exposures."""

from __future__ import annotations

__all__ = ["ImageIntake", "ImageSource", "IncomingImages", "Ingester", "UnderstoodImage"]

import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from models.errors import ImagesUnusable, UnreadableImage
from models.raws import FoundImage
from models.visits import FannedOutVisit, RotationSystem
from services.images import sky_angle_agrees
from services.slots.protocol import SlotChannel, Stage
from services.visit_state import VisitState

_log = logging.getLogger(__name__)


class IncomingImages(Protocol):
    """The images of one visit, as they land."""

    warnings: list[str]
    """What a person should know when there are no more."""
    waited: float
    """Seconds spent doing nothing but waiting."""

    def __iter__(self) -> Iterator[FoundImage]:
        """Wait for images."""

    def __next__(self) -> FoundImage:
        """Wait for the next image."""

    def reject(self, found: FoundImage, reason: str) -> None:
        """Take back an image that turned out to be unreadable."""


class ImageSource(Protocol):
    """Waits for the images of a visit."""

    def await_images(
        self, visit: FannedOutVisit, channel_images: Callable[[float], list[FoundImage]]
    ) -> IncomingImages:
        """Begin to wait."""


class UnderstoodImage(Protocol):
    """A raw image whose header made sense."""

    @property
    def ingested(self) -> Any:
        """What a local repo takes."""

    @property
    def exposure(self) -> int:
        """Exposure id."""

    @property
    def sky_angle(self) -> float | None:
        """Focal +Y east of north, degrees."""


class Ingester(Protocol):
    """Understands raw files."""

    def ingest(self, found: FoundImage, visit: FannedOutVisit) -> UnderstoodImage:
        """Read a raw file's header."""


class ImageIntake:
    """Waits for images and ingests each as it lands.

    Parameters
    ----------
    source : `ImageSource`
    ingester : `Ingester`
    """

    def __init__(self, *, source: ImageSource, ingester: Ingester) -> None:
        self._source = source
        self._ingester = ingester

    def take(self, state: VisitState, channel: SlotChannel, add: Callable[[Any], None]) -> None:
        """Give each usable image to the local repo as it lands, until all
        that are expected are there or time is up.

        Parameters
        ----------
        state : `services.visit_state.VisitState`
        channel : `services.slots.protocol.SlotChannel`
        add : callable
            Called with what the local repo takes of an image; raises
            `models.errors.UnreadableImage` if its pixels cannot be read.

        Raises
        ------
        models.errors.NoImageArrived
            Raised at the end if none came.
        models.errors.ImagesUnusable
            Raised at the end if all that came were dropped.
        """
        channel.report(Stage.WAITING)
        arriving = self._source.await_images(state.visit, channel.images)
        dropped: list[str] = []
        used = 0
        try:
            for found in arriving:
                channel.report(Stage.INGESTING)
                with state.timer("ingest"):
                    used += self._ingest(state.visit, found, arriving, add, dropped)
                channel.report(Stage.WAITING)
        finally:
            state.seconds["waiting"] = arriving.waited
        state.warnings.extend(arriving.warnings)
        if not used:
            raise ImagesUnusable(f"every image of {state.visit} was dropped: {'; '.join(dropped)}")
        if dropped:
            state.warnings.append(f"images dropped: {'; '.join(dropped)}")

    def _ingest(
        self,
        visit: FannedOutVisit,
        found: FoundImage,
        arriving: IncomingImages,
        add: Callable[[Any], None],
        dropped: list[str],
    ) -> bool:
        """Use an image if that is possible."""
        try:
            image = self._ingester.ingest(found, visit)
            if _is_turned(image.sky_angle, visit):
                dropped.append(
                    f"exposure {image.exposure} has sky angle {image.sky_angle}, "
                    f"announced was {visit.cameraAngle}"
                )
                _log.warning("Image dropped: %s.", dropped[-1])
                return False
            add(image.ingested)
        except (UnreadableImage, FileNotFoundError) as error:
            # It may still come whole.
            arriving.reject(found, str(error))
            return False
        return True


def _is_turned(sky_angle: float | None, visit: FannedOutVisit) -> bool:
    """Say whether an image's orientation is not the announced one."""
    if visit.rotationSystem is RotationSystem.NONE:
        return False
    return not sky_angle_agrees(sky_angle, visit.cameraAngle)
