"""Nights of a repository, observed again."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import astropy.units as u
import pytest
import yaml
from astropy.io import fits
from astropy.time import Time
from lsst.daf.butler import Butler, DatasetRef, FileDataset, Timespan

from config.instruments import InstrumentConfig
from init_job.create_central import create_central
from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.raws import parse_raw_key
from models.visits import CoordinateSystem, RotationSystem
from repos.formatters import raw_formatter
from repos.instrument import register_instrument
from simulator.io.replay import RepoFrame, plan_replay
from tests.repos.raw_files import make_camera, write_raw

BEGIN = Time("2026-01-01T05:00:00", scale="tai")
#: Exposure id -> group, minutes after the beginning, pointing.
EXPOSURES: dict[int, tuple[str, float, tuple[float | None, float | None, float | None]]] = {
    12: ("second", 3.0, (31.0, -40.0, 15.0)),
    7: ("first", 0.0, (30.0, -40.0, 15.0)),
    8: ("first", 1.0, (30.0, -40.0, 15.0)),
    20: ("dark", 9.0, (None, None, None)),
}


def lsst_camera(name: str, detector: str) -> InstrumentConfig:
    """A camera of one detector whose raws have keys of a form of their own."""
    camera = make_camera().model_dump(mode="json", exclude_none=True)
    return InstrumentConfig.model_validate(
        camera | {"name": name, "detectors": [camera["detectors"][0] | {"id": 0, "name": detector}]}
    )


LATISS = lsst_camera("LATISS", "RXX_S00")
IMSIM = lsst_camera("LSSTCam-imSim", "R22_S11")
COMCAM = lsst_camera("LSSTComCam", "R22_S11")


def ingest(butler: Butler, directory: Path, exposure: dict[str, Any], detectors: tuple[int, ...]) -> None:
    """Bring the raws of an exposure into a repo, as observatories do."""
    insert = butler.registry.insertDimensionData
    camera = exposure["instrument"]
    insert("day_obs", {"instrument": camera, "id": exposure["day_obs"]}, skip_existing=True)
    insert("group", {"instrument": camera, "name": exposure["group"]}, skip_existing=True)
    insert("exposure", exposure)
    run = f"{camera}/raw/all"
    butler.collections.register(run)
    for detector in detectors:
        found = write_raw(directory, detector=detector, exposure=exposure["id"], EXPID=exposure["id"])
        data_id = butler.registry.expandDataId(instrument=camera, exposure=exposure["id"], detector=detector)
        ref = DatasetRef(butler.get_dataset_type("raw"), data_id, run)
        butler.ingest(FileDataset(found.location, ref, formatter=raw_formatter(1)), transfer="copy")


def record(exposure: int, group: str, minutes: float, **fields: Any) -> dict[str, Any]:
    begin = BEGIN + minutes * u.min
    return {
        "instrument": "TestCam",
        "id": exposure,
        "obs_id": f"TC_{exposure}",
        "day_obs": 20251231,
        "group": group,
        "physical_filter": "r_01",
        "exposure_time": 30.0,
        "observation_type": "science",
        "science_program": "wide",
        "tracking_ra": 30.0,
        "tracking_dec": -40.0,
        "sky_angle": 15.0,
        "timespan": Timespan(begin, begin + 30 * u.s),
        **fields,
    }


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("repo")
    camera_file = directory / "TestCam.yaml"
    camera_file.write_text(yaml.safe_dump(make_camera().model_dump(mode="json", exclude_defaults=True)))
    root = str(directory / "central")
    create_central(root, camera_file)
    with Butler.from_config(root, writeable=True) as butler:
        for exposure, (group, minutes, (ra, dec, angle)) in EXPOSURES.items():
            pointing = {"tracking_ra": ra, "tracking_dec": dec, "sky_angle": angle}
            ingest(butler, directory, record(exposure, group, minutes, **pointing), (2, 0))
        next_day = {"day_obs": 20260101, "science_program": "deep"}
        ingest(butler, directory, record(30, "next day", 1440.0, **next_day), (0,))
        for camera in (LATISS, IMSIM, COMCAM):
            register_instrument(butler.registry, camera)
        other = {"instrument": "LATISS", "obs_id": "AT_O_20251231_000007"}
        ingest(butler, directory, record(2025123100007, "g", 0.0, **other), (0,))
        other = {"instrument": "LSSTCam-imSim", "obs_id": "whatever"}
        ingest(butler, directory, record(5000007, "g", 0.0, **other), (0,))
        # The sequence number in its id is another one.
        other = {"instrument": "LSSTComCam", "obs_id": "CC_O_20251231_000008"}
        ingest(butler, directory, record(2025123100007, "g", 0.0, **other), (0,))
    return root


def test_visits_are_as_they_were(repo: str) -> None:
    plan = plan_replay(repo, instrument=make_camera())
    first, second, dark, last = (planned.visit for planned in plan.visits)
    assert [v.groupId for v in (first, second, dark, last)] == ["first", "second", "dark", "next day"]
    assert (first.nimages, second.nimages) == (2, 1)
    assert (first.duration, second.duration) == (65.0, 35.0)
    assert first.startTime == pytest.approx(BEGIN.unix_tai)
    assert first.position == (30.0, -40.0) and first.cameraAngle == 15.0
    assert first.coordinateSystem is CoordinateSystem.ICRS and first.rotationSystem is RotationSystem.SKY
    assert (first.instrument, first.filters, first.survey) == ("TestCam", "r_01", "wide")
    assert last.survey == "deep"
    assert dark.coordinateSystem is CoordinateSystem.NONE and dark.rotationSystem is RotationSystem.NONE
    assert plan.detectors == (0, 2)
    assert plan.visits[-1].detectors == (0,)
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
        content = frame.read()
        header = fits.getheader(io.BytesIO(content))
        assert (header["EXPID"], fits.getheader(io.BytesIO(content), 1)["DETNUM"]) == (
            frame.exposure_id,
            frame.detector,
        )
        assert frame.injected is None
        raw = parse_raw_key(frame.key)
        assert (raw.instrument, raw.group, raw.physical_filter) == ("TestCam", "first", "r_01")
        assert (raw.detector, raw.exposure_id, raw.snap) == (frame.detector, frame.exposure_id, frame.snap)


def test_part_of_a_night(repo: str) -> None:
    plan = plan_replay(repo, instrument=make_camera(), visits=2, detectors=1, survey="deep")
    assert [planned.visit.groupId for planned in plan.visits] == ["first", "second"]
    assert plan.detectors == (0,)
    assert {planned.visit.survey for planned in plan.visits} == {"deep"}


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"groups": ["second", "first"]}, ["first", "second"]),
        ({"day_obs": 20260101}, ["next day"]),
        ({"day_obs": 20251231, "visits": 1}, ["first"]),
        ({"groups": ["dark", "next day"], "day_obs": 20251231}, ["dark"]),
    ],
)
def test_chosen_visits(repo: str, chosen: dict[str, Any], expected: list[str]) -> None:
    plan = plan_replay(repo, instrument=make_camera(), **chosen)
    assert [planned.visit.groupId for planned in plan.visits] == expected


def test_more_exposures_than_are_asked_for_at_once(repo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = plan_replay(repo, instrument=make_camera())
    monkeypatch.setattr("simulator.io.replay._AT_ONCE", 2)
    again = plan_replay(repo, instrument=make_camera())
    assert [frame.key for frame in again.frames] == [frame.key for frame in whole.frames]


@pytest.mark.parametrize(
    ("camera", "key", "sidecar"),
    [
        (
            LATISS,
            "LATISS/20251231/AT_O_20251231_000007/AT_O_20251231_000007_R00_S00.fits",
            "LATISS/20251231/AT_O_20251231_000007/AT_O_20251231_000007_R00_S00.json",
        ),
        (
            IMSIM,
            "LSSTCam-imSim/20251231/5000007/5000007_r_01_0_R22_S11.fits",
            "LSSTCam-imSim/20251231/5000007/5000007_r_01_0_R22_S11.json",
        ),
    ],
)
def test_keys_have_the_form_of_the_camera(
    repo: str, camera: InstrumentConfig, key: str, sidecar: str
) -> None:
    (planned,) = plan_replay(repo, instrument=camera).visits
    (frame,) = planned.frames
    assert frame.key == key
    raw = parse_raw_key(frame.key)
    assert (raw.exposure_id, raw.detector, raw.sidecar_key) == (frame.exposure_id, 0, sidecar)


def test_key_that_would_be_of_another_exposure(repo: str) -> None:
    with pytest.raises(InvalidConfiguration, match=r"exposure 2025123100007, and .* be of 2025123100008"):
        plan_replay(repo, instrument=COMCAM)


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"instrument": make_camera(name="OtherCam")}, "has no instrument OtherCam; it has LATISS, LSST"),
        ({"collections": ["no/such/collection"]}, "has no raws of TestCam in no/such/collection;"),
        ({"groups": ["first", "third"]}, "has no group third of TestCam"),
        ({"day_obs": 20260202}, "has no raws of TestCam in TestCam/raw/all of day_obs 20260202;"),
    ],
)
def test_nothing_to_replay(repo: str, asked: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidConfiguration, match=what):
        plan_replay(repo, **{"instrument": make_camera(), **asked})


def test_no_repo(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="cannot be read as a Butler repository"):
        plan_replay(str(tmp_path / "none"), instrument=make_camera())


def test_a_raw_that_is_gone(repo: str) -> None:
    first, *_ = plan_replay(repo, instrument=make_camera()).visits
    frame = first.frames[0]
    assert isinstance(frame, RepoFrame)
    gone = RepoFrame(frame.uri.updatedFile("gone.fits"), 0, 0, 7, frame.key)
    with pytest.raises(TemporarilyUnavailable, match=r"gone\.fits cannot be read"):
        gone.read()


def test_it_is_no_seed(repo: str, tmp_path: Path) -> None:
    plan = plan_replay(repo, instrument=make_camera())
    with pytest.raises(InvalidConfiguration, match="calibrations"):
        plan.write_seed_directory(tmp_path / "seed")
