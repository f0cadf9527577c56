"""TAI and the days of an observatory.

Messages and this project count time in unix-style seconds on the TAI scale:
SI seconds since 1970-01-01 00:00:00 TAI (`astropy.time.Time.unix_tai`).
"""

from __future__ import annotations

__all__ = ["TAI_MINUS_UTC", "day_obs", "output_date", "tai_from_unix", "unix_from_tai"]

from datetime import UTC, datetime, timedelta

#: TAI - UTC in seconds, since 2017-01-01 (IERS Bulletin C 52). No leap second
#: has been announced since, and the General Conference on Weights and Measures
#: decided in 2022 (Resolution 4) to have none from 2035 at the latest. A test
#: compares it with astropy's table, so that an upgrade would tell.
TAI_MINUS_UTC = 37.0


def tai_from_unix(unix: float) -> float:
    """Convert UTC unix seconds, of 2017 or later, to TAI."""
    return unix + TAI_MINUS_UTC


def unix_from_tai(tai: float) -> float:
    """Convert TAI, of 2017 or later, to UTC unix seconds."""
    return tai - TAI_MINUS_UTC


def output_date(tai: float) -> str:
    """Return the TAI date, YYYY-MM-DD, of 12 h before a TAI time; it names
    output collections, and does not change during a night.
    """
    # Calendar arithmetic on the count itself gives the TAI calendar: the count
    # has no leap seconds, and neither has the arithmetic.
    return (datetime.fromtimestamp(tai, tz=UTC) - timedelta(hours=12)).date().isoformat()


def day_obs(tai: float) -> int:
    """Return the ``day_obs``, YYYYMMDD, of a TAI time."""
    return int(output_date(tai).replace("-", ""))
