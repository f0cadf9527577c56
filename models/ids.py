"""Ids of DIA sources, objects and alerts, computed from what they describe.

A positive 64-bit integer, from its most significant bit::

    0 | visit: 41 bits | detector: 8 bits | running number: 14 bits

41 bits hold exposure ids of the form ``day_obs * 100000 + sequence number``
until the end of the year 2198. A DIA object has the id of its first DIA source, an alert
that of the source that caused it. So a visit that is run again, in any
process, writes the same ids.
"""

from __future__ import annotations

__all__ = ["MAX_DETECTOR", "MAX_SOURCES", "MAX_VISIT", "pack_source_id", "unpack_source_id"]

_VISIT_BITS = 41
_DETECTOR_BITS = 8
_SEQUENCE_BITS = 14

#: Largest visit id that fits.
MAX_VISIT = (1 << _VISIT_BITS) - 1
#: Largest detector id that fits.
MAX_DETECTOR = (1 << _DETECTOR_BITS) - 1
#: Number of sources that a visit and detector can have.
MAX_SOURCES = 1 << _SEQUENCE_BITS


def pack_source_id(visit: int, detector: int, number: int) -> int:
    """Return the id of a DIA source.

    Parameters
    ----------
    visit, detector : `int`
        Where it was found.
    number : `int`
        Its running number there, from 0.

    Raises
    ------
    ValueError
        Raised if one of them does not fit.
    """
    for name, value, limit in (
        ("visit", visit, MAX_VISIT),
        ("detector", detector, MAX_DETECTOR),
        ("running number", number, MAX_SOURCES - 1),
    ):
        if not 0 <= value <= limit:
            raise ValueError(
                f"{name} {value} of visit {visit}, detector {detector} does not fit a DIA source id: "
                f"it must lie in [0, {limit}] (see models/ids.py for the layout)"
            )
    return (visit << _DETECTOR_BITS | detector) << _SEQUENCE_BITS | number


def unpack_source_id(source_id: int) -> tuple[int, int, int]:
    """Return visit, detector and running number of a DIA source id."""
    number = source_id & (MAX_SOURCES - 1)
    detector = source_id >> _SEQUENCE_BITS & MAX_DETECTOR
    return source_id >> (_SEQUENCE_BITS + _DETECTOR_BITS), detector, number
