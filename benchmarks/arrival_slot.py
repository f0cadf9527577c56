"""Slots that wait for images and read them, with pipelines that do nothing."""

from __future__ import annotations

__all__ = ["DETECTORS", "prepare"]

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.logging import configure_logging
from app.rehearsal import imaginary_raw
from config.settings import ServiceSettings, load_service_settings
from models.errors import ProcessingError, UnreadableImage
from models.outcomes import Result, VisitOutcome
from models.raws import FoundImage
from models.visits import FannedOutVisit
from repos.bucket_images import BucketImageStore
from repos.s3_client import create_s3_client
from services.image_intake import ImageIntake
from services.images import ImageAwaiter
from services.slots.protocol import Finished, ProcessVisit, SlotBlueprint, SlotChannel
from services.visit_state import VisitState

#: A focal plane of 189 detectors, number by name.
DETECTORS: Mapping[str, int] = {
    f"R{raft:02d}_S{x}{y}": 9 * raft + 3 * x + y for raft in range(21) for x in range(3) for y in range(3)
}


@dataclass(frozen=True)
class _Image:
    ingested: int
    exposure: int
    sky_angle: float


class _Ingester:
    """Notes when it has got an image that is whole."""

    def __init__(self, store: BucketImageStore) -> None:
        self._store = store
        self.delays: list[float] = []

    def ingest(self, found: FoundImage, visit: FannedOutVisit) -> _Image:
        local = self._store.fetch(found)
        now = time.time()
        with local.path.open("rb") as file:
            told = file.readline().decode().strip()
        if told != found.raw.key.rpartition("/")[2]:
            raise UnreadableImage(f"{found.location} holds {told!r}")
        if local.landed is not None:
            self.delays.append(now - local.landed)
        return _Image(0, found.raw.exposure_id, visit.cameraAngle)


class _Application:
    """See `services.slots.protocol.SlotApplication`."""

    deployment_id = "arrivals"

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._close: Callable[[], None] = lambda: None

    def warm_up(self) -> None:
        settings = self._settings
        self._store = BucketImageStore(
            client=create_s3_client(settings.s3_endpoint_url),
            bucket=settings.image_bucket or "",
            directory=settings.local_repos,
        )
        self._close = self._store.close
        # As the service's slots do.
        self._store.find_existing("rehearsal", -1, "rehearsal", 0)
        self._store.read_sidecar_group(imaginary_raw())

    def process(self, request: ProcessVisit, channel: SlotChannel) -> Finished:
        ingester = _Ingester(self._store)
        awaiter = ImageAwaiter(
            store=self._store, detector_names=DETECTORS, image_timeout=self._settings.image_timeout
        )
        state = VisitState(request)
        exposures: list[int] = []

        def add(_: Any) -> None:
            exposures.append(1)

        try:
            ImageIntake(source=awaiter, ingester=ingester).take(state, channel, add)
        except ProcessingError as error:
            result = Result.from_disposition(error.disposition)
            return Finished(VisitOutcome(result=result, title=type(error).__name__, detail=str(error)))
        return Finished(
            VisitOutcome(
                result=Result.PROCESSED, exposures=tuple(exposures), detail=json.dumps(ingester.delays)
            )
        )

    def apdb_contains(self, visit_ids: Sequence[int], detector: int) -> bool | None:
        return False

    def idle(self) -> None:
        pass

    def close(self) -> None:
        self._close()


def prepare() -> SlotBlueprint:
    """Prepare a template process."""
    settings = load_service_settings()
    configure_logging(settings.log_levels)
    return SlotBlueprint(deployment_id=_Application.deployment_id, create=lambda: _Application(settings))
