"""Nights of a repository, observed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import astropy.units as u
import pytest
import yaml
from astropy.time import Time
from lsst.daf.butler import Butler, DatasetType, Timespan

from models.errors import InvalidConfiguration
from models.raws import parse_raw_key
from models.visits import CoordinateSystem, RotationSystem
from repos.instrument import register_instrument
from simulator.io.replay import plan_replay
from tests.repos.raw_files import make_camera

RUN = "TestCam/raw/all"
BEGIN = Time("2026-01-01T05:00:00", scale="tai")
#: Exposure id -> group, minutes after the beginning, pointing.
EXPOSURES: dict[int, tuple[str, float, tuple[float | None, float | None, float | None]]] = {
    12: ("second", 3.0, (31.0, -40.0, 15.0)),
    7: ("first", 0.0, (30.0, -40.0, 15.0)),
    8: ("first", 1.0, (30.0, -40.0, 15.0)),
    20: ("dark", 9.0, (None, None, None)),
}


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = str(tmp_path_factory.mktemp("repo"))
    Butler.makeRepo(root)
    with Butler.from_config(root, writeable=True, run=RUN) as butler:
        register_instrument(butler.registry, make_camera())
        butler.registry.registerDatasetType(
            DatasetType(
                "raw",
                ("instrument", "exposure", "detector"),
                "StructuredDataDict",
                universe=butler.dimensions,
            )
        )
        insert = butler.registry.insertDimensionData
        insert("day_obs", {"instrument": "TestCam", "id": 20251231})
        for exposure, (group, minutes, (ra, dec, angle)) in EXPOSURES.items():
            insert("group", {"instrument": "TestCam", "name": group}, skip_existing=True)
            begin = BEGIN + minutes * u.min
            record: dict[str, Any] = {
                "instrument": "TestCam",
                "id": exposure,
                "obs_id": f"TC_{exposure}",
                "day_obs": 20251231,
                "group": group,
                "physical_filter": "r_01",
                "exposure_time": 30.0,
                "observation_type": "science",
                "science_program": "wide",
                "tracking_ra": ra,
                "tracking_dec": dec,
                "sky_angle": angle,
                "timespan": Timespan(begin, begin + 30 * u.s),
            }
            insert("exposure", record)
            for detector in (2, 0):
                data_id = {"instrument": "TestCam", "exposure": exposure, "detector": detector}
                butler.put({"of": [exposure, detector]}, "raw", data_id)
    return root


def test_visits_are_as_they_were(repo: str) -> None:
    plan = plan_replay(repo, instrument=make_camera())
    first, second, dark = (planned.visit for planned in plan.visits)
    assert [first.groupId, second.groupId, dark.groupId] == ["first", "second", "dark"]
    assert (first.nimages, second.nimages) == (2, 1)
    assert (first.duration, second.duration) == (65.0, 35.0)
    assert first.startTime == pytest.approx(BEGIN.unix_tai)
    assert first.position == (30.0, -40.0) and first.cameraAngle == 15.0
    assert first.coordinateSystem is CoordinateSystem.ICRS and first.rotationSystem is RotationSystem.SKY
    assert (first.instrument, first.filters, first.survey) == ("TestCam", "r_01", "wide")
    assert dark.coordinateSystem is CoordinateSystem.NONE and dark.rotationSystem is RotationSystem.NONE
    assert plan.detectors == (0, 2)
    assert not plan.has_truth


def test_frames_are_those_of_the_repo(repo: str) -> None:
    first, *_ = plan_replay(repo, instrument=make_camera()).visits
    assert [(frame.snap, frame.exposure_id, frame.detector) for frame in first.frames] == [
        (0, 7, 0),
        (0, 7, 2),
        (1, 8, 0),
        (1, 8, 2),
    ]
    for frame in first.frames:
        assert yaml.safe_load(frame.read()) == {"of": [frame.exposure_id, frame.detector]}
        key = frame.key.rsplit("/", 1)[0]
        assert key == f"TestCam/{frame.detector}/first/{frame.snap}/{frame.exposure_id}/r_01"
        assert frame.injected is None


def test_keys_are_keys_of_raws(tmp_path: Path, repo: str) -> None:
    first, *_ = plan_replay(repo, instrument=make_camera()).visits
    # The files of this test are YAML; those of a camera are FITS.
    raw = parse_raw_key(first.frames[1].key.rsplit("/", 1)[0] + "/raw.fits")
    assert (raw.group, raw.detector, raw.exposure_id, raw.snap) == ("first", 2, 7, 0)


def test_part_of_a_night(repo: str) -> None:
    plan = plan_replay(repo, instrument=make_camera(), visits=2, detectors=1, survey="deep")
    assert [planned.visit.groupId for planned in plan.visits] == ["first", "second"]
    assert plan.detectors == (0,)
    assert {planned.visit.survey for planned in plan.visits} == {"deep"}


@pytest.mark.parametrize("collections", [[], ["no/such/collection"]])
def test_nothing_to_replay(repo: str, collections: list[str]) -> None:
    camera = make_camera() if collections else make_camera(name="OtherCam")
    with pytest.raises(InvalidConfiguration, match="has no raws of"):
        plan_replay(repo, instrument=camera, collections=collections)


def test_no_repo(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="cannot be read as a Butler repository"):
        plan_replay(str(tmp_path / "none"), instrument=make_camera())


def test_cameras_with_sidecars_are_refused(repo: str) -> None:
    with pytest.raises(InvalidConfiguration, match="LATISS cannot be replayed"):
        plan_replay(repo, instrument=make_camera(name="LATISS"))


def test_it_is_no_seed(repo: str, tmp_path: Path) -> None:
    plan = plan_replay(repo, instrument=make_camera())
    with pytest.raises(InvalidConfiguration, match="calibrations"):
        plan.write_seed_directory(tmp_path / "seed")
