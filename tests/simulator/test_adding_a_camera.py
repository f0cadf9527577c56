"""The examples of docs/adding-a-camera.md are executed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from config.instruments import find_instrument_file, load_instrument
from models.raws import parse_raw_key
from models.sky_map import SkyMap
from repos.observation import ObservationReader

GUIDE = Path(__file__).parents[2] / "docs" / "adding-a-camera.md"


def blocks(language: str) -> list[str]:
    """Return the examples in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(), flags=re.DOTALL | re.MULTILINE)


def test_the_camera_can_be_simulated_and_its_headers_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    whole, files = blocks("yaml")
    # The sensor of the guide is larger than a test needs.
    Path("HillCam.yaml").write_text(
        whole.replace("2048", "256").replace("2072", "280").replace("2112", "320")
    )
    names: dict[str, object] = {}
    exec(blocks("python")[0], names)
    frame = names["frame"]
    assert capsys.readouterr().out.strip() == frame.key  # type: ignore[attr-defined]
    camera = load_instrument("HillCam.yaml")
    assert load_instrument("seed/instrument.yaml") == camera
    path = tmp_path / "raw.fits"
    path.write_bytes(frame.read())  # type: ignore[attr-defined]
    reader = ObservationReader(camera)
    info = reader.observation_info(
        reader.read_header(path),
        parse_raw_key(frame.key),
        group="g",
        detector=0,
        file_name="raw.fits",  # type: ignore[attr-defined]
    )
    visit = names["plan"].visits[0].visit  # type: ignore[attr-defined]
    assert info.tracking_radec.ra.deg == pytest.approx(visit.position[0])
    assert info.datetime_begin.unix_tai == pytest.approx(visit.startTime, abs=1e-3)
    Path("HillCam.yaml").write_text(whole + files)
    assert load_instrument("HillCam.yaml").overrides_for("DEC-OBS18a.mini.fits")["exposure_id"] == 1801


def test_the_sky_map_is_one() -> None:
    assert SkyMap.model_validate_json(blocks("json")[0]).name == "hill_v1"


def test_the_orientation_is_right(decam_frames: Path) -> None:
    camera = load_instrument(find_instrument_file("DecamStamps"))
    header = fits.getheader(decam_frames / "DEC-OBS18a.mini.fits")
    cd = np.array([[header["CD1_1"], header["CD1_2"]], [header["CD2_1"], header["CD2_2"]]])
    assert camera.flip_x == (np.linalg.det(cd) > 0)
    east = cd[0, 0] if camera.flip_x else -cd[0, 0]
    assert np.degrees(np.arctan2(cd[1, 0], east)) == pytest.approx(camera.detectors[0].rotation, abs=0.1)
