"""The tasks on real DECam frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sep
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from lsst.daf.butler import Timespan
from lsst.pipe.base.utils import RegionTimeInfo
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from config.instruments import find_instrument_file, load_instrument
from models.images import PromptImage, RawImage, wcs_cards
from pipelines.algorithms.background import subtract_background
from pipelines.algorithms.detection import detect
from pipelines.tasks.calibrate_image import CalibrateImageTask
from pipelines.tasks.detect_dia_sources import DetectDiaSourcesTask
from pipelines.tasks.ingest_calibrated import IngestCalibratedTask
from pipelines.tasks.subtract import SubtractTask
from pipelines.tasks.warp_template import WarpTemplateTask
from repos.fits_files import raw_from_fits
from tests.pipelines.conftest import Handle, make_task

NANOJANSKY_PER_ADU = 100.0


@pytest.fixture(scope="module")
def stack(decam_frames: Path) -> RawImage:
    return raw_from_fits(decam_frames / "Stack-DEC-OBS04.fits")


@pytest.fixture(scope="module")
def refcat(stack: RawImage) -> Table:
    image = stack.data.astype(np.float32)
    nothing = np.zeros(image.shape, bool)
    image, _, rms = subtract_background(image, nothing, cell=64)
    found = detect(image, rms, nothing, threshold=5)
    flux, _, _ = sep.sum_circle(image, found.x, found.y, 8.0)
    ra, dec = WCS(fits.Header(wcs_cards(stack.header)), fix=False).all_pix2world(found.x, found.y, 0)
    return Table({"id": np.arange(len(found)), "ra": ra, "dec": dec, "i_flux": flux * NANOJANSKY_PER_ADU})


@pytest.fixture(scope="module")
def template(stack: RawImage) -> PromptImage:
    image = (stack.data * NANOJANSKY_PER_ADU).astype(np.float32)
    variance = np.full(image.shape, (8.0 * NANOJANSKY_PER_ADU) ** 2, np.float32)
    patch = PromptImage(image, variance, np.zeros(image.shape, np.int32), wcs_cards(stack.header))
    wcs = patch.wcs
    corners = [(-30, -30), (285, -30), (285, 285), (-30, 285)]
    vertices = [
        UnitVector3d(LonLat.fromDegrees(*(float(v) for v in wcs.all_pix2world(x, y, 0)))) for x, y in corners
    ]
    info = RegionTimeInfo(region=ConvexPolygon(vertices), timespan=Timespan(None, None))
    handle = Handle(patch, {"tract": 0, "patch": 0})
    return make_task(WarpTemplateTask).run(region_time=info, templates=[handle]).preloaded_template


@pytest.mark.parametrize("epoch", ["18a", "18b", "18c", "18d", "18e"])
def test_noise_of_the_difference_is_as_predicted(
    decam_frames: Path, refcat: Table, template: PromptImage, epoch: str
) -> None:
    raw = raw_from_fits(decam_frames / f"DEC-OBS{epoch}.mini.fits")
    camera = load_instrument(find_instrument_file("DecamStamps"))
    cards: dict[str, Any] = {"VISIT": 1801, "DETECTOR": 37, "EXPTIME": 330.0, "BAND": "i", "MJD-MID": 57618.2}
    image = (
        make_task(IngestCalibratedTask)
        .run(raw=raw, camera=camera, cards=cards | wcs_cards(raw.header))
        .post_isr_image
    )
    calibrated = make_task(CalibrateImageTask).run(image=image, refcat=[refcat])
    science, stars = calibrated.preliminary_visit_image, calibrated.single_visit_star
    result = make_task(SubtractTask).run(science=science, stars=stars, template=template)
    header = result.difference_image.header
    assert header["DIFFRMS"] == pytest.approx(header["DIFFPRED"], rel=0.03)
    assert header["KERNSUM"] == pytest.approx(1.0, abs=0.1)
    # The frame's distortion is still in the fitted WCS.
    assert science.header["CTYPE1"] == "RA---TPV"
    assert science.header["PV1_4"] == pytest.approx(raw.header["PV1_4"])
    sources = (
        make_task(DetectDiaSourcesTask)
        .run(
            science=science,
            stars=stars,
            template=result.template_detector,
            difference=result.difference_image,
        )
        .dia_source_unassociated
    )
    # The nucleus of the galaxy in the middle was fainter in 2016.
    nucleus = np.hypot(np.asarray(sources["x"]) - 128, np.asarray(sources["y"]) - 127.5) < 2
    assert nucleus.sum() == 1
    assert sources["isNegative"][nucleus].all()
    assert len(sources) <= 8
