"""The observatory announces, exposes, delivers, and hears the answers."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from config.instruments import InstrumentConfig
from models.times import unix_from_tai
from models.visits import FannedOutVisit, SummitVisit
from simulator.fan_out import Answer, FanOut
from simulator.io.delivery import DirectoryDelivery
from simulator.observatory import Observatory
from simulator.observing import SilentProgress, StagedFrame, Timing, VisitReport
from simulator.plan import Plan
from simulator.schedule import plan_simulated
from tests.simulator.conftest import START

QUICK = Timing(lead=0.05, exposure=0.05, between_snaps=0.05)


def make_plan(camera: InstrumentConfig, **changes: Any) -> Plan:
    options: dict[str, Any] = {
        "seed": 7,
        "visits": 2,
        "detectors": 2,
        "transients": 0,
        "start": START,
        **changes,
    }
    return plan_simulated(instrument=camera, **options)


@dataclass
class Service:
    """Answers a visit when its raws are there, as the real one does."""

    image_dir: Path
    wanted: int = 1
    received: list[FannedOutVisit] = field(default_factory=list)
    early: list[Path] = field(default_factory=list)

    def __call__(self, visit: FannedOutVisit) -> Answer:
        self.received.append(visit)
        place = self.image_dir / visit.instrument / str(visit.detector) / visit.groupId
        self.early.extend(place.rglob("[!.]*.fits"))
        deadline = time.monotonic() + 120
        while len(list(place.rglob("[!.]*.fits"))) < self.wanted:
            if time.monotonic() > deadline:
                return Answer(500, {"title": "failed"})
            time.sleep(0.005)
        return Answer(200, {"group": visit.groupId})


class Watcher(SilentProgress):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def staged(self, done: int, total: int) -> None:
        self.told.append(("staged", (done, total)))

    def announced(self, visit: SummitVisit, detectors: tuple[int, ...]) -> None:
        self.told.append(("announced", visit.groupId))

    def shutter(self, visit: SummitVisit, snap: int, *, is_open: bool) -> None:
        self.told.append(("open" if is_open else "closed", (visit.groupId, snap)))

    def answered(self, report: VisitReport) -> None:
        self.told.append(("answered", report.visit.detector))


def files(directory: Path) -> set[str]:
    return {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}


def test_every_visit_is_announced_delivered_and_answered(camera: InstrumentConfig, tmp_path: Path) -> None:
    plan, service, watcher = make_plan(camera), Service(tmp_path), Watcher()
    reports = Observatory(
        announcer=FanOut(send=service),
        delivery=DirectoryDelivery(image_dir=tmp_path),
        timing=QUICK,
        progress=watcher,
    ).observe(plan)
    assert [(r.visit.groupId, r.visit.detector) for r in reports] == [
        (p.visit.groupId, d) for p in plan.visits for d in p.detectors
    ]
    assert files(tmp_path) == {frame.key for frame in plan.frames}
    assert service.early == [], "raws must not be there before the shutter closes"
    for report in reports:
        assert (report.status, report.attempts) == (200, 1)
        assert report.body["group"] == report.visit.groupId
        assert report.announced_at is not None
        assert report.answered_at is not None
        assert report.shutter_opened_at is not None
        assert report.shutter_closed_at is not None
        assert report.raw_delivered_at is not None
        assert (
            report.announced_at
            < report.shutter_opened_at
            < report.shutter_closed_at
            <= report.raw_delivered_at
            <= report.answered_at
        )
    assert [told for told in watcher.told if told[0] == "staged"] == [
        ("staged", (n, 4)) for n in (1, 2, 3, 4)
    ]
    assert sum(what == "answered" for what, _ in watcher.told) == 4
    first = [
        what
        for what, about in watcher.told
        if about in (plan.visits[0].visit.groupId, (plan.visits[0].visit.groupId, 0))
    ]
    assert first == ["announced", "open", "closed"]


def test_announcements_carry_the_time_they_are_sent(camera: InstrumentConfig, tmp_path: Path) -> None:
    before = time.time()
    service = Service(tmp_path)
    reports = Observatory(
        announcer=FanOut(send=service), delivery=DirectoryDelivery(image_dir=tmp_path), timing=QUICK
    ).observe(make_plan(camera, visits=1))
    for visit in service.received:
        assert before <= unix_from_tai(visit.private_sndStamp) <= time.time()
        assert visit.startTime - visit.private_sndStamp == pytest.approx(QUICK.lead, abs=1e-3)
    assert service.received[0].key in {r.visit.key for r in reports}


def test_two_snaps_come_one_after_the_other(camera: InstrumentConfig, tmp_path: Path) -> None:
    plan, watcher = make_plan(camera, visits=1, detectors=1, snaps=2), Watcher()
    reports = Observatory(
        announcer=FanOut(send=Service(tmp_path, wanted=2)),
        delivery=DirectoryDelivery(image_dir=tmp_path),
        timing=QUICK,
        progress=watcher,
    ).observe(plan)
    assert reports[0].status == 200
    assert reports[0].exposure_ids == tuple(f.exposure_id for f in plan.frames)
    group = plan.visits[0].visit.groupId
    assert [t for t in watcher.told if t[0] in ("open", "closed")] == [
        ("open", (group, 0)),
        ("closed", (group, 0)),
        ("open", (group, 1)),
        ("closed", (group, 1)),
    ]


def test_visits_may_overlap(camera: InstrumentConfig, tmp_path: Path) -> None:
    watcher = Watcher()
    plan = make_plan(camera, visits=3, detectors=1)
    timing = Timing(lead=0.3, exposure=0.3, cadence=0.05, stage_ahead=None)
    reports = Observatory(
        announcer=FanOut(send=Service(tmp_path)),
        delivery=DirectoryDelivery(image_dir=tmp_path),
        timing=timing,
        progress=watcher,
    ).observe(plan)
    assert [r.status for r in reports] == [200] * 3
    events = [what for what, _ in watcher.told if what in ("announced", "closed")]
    assert events == ["announced"] * 3 + ["closed"] * 3


def test_frames_may_be_rendered_as_the_night_goes(camera: InstrumentConfig, tmp_path: Path) -> None:
    watcher = Watcher()
    plan = make_plan(camera, visits=3, detectors=1)
    Observatory(
        announcer=FanOut(send=Service(tmp_path)),
        delivery=DirectoryDelivery(image_dir=tmp_path),
        timing=Timing(lead=0.01, exposure=0.01, stage_ahead=0),
        progress=watcher,
    ).observe(plan)
    assert [what for what, _ in watcher.told if what in ("staged", "announced")] == [
        "staged",
        "announced",
    ] * 3


def test_an_early_refusal_does_not_stop_the_night(camera: InstrumentConfig, tmp_path: Path) -> None:
    plan = make_plan(camera)
    reports = Observatory(
        announcer=FanOut(send=lambda _: Answer(422, {"title": "unusable"})),
        delivery=DirectoryDelivery(image_dir=tmp_path),
        timing=QUICK,
    ).observe(plan)
    assert [r.status for r in reports] == [422] * 4
    assert files(tmp_path) == {frame.key for frame in plan.frames}


def test_a_full_disk_ends_the_night_with_its_name(camera: InstrumentConfig, tmp_path: Path) -> None:
    class FullDisk:
        def stage(self, key: str, content: bytes) -> StagedFrame:
            raise OSError(28, "No space left on device", key)

    with pytest.raises(OSError, match="No space left"):
        Observatory(announcer=FanOut(send=Service(tmp_path)), delivery=FullDisk(), timing=QUICK).observe(
            make_plan(camera)
        )


def test_a_frame_that_cannot_be_released_is_not_hidden(camera: InstrumentConfig, tmp_path: Path) -> None:
    class Stuck:
        def release(self) -> float:
            raise PermissionError("read-only")

        def discard(self) -> None:
            pass

    class Delivery:
        def stage(self, key: str, content: bytes) -> StagedFrame:
            return Stuck()

    with pytest.raises(PermissionError, match="read-only"):
        Observatory(announcer=FanOut(send=lambda _: Answer(500)), delivery=Delivery(), timing=QUICK).observe(
            make_plan(camera, visits=1)
        )


def test_stopping_leaves_nothing_half_delivered(camera: InstrumentConfig, tmp_path: Path) -> None:
    observatory = Observatory(
        announcer=FanOut(send=lambda _: Answer(200)),
        delivery=DirectoryDelivery(image_dir=tmp_path),
        timing=Timing(lead=60.0, exposure=60.0),
    )
    threading.Timer(1.0, observatory.stop).start()
    reports = observatory.observe(make_plan(camera, detectors=1))
    assert [r.raw_delivered_at for r in reports] == [None]
    assert files(tmp_path) == set()


class TestFanOut:
    """Copies, and the one retry."""

    def visit(self, camera: InstrumentConfig) -> SummitVisit:
        return make_plan(camera, visits=1).visits[0].visit

    def run(self, camera: InstrumentConfig, answers: list[Answer]) -> tuple[Answer, int]:
        calls: list[FannedOutVisit] = []
        got: list[Answer] = []

        def send(visit: FannedOutVisit) -> Answer:
            calls.append(visit)
            return answers[len(calls) - 1]

        fan_out = FanOut(send=send)
        for done in fan_out.announce(self.visit(camera), [3], lambda _, answer: got.append(answer)):
            done.result(timeout=120)
        fan_out.close()
        assert {visit.detector for visit in calls} == {3}
        return got[0], len(calls)

    def test_every_detector_gets_its_copy(self, camera: InstrumentConfig) -> None:
        got: dict[int, Answer] = {}
        fan_out = FanOut(send=lambda visit: Answer(200, {"detector": visit.detector}))
        for done in fan_out.announce(self.visit(camera), range(20), got.__setitem__):
            done.result(timeout=120)
        fan_out.close()
        assert {n: a.body["detector"] for n, a in got.items()} == {n: n for n in range(20)}

    def test_an_unavailable_service_is_asked_again_once(self, camera: InstrumentConfig) -> None:
        answer, calls = self.run(camera, [Answer(503, retry_after=0), Answer(200)])
        assert (answer.status, answer.attempts, calls) == (200, 2, 2)
        answer, calls = self.run(
            camera, [Answer(503, retry_after=0), Answer(503, retry_after=0), Answer(200)]
        )
        assert (answer.status, answer.attempts, calls) == (503, 2, 2)

    @pytest.mark.parametrize("status", [200, 409, 422, 500, None])
    def test_anything_else_is_final(self, camera: InstrumentConfig, status: int | None) -> None:
        answer, calls = self.run(camera, [Answer(status)])
        assert (answer.status, calls) == (status, 1)

    def test_closing_does_not_wait_for_a_retry(self, camera: InstrumentConfig) -> None:
        got: list[Answer] = []
        sent = threading.Event()

        def send(visit: FannedOutVisit) -> Answer:
            sent.set()
            return Answer(503, retry_after=600)

        fan_out = FanOut(send=send)
        fan_out.announce(self.visit(camera), [0], lambda _, answer: got.append(answer))
        assert sent.wait(120)
        fan_out.close()
        assert [a.status for a in got] == [503]
