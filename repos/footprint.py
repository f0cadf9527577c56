"""Areas of sky that a camera's detectors cover."""

from __future__ import annotations

__all__ = ["CameraGeometry", "FootprintGeometry"]

from collections.abc import Sequence
from typing import Protocol

from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from config.instruments import InstrumentConfig
from models.errors import UnusableVisit
from models.geometry import detector_corners


class FootprintGeometry(Protocol):
    """Knows where a camera's detectors look."""

    @property
    def detectors(self) -> Sequence[int]:
        """Ids of all detectors."""

    def detector_region(
        self, detector: int, ra: float, dec: float, angle: float, padding: float
    ) -> ConvexPolygon:
        """Return the footprint of a detector.

        Parameters
        ----------
        detector : `int`
        ra, dec : `float`
            Boresight, degrees ICRS.
        angle : `float`
            Focal +Y east of north, degrees.
        padding : `float`
            Arcseconds by which every edge is moved outwards.
        """

    def visit_region(self, ra: float, dec: float, angle: float, padding: float) -> ConvexPolygon:
        """Return the convex hull of all detectors' footprints."""


class CameraGeometry:
    """Footprints of a camera that is described by a camera file.

    Parameters
    ----------
    instrument : `config.instruments.InstrumentConfig`
    """

    def __init__(self, instrument: InstrumentConfig) -> None:
        self._instrument = instrument

    @property
    def detectors(self) -> Sequence[int]:
        """Ids of all detectors."""
        return list(self._instrument.by_id)

    def detector_region(
        self, detector: int, ra: float, dec: float, angle: float, padding: float
    ) -> ConvexPolygon:
        """Return the footprint of a detector; see `FootprintGeometry`.

        Raises
        ------
        models.errors.UnusableVisit
            Raised if the camera has no such detector.
        """
        return ConvexPolygon.convexHull(self._corners(detector, ra, dec, angle, padding))

    def visit_region(self, ra: float, dec: float, angle: float, padding: float) -> ConvexPolygon:
        """Return the convex hull of all detectors' footprints."""
        corners: list[UnitVector3d] = []
        for detector in self.detectors:
            corners.extend(self._corners(detector, ra, dec, angle, padding))
        return ConvexPolygon.convexHull(corners)

    def _corners(
        self, detector: int, ra: float, dec: float, angle: float, padding: float
    ) -> list[UnitVector3d]:
        if detector not in self._instrument.by_id:
            raise UnusableVisit(f"instrument {self._instrument.name} has no detector {detector}")
        corners = detector_corners(
            self._instrument, self._instrument.by_id[detector], ra, dec, angle, padding
        )
        return [UnitVector3d(LonLat.fromDegrees(*corner)) for corner in corners]
