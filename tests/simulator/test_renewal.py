"""Recorded visits under new names."""

from __future__ import annotations

import gzip
import io
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from config.instruments import InstrumentConfig
from models.raws import parse_raw_key
from models.times import tai_from_unix
from repos.observation import ObservationReader
from simulator.plan import Plan, PlannedVisit, raw_key
from simulator.renewal import renew_ids
from simulator.schedule import plan_simulated
from tests.simulator.conftest import START, small_camera

#: 2027-02-03 20:00:00 TAI.
AGAIN = tai_from_unix(1_801_684_763.0)


@dataclass(frozen=True)
class Recorded:
    """A frame of a plan as a file."""

    detector: int
    snap: int
    exposure_id: int
    key: str
    content: bytes

    injected = None

    def read(self) -> bytes:
        return self.content


def recorded(plan: Plan, **changes: Any) -> Plan:
    """Return a night as it comes from disk."""
    visits = []
    for planned in plan.visits:
        frames = tuple(
            Recorded(f.detector, f.snap, f.exposure_id, changes.get("key", f.key), f.read())
            for f in planned.frames
        )
        visits.append(replace(planned, frames=frames))
    return replace(plan, visits=tuple(visits))


@pytest.fixture(scope="module")
def night() -> Plan:
    return recorded(
        plan_simulated(
            seed=5,
            visits=2,
            detectors=2,
            transients=0,
            instrument=small_camera(),
            start=START,
            snaps=2,
        )
    )


def described(camera: InstrumentConfig, path: Path, key: str, content: bytes, visit: PlannedVisit) -> Any:
    """Read a frame as the service does, which refuses what does not fit."""
    path.write_bytes(content)
    reader, raw = ObservationReader(camera), parse_raw_key(key)
    assert raw.detector is not None
    header = reader.read_header(path)
    return reader.observation_info(
        header, raw, group=visit.visit.groupId, detector=raw.detector, file_name=path.name
    )


def test_the_service_takes_them_for_new_visits(night: Plan, tmp_path: Path) -> None:
    again = renew_ids(night, AGAIN)
    assert [p.visit.groupId for p in again.visits] == ["2027-02-03T20:00:00.000", "2027-02-03T20:01:05.000"]
    assert {f.exposure_id for f in again.frames} == {2027020328800 + n for n in (0, 32, 65, 97)}
    observations = set()
    for old, planned in zip(night.visits, again.visits, strict=True):
        assert planned.detectors == old.detectors
        assert planned.visit == old.visit.model_copy(update={"groupId": planned.visit.groupId})
        for before, frame in zip(old.frames, planned.frames, strict=True):
            raw = parse_raw_key(frame.key)
            assert (raw.group, raw.exposure_id) == (planned.visit.groupId, frame.exposure_id)
            assert (raw.detector, raw.snap) == (before.detector, before.snap)
            path = tmp_path / "raw.fits"
            info = described(night.instrument, path, frame.key, frame.read(), planned)
            was = described(night.instrument, path, before.key, before.read(), old)
            assert info.observing_day == 20270203
            second = info.exposure_id % 100_000
            assert info.observation_counter == second
            assert int((info.datetime_begin.unix_tai - 43_200) % 86_400) == second
            length = (info.datetime_end - info.datetime_begin).sec
            assert length == pytest.approx((was.datetime_end - was.datetime_begin).sec, abs=0.002)
            observations.add((info.exposure_id, info.observation_id))
            new, known = fits.getheader(io.BytesIO(frame.read())), fits.getheader(io.BytesIO(before.read()))
            changed = {card for card in known if new[card] != known[card]}
            assert changed == {"EXPID", "GROUPID", "OBSID", "DATE-BEG", "DATE-END", "DAYOBS", "SEQNUM"}
            assert isinstance(new["EXPID"], int)
            pixels = [fits.getdata(io.BytesIO(f.read())) for f in (frame, before)]
            np.testing.assert_array_equal(*pixels)
    assert len({observation for _, observation in observations}) == 4


def test_compressed_files(night: Plan, tmp_path: Path) -> None:
    planned = night.visits[0]
    frame = planned.frames[0]
    assert isinstance(frame, Recorded)
    tiles = io.BytesIO()
    with fits.open(io.BytesIO(frame.content)) as hdus:
        compressed = fits.CompImageHDU(hdus[1].data, header=hdus[1].header, compression_type="RICE_1")
        fits.HDUList([hdus[0], compressed]).writeto(tiles, checksum=True)
    for content, name in ((gzip.compress(frame.content), "raw.fits.gz"), (tiles.getvalue(), "raw.fits.fz")):
        folder = frame.key.rpartition("/")[0]
        one = replace(planned, frames=(replace(frame, content=content, key=f"{folder}/{name}"),))
        (renewed,) = renew_ids(replace(night, visits=(one,)), AGAIN).frames
        written = renewed.read()
        assert renewed.key.endswith(f"/{name}")
        assert written.startswith(b"\x1f\x8b") == name.endswith(".gz")
        new = replace(one, visit=one.visit.model_copy(update={"groupId": parse_raw_key(renewed.key).group}))
        info = described(night.instrument, tmp_path / name, renewed.key, written, new)
        assert info.exposure_id == renewed.exposure_id
        (tmp_path / name).write_bytes(written)
        # A sum that is wrong is a warning.
        with warnings.catch_warnings(action="error"), fits.open(tmp_path / name, checksum=True) as hdus:
            np.testing.assert_array_equal(hdus[1].data, fits.getdata(io.BytesIO(frame.content), 1))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"files": {".*_D01.*": {"exposure_id": 7}}}, "the file of camera SmallCam fixes their exposure_id"),
        ({"metadata": {"observation_id": {"value": "x"}}}, "fixes their observation_id"),
        ({"metadata": {"datetime_begin": {"value": "2026-01-01T00:00:00"}}}, "fixes their datetime_begin"),
        ({"metadata": {"observation_id": "OBJECT"}}, "hold object too"),
        ({"name": "LATISS"}, "keys of LATISS's raws are made of their exposure ids"),
    ],
)
def test_ids_in_places_that_cannot_be_changed(night: Plan, changes: dict[str, Any], what: str) -> None:
    if "metadata" in changes:
        known = night.instrument.model_dump(mode="json", exclude_none=True)["metadata"]
        changes = {"metadata": known | changes["metadata"]}
    with pytest.raises(ValueError, match=what):
        renew_ids(replace(night, instrument=small_camera(**changes)), AGAIN)


def test_a_camera_without_ids_in_its_headers(night: Plan) -> None:
    """Their keys tell them then."""
    known = night.instrument.model_dump(mode="json", exclude_none=True)["metadata"]
    ids = (
        "exposure_id",
        "visit_id",
        "exposure_group",
        "observation_id",
        "observation_counter",
        "observing_day",
    )
    camera = small_camera(metadata={name: field for name, field in known.items() if name not in ids})
    renewed = renew_ids(replace(night, instrument=camera), AGAIN)
    frame, before = next(renewed.frames), next(night.frames)
    new, known = (fits.getheader(io.BytesIO(f.read())) for f in (frame, before))
    assert {card for card in known if new[card] != known[card]} == {"DATE-BEG", "DATE-END"}
    assert frame.key == raw_key(
        "SmallCam",
        detector=0,
        group="2027-02-03T20:00:00.000",
        snap=0,
        exposure_id=2027020328800,
        physical_filter="r_01",
        file_name=before.key.rpartition("/")[2],
    )
