"""Image intake: images of a visit become exposures of the local repo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.errors import ImagesUnusable, NoImageArrived, UnreadableImage
from models.pipelines import SelectedPipelines
from models.raws import FoundImage, LocalImage, RawKey
from models.visits import FannedOutVisit
from services.image_intake import ImageIntake
from services.images import ImageAwaiter
from services.slots.protocol import ProcessVisit, Stage
from services.visit_state import VisitState
from tests.services.world import Channel, Exposure, Image, found_image
from tests.visits import make_visit

GROUP = "group"


class Scene:
    """A real wait for images, on a clock of its own, in which they arrive at
    given times; and an ingester that knows what is wrong with them.
    """

    def __init__(self, *arrivals: tuple[float, int], nimages: int = 1, **fields: Any) -> None:
        self.now = 0.0
        self.arrivals = list(arrivals)
        self.faults: dict[int, list[Exception | None]] = {}
        self.angles: dict[int, float | None] = {}
        self.added: list[int] = []
        self.add_fails: list[Exception | None] = []
        self.channel = Channel()
        self.channel.images = self.images  # type: ignore[method-assign]
        visit = make_visit(groupId=GROUP, nimages=nimages, **fields)
        self.state = VisitState(ProcessVisit(visit, SelectedPipelines((), ("A.yaml",)), "2026-03-01"))

    def images(self, timeout: float) -> list[FoundImage]:
        due = [t for t, _ in self.arrivals if t <= self.now + timeout]
        self.now = max(self.now, min(due)) if due else self.now + timeout
        here = [found_image(n) for t, n in self.arrivals if t <= self.now]
        self.arrivals = [(t, n) for t, n in self.arrivals if t > self.now]
        return here

    # The store: nothing is there but what is heard of.

    def find_existing(self, instrument: str, detector: int, group: str, snap: int) -> list[FoundImage]:
        return []

    def read_sidecar_group(self, raw: RawKey) -> str | None:
        return None

    def fetch(self, found: FoundImage) -> LocalImage:
        return LocalImage(Path(found.location), landed=None)

    def close(self) -> None:
        pass

    def ingest(self, found: FoundImage, visit: FannedOutVisit) -> Image:
        number = found.raw.exposure_id
        fault = next(iter(self.faults.get(number, [])), None)
        if fault is not None:
            self.faults[number].pop(0)
            raise fault
        return Image(Exposure(number, number), self.angles.get(number, visit.cameraAngle))

    def add(self, exposure: Exposure) -> None:
        if self.add_fails and (error := self.add_fails.pop(0)) is not None:
            raise error
        self.added.append(exposure.exposure)

    def take(self) -> None:
        source = ImageAwaiter(store=self, detector_names={}, image_timeout=20.0, clock=lambda: self.now)
        ImageIntake(source=source, ingester=self).take(self.state, self.channel, self.add)


def test_one() -> None:
    scene = Scene((31.0, 100))
    scene.take()
    assert scene.added == [100]
    assert scene.state.warnings == []
    assert scene.state.seconds["waiting"] == 31.0
    assert scene.state.seconds["ingest"] < 31.0
    assert scene.channel.stages == [Stage.WAITING, Stage.INGESTING, Stage.WAITING]


def test_each_is_used_as_it_lands() -> None:
    scene = Scene((10.0, 100), (40.0, 101), nimages=2)
    landed = []
    add = scene.add
    scene.add = lambda exposure: (landed.append(scene.now), add(exposure))[-1]  # type: ignore[func-returns-value,method-assign]
    scene.take()
    assert landed == [10.0, 40.0]


def test_an_unknown_number_is_waited_for() -> None:
    scene = Scene((10.0, 100), (40.0, 101), nimages=0)
    scene.take()
    assert scene.added == [100, 101]
    assert scene.now == 80.0


def test_none() -> None:
    scene = Scene()
    with pytest.raises(NoImageArrived):
        scene.take()
    # The time was lost all the same.
    assert scene.state.seconds["waiting"] == 80.0


def test_fewer_than_announced() -> None:
    scene = Scene((10.0, 100), nimages=2)
    scene.take()
    assert scene.added == [100]
    assert scene.state.warnings == ["only 1 of 2 images arrived; processing those"]


def test_truncated_then_whole() -> None:
    scene = Scene((10.0, 100), (12.0, 100))
    scene.faults = {100: [UnreadableImage("raw.fits is truncated")]}
    scene.take()
    assert scene.added == [100]
    assert scene.now == 12.0
    assert scene.state.warnings == []


@pytest.mark.parametrize("error", [UnreadableImage("damaged"), FileNotFoundError("gone")])
def test_pixels_that_cannot_be_read(error: Exception) -> None:
    scene = Scene((10.0, 100))
    scene.add_fails = [error]
    with pytest.raises(ImagesUnusable, match=str(error)):
        scene.take()
    assert scene.added == []


def test_another_failure_is_not_the_image_s() -> None:
    scene = Scene((10.0, 100))
    scene.add_fails = [MemoryError("no room")]
    with pytest.raises(MemoryError):
        scene.take()


@pytest.mark.parametrize(
    ("angle", "used"),
    [
        (30.0, True),
        (31.0, True),
        (29.0, True),
        (31.01, False),
        (390.5, True),
        (None, False),
        (float("nan"), False),
    ],
)
def test_the_sky_angle(angle: float | None, used: bool) -> None:
    scene = Scene((10.0, 100), cameraAngle=30.0)
    scene.angles = {100: angle}
    if used:
        scene.take()
        assert scene.added == [100]
    else:
        with pytest.raises(ImagesUnusable, match=r"every image .* exposure 100 has sky angle"):
            scene.take()
        # It was an image of the visit; another will not come.
        assert scene.now == 10.0


def test_the_sky_angle_around_zero() -> None:
    scene = Scene((10.0, 100), cameraAngle=359.8)
    scene.angles = {100: 0.5}
    scene.take()
    assert scene.added == [100]


def test_no_rotation_no_angle() -> None:
    scene = Scene((10.0, 100), rotationSystem=1)
    scene.angles = {100: None}
    scene.take()
    assert scene.added == [100]


def test_one_of_two_is_turned() -> None:
    scene = Scene((10.0, 100), (12.0, 101), nimages=2)
    scene.angles = {101: 211.0}
    scene.take()
    assert scene.added == [100]
    assert scene.state.warnings == ["images dropped: exposure 101 has sky angle 211.0, announced was 30.0"]


def test_one_turned_and_one_unreadable() -> None:
    scene = Scene((10.0, 100), (12.0, 101), nimages=2)
    scene.angles = {100: 211.0}
    scene.faults = {101: [UnreadableImage("not FITS")]}
    with pytest.raises(ImagesUnusable, match="exposure 100 has sky angle"):
        scene.take()
