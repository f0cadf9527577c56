"""The seed directory of a simulated night agrees with its frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from config.instruments import InstrumentConfig, load_instrument
from models.geometry import angular_separation, detector_corners
from models.images import MaskPlane
from models.sky_map import SkyMap
from simulator.plan import Plan
from simulator.schedule import plan_simulated
from tests.simulator.conftest import START, small_camera


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_simulated(seed=7, visits=2, transients=2, start=START, instrument=small_camera())


@pytest.fixture(scope="module")
def seed(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plan.write_seed_directory(tmp_path_factory.mktemp("seed") / "new")


def test_everything_is_there(plan: Plan, seed: Path) -> None:
    for detector in plan.detectors:
        for name in (f"bias/{detector}", f"dark/{detector}", f"flat/{detector}_r_01"):
            with fits.open(seed / "calibrations" / f"{name}.fits") as hdus:
                assert hdus[1].data.shape == (192, 192)
                assert hdus[1].data.dtype.itemsize == 4
        defects = Table.read(seed / "calibrations" / "defects" / f"{detector}.ecsv")
        assert defects.colnames == ["x0", "y0", "width", "height"]
    assert {p.name for p in (seed / "templates").iterdir()} == {"r"}


def test_the_camera_survives(seed: Path, camera: InstrumentConfig) -> None:
    assert load_instrument(seed / "instrument.yaml") == camera


def test_templates_cover_every_visit(plan: Plan, seed: Path) -> None:
    sky_map = SkyMap.model_validate_json((seed / "skymap.json").read_text())
    written = {tuple(map(int, p.stem.split("_"))) for p in (seed / "templates" / "r").iterdir()}
    for planned in plan.visits:
        for number in planned.detectors:
            visit = planned.visit
            detector = plan.instrument.by_id[number]
            corners = detector_corners(plan.instrument, detector, *visit.position, visit.cameraAngle, 30.0)
            assert set(sky_map.patches_overlapping(corners)) <= written
            # And no corner lies outside the tract.
            tract = sky_map.tracts[0]
            for corner in corners:
                tiny = [corner, (corner[0] + 1e-6, corner[1]), (corner[0], corner[1] + 1e-6)]
                assert tract.patches_overlapping(tiny)


def test_templates_show_the_stars_of_the_catalogue(seed: Path) -> None:
    path = min((seed / "templates" / "r").iterdir())
    with fits.open(path) as hdus:
        image, variance, mask = (np.asarray(hdus[n].data, float) for n in (1, 2, 3))
        header = hdus[1].header
    assert [header["BUNIT"], header["FLUXUNIT"]] == ["nJy", "nJy"]
    assert 2.4 < header["PSFFWHM"] < 2.8
    catalogue = Table.read(seed / "refcat.ecsv")
    stars = catalogue[catalogue["star"] & (catalogue["r_flux"] > 2e4)]
    x, y = WCS(header).all_world2pix(stars["ra"], stars["dec"], 0)
    ny, nx = image.shape
    inside = (x > 15) & (x < nx - 15) & (y > 15) & (y < ny - 15)
    assert inside.sum() > 5
    ratios = []
    for column, row, flux in zip(
        np.rint(x[inside]), np.rint(y[inside]), stars["r_flux"][inside], strict=True
    ):
        box = (slice(int(row) - 6, int(row) + 7), slice(int(column) - 6, int(column) + 7))
        ratios.append(image[box].sum() / flux)
    assert np.median(ratios) == pytest.approx(1.0, abs=0.05)
    blank = np.abs(image) < 4 * np.sqrt(variance)
    rms = 1.4826 * np.median(np.abs(image[blank] - np.median(image[blank])))
    assert rms == pytest.approx(np.median(np.sqrt(variance)), rel=0.15)
    assert set(np.unique(mask)) <= {0, int(MaskPlane.SAT)}


def test_the_catalogue_has_its_errors(plan: Plan, seed: Path) -> None:
    catalogue = Table.read(seed / "refcat.ecsv")
    assert {"id", "ra", "dec", "raErr", "decErr", "star"} <= set(catalogue.colnames)
    assert {f"{b}_{n}" for b in "gri" for n in ("flux", "fluxErr")} <= set(catalogue.colnames)
    stars = catalogue[catalogue["star"]]
    sky = plan.seed_writer.night.sky  # type: ignore[attr-defined]
    known = sky.stars.magnitude < 21.5
    assert len(stars) == known.sum()
    distance = (
        angular_separation(stars["ra"], stars["dec"], sky.stars.ra[known], sky.stars.dec[known]) * 3.6e6
    )
    # Rayleigh: the median of two coordinates with 20 mas each.
    assert np.median(distance) == pytest.approx(20 * 1.177, rel=0.15)
    ratio = stars["i_flux"] / sky.stars.flux("i")[known]
    assert ratio.std() == pytest.approx(0.01, rel=0.2)


def test_what_is_written_is_told(plan: Plan, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    plan.write_seed_directory(tmp_path, lambda *args: told.append(args))
    assert told[0] == ("reference catalogue", 0, 7)
    assert told[-1] == ("seed directory", 7, 7)
    assert [done for _, done, _ in told] == [0, 1, 2, 3, 4, 5, 7]
