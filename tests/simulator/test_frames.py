"""Recorded frames as a night."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from models.errors import InvalidConfiguration
from models.raws import parse_raw_key
from models.sky_map import SkyMap
from simulator.frames import plan_frames


def test_the_five_visits_are_planned(decam_frames: Path) -> None:
    plan = plan_frames(decam_frames)
    assert [f.exposure_id for f in plan.frames] == [1801, 1802, 1803, 1804, 1805]
    assert plan.detectors == (37,)
    assert plan.filters == ("i_c0003",)
    assert not plan.has_truth
    for planned, letter in zip(plan.visits, "abcde", strict=True):
        (frame,) = planned.frames
        assert frame.injected is None
        assert frame.read() == (decam_frames / f"DEC-OBS18{letter}.mini.fits").read_bytes()
        key = parse_raw_key(frame.key)
        assert (key.group, key.exposure_id, key.detector) == (planned.visit.groupId, frame.exposure_id, 37)
        assert planned.visit.has_footprint
        assert planned.visit.nimages == 1
    # 2016-08-18T04:33:31 UTC, from the name in the archive.
    assert plan.visits[0].visit.startTime == pytest.approx(1471494811.0 + 36.0)


def test_the_seed_directory_is_made_of_the_stack(decam_frames: Path, tmp_path: Path) -> None:
    told: list[int] = []
    seed = plan_frames(decam_frames).write_seed_directory(
        tmp_path, lambda _what, done, _of: told.append(done)
    )
    assert told == [0, 1, 2]
    with fits.open(seed / "templates" / "i" / "0_0.fits") as hdus:
        image, variance, header = hdus[1].data, hdus[2].data, hdus[1].header
    stack = fits.getdata(decam_frames / "Stack-DEC-OBS04.fits")
    np.testing.assert_allclose(image - image[0, 0], stack - stack[0, 0], atol=0.01)
    assert 6 < np.sqrt(np.median(variance)) < 10
    assert 4.0 < header["PSFFWHM"] < 6.0
    assert not (seed / "calibrations").exists()
    sky_map = SkyMap.model_validate_json((seed / "skymap.json").read_text())
    ours = WCS(header).all_pix2world([0, 255], [0, 255], 0)
    theirs = WCS(fits.getheader(decam_frames / "DEC-OBS18c.mini.fits")).all_pix2world([0, 255], [0, 255], 0)
    np.testing.assert_allclose(ours, theirs, atol=1e-9)
    for corner in np.array(ours).T:
        ra, dec = (float(c) for c in corner)
        assert sky_map.patches_overlapping([(ra, dec), (ra + 1e-6, dec), (ra, dec + 1e-6)]) == [(0, 0)]


def test_the_catalogue_holds_the_stars_of_the_stack(decam_frames: Path, tmp_path: Path) -> None:
    seed = plan_frames(decam_frames).write_seed_directory(tmp_path)
    catalogue = Table.read(seed / "refcat.ecsv")
    assert len(catalogue) >= 10
    assert catalogue["star"].sum() >= 5
    assert (catalogue["raErr"] > 50).all()
    # The brightest star lies where the brightest pixel is.
    stack = fits.getdata(decam_frames / "Stack-DEC-OBS04.fits")
    row, column = np.unravel_index(np.argmax(stack), stack.shape)
    brightest = catalogue[np.argmax(catalogue["i_flux"])]
    x, y = WCS(fits.getheader(decam_frames / "Stack-DEC-OBS04.fits")).all_world2pix(
        brightest["ra"], brightest["dec"], 0
    )
    assert (float(x), float(y)) == pytest.approx((column, row), abs=1.0)
    assert brightest["i_flux"] == pytest.approx(4.0e5, rel=0.1)


def test_missing_frames_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="not a directory"):
        plan_frames(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(InvalidConfiguration, match=r"Stack-DEC-OBS04.*notes\.txt"):
        plan_frames(tmp_path)


def test_a_broken_frame_is_named(tmp_path: Path) -> None:
    (tmp_path / "Stack-DEC-OBS04.fits").touch()
    (tmp_path / "DEC-OBS18a.mini.fits").write_bytes(b"not FITS")
    with pytest.raises(InvalidConfiguration, match=r"DEC-OBS18a\.mini\.fits cannot be read"):
        plan_frames(tmp_path)


def test_a_frame_that_the_camera_file_does_not_know_is_named(tmp_path: Path) -> None:
    (tmp_path / "Stack-DEC-OBS04.fits").touch()
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "DEC-OBS18z.mini.fits")
    with pytest.raises(InvalidConfiguration, match=r"where DEC-OBS18z\.mini\.fits has its datetime_begin"):
        plan_frames(tmp_path)
