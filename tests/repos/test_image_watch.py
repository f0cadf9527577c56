"""The listener, on a real directory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from models.errors import InvalidConfiguration
from models.raws import FoundImage, parse_raw_key
from repos.image_memory import ImageMemory
from repos.image_watch import DirectoryWatch

#: Seconds after which something that should have been delivered is missing.
PATIENCE = 60.0
#: Seconds after which something that should not be delivered has not been.
SILENCE = 0.6


class Inbox:
    """Takes what a listener delivers."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.images: list[FoundImage] = []

    def __call__(self, found: FoundImage) -> None:
        with self._condition:
            self.images.append(found)
            self._condition.notify_all()

    def wait_for(self, condition: Callable[[list[FoundImage]], bool]) -> list[FoundImage]:
        with self._condition:
            assert self._condition.wait_for(lambda: condition(self.images), PATIENCE), self.images
            return list(self.images)

    @property
    def exposures(self) -> list[int]:
        return [f.raw.exposure_id for f in self.images]


def put(root: Path, exposure: int, *, detector: int = 0, content: bytes = b"pixels") -> Path:
    """Write an image aside, then rename it, in directories of its own."""
    path = root / f"Cam/{detector}/group{exposure}/0/{exposure}/r/raw.fits"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.parent / ".raw.fits.part"
    aside.write_bytes(content)
    aside.rename(path)
    return path


@pytest.fixture(params=[False, True], ids=["events", "polling"])
def watcher(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DirectoryWatch]:
    watcher = DirectoryWatch(tmp_path / "images", polling=request.param)
    watcher.start()
    yield watcher
    watcher.stop()
    assert not watcher.is_alive


def test_delivers_every_image_of_new_directories(watcher: DirectoryWatch, tmp_path: Path) -> None:
    inbox = Inbox()
    watcher.subscribe("Cam", 0, None, inbox)
    expected = set(range(60))
    for exposure in expected:
        put(tmp_path / "images", exposure)
        time.sleep(0.005)
    inbox.wait_for(lambda images: {f.raw.exposure_id for f in images} == expected)
    first = inbox.images[0]
    assert Path(first.location).read_bytes() == b"pixels"
    assert first.raw.group == f"group{first.raw.exposure_id}"


def test_only_whole_images_of_the_detector(watcher: DirectoryWatch, tmp_path: Path) -> None:
    root = tmp_path / "images"
    inbox = Inbox()
    watcher.subscribe("Cam", 0, None, inbox)
    path = put(root, 1)
    put(root, 2, detector=1)
    for name in (".raw2.fits", "raw3.fits.tmp", "raw4.fits.part", "raw5.json", "notes.txt"):
        (path.parent / name).write_text("{}")
    (path.parent / "empty.fits").touch()
    (root / "stray.fits").write_text("x")
    put(root, 3)
    inbox.wait_for(lambda images: {f.raw.exposure_id for f in images} == {1, 3})
    time.sleep(SILENCE)
    assert {Path(f.location).name for f in inbox.images} == {"raw.fits"}


def test_image_written_in_place_comes_again_when_it_is_complete(
    watcher: DirectoryWatch, tmp_path: Path
) -> None:
    inbox = Inbox()
    watcher.subscribe("Cam", 0, None, inbox)
    path = put(tmp_path / "images", 1, content=b"half")
    inbox.wait_for(lambda images: len(images) == 1)
    with path.open("ab") as stream:
        stream.write(b" and the rest")
    inbox.wait_for(lambda images: len(images) >= 2)
    time.sleep(SILENCE)
    # Once for each version, not for each event.
    assert len(inbox.images) == 2


