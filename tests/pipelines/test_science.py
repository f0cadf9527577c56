"""From a raw image to sources in the difference, against the truth."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from scipy.spatial import KDTree

from models.images import MaskPlane
from tests.pipelines.conftest import Reduced, reduce
from tests.pipelines.synthetic import SCALE, make


def score(result: Reduced) -> tuple[int, int, int, list[float], list[float]]:
    """Return transients of S/N >= 10, found ones, false sources, errors (px)
    and flux ratios.
    """
    truth = result.observation
    wcs = WCS(fits.Header(truth.true_header), fix=False)
    x, y = wcs.wcs_world2pix(np.asarray(result.sources["ra"]), np.asarray(result.sources["dec"]), 0)
    distance, nearest = KDTree(truth.transient_xy).query(np.column_stack([x, y]))
    flux = truth.scene.flux[truth.scene.transient]
    found: dict[int, tuple[float, float]] = {}
    false = 0
    for k, (d, i) in enumerate(zip(distance, nearest, strict=True)):
        if d * SCALE <= 1.0:
            found.setdefault(int(i), (float(d), float(result.sources["psfFlux"][k] / flux[i])))
        elif not result.sources["isDipole"][k]:
            false += 1
    bright = np.flatnonzero(truth.signal_to_noise >= 10)
    hits = [found[i] for i in bright if i in found]
    return len(bright), len(hits), false, [h[0] for h in hits], [h[1] for h in hits]


def test_transients_are_found_and_nothing_else(reduced: Reduced) -> None:
    # Three images are pooled, because a single one of a dozen transients
    # scatters; hundreds give 0.99 and 0.1 false ones per four such images.
    scores = [score(r) for r in (reduced, *(reduce(make(s, size=512, transients=25)) for s in (2, 3)))]
    bright, found, false = (sum(s[k] for s in scores) for k in range(3))
    assert bright >= 25
    assert found / bright >= 0.85
    assert false <= 2
    assert np.median([e for s in scores for e in s[3]]) < 0.2
    assert np.median([r for s in scores for r in s[4]]) == pytest.approx(1.0, abs=0.05)


def test_a_sky_without_transients_gives_no_sources() -> None:
    _, _, false, _, _ = score(reduce(make(5, size=512, transients=1)))
    assert false <= 1


def test_wcs_is_found_despite_a_pointing_error(reduced: Reduced) -> None:
    truth = WCS(fits.Header(reduced.observation.true_header), fix=False)
    x, y = np.meshgrid([10.0, 256.0, 500.0], [10.0, 256.0, 500.0])
    sky = truth.all_pix2world(x.ravel(), y.ravel(), 0)
    fx, fy = reduced.science.wcs.wcs_world2pix(*sky, 0)
    assert np.hypot(fx - x.ravel(), fy - y.ravel()).max() < 0.1
    assert reduced.metadata["pointing_error_px"] == pytest.approx(np.hypot(12, 9), abs=1.0)


def test_noise_of_the_difference_is_predicted(reduced: Reduced) -> None:
    header = reduced.difference.header
    assert header["DIFFRMS"] == pytest.approx(header["DIFFPRED"], rel=0.03)
    # The prediction is not just the science image's own noise.
    assert header["DIFFPRED"] > 1.01 * header["SCIRMS"]


def test_zero_point_makes_nanojansky(reduced: Reduced) -> None:
    truth = reduced.observation
    assert reduced.science.header["CALSCALE"] == pytest.approx(1 / truth.electrons_per_njy, rel=0.02)
    assert reduced.metadata["kernel_sum"] == pytest.approx(1.0, abs=0.03)


def test_cosmic_rays_are_masked(reduced: Reduced) -> None:
    assert reduced.science.mask is not None
    marked = (reduced.science.mask & int(MaskPlane.CR)) != 0
    assert marked[reduced.observation.cosmic_rays].mean() > 0.8
    assert marked.sum() < 12 * reduced.observation.cosmic_rays.sum()


def test_the_same_image_gives_the_same_bits(reduced: Reduced) -> None:
    again = reduce(copy.deepcopy(reduced.observation))
    assert again.difference == reduced.difference
    assert all((again.sources[c] == reduced.sources[c]).all() for c in reduced.sources.colnames)


@pytest.mark.parametrize("fwhm", [2.8, 4.2])
def test_worse_and_better_seeing_than_the_template(fwhm: float) -> None:
    bright, found, false, _, ratios = score(reduce(make(9, size=512, fwhm=fwhm, template_fwhm=3.2)))
    assert found / bright >= 0.85
    assert false <= 2
    assert np.median(ratios) == pytest.approx(1.0, abs=0.08)


def test_few_stars_are_enough() -> None:
    result = reduce(make(4, size=512, density=0.12, cosmic_rays=3))
    assert 0.9 < result.metadata["kernel_sum"] < 1.1
    _, _, false, _, _ = score(result)
    assert false <= 2
