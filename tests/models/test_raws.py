"""Keys of raw images."""

from __future__ import annotations

import dataclasses
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidMessage
from models.raws import RawForm, generic_prefix, parse_raw_key

EXTENSIONS = ("fits", "fits.fz", "fits.gz", "fz", "f")


def lsst_key(camera: str, detector: str = "R22_S11", ext: str = "fits", abbrev: str = "MC") -> str:
    obs = f"{abbrev}_O_20250401_000123"
    return f"{camera}/20250401/{obs}/{obs}_{detector}.{ext}"


@pytest.mark.parametrize(
    ("camera", "instrument"),
    [
        ("LATISS", "LATISS"),
        ("ComCam", "LSSTComCam"),
        ("LSSTComCam", "LSSTComCam"),
        ("LSSTComCamSim", "LSSTComCamSim"),
        ("LSSTCam", "LSSTCam"),
        ("TS8", "LSST-TS8"),
        ("LSST-TS8", "LSST-TS8"),
    ],
)
@pytest.mark.parametrize("ext", EXTENSIONS)
def test_lsst_form(camera: str, instrument: str, ext: str) -> None:
    raw = parse_raw_key(lsst_key(camera, ext=ext))
    assert raw.form is RawForm.LSST
    assert raw.instrument == instrument
    assert raw.exposure_id == 2025040100123
    assert raw.day_obs == 20250401
    assert raw.detector_name == "R22_S11"
    assert (raw.group, raw.snap, raw.physical_filter) == (None, None, None)
    assert raw.sidecar_key == f"{camera}/20250401/MC_O_20250401_000123/MC_O_20250401_000123_R22_S11.json"


@pytest.mark.parametrize("sensor", ["R22_S11", "R40_SG0", "R04_SW1"])
def test_sensor_names(sensor: str) -> None:
    raw = parse_raw_key(lsst_key("LSSTCam", sensor))
    assert raw.detector_name == sensor
    assert raw.detector is None


def test_latiss_has_one_detector() -> None:
    assert parse_raw_key(lsst_key("LATISS", "R00_S00", abbrev="AT")).detector == 0


@pytest.mark.parametrize("camera", ["TS8", "LSST-TS8"])
@pytest.mark.parametrize("x", range(3))
@pytest.mark.parametrize("y", range(3))
def test_ts8_detectors_are_numbered_by_row(camera: str, x: int, y: int) -> None:
    assert parse_raw_key(lsst_key(camera, f"R22_S{x}{y}", abbrev="TS")).detector == 3 * x + y


def test_numbering_of_one_camera_is_not_used_for_another() -> None:
    assert parse_raw_key(lsst_key("LSSTCam", "R00_S00")).detector is None
    assert parse_raw_key(lsst_key("LATISS", "R22_S11")).detector is None
    assert parse_raw_key(lsst_key("TS8", "R22_SG0")).detector is None


@pytest.mark.parametrize("ext", EXTENSIONS)
def test_imsim_form(ext: str) -> None:
    stem = "LSSTCam-imSim/20250401/5025040100123/5025040100123_r_sim_1.4_94_R22_S11"
    raw = parse_raw_key(f"{stem}.{ext}")
    assert raw.form is RawForm.IMSIM
    assert raw.instrument == "LSSTCam-imSim"
    assert raw.exposure_id == 5025040100123
    assert raw.physical_filter == "r_sim_1.4"
    assert (raw.detector, raw.detector_name) == (94, "R22_S11")
    assert (raw.day_obs, raw.group, raw.snap) == (20250401, None, None)
    assert raw.sidecar_key == f"{stem}.json"


# What a path element may hold: no slash; a group such as 2025-04-01T00:00:00.000#1.
element = st.text(string.ascii_letters + string.digits + ":.-_#+ %", min_size=1)


@given(
    instrument=element.filter(lambda s: not s.startswith(("LATISS", "ComCam", "LSST", "TS8"))),
    detector=st.integers(0, 10**9 - 1),
    group=element,
    snap=st.integers(0, 99),
    exposure=st.integers(0, 10**18 - 1),
    physical_filter=st.just("") | element,
    name=element,
    ext=st.sampled_from(EXTENSIONS),
)
def test_generic_form(
    instrument: str,
    detector: int,
    group: str,
    snap: int,
    exposure: int,
    physical_filter: str,
    name: str,
    ext: str,
) -> None:
    prefix = generic_prefix(instrument, detector, group, snap)
    key = f"{prefix}{exposure}/{physical_filter}/{name}.{ext}"
    raw = parse_raw_key(key)
    assert key.startswith(prefix)
    assert dataclasses.asdict(raw) == {
        "key": key,
        "form": RawForm.GENERIC,
        "instrument": instrument,
        "exposure_id": exposure,
        "detector": detector,
        "detector_name": None,
        "group": group,
        "snap": snap,
        "physical_filter": physical_filter,
        "day_obs": None,
    }
    assert raw.sidecar_key is None


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "DemoCam",
        "DemoCam/0/g/0/1/r/x.json",
        "DemoCam/0/g/0/1/r/x.fits.json",
        "DemoCam/0/g/0/1/r/x.png",
        "DemoCam/0/g/0/1/r/.fits",
        "DemoCam/0/g/0/1/r/xfits",
        "DemoCam/0/g/0/1/x.fits",
        "DemoCam/0/g/0/1/r/extra/x.fits",
        "DemoCam/a/g/0/1/r/x.fits",
        "DemoCam/0//0/1/r/x.fits",
        "DemoCam/0/g/-1/1/r/x.fits",
        "DemoCam/0/g/0/one/r/x.fits",
        "DemoCam/\u0663/g/0/1/r/x.fits",
        "DemoCam/0/g/0/" + "9" * 5000 + "/r/x.fits",
        # An LSST camera's key never has the generic form, nor the other way round.
        "LSSTCam/0/g/0/1/r/x.fits",
        lsst_key("DemoCam"),
        lsst_key("LSSTCam", "R2_S11"),
        lsst_key("LSSTCam", "R22_S1"),
        lsst_key("LSSTCam", "R22_S11", "json"),
        lsst_key("LSSTCam").replace("000123/", "000124/"),
        lsst_key("LSSTCam").replace("LSSTCam/20250401", "LSSTCam/20250402"),
        "LSSTCam-imSim/20250401/1/2_r_94_R22_S11.fits",
        "LSSTCam-imSim/20250401/1/1_r_R22_S11.fits",
    ],
)
def test_what_is_not_a_raw_is_refused(key: str) -> None:
    with pytest.raises(InvalidMessage, match="not the key of a raw image"):
        parse_raw_key(key)


@given(st.text())
def test_any_text_is_read_or_refused(key: str) -> None:
    try:
        raw = parse_raw_key(key)
    except InvalidMessage:
        return
    assert raw.key == key
