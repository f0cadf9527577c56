"""What a slot runs: visits, questions, and what can be done before them."""

from __future__ import annotations

__all__ = ["Application"]

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.logging import visit_labels
from app.rehearsal import rehearse
from models.errors import ProcessingError
from services.slots.protocol import Finished, ProcessVisit, SlotChannel

if TYPE_CHECKING:
    from app.slot_factory import SlotFactory
    from services.conductor import VisitProcessor

_log = logging.getLogger(__name__)


class Application:
    """What a slot runs; see `services.slots.protocol.SlotApplication`."""

    def __init__(self, factory: SlotFactory) -> None:
        self._factory = factory
        self._processor: VisitProcessor | None = None
        self.deployment_id = factory.deployment_id

    def warm_up(self) -> None:
        """Open repositories and APDB, resolve the pipelines, and do once what
        takes longer the first time.
        """
        factory = self._factory
        self._processor = factory.create_processor()
        for pipeline in factory.pipelines.loaded():
            try:
                factory.pipelines.get(pipeline.path, factory.central.read_butler)
            except ProcessingError as error:
                _log.warning("%s", error)
        rehearse(
            [
                ("preload", factory.rehearse_preload),
                ("raw images", factory.rehearse_images),
                ("the APDB", lambda: factory.apdb.contains([0], 0)),
            ]
        )

    def process(self, request: ProcessVisit, channel: SlotChannel) -> Finished:
        """Process a visit."""
        if self._processor is None:
            self.warm_up()
        assert self._processor is not None
        with visit_labels(request.visit, day_obs=int(request.output_date.replace("-", ""))):
            finished = self._processor.process(request, channel)
            _log.debug(
                "%d bytes of pixels are kept for coming visits.", self._factory.local_repos.cached_bytes
            )
            return finished

    def apdb_contains(self, visit_ids: Sequence[int], detector: int) -> bool | None:
        """Tell whether the APDB holds anything of these visits."""
        try:
            return self._factory.apdb.contains(visit_ids, detector)
        except ProcessingError as error:
            _log.error("%s", error)
            return None

    def idle(self) -> None:
        """Forget what is old, and hold no connection to the central repo."""
        self._factory.index.refresh_oldest()
        self._factory.central.rest()

    def close(self) -> None:
        """Remove the local repo and close connections."""
        self._factory.local_repos.close()
        self._factory.image_store.close()
        self._factory.central.close()
