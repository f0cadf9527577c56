"""Waiting for images, on a clock of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ImagesUnusable, NoImageArrived, TemporarilyUnavailable
from models.raws import FoundImage, LocalImage, RawKey, parse_raw_key
from models.visits import FannedOutVisit
from services.images import AwaitedImages, ImageAwaiter, sky_angle_agrees

GROUP = "2026-01-01T00:00:00.000"
DURATION = 35.0
TIMEOUT = 20.0
LIMIT = 2 * DURATION + TIMEOUT


def make_visit(nimages: int = 1, instrument: str = "DemoCam", detector: int = 2) -> FannedOutVisit:
    return FannedOutVisit(
        salIndex=1,
        scriptSalIndex=1,
        groupId=GROUP,
        coordinateSystem=2,
        position=(10.0, -20.0),
        startTime=1.7e9,
        rotationSystem=2,
        cameraAngle=30.0,
        filters="r_01",
        dome=2,
        duration=DURATION,
        nimages=nimages,
        instrument=instrument,
        survey="demo",
        totalCheckpoints=1,
        private_sndStamp=1.7e9,
        detector=detector,
    )


def image(
    exposure: int = 100, *, snap: int = 0, group: str = GROUP, detector: int = 2, camera: str = "DemoCam"
) -> FoundImage:
    key = f"{camera}/{detector}/{group}/{snap}/{exposure}/r_01/raw.fits"
    return FoundImage(raw=parse_raw_key(key), location=f"/images/{key}")


def lsst_image(seq: int = 7, name: str = "R22_S11") -> FoundImage:
    stem = f"MC_O_20260101_{seq:06d}"
    key = f"LSSTCam/20260101/{stem}/{stem}_{name}.fits"
    return FoundImage(raw=parse_raw_key(key), location=f"/images/{key}")


class World:
    """A clock, a listener's channel and a store, in which things happen at
    given times.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.heard: list[tuple[float, FoundImage]] = []
        self.stored: list[tuple[float, FoundImage]] = []
        self.sidecars: dict[str | None, tuple[float, str]] = {}
        self.looks = 0
        self.sidecar_reads: list[float] = []
        self.outages: list[tuple[float, float]] = []

    def clock(self) -> float:
        return self.now

    def channel(self, timeout: float) -> list[FoundImage]:
        assert timeout >= 0
        times = [t for t, _ in self.heard]
        # As a slot's channel does: wakes at the first image.
        self.now = min([max(t, self.now) for t in times if t <= self.now + timeout] + [self.now + timeout])
        arrived = [f for t, f in self.heard if t <= self.now]
        self.heard = [(t, f) for t, f in self.heard if t > self.now]
        return arrived

    def find_existing(self, instrument: str, detector: int, group: str, snap: int) -> list[FoundImage]:
        self.looks += 1
        self._fail()
        return [
            f
            for t, f in self.stored
            if t <= self.now
            and (f.raw.instrument, f.raw.detector, f.raw.group, f.raw.snap)
            == (instrument, detector, group, snap)
        ]

    def read_sidecar_group(self, raw: RawKey) -> str | None:
        self.sidecar_reads.append(self.now)
        self._fail()
        written, group = self.sidecars.get(raw.sidecar_key, (math.inf, ""))
        return group if written <= self.now else None

    def _fail(self) -> None:
        if any(begin <= self.now < end for begin, end in self.outages):
            raise TemporarilyUnavailable("the server does not answer")

    def fetch(self, found: FoundImage) -> LocalImage:
        return LocalImage(Path(found.location), landed=None)

    def close(self) -> None:
        pass

    def wait_for(self, visit: FannedOutVisit, names: dict[str, int] | None = None) -> AwaitedImages:
        awaiter = ImageAwaiter(
            store=self, detector_names=names or {}, image_timeout=TIMEOUT, clock=self.clock
        )
        return awaiter.await_images(visit, self.channel)


@pytest.fixture
def world() -> World:
    return World()


def test_heard_before_it_is_wanted(world: World) -> None:
    world.heard = [(0.0, image())]
    assert list(world.wait_for(make_visit())) == [image()]
    assert world.now == 0.0
    # What has been heard need not be looked for.
    assert world.looks == 0


def test_there_before_anyone_listened(world: World) -> None:
    world.stored = [(0.0, image())]
    assert list(world.wait_for(make_visit())) == [image()]
    assert world.now == 0.0


def test_arrives_while_waiting(world: World) -> None:
    world.heard = [(31.5, image())]
    images = world.wait_for(make_visit())
    assert next(images) == image()
    # It is handed on at once, not at the end of anything.
    assert world.now == 31.5
    assert images.waited == 31.5
    assert list(images) == []
    assert images.warnings == []