def test_directory_moved_into_place(watcher: DirectoryWatch, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", 5)
    inbox = Inbox()
    watcher.subscribe("Cam", 0, None, inbox)
    (tmp_path / "elsewhere" / "Cam").rename(tmp_path / "images" / "Cam")
    inbox.wait_for(lambda images: len(images) == 1)


def test_past_is_delivered_first(watcher: DirectoryWatch, tmp_path: Path) -> None:
    early = Inbox()
    watcher.subscribe("Cam", 0, None, early)
    put(tmp_path / "images", 1)
    early.wait_for(lambda images: len(images) == 1)
    late = Inbox()
    watcher.subscribe("Cam", 0, None, late)
    assert late.exposures == [1]
    put(tmp_path / "images", 2)
    late.wait_for(lambda images: [f.raw.exposure_id for f in images] == [1, 2])


def test_what_is_gone_is_forgotten(watcher: DirectoryWatch, tmp_path: Path) -> None:
    inbox = Inbox()
    watcher.subscribe("Cam", 0, None, inbox)
    path = put(tmp_path / "images", 1)
    inbox.wait_for(lambda images: len(images) == 1)
    path.unlink()
    deadline = time.monotonic() + PATIENCE
    while True:
        late = Inbox()
        watcher.subscribe("Cam", 0, None, late).close()
        if not late.images:
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_closed_subscription_hears_nothing(watcher: DirectoryWatch, tmp_path: Path) -> None:
    closed, other = Inbox(), Inbox()
    watcher.subscribe("Cam", 0, None, closed).close()
    watcher.subscribe("Cam", 0, None, other)
    put(tmp_path / "images", 1)
    other.wait_for(lambda images: len(images) == 1)
    assert closed.images == []


def test_remembers_what_came_before_the_start(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    # Pixels may be much older than their arrival at the final name.
    os.utime(path, (0, 0))
    watcher = DirectoryWatch(tmp_path)
    watcher.start()
    inbox = Inbox()
    watcher.subscribe("Cam", 0, None, inbox)
    watcher.stop()
    assert inbox.exposures == [1]


def test_goes_on_when_events_are_not_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = watchfiles.watch

    def limited(*paths: Path, **options: Any) -> object:
        if not options["force_polling"]:
            raise OSError("OS file watch limit reached.")
        return real(*paths, **options)

    monkeypatch.setattr("repos.image_watch.watch", limited)
    watcher = DirectoryWatch(tmp_path)
    watcher.start()
    inbox = Inbox()
    watcher.subscribe("Cam", 0, None, inbox)
    put(tmp_path, 1)
    inbox.wait_for(lambda images: len(images) == 1)
    watcher.stop()
    assert "polling instead" in caplog.text


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidConfiguration, match="file/images cannot be used"):
        DirectoryWatch(tmp_path / "file" / "images").start()


def test_parent_stays_small() -> None:
    heavy = (
        "import sys, repos.image_watch; print([m for m in ('lsst', 'astropy', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class TestMemory:
    """What the listeners share, on a clock of its own."""

    @staticmethod
    def found(key: str) -> FoundImage:
        return FoundImage(raw=parse_raw_key(key), location=f"/{key}")

    def test_forgets_after_a_while(self) -> None:
        now = [0.0]
        memory = ImageMemory(600.0, clock=lambda: now[0])
        for moment, exposure in ((0.0, 1), (300.0, 2), (550.0, 1)):
            now[0] = moment
            memory.add(self.found(f"Cam/0/g/0/{exposure}/r/raw.fits"), version=moment)
        now[0] = 1000.0
        inbox = Inbox()
        memory.subscribe("Cam", 0, None, inbox)
        assert inbox.exposures == [1]

    def test_same_version_is_delivered_once(self) -> None:
        memory, inbox = ImageMemory(600.0), Inbox()
        memory.subscribe("Cam", 0, None, inbox)
        for version in (1, 1, 2):
            memory.add(self.found("Cam/0/g/0/1/r/raw.fits"), version)
        assert inbox.exposures == [1, 1]

    def test_key_without_detector_number_goes_by_name(self) -> None:
        memory = ImageMemory(600.0)
        named, other, nameless = Inbox(), Inbox(), Inbox()
        memory.subscribe("LSSTCam", 94, "R22_S11", named)
        memory.subscribe("LSSTCam", 95, "R22_S12", other)
        memory.subscribe("LSSTCam", 94, None, nameless)
        stem = "MC_O_20260101_000007"
        memory.add(self.found(f"LSSTCam/20260101/{stem}/{stem}_R22_S11.fits.fz"), 1)
        assert (len(named.images), len(other.images), len(nameless.images)) == (1, 0, 1)

    def test_failing_callback_disturbs_nobody(self, caplog: pytest.LogCaptureFixture) -> None:
        def broken(_: FoundImage) -> None:
            raise OSError("the slot is gone")

        memory, inbox = ImageMemory(600.0), Inbox()
        memory.subscribe("Cam", 0, None, broken)
        memory.subscribe("Cam", 0, None, inbox)
        memory.add(self.found("Cam/0/g/0/1/r/raw.fits"), 1)
        assert inbox.exposures == [1]
        assert "the slot is gone" in caplog.text

    def test_nothing_falls_between_past_and_present(self) -> None:
        memory, total = ImageMemory(600.0), 300

        def deliver() -> None:
            for exposure in range(total):
                time.sleep(1e-4)
                memory.add(self.found(f"Cam/0/g/0/{exposure}/r/raw.fits"), 1)

        thread = threading.Thread(target=deliver)
        thread.start()
        inboxes = [Inbox() for _ in range(20)]
        for inbox in inboxes:
            memory.subscribe("Cam", 0, None, inbox)
            time.sleep(1e-3)
        thread.join()
        assert all(set(inbox.exposures) == set(range(total)) for inbox in inboxes)
