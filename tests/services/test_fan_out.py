"""What becomes of each nextVisit."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Sequence
from typing import Any

import pytest

from config.instrument_routes import InstrumentRoute
from models.errors import InvalidMessage, TemporarilyUnavailable, UnknownSchema
from models.fan_out import SkipReason
from models.visits import FannedOutVisit
from services import fan_out as module
from services.fan_out import FanOut
from tests.services.fan_out_world import PUBLISHED, ROUTE, Counts, announcement, record


class Delivered:
    """A `services.fan_out.VisitDelivery` that keeps what it gets."""

    def __init__(self) -> None:
        self.visits: list[FannedOutVisit] = []

    async def deliver(self, route: InstrumentRoute, visits: Sequence[FannedOutVisit]) -> None:
        assert route is ROUTE
        self.visits += visits


class Decoder:
    """Reads JSON, after failing in given ways."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = [*failures]

    async def decode(self, value: bytes) -> Any:
        if self.failures:
            raise self.failures.pop(0)
        return json.loads(value)


class World:
    def __init__(self, *failures: Exception, now: float = PUBLISHED + 1) -> None:
        self.counts = Counts()
        self.delivered = Delivered()
        self.fan_out = FanOut(
            decoder=Decoder(*failures),
            routes={"LSSTCam": ROUTE},
            delivery=self.delivered,
            observer=self.counts,
            expiration=3600.0,
            clock=lambda: now,
        )

    def handle(self, content: object) -> list[FannedOutVisit]:
        asyncio.run(self.fan_out.handle(record(content)))
        return self.delivered.visits


def test_each_active_detector_has_its_copy() -> None:
    world = World()
    copies = world.handle(announcement())
    assert [copy.detector for copy in copies] == [0, 4, 94]
    assert {copy.groupId for copy in copies} == {announcement()["groupId"]}
    assert world.counts.count == {"announced": 3, "sent": 1}
    assert world.counts.skips == []


def test_a_test_queue_may_have_its_own_detectors() -> None:
    assert [copy.detector for copy in World().handle(announcement(salIndex=3))] == [7]


@pytest.mark.parametrize(
    ("content", "reason", "said"),
    [
        (announcement(instrument=""), SkipReason.NO_INSTRUMENT, "no instrument"),
        (announcement(instrument=None), SkipReason.NO_INSTRUMENT, "no instrument"),
        ({"instrument": "", "position": "anywhere"}, SkipReason.NO_INSTRUMENT, "no instrument"),
        ({}, SkipReason.NO_INSTRUMENT, "no instrument"),
        (announcement(instrument="LATISS"), SkipReason.UNSUPPORTED_INSTRUMENT, "'LATISS' is none of LSSTCam"),
        (announcement(instrument=3), SkipReason.UNSUPPORTED_INSTRUMENT, "none of LSSTCam"),
        (announcement(instrument=["LSSTCam"]), SkipReason.UNSUPPORTED_INSTRUMENT, "none of LSSTCam"),
        (announcement(groupId=...), SkipReason.MALFORMED, "groupId: Field required"),
        (announcement(position=[1.0]), SkipReason.MALFORMED, "position"),
        (announcement(schemaVersion=3), SkipReason.MALFORMED, "schemaVersion 3"),
        (announcement(coordinateSystem=3), SkipReason.UNUSABLE, "coordinateSystem OBSERVED"),
        (announcement(rotationSystem=4), SkipReason.UNUSABLE, "rotationSystem MOUNT"),
        (announcement(private_efdStamp=PUBLISHED - 3600), SkipReason.STALE, "published 3601 s ago"),
        ([1], SkipReason.MALFORMED, "no object but list"),
        (None, SkipReason.MALFORMED, "empty"),
    ],
)
def test_what_is_skipped_is_counted_and_said(
    caplog: pytest.LogCaptureFixture, content: Any, reason: SkipReason, said: str
) -> None:
    world = World()
    with caplog.at_level(logging.DEBUG):
        assert world.handle(content) == []
    assert world.counts.skips == [reason]
    assert said in caplog.text
    assert f"Skipped ({reason.value}) the nextVisit at partition 0 offset 0" in caplog.text


def test_age_is_measured_from_the_utc_stamp_not_from_tai() -> None:
    # By the TAI stamp these would be older than they are, or not stale yet.
    assert len(World(now=PUBLISHED + 3599).handle(announcement(private_sndStamp=PUBLISHED - 9e9))) == 3
    assert World(now=PUBLISHED + 3601).handle(announcement(private_sndStamp=PUBLISHED + 9e9)) == []


@pytest.mark.parametrize("stamp", [0, 0.0, ..., -1.0, math.nan])
def test_without_the_stamp_it_is_handled_with_a_warning(caplog: pytest.LogCaptureFixture, stamp: Any) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(World(now=PUBLISHED + 1e6).handle(announcement(private_efdStamp=stamp))) == 3
    assert "has no private_efdStamp" in caplog.text


def test_an_instrument_without_active_detectors() -> None:
    world = World()
    world.fan_out = FanOut(
        decoder=Decoder(),
        routes={"LSSTCam": InstrumentRoute("LSSTCam", ())},
        delivery=world.delivered,
        observer=world.counts,
        expiration=3600.0,
        clock=lambda: PUBLISHED,
    )
    assert world.handle(announcement()) == []
    assert world.counts.skips == [SkipReason.NO_DETECTORS]


def test_an_unknown_schema_is_no_reason_to_wait() -> None:
    world = World(UnknownSchema("the registry has no schema 7"))
    assert world.handle(announcement()) == []
    assert world.counts.skips == [SkipReason.UNKNOWN_SCHEMA]


def test_what_cannot_be_read_is_malformed() -> None:
    world = World(InvalidMessage("neither Avro nor JSON"))
    world.handle(announcement())
    assert world.counts.skips == [SkipReason.MALFORMED]


def test_a_registry_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)
    away = TemporarilyUnavailable("the registry does not answer")
    world = World(away, away, away)
    assert len(world.handle(announcement())) == 3
    assert world.counts.skips == []


def test_but_not_longer_than_the_visit_counts(caplog: pytest.LogCaptureFixture) -> None:
    away = TemporarilyUnavailable("the registry does not answer")
    world = World(*[away] * 3, now=PUBLISHED + 3600)
    assert world.handle(announcement()) == []
    assert world.counts.skips == [SkipReason.UNREADABLE]
    assert "the registry does not answer" in caplog.text