def test_never_heard_of_but_there_in_the_end(world: World) -> None:
    world.stored = [(60.0, image())]
    assert list(world.wait_for(make_visit())) == [image()]
    assert world.now == LIMIT


def test_time_begins_after_the_first_look(world: World) -> None:
    def slow_look(*_: object) -> list[FoundImage]:
        world.now += 5.0
        return []

    world.find_existing = slow_look  # type: ignore[method-assign,assignment]
    world.heard = [(LIMIT + 4.9, image())]
    assert list(world.wait_for(make_visit())) == [image()]


def test_missing(world: World) -> None:
    with pytest.raises(NoImageArrived, match=f"DemoCam group {GROUP} detector 2 arrived within 90 s"):
        list(world.wait_for(make_visit()))
    assert world.now == LIMIT
    assert world.looks == 2


def test_twice_and_both_ways(world: World) -> None:
    world.heard = [(0.0, image()), (0.0, image()), (1.0, image()), (2.0, image(101, snap=1))]
    world.stored = [(0.0, image())]
    assert list(world.wait_for(make_visit(2))) == [image(), image(101, snap=1)]
    assert world.now == 2.0


@pytest.mark.parametrize(
    "wrong",
    [image(group="another"), image(detector=3), image(camera="OtherCam"), lsst_image()],
    ids=["group", "detector", "instrument", "form"],
)
def test_wrong_images(world: World, wrong: FoundImage) -> None:
    world.heard = [(1.0, wrong), (9.0, image())]
    assert list(world.wait_for(make_visit())) == [image()]
    assert world.now == 9.0


def test_not_more_than_announced(world: World) -> None:
    world.heard = [(1.0, image(100)), (1.0, image(101, snap=1)), (1.0, image(102, snap=2))]
    assert [f.raw.exposure_id for f in world.wait_for(make_visit(2))] == [100, 101]


def test_fewer_than_announced(world: World) -> None:
    world.heard = [(1.0, image())]
    images = world.wait_for(make_visit(2))
    assert list(images) == [image()]
    assert world.now == LIMIT
    assert images.warnings == ["only 1 of 2 images arrived; processing those"]


def test_unknown_number_collects_until_time_is_over(world: World) -> None:
    world.stored = [(0.0, image(snap=s, exposure=100 + s)) for s in range(4)]
    world.heard = [(80.0, image(snap=9, exposure=109))]
    images = world.wait_for(make_visit(0))
    assert [f.raw.exposure_id for f in images] == [100, 101, 102, 103, 109]
    assert world.now == LIMIT
    assert images.warnings == []


def test_absurd_number_of_images_is_looked_for_only_so_long(world: World) -> None:
    world.heard = [(1.0, image())]
    assert list(world.wait_for(make_visit(10**12))) == [image()]
    assert world.looks < 1000


def test_truncated_image_is_taken_again_when_it_is_whole(world: World) -> None:
    world.heard = [(1.0, image()), (3.0, image())]
    images = world.wait_for(make_visit())
    images.reject(next(images), "raw.fits is truncated")
    assert next(images) == image()
    assert world.now == 3.0
    assert list(images) == []
    assert images.warnings == []


def test_surplus_image_takes_the_place_of_a_damaged_one(world: World) -> None:
    world.heard = [(1.0, image(100)), (1.0, image(101))]
    images = world.wait_for(make_visit())
    images.reject(next(images), "raw.fits is damaged")
    assert list(images) == [image(101)]
    assert world.now == 1.0


def test_image_that_stays_truncated(world: World) -> None:
    world.heard = [(1.0, image())]
    images = world.wait_for(make_visit())
    images.reject(next(images), "raw.fits is truncated")
    with pytest.raises(ImagesUnusable, match=r"raw\.fits is truncated"):
        next(images)
    assert world.now == LIMIT


def test_one_of_two_truncated(world: World) -> None:
    world.heard = [(1.0, image(100)), (2.0, image(101, snap=1))]
    images = world.wait_for(make_visit(2))
    images.reject(next(images), "the first is truncated")
    assert list(images) == [image(101, snap=1)]
    assert images.warnings == [
        "only 1 of 2 images arrived; processing those",
        "images left out: the first is truncated",
    ]


