from __future__ import annotations

import datetime as dt

import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from models.times import TAI_MINUS_UTC, day_obs, output_date, tai_from_unix, unix_from_tai


def test_offset_is_that_of_today() -> None:
    """A leap second would show here with the next astropy-iers-data."""
    now = Time(dt.datetime.now(dt.UTC))
    assert now.unix_tai - now.unix == pytest.approx(TAI_MINUS_UTC, abs=1e-6)


@given(st.floats(1483228837.0, 1767225600.0))  # the years 2017 to 2025
def test_agrees_with_astropy(moment: float) -> None:
    time = Time(moment, format="unix_tai")
    assert tai_from_unix(time.unix) == pytest.approx(time.unix_tai, abs=1e-5)
    assert unix_from_tai(time.unix_tai) == pytest.approx(time.unix, abs=1e-5)
    earlier = Time(time.tai.jd1, time.tai.jd2 - 0.5, format="jd", scale="tai")
    assert output_date(time.unix_tai) == earlier.to_value("iso", subfmt="date")


@pytest.mark.parametrize(
    ("tai", "date"),
    [
        ("2026-03-01T11:59:59.9", "2026-02-28"),
        ("2026-03-01T12:00:00.1", "2026-03-01"),
        ("2026-03-02T02:00:00", "2026-03-01"),
    ],
)
def test_day_changes_at_noon_tai(tai: str, date: str) -> None:
    seconds = Time(tai, scale="tai").unix_tai
    assert output_date(seconds) == date
    assert day_obs(seconds) == int(date.replace("-", ""))
