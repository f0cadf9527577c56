"""What the slots of the benchmark are made from: the service's own wiring,
with the yardstick's camera and geometry.
"""

from __future__ import annotations

__all__ = ["SketchGeometry", "create_factory", "prepare"]

import sys
from pathlib import Path

from lsst.sphgeom import ConvexPolygon

from app.deployment import load_library
from app.logging import configure_logging
from app.slot_factory import SlotFactory
from config.settings import ServiceSettings, load_service_settings
from services.slots.protocol import SlotBlueprint

HERE = Path(__file__).parent


class SketchGeometry:
    """The yardstick's own idea of where its detectors look; see
    `repos.footprint.FootprintGeometry`.
    """

    def __init__(self) -> None:
        from sketch.model import ProtoCam

        self._camera = ProtoCam.camera()

    @property
    def detectors(self) -> tuple[int, ...]:
        """Ids of all detectors."""
        return tuple(self._camera.detectors)

    def detector_region(
        self, detector: int, ra: float, dec: float, angle: float, padding: float
    ) -> ConvexPolygon:
        """Return the area of sky that a detector covers."""
        from sketch.model import detector_region

        return detector_region(self._camera, detector, ra, dec, angle, padding)

    def visit_region(self, ra: float, dec: float, angle: float, padding: float) -> ConvexPolygon:
        """Return the area of sky that all detectors cover."""
        regions = [self.detector_region(d, ra, dec, angle, padding) for d in self.detectors]
        return ConvexPolygon.convexHull([v for r in regions for v in r.getVertices()])


def create_factory(settings: ServiceSettings) -> SlotFactory:
    """Return the service's wiring for the yardstick's repo."""
    if str(HERE) not in sys.path:
        # The repo stores class names such as sketch.model.ProtoCam.
        sys.path.insert(0, str(HERE))
    return SlotFactory(
        settings, load_library(settings), settings.deployment_id or "deploy", geometry=SketchGeometry()
    )


def prepare() -> SlotBlueprint:
    """Prepare a template process."""
    settings = load_service_settings()
    configure_logging(settings.log_levels)
    factory = create_factory(settings)
    return SlotBlueprint(deployment_id=factory.deployment_id, create=factory.create_application)
