"""Image intake: turn the images of a visit into ingested exposures."""

from __future__ import annotations

__all__ = ["ImageIntake", "ImageSource", "Ingester"]

import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from models.errors import ImagesUnusable, NoImageArrived, UnreadableImage
from models.raws import FoundImage
from models.visits import FannedOutVisit
from services.slots.protocol import SlotChannel, Stage
from services.visit_state import VisitState

_log = logging.getLogger(__name__)


class ImageSource(Protocol):
    """Waits for the images of a visit."""

    def await_images(
        self, visit: FannedOutVisit, channel_images: Callable[[float], list[FoundImage]]
    ) -> Iterator[FoundImage]:
        """Yield images as they land."""


class Ingester(Protocol):
    """Understands raw files."""

    def ingest(self, found: FoundImage, visit: FannedOutVisit) -> Any:
        """Return an ingested exposure."""


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

    def take(self, state: VisitState, channel: SlotChannel) -> Iterator[Any]:
        """Yield ingested exposures until all expected are there or time is
        up.

        Raises
        ------
        models.errors.NoImageArrived
            Raised at the end if none came.
        models.errors.ImagesUnusable
            Raised at the end if all that came were rejected.
        """
        visit = state.visit
        channel.report(Stage.WAITING)
        arriving = self._source.await_images(visit, channel.images)
        rejected: list[str] = []
        accepted = 0
        while True:
            try:
                with state.timer("waiting"):
                    found = next(arriving, None)
            except NoImageArrived:
                if not rejected:
                    raise
                found = None
            if found is None:
                break
            channel.report(Stage.INGESTING)
            try:
                with state.timer("ingest"):
                    exposure = self._ingester.ingest(found, visit)
            except UnreadableImage as error:
                _log.warning("Image dropped: %s", error)
                rejected.append(str(error))
                continue
            accepted += 1
            yield exposure
        if accepted < visit.nimages:
            state.warnings.append(f"{accepted} of {visit.nimages} expected images can be used")
        if not accepted and rejected:
            raise ImagesUnusable(f"every image was rejected: {'; '.join(rejected)}")
        if not accepted:
            raise NoImageArrived(f"no image of {visit} arrived in time")