class TestSidecars:
    """Forms of keys that do not tell the group."""

    names = {"R22_S11": 94, "R22_S12": 95}  # noqa: RUF012
    visit = make_visit(instrument="LSSTCam", detector=94)

    def test_group_from_sidecar(self, world: World) -> None:
        world.heard = [(1.0, lsst_image(6)), (2.0, lsst_image(7))]
        world.sidecars = {
            lsst_image(6).raw.sidecar_key: (0.0, "another group"),
            lsst_image(7).raw.sidecar_key: (0.0, GROUP),
        }
        assert list(world.wait_for(self.visit, self.names)) == [lsst_image(7)]
        assert world.now == 2.0

    def test_sidecar_comes_after_its_image(self, world: World) -> None:
        world.heard = [(1.0, lsst_image())]
        world.sidecars = {lsst_image().raw.sidecar_key: (2.5, GROUP)}
        assert list(world.wait_for(self.visit, self.names)) == [lsst_image()]
        assert 2.5 <= world.now < 3.0

    def test_image_without_sidecar_holds_up_nothing(self, world: World) -> None:
        world.heard = [(0.0, lsst_image(6)), (0.0, lsst_image(7))]
        world.sidecars = {lsst_image(7).raw.sidecar_key: (0.0, GROUP)}
        assert list(world.wait_for(self.visit, self.names)) == [lsst_image(7)]
        assert world.now == 0.0

    def test_image_without_sidecar_is_left_out_alone(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.heard = [(0.0, lsst_image(6)), (50.0, lsst_image(7))]
        # Too late for the image, in spite of being there before the deadline.
        world.sidecars = {
            lsst_image(6).raw.sidecar_key: (40.0, GROUP),
            lsst_image(7).raw.sidecar_key: (50.0, GROUP),
        }
        assert list(world.wait_for(self.visit, self.names)) == [lsst_image(7)]
        assert "MC_O_20260101_000006_R22_S11.json" in caplog.text

    def test_newest_sidecar_first(self, world: World) -> None:
        world.heard = [(0.0, lsst_image(seq)) for seq in range(1, 9)]
        world.sidecars = {lsst_image(seq).raw.sidecar_key: (0.0, f"g{seq}") for seq in range(1, 8)}
        world.sidecars[lsst_image(8).raw.sidecar_key] = (0.0, GROUP)
        assert list(world.wait_for(self.visit, self.names)) == [lsst_image(8)]
        assert len(world.sidecar_reads) == 1

    def test_number_from_the_detectors_name(self, world: World) -> None:
        world.heard = [(1.0, lsst_image(7, "R22_S12")), (1.0, lsst_image(7, "R01_S00"))]
        world.sidecars = {f.raw.sidecar_key: (0.0, GROUP) for _, f in world.heard}
        with pytest.raises(NoImageArrived):
            list(world.wait_for(self.visit, self.names))


_arrivals = st.lists(
    st.tuples(
        st.floats(0.0, 1.5 * LIMIT),
        st.sampled_from(
            [image(100), image(101, snap=1), image(102, snap=2), image(group="no"), image(detector=7)]
        ),
        st.sampled_from(["heard", "stored", "both"]),
        st.booleans(),
    ),
    max_size=8,
)


@given(nimages=st.integers(0, 3), arrivals=_arrivals)
def test_whatever_happens(nimages: int, arrivals: list[tuple[float, FoundImage, str, bool]]) -> None:
    """Images are lost only if they come too late or are too many."""
    world = World()
    damaged: set[FoundImage] = set()
    usable: dict[int, float] = {}
    for when, found, how, is_bad in arrivals:
        if how in ("heard", "both"):
            world.heard.append((when, found))
        if how in ("stored", "both"):
            world.stored.append((when, found))
        if is_bad:
            damaged.add(found)
    for when, found, how, _ in arrivals:
        ours = found.raw.group == GROUP and found.raw.detector == 2
        # Snaps that were not announced are not looked for.
        noticed = how != "stored" or nimages == 0 or (found.raw.snap or 0) < nimages
        if ours and noticed and found not in damaged and when <= LIMIT:
            usable.setdefault(found.raw.exposure_id, when)

    images = world.wait_for(make_visit(nimages))
    got: list[int] = []
    failed = False
    try:
        for found in images:
            assert found.raw.group == GROUP
            assert found.raw.detector == 2
            if found in damaged:
                images.reject(found, "damaged")
            else:
                got.append(found.raw.exposure_id)
    except (NoImageArrived, ImagesUnusable):
        failed = True

    assert failed == (not got)
    assert len(got) == len(set(got))
    assert set(got) <= set(usable)
    wanted = min(nimages, len(usable)) if nimages else len(usable)
    assert len(got) == wanted
    assert world.now == LIMIT or 0 < nimages == len(got)
    if not damaged:
        assert bool(images.warnings) == (not failed and len(got) < nimages)


angles = st.floats(-1000.0, 1000.0)


@given(camera=angles, offset=st.floats(-0.999, 0.999), turns=st.integers(-3, 3))
def test_sky_angle_agrees_across_every_wrap(camera: float, offset: float, turns: int) -> None:
    assert sky_angle_agrees(camera + offset + 360.0 * turns, camera)


@given(camera=angles, offset=st.floats(1.001, 358.999), turns=st.integers(-3, 3))
def test_sky_angle_disagrees_across_every_wrap(camera: float, offset: float, turns: int) -> None:
    assert not sky_angle_agrees(camera + offset + 360.0 * turns, camera)


@given(first=angles, second=angles)
def test_sky_angle_is_symmetric(first: float, second: float) -> None:
    assert sky_angle_agrees(first, second) == sky_angle_agrees(second, first)


@pytest.mark.parametrize(
    ("angle", "camera", "agrees"),
    [
        (None, 0.0, False),
        (math.nan, 0.0, False),
        (math.inf, 0.0, False),
        (1.0, 0.0, True),
        (1.0001, 0.0, False),
        (179.5, -179.9, True),
        (0.3, 359.7, True),
        (180.0, 0.0, False),
    ],
)
def test_sky_angle_limits(angle: float | None, camera: float, agrees: bool) -> None:
    assert sky_angle_agrees(angle, camera) is agrees


class TestStoreThatFails:
    def test_what_is_heard_is_used_all_the_same(self, world: World) -> None:
        world.outages = [(0.0, math.inf)]
        world.heard = [(31.0, image())]
        assert list(world.wait_for(make_visit())) == [image()]

    def test_last_look_finds_it(self, world: World) -> None:
        world.outages = [(0.0, 60.0)]
        world.stored = [(0.0, image())]
        assert list(world.wait_for(make_visit())) == [image()]

    def test_no_image_but_no_answer_either(self, world: World) -> None:
        world.outages = [(LIMIT - 1.0, math.inf)]
        with pytest.raises(TemporarilyUnavailable, match=r"images of .* exist is not known: the server"):
            list(world.wait_for(make_visit()))

    def test_an_answer_in_the_end_counts(self, world: World) -> None:
        world.outages = [(0.0, LIMIT - 1.0)]
        with pytest.raises(NoImageArrived):
            list(world.wait_for(make_visit()))

    def test_sidecar_is_read_again(self, world: World) -> None:
        names = {"R22_S11": 94}
        world.heard = [(30.0, lsst_image())]
        world.outages = [(30.0, 44.0)]
        world.sidecars = {lsst_image().raw.sidecar_key: (0.0, GROUP)}
        visit = make_visit(instrument="LSSTCam", detector=94)
        assert list(world.wait_for(visit, names)) == [lsst_image()]
        assert world.sidecar_reads == pytest.approx([30.0, 35.0, 40.0, 45.0], abs=0.2)

    def test_sidecar_is_not_read_for_ever(self, world: World) -> None:
        world.heard = [(30.0, lsst_image())]
        world.outages = [(30.0, 60.0)]
        world.sidecars = {lsst_image().raw.sidecar_key: (0.0, GROUP)}
        visit = make_visit(instrument="LSSTCam", detector=94)
        # Whether it was this visit's will never be known.
        with pytest.raises(TemporarilyUnavailable, match="the server does not answer"):
            list(world.wait_for(visit, {"R22_S11": 94}))
        assert len(world.sidecar_reads) == 4

    def test_sidecar_may_still_be_late(self, world: World) -> None:
        world.heard = [(30.0, lsst_image())]
        world.outages = [(30.0, 32.0)]
        world.sidecars = {lsst_image().raw.sidecar_key: (36.0, GROUP)}
        visit = make_visit(instrument="LSSTCam", detector=94)
        assert list(world.wait_for(visit, {"R22_S11": 94})) == [lsst_image()]

    def test_others_do_not_wait_for_it(self, world: World) -> None:
        world.heard = [(30.0, lsst_image(6)), (33.0, lsst_image(7))]
        world.outages = [(30.0, 31.0)]
        world.sidecars = {lsst_image(7).raw.sidecar_key: (0.0, GROUP)}
        visit = make_visit(instrument="LSSTCam", detector=94)
        assert list(world.wait_for(visit, {"R22_S11": 94})) == [lsst_image(7)]
        assert world.now == pytest.approx(33.0, abs=0.2)

    def test_some_images_and_no_answer_about_others(self, world: World) -> None:
        world.heard = [(31.0, image())]
        world.outages = [(40.0, math.inf)]
        images = world.wait_for(make_visit(nimages=2))
        assert list(images) == [image()]
        assert any("there may be more images" in warning for warning in images.warnings)


def test_channel_errors_pass() -> None:
    """A signal that interrupts the wait must not be swallowed."""

    class Signal(BaseException):
        pass

    def broken(_: float) -> list[FoundImage]:
        raise Signal

    world = World()
    channel: Callable[[float], list[FoundImage]] = broken
    awaiter = ImageAwaiter(store=world, detector_names={}, clock=world.clock)
    with pytest.raises(Signal):
        next(awaiter.await_images(make_visit(), channel))
