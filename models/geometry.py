"""Where a camera's pixels fall on the sky.

The camera is ideal: sensors lie flat on the plane tangent at the boresight
(gnomonic projection; Calabretta & Greisen 2002, A&A 395, 1077, section 5.1.3),
without distortion. That is exact enough for everything that happens before a
WCS is fitted to the image: footprints, preload, warping templates ahead of the
exposure.

Frames are those of `config.instruments`: *pixel* (zero-based, centre of the
first pixel at (0, 0), trimmed image), *focal plane* (field angle in degrees)
and *sky* (ICRS degrees). Coordinates may be scalars or arrays, which broadcast.
"""

from __future__ import annotations

__all__ = [
    "FloatOrArray",
    "angular_separation",
    "detector_center",
    "detector_corners",
    "focal_plane_to_pixel",
    "focal_plane_to_sky",
    "pixel_to_focal_plane",
    "pixel_to_sky",
    "plane_to_sky",
    "sky_to_focal_plane",
    "sky_to_pixel",
    "sky_to_plane",
    "wcs_header",
]

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from config.instruments import Detector, InstrumentConfig

FloatOrArray: TypeAlias = NDArray[np.float64]

_ARCSEC = 1.0 / 3600.0


def plane_to_sky(ra: float, dec: float, xi: ArrayLike, eta: ArrayLike) -> tuple[FloatOrArray, FloatOrArray]:
    """Project from the plane tangent at a point back to the sky.

    Parameters
    ----------
    ra, dec : `float`
        Tangent point, degrees ICRS.
    xi, eta : array-like
        Standard coordinates, degrees: xi to the east, eta to the north.

    Returns
    -------
    ra, dec : `numpy.ndarray`
        ICRS degrees, ra in [0, 360).
    """
    xi, eta = np.radians(xi), np.radians(eta)
    sin_dec, cos_dec = np.sin(np.radians(dec)), np.cos(np.radians(dec))
    denominator = cos_dec - eta * sin_dec
    offset = np.degrees(np.arctan2(xi, denominator))
    lat = np.degrees(np.arctan2(sin_dec + eta * cos_dec, np.hypot(xi, denominator)))
    # The second modulo turns the 360.0 that rounding leaves of a tiny
    # negative angle into 0.
    return np.mod(np.mod(ra + offset, 360.0), 360.0), lat


def sky_to_plane(
    ra: float, dec: float, target_ra: ArrayLike, target_dec: ArrayLike
) -> tuple[FloatOrArray, FloatOrArray]:
    """Project from the sky to the plane tangent at a point.

    Parameters
    ----------
    ra, dec : `float`
        Tangent point, degrees ICRS.
    target_ra, target_dec : array-like
        What to project, degrees ICRS.

    Returns
    -------
    xi, eta : `numpy.ndarray`
        Standard coordinates, degrees east and north; NaN for what lies 90
        degrees or more away, which has no gnomonic projection.
    """
    offset = np.radians(np.asarray(target_ra, dtype=float) - ra)
    lat = np.radians(target_dec)
    sin_dec, cos_dec = np.sin(np.radians(dec)), np.cos(np.radians(dec))
    sin_lat, cos_lat = np.sin(lat), np.cos(lat)
    cos_distance = sin_dec * sin_lat + cos_dec * cos_lat * np.cos(offset)
    visible = np.where(cos_distance > 1e-9, cos_distance, np.nan)
    xi = cos_lat * np.sin(offset) / visible
    # sin(lat - dec) form of the numerator: no cancellation near the centre.
    eta = (np.sin(lat - np.radians(dec)) + 2.0 * sin_dec * cos_lat * np.sin(offset / 2.0) ** 2) / visible
    return np.degrees(xi), np.degrees(eta)


def angular_separation(
    ra: ArrayLike, dec: ArrayLike, other_ra: ArrayLike, other_dec: ArrayLike
) -> FloatOrArray:
    """Return the angle between two points on the sky, degrees (haversine)."""
    lat, other_lat = np.radians(dec), np.radians(other_dec)
    delta = np.radians(np.asarray(other_ra, dtype=float) - np.asarray(ra, dtype=float))
    half = np.sin((other_lat - lat) / 2) ** 2 + np.cos(lat) * np.cos(other_lat) * np.sin(delta / 2) ** 2
    return np.degrees(2.0 * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0))))


