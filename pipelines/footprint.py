"""A pixel grid that covers a region of sky."""

from __future__ import annotations

__all__ = ["Footprint", "footprint_of"]

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from lsst.sphgeom import ConvexPolygon, LonLat, Region, UnitVector3d

from models.geometry import sky_to_plane
from models.images import HeaderValue

#: Pixels added on each side: the reach of the interpolation.
_BORDER = 4


@dataclass(frozen=True)
class Footprint:
    """A grid on the plane tangent in the middle of a region.

    Attributes
    ----------
    header : `dict`
        FITS keywords of its WCS (TAN).
    shape : `tuple` [`int`, `int`]
        Rows and columns.
    """

    header: dict[str, HeaderValue]
    shape: tuple[int, int]


def footprint_of(region: Region, pixel_scale: float) -> Footprint:
    """Return a grid along the longest edge of a region.

    The footprint of a detector becomes a grid that is parallel to the
    detector's rows or columns, whatever its rotation and the order of its
    corners.

    Parameters
    ----------
    region : `lsst.sphgeom.Region`
        Polygons are covered tightly, other shapes by a box with north up.
    pixel_scale : `float`
        Arcseconds per pixel.
    """
    polygon = region if isinstance(region, ConvexPolygon) else None
    centre = LonLat(
        UnitVector3d(polygon.getCentroid() if polygon else region.getBoundingCircle().getCenter())
    )
    ra, dec = centre.getLon().asDegrees() % 360.0, centre.getLat().asDegrees()
    if polygon is not None:
        vertices = [LonLat(UnitVector3d(v)) for v in polygon.getVertices()]
        xi, eta = sky_to_plane(
            ra, dec, [v.getLon().asDegrees() for v in vertices], [v.getLat().asDegrees() for v in vertices]
        )
        corners = np.column_stack([xi, eta])
        edges = np.roll(corners, -1, axis=0) - corners
        longest = edges[int(np.argmax(np.hypot(*edges.T).round(9)))]
        # Modulo a quarter turn, and rounded so that which of the nearly equal
        # edges is the longest makes no difference.
        angle = math.atan2(longest[1], longest[0]) % (math.pi / 2)
    else:
        radius = region.getBoundingCircle().getOpeningAngle().asDegrees()
        corners = radius * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
        angle = 0.0
    return _grid(ra, dec, corners, angle, pixel_scale / 3600.0)


def _grid(ra: float, dec: float, corners: npt.NDArray[np.float64], angle: float, step: float) -> Footprint:
    """Return the grid turned by an angle from east to north, x to the west."""
    cos, sin = math.cos(angle), math.sin(angle)
    # Columns: the directions of +x and +y on the plane of (xi, eta).
    axes = np.array([[-cos, -sin], [-sin, cos]])
    pixels = corners @ np.linalg.inv(axes).T / step
    low = np.floor(pixels.min(axis=0)) - _BORDER
    high = np.ceil(pixels.max(axis=0)) + _BORDER
    nx, ny = (int(n) for n in high - low + 1)
    cd = axes * step
    header: dict[str, HeaderValue] = {
        "WCSAXES": 2,
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CRVAL1": ra,
        "CRVAL2": dec,
        "CRPIX1": float(1 - low[0]),
        "CRPIX2": float(1 - low[1]),
        "CD1_1": float(cd[0, 0]),
        "CD1_2": float(cd[0, 1]),
        "CD2_1": float(cd[1, 0]),
        "CD2_2": float(cd[1, 1]),
        "RADESYS": "ICRS",
    }
    return Footprint(header, (ny, nx))
