"""Raws whose key does not tell their group."""

from __future__ import annotations

import json
from pathlib import Path

from models.raws import parse_raw_key
from repos.image_store import DirectoryImageStore
from simulator.io.delivery import DirectoryDelivery
from simulator.sidecars import stage_frame

KEY = "LATISS/20251231/AT_O_20251231_000007/AT_O_20251231_000007_R00_S00.fits"


class Recorder:
    """Takes note of what was delivered, in order."""

    def __init__(self) -> None:
        self.delivered: list[tuple[str, bytes]] = []
        self.discarded: list[str] = []

    def stage(self, key: str, content: bytes) -> Staged:
        return Staged(self, key, content)


class Staged:
    def __init__(self, recorder: Recorder, key: str, content: bytes) -> None:
        self._recorder, self._key, self._content = recorder, key, content

    def release(self) -> float:
        self._recorder.delivered.append((self._key, self._content))
        return float(len(self._recorder.delivered))

    def discard(self) -> None:
        self._recorder.discarded.append(self._key)


def test_the_sidecar_comes_first() -> None:
    recorder = Recorder()
    staged = stage_frame(recorder, KEY, b"pixels", "2026-01-01T05:00:00")
    assert recorder.delivered == []
    # The time is that of the raw.
    assert staged.release() == 2.0
    (name, content), raw = recorder.delivered
    assert name == KEY.replace(".fits", ".json")
    assert json.loads(content) == {"GROUPID": "2026-01-01T05:00:00"}
    assert raw == (KEY, b"pixels")


def test_both_are_discarded() -> None:
    recorder = Recorder()
    stage_frame(recorder, KEY, b"pixels", "g").discard()
    assert recorder.delivered == []
    assert sorted(recorder.discarded) == [KEY, KEY.replace(".fits", ".json")]


def test_a_key_with_the_group_needs_none() -> None:
    for key in ("SmallCam/3/g/0/7/r_01/raw.fits", "no/raw.txt"):
        recorder = Recorder()
        stage_frame(recorder, key, b"pixels", "g").release()
        assert recorder.delivered == [(key, b"pixels")]


def test_the_service_reads_it(tmp_path: Path) -> None:
    stage_frame(DirectoryDelivery(image_dir=tmp_path), KEY, b"pixels", "2026-01-01T05:00:00").release()
    assert (tmp_path / KEY).read_bytes() == b"pixels"
    store = DirectoryImageStore(tmp_path)
    assert store.read_sidecar_group(parse_raw_key(KEY)) == "2026-01-01T05:00:00"