def _focal_to_plane_matrix(angle: float, *, flip_x: bool) -> NDArray[np.float64]:
    """Matrix from focal-plane (X, Y) to standard coordinates (xi, eta)."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    east_of_x = 1.0 if flip_x else -1.0
    return np.array([[east_of_x * cos, sin], [-east_of_x * sin, cos]])


def focal_plane_to_sky(
    ra: float, dec: float, angle: float, x: ArrayLike, y: ArrayLike, *, flip_x: bool = False
) -> tuple[FloatOrArray, FloatOrArray]:
    """Convert focal-plane positions to the sky.

    Parameters
    ----------
    ra, dec : `float`
        Boresight, degrees ICRS.
    angle : `float`
        Focal +Y east of north, degrees (``cameraAngle`` in SKY).
    x, y : array-like
        Focal-plane positions, degrees.
    flip_x : `bool`, optional
        Whether +X points east, instead of west, when +Y points north.

    Returns
    -------
    ra, dec : `numpy.ndarray`
        ICRS degrees, ra in [0, 360).
    """
    matrix = _focal_to_plane_matrix(angle, flip_x=flip_x)
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return plane_to_sky(ra, dec, matrix[0, 0] * x + matrix[0, 1] * y, matrix[1, 0] * x + matrix[1, 1] * y)


def sky_to_focal_plane(
    ra: float,
    dec: float,
    angle: float,
    target_ra: ArrayLike,
    target_dec: ArrayLike,
    *,
    flip_x: bool = False,
) -> tuple[FloatOrArray, FloatOrArray]:
    """Convert sky positions to the focal plane; inverse of `focal_plane_to_sky`.

    Returns
    -------
    x, y : `numpy.ndarray`
        Focal-plane positions, degrees; NaN for 90 degrees or more away.
    """
    # The matrix is orthogonal, so its transpose is its inverse.
    matrix = _focal_to_plane_matrix(angle, flip_x=flip_x)
    xi, eta = sky_to_plane(ra, dec, target_ra, target_dec)
    return matrix[0, 0] * xi + matrix[1, 0] * eta, matrix[0, 1] * xi + matrix[1, 1] * eta


def _detector_transform(
    instrument: InstrumentConfig, detector: Detector
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return (matrix, offset, middle) with focal = matrix @ (pixel - middle) + offset."""
    cos, sin = np.cos(np.radians(detector.rotation)), np.sin(np.radians(detector.rotation))
    matrix = instrument.pixel_scale * _ARCSEC * np.array([[cos, -sin], [sin, cos]])
    offset = instrument.plate_scale * _ARCSEC * np.array(detector.center)
    middle = (np.array(detector.size, dtype=float) - 1.0) / 2.0
    return matrix, offset, middle


def pixel_to_focal_plane(
    instrument: InstrumentConfig, detector: Detector, x: ArrayLike, y: ArrayLike
) -> tuple[FloatOrArray, FloatOrArray]:
    """Convert zero-based pixels of the trimmed image to focal-plane degrees."""
    matrix, offset, middle = _detector_transform(instrument, detector)
    dx, dy = np.asarray(x, dtype=float) - middle[0], np.asarray(y, dtype=float) - middle[1]
    return (
        matrix[0, 0] * dx + matrix[0, 1] * dy + offset[0],
        matrix[1, 0] * dx + matrix[1, 1] * dy + offset[1],
    )


def focal_plane_to_pixel(
    instrument: InstrumentConfig, detector: Detector, x: ArrayLike, y: ArrayLike
) -> tuple[FloatOrArray, FloatOrArray]:
    """Convert focal-plane degrees to zero-based pixels of the trimmed image."""
    matrix, offset, middle = _detector_transform(instrument, detector)
    inverse = np.linalg.inv(matrix)
    dx, dy = np.asarray(x, dtype=float) - offset[0], np.asarray(y, dtype=float) - offset[1]
    return (
        inverse[0, 0] * dx + inverse[0, 1] * dy + middle[0],
        inverse[1, 0] * dx + inverse[1, 1] * dy + middle[1],
    )


