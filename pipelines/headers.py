"""Header cards that images carry from task to task."""

from __future__ import annotations

__all__ = ["exposure_cards", "visit_midpoint"]

from typing import Any

from lsst.daf.butler import DataCoordinate

from config.instruments import Detector, InstrumentConfig
from models.errors import UnreadableImage
from models.geometry import wcs_header
from models.images import HeaderValue, wcs_cards


def exposure_cards(
    data_id: DataCoordinate,
    camera: InstrumentConfig,
    detector: Detector,
    raw_header: dict[str, HeaderValue],
    *,
    keep_wcs: bool,
) -> dict[str, HeaderValue]:
    """Return the cards of an image of one exposure and detector.

    Parameters
    ----------
    data_id : `lsst.daf.butler.DataCoordinate`
        Expanded, with an exposure.
    camera, detector
        What took it.
    raw_header : `dict`
        Cards of the raw image.
    keep_wcs : `bool`
        Whether to take the raw's own WCS, if it has one, instead of what
        pointing and rotation predict. That of a raw with overscan counts
        pixels in another frame.

    Returns
    -------
    cards : `dict`
        ``MJD-MID`` (TAI), ``EXPTIME`` (s), ``VISIT``, ``DETECTOR``,
        ``FILTER``, ``BAND``, ``INSTRUME`` and a WCS.

    Raises
    ------
    models.errors.UnreadableImage
        Raised if there is neither a WCS nor a pointing.
    """
    exposure: Any = data_id.records["exposure"]
    cards: dict[str, HeaderValue] = {
        "INSTRUME": camera.name,
        "VISIT": int(exposure.id),
        "DETECTOR": detector.id,
        "FILTER": str(exposure.physical_filter),
        "BAND": camera.bands.get(str(exposure.physical_filter), ""),
        "EXPTIME": float(exposure.exposure_time or 0.0),
        "MJD-MID": visit_midpoint(exposure),
        "TIMESYS": "TAI",
    }
    if keep_wcs and "CTYPE1" in raw_header:
        return cards | wcs_cards(raw_header)
    pointing = exposure.tracking_ra, exposure.tracking_dec, exposure.sky_angle
    if any(value is None for value in pointing):
        raise UnreadableImage(
            f"exposure {exposure.id} has no pointing or rotation on the sky (tracking_ra, tracking_dec, "
            f"sky_angle = {pointing}) and its image no usable WCS; check the header mapping of {camera.name}"
        )
    return cards | wcs_header(camera, detector, *(float(value) for value in pointing))


def visit_midpoint(exposure: Any) -> float:
    """Return the middle of an exposure, MJD TAI, from its dimension record.

    Raises
    ------
    models.errors.UnreadableImage
        Raised if its time span is unbounded or unknown.
    """
    span = exposure.timespan
    if span is None or span.begin is None or span.end is None:
        raise UnreadableImage(
            f"exposure {exposure.id} has no begin and end; check the times in the header mapping"
        )
    return float((span.begin.tai.mjd + span.end.tai.mjd) / 2.0)
