"""What the status page says."""

from __future__ import annotations

from typing import Any

from app.web.status import StatusPage


def page(processed: int, listed: int) -> StatusPage:
    nothing: Any = None
    return StatusPage(
        word="READY",
        mood="good",
        reason="",
        instrument="DemoCam",
        day_obs=20261120,
        now="",
        version="",
        pool=nothing,
        counts={"processed": processed},
        alerts=3,
        visits=[nothing] * listed,
        troubles=[],
        degraded=[],
    )


def test_alerts_of_the_whole_night() -> None:
    assert page(processed=100, listed=100).alerts_name == "alerts"


def test_alerts_of_a_night_that_is_not_listed_whole() -> None:
    assert page(processed=101, listed=100).alerts_name == "alerts, last 100 visits"
