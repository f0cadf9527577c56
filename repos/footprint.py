"""Areas of sky that a camera's detectors cover."""

from __future__ import annotations

__all__ = ["CameraGeometry", "FootprintGeometry"]

from collections.abc import Iterable, Sequence
from typing import Protocol

from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from config.instruments import InstrumentConfig
from models.errors import UnusableVisit
from models.geometry import FloatOrArray, detector_corners, focal_plane_to_sky, sky_to_focal_plane

#: Arcseconds by which a visit is made larger, so that rounding leaves no
#: corner of a detector outside.
_ROUNDING = 0.001


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
        self._outlines: dict[float, tuple[FloatOrArray, FloatOrArray]] = {}

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
        x, y = self._outline(padding)
        corners = focal_plane_to_sky(ra, dec, angle, x, y, flip_x=self._instrument.flip_x)
        return ConvexPolygon.convexHull(_vectors(zip(*corners, strict=True)))

    def _outline(self, padding: float) -> tuple[FloatOrArray, FloatOrArray]:
        """Return the focal-plane corners of the hull of all detectors.

        The gnomonic projection maps great circles to straight lines, so it
        maps this hull to the hull on the sky, wherever the camera points.
        """
        if padding not in self._outlines:
            corners: list[UnitVector3d] = []
            for detector in self.detectors:
                corners.extend(self._corners(detector, 0.0, 0.0, 0.0, padding + _ROUNDING))
            hull = [LonLat(vertex) for vertex in ConvexPolygon.convexHull(corners).getVertices()]
            self._outlines[padding] = sky_to_focal_plane(
                0.0,
                0.0,
                0.0,
                [vertex.getLon().asDegrees() for vertex in hull],
                [vertex.getLat().asDegrees() for vertex in hull],
                flip_x=self._instrument.flip_x,
            )
        return self._outlines[padding]

    def _corners(
        self, detector: int, ra: float, dec: float, angle: float, padding: float
    ) -> list[UnitVector3d]:
        if detector not in self._instrument.by_id:
            raise UnusableVisit(f"instrument {self._instrument.name} has no detector {detector}")
        return _vectors(
            detector_corners(self._instrument, self._instrument.by_id[detector], ra, dec, angle, padding)
        )


def _vectors(points: Iterable[tuple[float, float]]) -> list[UnitVector3d]:
    return [UnitVector3d(LonLat.fromDegrees(float(ra), float(dec))) for ra, dec in points]
