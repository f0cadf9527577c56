"""Dimension records of an exposure, and of the visit that consists of it.

Visits are defined one-to-one with exposures: two snaps make two visits of one
group.
"""

from __future__ import annotations

__all__ = ["dimension_records"]

import math
from collections.abc import Mapping
from typing import Any

import astropy.units as u
from astro_metadata_translator import ObservationInfo
from astropy.time import Time
from lsst.daf.butler import DimensionElement, DimensionRecord, DimensionUniverse, Timespan

from repos.footprint import FootprintGeometry
from repos.observation import sky_angle

#: The Butler's number and name for visits that are one exposure each.
_VISIT_SYSTEM = (0, "one-to-one")

#: Fields that describe and identify nothing: better cut than refused by a
#: database that limits their length.
_DESCRIPTIVE = ("observation_type", "observation_reason", "target_name", "science_program")


def dimension_records(
    info: ObservationInfo,
    universe: DimensionUniverse,
    geometry: FootprintGeometry,
    *,
    detector: int,
    padding: float,
) -> dict[str, list[DimensionRecord]]:
    """Make the records of one exposure and, if it looks at the sky, its visit.

    Parameters
    ----------
    info : `astro_metadata_translator.ObservationInfo`
        As from `repos.observation.ObservationReader.observation_info`.
    universe : `lsst.daf.butler.DimensionUniverse`
        Of the central repo; fields that it does not have are left out.
    geometry : `repos.footprint.FootprintGeometry`
    detector : `int`
        The only detector for which a ``visit_detector_region`` is made.
    padding : `float`
        Arcseconds added around the regions, for the pointing's error.

    Returns
    -------
    records : `dict` [`str`, `list` [`lsst.daf.butler.DimensionRecord`]]
        By element, in the order in which they can be inserted. Without a
        pointing or an orientation (bias and dark frames) no visit is defined.
    """
    timespan = Timespan(info.datetime_begin, info.datetime_end)
    angle = sky_angle(info)
    values = _exposure_values(info, timespan, angle)
    if info.tracking_radec is not None and angle is not None:
        values.update(_visit_values(info, timespan, angle, geometry, detector, padding))
    return {
        element.name: [_record(element, {"instrument": info.instrument, **values[element.name]})]
        for element in universe.sorted(values)
    }


def _exposure_values(
    info: ObservationInfo, timespan: Timespan, angle: float | None
) -> dict[str, dict[str, Any]]:
    pointing = info.tracking_radec
    exposure = {
        "id": info.exposure_id,
        "day_obs": info.observing_day,
        "group": info.exposure_group,
        "physical_filter": info.physical_filter,
        "obs_id": info.observation_id,
        "exposure_time": info.exposure_time.to_value(u.s),
        "dark_time": info.dark_time.to_value(u.s),
        "observation_type": info.observation_type,
        "observation_reason": info.observation_reason,
        "seq_num": info.observation_counter,
        "seq_start": info.group_counter_start,
        "seq_end": info.group_counter_end,
        "target_name": info.object,
        "science_program": info.science_program,
        "tracking_ra": None if pointing is None else float(pointing.ra.deg),
        "tracking_dec": None if pointing is None else float(pointing.dec.deg),
        "sky_angle": angle,
        "azimuth": None,
        "zenith_angle": _zenith_angle(info),
        "has_simulated": bool(info.has_simulated_content),
        "can_see_sky": info.can_see_sky if info.can_see_sky is not None else (pointing is not None or None),
        "timespan": timespan,
    }
    return {
        "day_obs": {"id": info.observing_day, "timespan": _day_timespan(info)},
        "group": {"name": info.exposure_group},
        "exposure": exposure,
    }


def _visit_values(
    info: ObservationInfo,
    timespan: Timespan,
    angle: float,
    geometry: FootprintGeometry,
    detector: int,
    padding: float,
) -> dict[str, dict[str, Any]]:
    pointing = info.tracking_radec
    ra, dec = float(pointing.ra.deg), float(pointing.dec.deg)
    system, system_name = _VISIT_SYSTEM
    visit = {
        "id": info.visit_id,
        "day_obs": info.observing_day,
        "physical_filter": info.physical_filter,
        "name": info.observation_id,
        "seq_num": info.observation_counter,
        "exposure_time": info.exposure_time.to_value(u.s),
        "target_name": info.object,
        "observation_reason": info.observation_reason,
        "science_program": info.science_program,
        "azimuth": None,
        "zenith_angle": _zenith_angle(info),
        "region": geometry.visit_region(ra, dec, angle, padding),
        "timespan": timespan,
    }
    return {
        "visit_system": {"id": system, "name": system_name},
        "visit": visit,
        "visit_definition": {"exposure": info.exposure_id, "visit": info.visit_id},
        "visit_system_membership": {"visit": info.visit_id, "visit_system": system},
        "visit_detector_region": {
            "visit": info.visit_id,
            "detector": detector,
            "region": geometry.detector_region(detector, ra, dec, angle, padding),
        },
    }


def _zenith_angle(info: ObservationInfo) -> float | None:
    """Return the angle from the zenith, degrees, from the airmass.

    A plane-parallel atmosphere is exact enough for a field that nothing is
    computed from.
    """
    airmass = info.boresight_airmass
    if airmass is None or not math.isfinite(airmass) or airmass < 1.0:
        return None
    return math.degrees(math.acos(1.0 / airmass))


def _day_timespan(info: ObservationInfo) -> Timespan | None:
    """Return when the day of observation begins and ends.

    None if the camera file does not tell its offset from the calendar's day.
    """
    if info.observing_day_offset is None:
        return None
    day = f"{info.observing_day:08d}"
    begin = Time(f"{day[:4]}-{day[4:6]}-{day[6:]}T00:00:00", scale="tai") + info.observing_day_offset
    return Timespan(begin, begin + 1 * u.day)


def _record(element: DimensionElement, values: Mapping[str, Any]) -> DimensionRecord:
    known = {}
    for field in element.schema.all:
        if field.name in values:
            value = values[field.name]
            if field.name in _DESCRIPTIVE and value is not None:
                value = value[: field.length]
            known[field.name] = value
    return element.RecordClass(**known)
