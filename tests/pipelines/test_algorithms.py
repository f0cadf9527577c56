"""Single algorithms against what is known of their answer."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, maximum_filter, uniform_filter
from scipy.signal import fftconvolve

from models.images import MaskPlane, SpatialKernel, field_terms
from pipelines.algorithms.astrometry import fit_astrometry, shift_wcs_header
from pipelines.algorithms.background import robust_rms, subtract_background
from pipelines.algorithms.candidates import Limits, select_candidates
from pipelines.algorithms.convolution import convolve_varying
from pipelines.algorithms.cosmic_rays import find_cosmic_rays, repair
from pipelines.algorithms.detection import detect
from pipelines.algorithms.filters import box_mean, grow
from pipelines.algorithms.kernel import fit_kernel
from pipelines.algorithms.noise import autocovariance, blank_sky, predict_difference_rms
from pipelines.algorithms.photometry import fit_zero_point, psf_photometry
from pipelines.algorithms.psf import fit_psf, fwhm_of
from pipelines.algorithms.score import find_peaks, score_image
from pipelines.algorithms.warp import pixel_map, warp_into
from tests.pipelines.synthetic import draw, tan_header


def gaussian(sigma: float, half: int = 10) -> np.ndarray:
    x = np.arange(-half, half + 1)
    image = np.exp(-0.5 * (x[:, None] ** 2 + x**2) / sigma**2)
    return (image / image.sum()).astype(np.float32)


def constant(image: np.ndarray, size: float) -> SpatialKernel:
    return SpatialKernel(image[None].astype(np.float32), 0, size)


@given(reach=st.integers(1, 9), ny=st.integers(1, 40), nx=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_filters_equal_scipys(reach: int, ny: int, nx: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(ny, nx)).astype(np.float32)
    expected = uniform_filter(image.astype(float), 2 * reach + 1, mode="constant")
    np.testing.assert_allclose(box_mean(image, reach), expected, atol=1e-5)
    flag = image > 2
    grown = maximum_filter(flag.astype(int), 2 * reach + 1, mode="constant") > 0
    assert (grow(flag, reach) == grown).all()


def test_background_follows_a_gradient() -> None:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:256, 0:256]
    sky = 1000 + 0.2 * x - 0.1 * y
    image = (sky + rng.normal(0, 10, sky.shape)).astype(np.float32)
    image[100:104, 50:54] += 5000
    bad = np.zeros(image.shape, bool)
    bad[10, 10] = True
    flat, level, rms = subtract_background(image, bad, cell=64)
    assert abs(np.median(flat)) < 1.0
    assert np.abs(uniform_filter(flat, 31)[120:, 120:]).max() < 4
    assert level == pytest.approx(sky.mean(), rel=0.01)
    assert rms == pytest.approx(10, rel=0.1)
    assert flat[10, 10] == 0


def test_robust_rms_ignores_outliers_and_gaps() -> None:
    values = np.random.default_rng(1).normal(0, 3, 20000)
    values[:200] = 1e6
    values[200:300] = np.nan
    assert robust_rms(values) == pytest.approx(3, rel=0.05)
    assert np.isnan(robust_rms(np.array([np.nan])))


def test_cosmic_rays_go_and_stars_stay() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.uniform(15, 240, 40), rng.uniform(15, 240, 40)
    light = draw((256, 256), x, y, 10 ** rng.uniform(3, 5.3, 40), 2.8, np.zeros(40))
    image = rng.poisson(light + 400).astype(np.float32) - 400
    hits = np.zeros(image.shape, bool)
    for k in range(20):
        hits[10 + 12 * k, 30 : 33 + k % 5] = True
    image[hits] += 600
    found = find_cosmic_rays(image, light + np.float32(400), np.zeros(image.shape, bool), sky_variance=400.0)
    assert found[hits].mean() > 0.95
    stars = np.zeros(image.shape, bool)
    stars[np.rint(y).astype(int), np.rint(x).astype(int)] = True
    assert found[stars & ~grow(hits, 3)].sum() == 0
    repair(image, found)
    assert np.abs(image[hits & (light < 10)]).max() < 150


def test_repair_leaves_zero_where_nothing_is_near() -> None:
    image = np.full((20, 20), 7.0, np.float32)
    bad = np.zeros(image.shape, bool)
    bad[5:15, 5:15] = True
    repair(image, bad)
    assert image[10, 10] == 0
    assert image[5, 5] == 7


def test_warp_moves_an_image_by_what_the_wcs_say() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.uniform(30, 170, 20), rng.uniform(30, 170, 20)
    flux = np.full(20, 1000.0)
    source = draw((200, 200), x, y, flux, 3.0, np.zeros(20))
    old, new = tan_header(200), tan_header(200, angle=2.0, shift=(3.3, -7.6))
    wcs_old, wcs_new = WCS(fits.Header(old)), WCS(fits.Header(new))
    moved = wcs_new.wcs_world2pix(*wcs_old.all_pix2world(x, y, 0), 0)
    expected = draw((190, 180), *moved, flux, 3.0, np.zeros(20))
    mask = np.zeros(source.shape, np.int32)
    mask[100, 100] = MaskPlane.SAT
    out = (
        np.zeros((190, 180), np.float32),
        np.zeros((190, 180), np.float32),
        np.full((190, 180), int(MaskPlane.NO_DATA), np.int32),
    )
    warp_into(source, np.ones_like(source), mask, pixel_map(wcs_new, wcs_old, (190, 180)), out)
    covered = (out[2] & int(MaskPlane.NO_DATA)) == 0
    assert 0.85 < covered.mean() < 1
    np.testing.assert_allclose(out[0][covered], expected[covered], atol=0.01 * source.max())
    assert (out[1][covered] == 1).all()
    assert 1 <= ((out[2] & int(MaskPlane.SAT)) != 0).sum() <= 9


def test_warp_does_not_touch_what_is_filled() -> None:
    header = tan_header(40)
    wcs = WCS(fits.Header(header))
    first = np.full((40, 40), 1.0, np.float32)
    out = (
        np.zeros((40, 40), np.float32),
        np.zeros((40, 40), np.float32),
        np.full((40, 40), int(MaskPlane.NO_DATA), np.int32),
    )
    hole = np.zeros((40, 40), np.int32)
    hole[:, 20:] = MaskPlane.NO_DATA
    mapping = pixel_map(wcs, wcs, (40, 40))
    warp_into(first, first, hole, mapping, out)
    warp_into(2 * first, first, np.zeros_like(hole), mapping, out)
    assert out[0][10:30, 5:15] == pytest.approx(1.0)
    assert out[0][10:30, 25:35] == pytest.approx(2.0)


@pytest.mark.parametrize("stars", [4, 12, 60])
def test_kernel_between_two_seeings(stars: int) -> None:
    rng = np.random.default_rng(stars)
    size = 300
    x, y = rng.uniform(30, size - 30, stars), rng.uniform(30, size - 30, stars)
    flux = 10 ** rng.uniform(4, 5, stars)
    sharp = draw((size, size), x, y, flux, 2.8, np.zeros(stars))
    blunt = draw((size, size), x, y, 1.3 * flux, 3.6, np.zeros(stars))
    noise = rng.normal(0, 3, sharp.shape).astype(np.float32)
    # A variable star must not spoil the fit.
    if stars > 20:
        blunt += draw((size, size), x[:1], y[:1], flux[:1], 3.6, np.zeros(1))
    science = blunt + noise + np.float32(5)
    fit = fit_kernel(science, sharp, np.full_like(sharp, 9), np.zeros(sharp.shape, bool), x, y, degree=1)
    assert fit is not None
    assert fit.scale == pytest.approx(1.3, rel=0.02)
    assert fit.background[0] == pytest.approx(5, abs=1.0)
    left = science - convolve_varying(sharp, fit.kernel) - np.float32(fit.background[0])
    quiet = (
        grow(draw((size, size), x[:1], y[:1], flux[:1], 3.6, np.zeros(1)) > 1) if stars > 20 else sharp < 0
    )
    assert np.abs(left[~quiet]).max() < 0.03 * science.max()


def test_no_star_no_kernel() -> None:
    image = np.zeros((100, 100), np.float32)
    nothing = np.empty(0)
    assert fit_kernel(image, image, image + 1, image > 0, nothing, nothing) is None


def test_varying_convolution_is_the_kernel_of_the_receiving_pixel() -> None:
    rng = np.random.default_rng(5)
    image = rng.normal(size=(60, 70)).astype(np.float32)
    kernel = SpatialKernel(rng.normal(size=(3, 5, 5)).astype(np.float32), 1, 70.0)
    result = convolve_varying(image, kernel)
    y, x = 33, 41
    direct = fftconvolve(image, kernel.at(x, y), mode="same")
    assert result[y, x] == pytest.approx(direct[y, x], abs=1e-4)


def test_field_terms_begin_with_the_constant() -> None:
    terms = field_terms([0.0, 100.0], [0.0, 50.0], 100.0, 2)
    assert len(terms) == 6
    assert (terms[0] == 1).all()


def test_noise_of_correlated_images_is_predicted() -> None:
    rng = np.random.default_rng(6)
    science = rng.normal(0, 4, (300, 300)).astype(np.float32)
    template = gaussian_filter(rng.normal(0, 6, (300, 300)), 0.7).astype(np.float32)
    kernel = gaussian(1.2)
    bad = np.zeros(science.shape, bool)
    difference = science - fftconvolve(template, kernel, mode="same")
    sky = blank_sky(science, bad, sources=template)
    predicted = predict_difference_rms(4.0, autocovariance(template, sky), kernel)
    assert predicted == pytest.approx(float(difference[20:-20, 20:-20].std()), rel=0.02)
    # Per-pixel variance alone, as if the noise were white, would be wrong.
    white = np.sqrt(16 + template.var() * float((kernel**2).sum()))
    assert predicted > 1.01 * white


def test_blank_sky_keeps_away_from_stars() -> None:
    rng = np.random.default_rng(7)
    image = rng.normal(0, 1, (200, 200)).astype(np.float32)
    image += draw((200, 200), np.array([100.0]), np.array([80.0]), np.array([5000.0]), 3.0, np.zeros(1))
    sky = blank_sky(image, np.zeros(image.shape, bool))
    assert not sky[70:91, 90:111].any()
    assert 0.3 < sky.mean() < 1


def test_score_is_the_significance_of_a_source() -> None:
    rng = np.random.default_rng(8)
    size, sigma = 256, 5.0
    profile = gaussian(1.3)
    psf = constant(profile, size)
    x, y = 120.3, 77.8
    flux = 20 * sigma / np.sqrt(float((profile**2).sum()))
    image = rng.normal(0, sigma, (size, size))
    yy, xx = np.mgrid[0:size, 0:size]
    source = np.exp(-0.5 * ((xx - x) ** 2 + (yy - y) ** 2) / 1.3**2)
    image = (image + flux * source / source.sum()).astype(np.float32)
    bad = np.zeros(image.shape, bool)
    variance = np.full_like(image, sigma**2)
    result = score_image(image, variance, None, bad, psf, None)
    assert result.rms == pytest.approx(1.0, abs=0.03)
    peaks = find_peaks(result.score, ~bad, 6.0)
    assert len(peaks) == 1
    assert peaks.score[0] == pytest.approx(20, abs=3)
    assert np.hypot(peaks.x[0] - x, peaks.y[0] - y) < 0.3
    measured = psf_photometry(image, variance, bad, psf, np.array([x]), np.array([y]))
    assert measured.flux[0] == pytest.approx(flux, abs=4 * measured.error[0])
    assert measured.error[0] == pytest.approx(flux / 20, rel=0.02)
    assert measured.chi2[0] / measured.pixels[0] == pytest.approx(1.0, abs=0.6)


def test_photometry_off_the_image_and_under_a_mask() -> None:
    image = np.ones((50, 50), np.float32)
    bad = np.zeros(image.shape, bool)
    bad[20:30, 20:30] = True
    psf = constant(gaussian(1.3), 50)
    x, y = np.array([-100.0, 25.0, 40.0]), np.array([10.0, 25.0, 10.0])
    measured = psf_photometry(image, image, bad, psf, x, y)
    assert np.isnan(measured.flux[:2]).all()
    assert np.isfinite(measured.flux[2])
    assert measured.coverage[0] == 0
    assert measured.coverage[1] < 0.3


def test_rejections() -> None:
    rng = np.random.default_rng(9)
    size = 200
    profile = gaussian(1.4)
    psf = constant(profile, size)
    clean = rng.normal(0, 1, (size, size)).astype(np.float32)
    unit = 1 / np.sqrt(float((profile**2).sum()))

    def put(x: int, y: int, snr: float) -> None:
        clean[y - 10 : y + 11, x - 10 : x + 11] += profile * np.float32(snr * unit)

    put(50, 50, 20)  # a transient
    put(100, 50, 20)  # a dipole
    put(103, 50, -18)
    put(150, 50, 20)  # a residual of a star
    put(50, 150, -15)  # a source that faded
    clean[150, 150] += 40  # a cosmic ray
    bad = np.zeros(clean.shape, bool)
    bad[98:104, 100:104] = True  # a hole, with light beside it
    clean[100, 105] += 60
    variance = np.ones_like(clean)
    score = score_image(clean, variance, None, bad, psf, None).score
    stars = np.array([152.0]), np.array([51.0]), np.array([2000.0 * unit])
    found = select_candidates(score, clean, variance, bad, psf, stars, Limits())
    places = {
        (int(x), int(y)): bool(d)
        for x, y, d in zip(found.peaks.ix, found.peaks.iy, found.dipole, strict=True)
    }
    near = {(round(x / 50) * 50, round(y / 50) * 50): dipole for (x, y), dipole in places.items()}
    assert near == {(50, 50): False, (100, 50): True, (50, 150): False}
    assert found.rejected["star"] == 1
    assert found.rejected["shape"] >= 1
    assert found.photometry.flux[-1] < 0


def test_psf_of_stars() -> None:
    rng = np.random.default_rng(10)
    grid = np.arange(30.0, 390.0, 45.0)
    x, y = (c.ravel() + rng.uniform(-0.5, 0.5, c.size) for c in np.meshgrid(grid, grid))
    image = draw((400, 400), x, y, np.full(x.size, 3e4), 3.4, np.zeros(x.size))
    image += rng.normal(0, 2, image.shape).astype(np.float32)
    fit = fit_psf(image, np.zeros(image.shape, bool), x, y)
    assert fit is not None
    assert fit.fwhm == pytest.approx(3.4, rel=0.06)
    profile = fit.model.normalised_at(200, 200)
    assert profile.sum() == pytest.approx(1, abs=1e-5)
    expected = draw((21, 21), np.array([10.0]), np.array([10.0]), np.array([1.0]), 3.4, np.zeros(1))
    assert np.abs(profile - expected).max() < 0.05 * expected.max()
    nothing = np.empty(0)
    assert fit_psf(image, np.zeros(image.shape, bool), nothing, nothing) is None


def test_fwhm_of_a_gaussian() -> None:
    assert fwhm_of(gaussian(2.0)) == pytest.approx(2.0 * 2.3548, rel=0.04)


def test_zero_point_survives_outliers() -> None:
    rng = np.random.default_rng(11)
    flux = 10 ** rng.uniform(3, 5, 60)
    reference = 2.5 * flux * (1 + rng.normal(0, 0.01, 60))
    reference[:8] *= 3
    reference[8], flux[9] = np.nan, -5
    fit = fit_zero_point(flux, np.full(60, 10.0), reference)
    assert fit is not None
    assert fit.scale == pytest.approx(2.5, rel=0.005)
    assert fit.scatter == pytest.approx(0.01, rel=0.5)
    assert fit_zero_point(flux[8:10], np.full(2, 10.0), reference[8:10]) is None


class TestAstrometry:
    """Fits of a WCS to a made-up field."""

    def field(
        self, seed: int, stars: int, matrix: np.ndarray, offset: np.ndarray
    ) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], np.ndarray, dict[str, object]]:
        rng = np.random.default_rng(seed)
        header = tan_header(1024)
        predicted = rng.uniform(-50, 1074, (stars, 2))
        ra, dec = WCS(fits.Header(header)).all_pix2world(*predicted.T, 0)
        true = (predicted - 511.5) @ matrix.T + 511.5 + offset
        inside = ((true > 0) & (true < 1023)).all(axis=1)
        seen = true[inside] + rng.normal(0, 0.05, (inside.sum(), 2))
        # Some stars are not in the catalogue, some detections no stars.
        junk = rng.uniform(0, 1023, (max(2, stars // 10), 2))
        seen = np.vstack([seen, junk])
        return (seen[:, 0], seen[:, 1]), (ra, dec), rng.uniform(1, 2, stars), header

    @given(
        shift_x=st.floats(-45, 45),
        shift_y=st.floats(-45, 45),
        angle=st.floats(-0.9, 0.9),
        seed=st.integers(0, 9),
    )
    @settings(max_examples=15, deadline=None)
    def test_shifts_and_rotations_are_found(
        self, shift_x: float, shift_y: float, angle: float, seed: int
    ) -> None:
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        matrix = np.array([[c, -s], [s, c]])
        offset = np.array([shift_x, shift_y])
        detected, reference, order, header = self.field(seed, 110, matrix, offset)
        fit = fit_astrometry(header, (1024, 1024), detected, reference, reference_order=order, max_shift=60)
        assert fit is not None
        expected = shift_wcs_header(header, matrix, 511.5 + offset - matrix @ [511.5, 511.5])
        old, new = WCS(fits.Header(expected)), WCS(fits.Header(fit.header))
        x, y = np.array([5.0, 500.0, 1000.0]), np.array([900.0, 500.0, 10.0])
        fx, fy = new.wcs_world2pix(*old.all_pix2world(x, y, 0), 0)
        assert np.hypot(fx - x, fy - y).max() < 0.1
        assert fit.rms < 0.1

    def test_few_stars_give_a_shift(self) -> None:
        detected, reference, order, header = self.field(3, 7, np.eye(2), np.array([4.0, 9.0]))
        fit = fit_astrometry(header, (1024, 1024), detected, reference, reference_order=order, max_shift=60)
        assert fit is not None
        assert fit.shift == pytest.approx(np.hypot(4, 9), abs=0.3)

    def test_another_field_does_not_match(self) -> None:
        detected, _, _, header = self.field(1, 80, np.eye(2), np.zeros(2))
        _, reference, order, _ = self.field(2, 80, np.eye(2), np.zeros(2))
        fit = fit_astrometry(header, (1024, 1024), detected, reference, reference_order=order, max_shift=40)
        assert fit is None

    def test_distortion_is_kept(self) -> None:
        header = {**tan_header(256), "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"}
        header |= {"PV1_1": 1.01, "PV2_1": 0.99, "PV1_4": 0.3, "PV2_4": -0.2}
        moved = shift_wcs_header(header, np.eye(2), np.array([10.0, -5.0]))
        sky = WCS(fits.Header(header)).all_pix2world(50, 60, 0)
        np.testing.assert_allclose(WCS(fits.Header(moved)).all_pix2world(60, 55, 0), sky, atol=1e-9)


def test_detections_come_brightest_first() -> None:
    rng = np.random.default_rng(12)
    x, y = np.array([40.2, 100.7, 150.1]), np.array([30.4, 160.0, 90.9])
    image = draw((200, 200), x, y, np.array([2000.0, 9000.0, 500.0]), 3.0, np.zeros(3))
    image += rng.normal(0, 1, image.shape).astype(np.float32)
    found = detect(image, 1.0, np.zeros(image.shape, bool))
    assert len(found) == 3
    np.testing.assert_allclose(found.x, x[[1, 0, 2]], atol=0.1)
    np.testing.assert_allclose(found.y, y[[1, 0, 2]], atol=0.1)
    assert (np.diff(found.flux) < 0).all()
    empty = detect(np.zeros((64, 64), np.float32), 1.0, np.zeros((64, 64), bool))
    assert len(empty) == 0
