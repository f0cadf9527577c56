"""Templates ahead of the exposure, and what goes wrong with them."""

from __future__ import annotations

import copy

import lsst.pipe.base as pipeBase
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from lsst.sphgeom import Circle, LonLat, UnitVector3d

from models.images import MaskPlane, PromptImage
from pipelines.errors import CalibrationFailed, SubtractionFailed
from pipelines.footprint import footprint_of
from pipelines.tasks.calibrate_image import CalibrateImageTask
from pipelines.tasks.subtract import SubtractTask
from pipelines.tasks.warp_template import WarpTemplateTask
from tests.pipelines.conftest import Handle, Reduced, make_task, preload, region_time
from tests.pipelines.synthetic import SCALE, Synthetic, make


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_the_grid_fits_the_footprint_whichever_corner_comes_first(observation: Synthetic, first: int) -> None:
    padding = 40.0
    region = region_time(observation, padding=padding, first=first).region
    grid = footprint_of(region, SCALE)
    side = observation.size + 2 * padding
    assert all(side <= n <= side + 14 for n in grid.shape)
    # Parallel to rows and columns, a quarter turn apart at most.
    predicted = WCS(fits.Header(observation.predicted_header), fix=False)
    ours = WCS(fits.Header(grid.header), fix=False)
    x, y = ours.wcs_world2pix(*predicted.all_pix2world([100.0, 400.0], [100.0, 100.0], 0), 0)
    step = np.array([x[1] - x[0], y[1] - y[0]])
    assert np.hypot(*step) == pytest.approx(300, rel=1e-3)
    assert np.abs(step).min() < 1.0


def test_a_rotated_footprint_has_a_rotated_grid() -> None:
    observation = make(1, size=128, density=0.1, transients=2)
    cos, sin, step = np.cos(0.6), np.sin(0.6), SCALE / 3600
    observation.predicted_header |= {
        "CD1_1": -step * cos,
        "CD1_2": step * sin,
        "CD2_1": step * sin,
        "CD2_2": step * cos,
    }
    grid = footprint_of(region_time(observation, padding=10).region, SCALE)
    assert max(grid.shape) < 128 + 20 + 14


def test_other_regions_get_a_box() -> None:
    circle = Circle(UnitVector3d(LonLat.fromDegrees(10.0, -20.0)), LonLat.fromDegrees(0.01, 0.0).getLon())
    grid = footprint_of(circle, 1.0)
    assert all(72 <= n <= 84 for n in grid.shape)


def test_patches_are_put_together_in_a_fixed_order(observation: Synthetic) -> None:
    whole = observation.template
    left, right = copy.deepcopy(whole), copy.deepcopy(whole)
    assert left.mask is not None and right.mask is not None
    left.mask[:, 400:] |= MaskPlane.NO_DATA
    right.image[:, :300] = np.nan
    handles = [Handle(right, {"tract": 0, "patch": 1}), Handle(left, {"tract": 0, "patch": 0})]
    task = make_task(WarpTemplateTask)
    info = region_time(observation)
    one = task.run(region_time=info, templates=handles).preloaded_template
    two = task.run(region_time=info, templates=handles[::-1]).preloaded_template
    assert one == two
    reference = preload(observation)
    good = (one.mask & int(MaskPlane.NO_DATA)) == 0
    # Where the left patch ends its mask meets the right one's pixels.
    np.testing.assert_allclose(one.image[good], reference.image[good], rtol=1e-4, atol=0.5)
    assert good.mean() > 0.95


def test_no_template_no_work(observation: Synthetic) -> None:
    task = make_task(WarpTemplateTask)
    elsewhere = copy.deepcopy(observation.template)
    elsewhere.header["CRVAL1"] = 10.0
    with pytest.raises(pipeBase.NoWorkFound, match="covers"):
        task.run(
            region_time=region_time(observation), templates=[Handle(elsewhere, {"tract": 0, "patch": 0})]
        )
    with pytest.raises(pipeBase.NoWorkFound, match="no patch"):
        task.run(region_time=region_time(observation), templates=[])


def test_half_a_template_gives_half_a_difference(reduced: Reduced) -> None:
    template = preload(reduced.observation)
    assert template.mask is not None
    template.mask[:, : template.shape[1] // 2] |= MaskPlane.NO_DATA
    result = make_task(SubtractTask).run(science=reduced.science, stars=reduced.stars, template=template)
    difference = result.difference_image
    covered = (difference.mask & int(MaskPlane.NO_DATA)) == 0
    assert 0.4 < covered.mean() < 0.55
    assert (difference.image[~covered] == 0).all()
    assert difference.header["DIFFRMS"] == pytest.approx(difference.header["DIFFPRED"], rel=0.05)


def test_a_template_of_another_place_is_named(reduced: Reduced) -> None:
    template = preload(reduced.observation)
    template.header["CRVAL1"] = float(template.header["CRVAL1"]) + 1.0
    with pytest.raises(SubtractionFailed, match=r"covers 0\.0%.*PRELOAD_PADDING"):
        make_task(SubtractTask).run(science=reduced.science, stars=reduced.stars, template=template)


class TestCalibrationFailures:
    """Each says what was wrong with what."""

    def run(self, reduced: Reduced, **changes: object) -> None:
        image = copy.deepcopy(reduced.post_isr_image)
        image.header |= changes.pop("header", {})  # type: ignore[arg-type]
        refcat = changes.pop("refcat", reduced.observation.refcat)
        if changes.pop("mask_all", False):
            assert image.mask is not None
            image.mask[:] = int(MaskPlane.BAD)
        make_task(CalibrateImageTask).run(image=image, refcat=[refcat])

    def test_wrong_place(self, reduced: Reduced) -> None:
        with pytest.raises(CalibrationFailed, match=r"do not match.*check pointing"):
            self.run(reduced, header={"CRVAL2": 2.2})

    def test_band_that_the_catalogue_lacks(self, reduced: Reduced) -> None:
        with pytest.raises(CalibrationFailed, match="no column u_flux: it covers the bands r"):
            self.run(reduced, header={"BAND": "u"})

    def test_empty_catalogue(self, reduced: Reduced) -> None:
        with pytest.raises(CalibrationFailed, match="0 reference objects"):
            self.run(reduced, refcat=reduced.observation.refcat[:0])

    def test_nothing_but_masked_pixels(self, reduced: Reduced) -> None:
        with pytest.raises(CalibrationFailed, match="every pixel is masked"):
            self.run(reduced, mask_all=True)

    def test_metadata_of_the_failure(self) -> None:
        assert dict(CalibrationFailed("why", stars=3).metadata) == {"stars": 3}


def test_image_of_noise_alone_fails_clearly(reduced: Reduced) -> None:
    rng = np.random.default_rng(1)
    image = copy.deepcopy(reduced.post_isr_image)
    noise = PromptImage(
        rng.normal(100, 10, image.shape).astype(np.float32),
        np.full(image.shape, 100, np.float32),
        np.zeros(image.shape, np.int32),
        image.header,
    )
    with pytest.raises(CalibrationFailed):
        make_task(CalibrateImageTask).run(image=noise, refcat=[reduced.observation.refcat])
