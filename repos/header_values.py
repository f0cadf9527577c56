"""Values of headers as the types that observation metadata have."""

from __future__ import annotations

__all__ = ["POINTING", "Convert", "value_converter"]

import datetime as dt
import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import astropy.units as u
from astro_metadata_translator.properties import PROPERTIES
from astropy.coordinates import Angle
from astropy.time import Time, TimeDelta

from config.instruments import HeaderField

#: Turns a header's value into a property's; raises `ValueError`, `TypeError`
#: or `OverflowError` if it cannot.
Convert: TypeAlias = Callable[[Any], Any]

#: Names that camera files give instead of the property ``tracking_radec``.
POINTING = ("tracking_ra", "tracking_dec")

#: Units of numbers for which a camera file gives none.
_DEFAULT_UNITS = {
    "exposure_time": "s",
    "exposure_time_requested": "s",
    "dark_time": "s",
    "boresight_rotation_angle": "deg",
    "tracking_ra": "deg",
    "tracking_dec": "deg",
    "temperature": "deg_C",
    "pressure": "hPa",
    "focus_z": "m",
    "observing_day_offset": "s",
}


def value_converter(name: str, field: HeaderField) -> Convert:
    """Return what turns a header's value into a property's.

    Raises
    ------
    ValueError
        Raised if there is no such property, or none that can be read.
    """
    unit = u.Unit(field.unit or _DEFAULT_UNITS.get(name) or "")
    if name in POINTING:
        return partial(_to_angle, unit=unit)
    if name not in PROPERTIES:
        raise ValueError(
            "there is no such property; see astro_metadata_translator, or tracking_ra, tracking_dec"
        )
    python_type = PROPERTIES[name].py_type
    if python_type is Time:
        return partial(_to_time, scale=field.scale, time_format=field.format)
    if python_type is u.Quantity:
        return partial(_to_quantity, unit=unit)
    if python_type is Angle:
        return partial(_to_angle, unit=unit)
    if python_type is TimeDelta:
        return lambda value: TimeDelta(_to_float(value) * unit)
    simple: dict[type, Convert] = {int: _to_int, float: _to_float, str: _to_text, bool: _to_bool}
    if python_type not in simple:
        raise ValueError("a property of this kind cannot be given; leave it out")
    return simple[python_type]


def _to_time(value: Any, *, scale: str, time_format: str) -> Time:
    if isinstance(value, dt.datetime):
        value = value.isoformat()
    if time_format in ("isot", "iso", "fits"):
        # A blank between date and time is as good as a T.
        return Time(str(value).strip().replace(" ", "T"), scale=scale, format="isot")
    return Time(float(value), scale=scale, format=time_format)


def _to_quantity(value: Any, *, unit: u.UnitBase) -> u.Quantity:
    number = _to_float(value)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number * unit


def _to_angle(value: Any, *, unit: u.UnitBase) -> Angle:
    try:
        return Angle(_to_float(value), unit)
    except ValueError:
        if not isinstance(value, str):
            raise
        return Angle(value, unit)  # sexagesimal


def _to_float(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError("not a number")
    return float(value)


def _to_int(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError("not a whole number")
    return int(value)


def _to_text(value: Any) -> str:
    return str(value).strip()


def _to_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("neither true nor false")
    return value
