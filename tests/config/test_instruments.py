"""Camera files: those that ship with the project, and faulty ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.wcs import WCS

from config.instruments import SHIPPED, find_instrument_file, load_instrument
from models.errors import InvalidConfiguration
from models.geometry import sky_to_pixel

MINIMAL: dict[str, Any] = {
    "name": "Tiny",
    "plate_scale": 20.0,
    "pixel_size": 0.01,
    "detector_defaults": {
        "size": [8, 4],
        "amplifiers": [
            {
                "name": "A",
                "data": [0, 8, 0, 4],
                "raw_data": [2, 10, 0, 4],
                "raw_overscan": [10, 13, 0, 4],
                "gain": 2.0,
                "read_noise": 3.0,
                "saturation": 1000.0,
            }
        ],
    },
    "detectors": [{"id": 3, "name": "R22"}],
    "filters": [{"name": "r1", "band": "r"}],
    "metadata": {"exposure_id": "EXPID", "exposure_time": {"key": "EXPTIME", "unit": "s"}},
}


def write(directory: Path, **changes: Any) -> Path:
    path = directory / "Tiny.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
    return path


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_files_are_whole(path: Path) -> None:
    camera = load_instrument(path)
    assert camera.name == path.stem
    for detector in camera.detectors:
        covered = np.zeros(detector.shape, int)
        raw = np.zeros(detector.raw_shape, int)
        for amplifier in detector.amplifiers:
            covered[amplifier.data.slices] += 1
            for section in (amplifier.raw_data, amplifier.raw_overscan):
                if section is not None:
                    raw[section.slices] += 1
            if amplifier.raw_data is not None:
                assert amplifier.raw_data.shape == amplifier.data.shape
        assert (covered == 1).all(), f"amplifiers of {detector.name} overlap or leave gaps"
        assert raw.max() <= 1, f"raw sections of {detector.name} overlap"
        assert (camera.raw_form == "overscan") == all(a.raw_overscan is not None for a in detector.amplifiers)


def test_the_demo_camera_is_what_the_demo_needs() -> None:
    camera = load_instrument(find_instrument_file("DemoCam"))
    assert len(camera.detectors) >= 4
    assert camera.pixel_scale == pytest.approx(0.4)
    for detector in camera.detectors:
        assert detector.shape == (1024, 1024)
        assert len(detector.amplifiers) == 2
    assert {d.rotation for d in camera.detectors} == {0.0, 90.0, 180.0}
    assert camera.bands["r_01"] == "r"


def test_predicted_footprint_covers_the_real_stamps(decam_frames: Path) -> None:
    camera = load_instrument(find_instrument_file("DecamStamps"))
    detector = camera.detectors[0]
    for name in ("DEC-OBS04a.mini.fits", "DEC-OBS18e.mini.fits"):
        header = fits.getheader(decam_frames / name, camera.raw_hdu)
        x, y = np.array([0.0, 255.0, 255.0, 0.0]), np.array([0.0, 0.0, 255.0, 255.0])
        ra, dec = WCS(header).all_pix2world(x, y, 0)
        found = sky_to_pixel(camera, detector, header["CRVAL1"], header["CRVAL2"], 0.0, ra, dec)
        np.testing.assert_allclose(found, (x, y), atol=0.2)


def test_every_real_stamp_has_its_exposure_id(decam_frames: Path) -> None:
    camera = load_instrument(find_instrument_file("DecamStamps"))
    found = {p.name: camera.overrides_for(p.name) for p in decam_frames.glob("DEC-*.mini.fits")}
    assert found["DEC-OBS18a.mini.fits"]["exposure_id"] == 1801
    assert found["DEC-OBS18e.mini.fits"]["exposure_id"] == 1805
    assert len({values["datetime_begin"] for values in found.values()}) == len(found) == 10
    assert camera.overrides_for("DEC-OBS99a.mini.fits") == {}


def test_detectors_inherit_the_defaults(tmp_path: Path) -> None:
    own = {"id": 4, "name": "R23", "size": [6, 4]}
    camera = load_instrument(write(tmp_path, detectors=[*MINIMAL["detectors"], own]))
    assert camera.by_id[3].shape == (4, 8)
    assert camera.by_id[3].raw_shape == (4, 13)
    assert camera.by_name["R23"].size == (6, 4)
    assert camera.pixel_scale == pytest.approx(0.2)
    assert camera.metadata["exposure_id"].key == "EXPID"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"plate_scale": -1}, "plate_scale: Input should be greater than 0"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"name": "9 lives"}, "name: String should match"),
        ({"detectors": []}, "detectors: "),
        (
            {"detectors": [{"id": 1, "name": "A"}, {"id": 1, "name": "B"}]},
            "detector id 1 is given more than once",
        ),
        ({"filters": [{"name": "r", "band": "r"}] * 2}, "filter r is given more than once"),
        ({"metadata": {"exposure_id": {"unit": "s"}}}, "either a FITS keyword"),
        ({"raw_form": "cooked"}, "raw_form: "),
        (
            {"detector_defaults": {"size": [8, 4], "amplifiers": [{"name": "A", "data": [4, 0, 0, 4]}]}},
            "increasing",
        ),
        ({"detectors": [{"id": 1}]}, "detectors.0.name: Field required"),
    ],
)
def test_faults_are_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(InvalidConfiguration) as caught:
        load_instrument(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", ["- 1\n- 2\n", "a: [", "\xff"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "Tiny.yaml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidConfiguration, match=r"Tiny\.yaml"):
        load_instrument(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="cannot be read"):
        load_instrument(tmp_path / "None.yaml")


def test_own_files_win_over_shipped_ones(tmp_path: Path) -> None:
    own = tmp_path / "DemoCam.yaml"
    own.write_text((SHIPPED / "DemoCam.yaml").read_text())
    assert find_instrument_file("DemoCam", [tmp_path]) == own
    assert find_instrument_file("DemoCam", [own]) == own
    other = own.rename(tmp_path / "instrument.yaml")
    assert find_instrument_file("DemoCam", [other]) == other
    assert find_instrument_file("DecamStamps", [other]).parent == SHIPPED
    other.rename(own)
    assert find_instrument_file("DecamStamps", [own]).parent == SHIPPED
    with pytest.raises(InvalidConfiguration, match=r"Nowhere\.yaml.*adding-a-camera"):
        find_instrument_file("Nowhere", [tmp_path])