def pixel_to_sky(
    instrument: InstrumentConfig,
    detector: Detector,
    ra: float,
    dec: float,
    angle: float,
    x: ArrayLike,
    y: ArrayLike,
) -> tuple[FloatOrArray, FloatOrArray]:
    """Convert zero-based pixels to ICRS degrees for a boresight and camera angle."""
    focal_x, focal_y = pixel_to_focal_plane(instrument, detector, x, y)
    return focal_plane_to_sky(ra, dec, angle, focal_x, focal_y, flip_x=instrument.flip_x)


def sky_to_pixel(
    instrument: InstrumentConfig,
    detector: Detector,
    ra: float,
    dec: float,
    angle: float,
    target_ra: ArrayLike,
    target_dec: ArrayLike,
) -> tuple[FloatOrArray, FloatOrArray]:
    """Convert ICRS degrees to zero-based pixels; NaN for 90 degrees or more away."""
    focal_x, focal_y = sky_to_focal_plane(ra, dec, angle, target_ra, target_dec, flip_x=instrument.flip_x)
    return focal_plane_to_pixel(instrument, detector, focal_x, focal_y)


def detector_corners(
    instrument: InstrumentConfig,
    detector: Detector,
    ra: float,
    dec: float,
    angle: float,
    padding: float = 0.0,
) -> list[tuple[float, float]]:
    """Return the corners of a detector's footprint on the sky.

    Parameters
    ----------
    instrument, detector
        The camera and the sensor.
    ra, dec : `float`
        Boresight, degrees ICRS.
    angle : `float`
        Focal +Y east of north, degrees.
    padding : `float`, optional
        How far to move every edge outwards, arcseconds.

    Returns
    -------
    corners : `list` [`tuple` [`float`, `float`]]
        Four (ra, dec) in degrees, in order around the footprint: the outer
        corners of pixels (0, 0), (nx-1, 0), (nx-1, ny-1), (0, ny-1), padded.
    """
    margin = 0.5 + padding / instrument.pixel_scale
    right, top = detector.size[0] - 1 + margin, detector.size[1] - 1 + margin
    x = np.array([-margin, right, right, -margin])
    y = np.array([-margin, -margin, top, top])
    corner_ra, corner_dec = pixel_to_sky(instrument, detector, ra, dec, angle, x, y)
    return list(zip(corner_ra.tolist(), corner_dec.tolist(), strict=True))


def detector_center(
    instrument: InstrumentConfig, detector: Detector, ra: float, dec: float, angle: float
) -> tuple[float, float]:
    """Return the (ra, dec) of the middle of a detector, degrees ICRS."""
    x, y = (detector.size[0] - 1) / 2.0, (detector.size[1] - 1) / 2.0
    center_ra, center_dec = pixel_to_sky(instrument, detector, ra, dec, angle, x, y)
    return float(center_ra), float(center_dec)


def wcs_header(
    instrument: InstrumentConfig, detector: Detector, ra: float, dec: float, angle: float
) -> dict[str, Any]:
    """Return the predicted WCS of a detector as FITS keywords.

    Parameters
    ----------
    instrument, detector
        The camera and the sensor.
    ra, dec : `float`
        Boresight, degrees ICRS.
    angle : `float`
        Focal +Y east of north, degrees.

    Returns
    -------
    header : `dict`
        A TAN projection with the boresight as reference value and a CD matrix
        in degrees per pixel; ``CRPIX`` counts from 1 as FITS does.
    """
    matrix, _, _ = _detector_transform(instrument, detector)
    cd = _focal_to_plane_matrix(angle, flip_x=instrument.flip_x) @ matrix
    x, y = focal_plane_to_pixel(instrument, detector, 0.0, 0.0)
    return {
        "WCSAXES": 2,
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CRVAL1": float(ra),
        "CRVAL2": float(dec),
        "CRPIX1": float(x) + 1.0,
        "CRPIX2": float(y) + 1.0,
        "CD1_1": float(cd[0, 0]),
        "CD1_2": float(cd[0, 1]),
        "CD2_1": float(cd[1, 0]),
        "CD2_2": float(cd[1, 1]),
        "RADESYS": "ICRS",
        "LONPOLE": 180.0,
    }
