"""Sources have the flux, place and width they are drawn with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.profiles import PsfModel, draw_sources

ROUND = PsfModel(fwhm=3.0)


def draw(shape: tuple[int, int] = (101, 101), **kwargs: object) -> np.ndarray:
    image = np.zeros(shape, np.float32)
    arrays = {name: np.atleast_1d(np.asarray(value, float)) for name, value in kwargs.items()}
    arrays.setdefault("psf_shape", ROUND.shape_at(np.zeros(len(arrays["x"])), np.zeros(len(arrays["x"]))))
    draw_sources(image, floor=1e-3, **arrays)
    return image


@settings(max_examples=30, deadline=None)
@given(x=st.floats(45, 55), y=st.floats(45, 55), flux=st.floats(1e2, 1e6))
def test_flux_and_centroid(x: float, y: float, flux: float) -> None:
    image = draw(x=x, y=y, flux=flux).astype(float)
    assert image.sum() == pytest.approx(flux, rel=5e-3)
    rows, columns = np.mgrid[:101, :101]
    assert (image * columns).sum() / image.sum() == pytest.approx(x, abs=2e-3)
    assert (image * rows).sum() / image.sum() == pytest.approx(y, abs=2e-3)


@pytest.mark.parametrize("fwhm", [2.5, 4.0])
def test_half_of_the_peak_is_reached_half_a_width_away(fwhm: float) -> None:
    shape = PsfModel(fwhm=fwhm).shape_at([0, 0], [0, 0])
    image = draw((201, 101), x=[50.0, 50.0 + fwhm / 2], y=[50.0, 150.0], flux=[1.0, 1.0], psf_shape=shape)
    assert image[150, 50] / image[50, 50] == pytest.approx(0.5, rel=0.01)


def test_the_profile_is_a_moffat() -> None:
    image = draw(x=50, y=50, flux=1e6)
    alpha = 3.0 / (2 * np.sqrt(2 ** (1 / 3.5) - 1))
    for radius in (2, 4, 6, 9):
        expected = (1 + (radius / alpha) ** 2) ** -3.5
        assert image[50, 50 + radius] / image[50, 50] == pytest.approx(expected, rel=0.08)


def test_faint_and_bright_sources_differ_only_in_scale() -> None:
    faint, bright = (draw(x=50.2, y=49.7, flux=flux) for flux in (1e2, 1e6))
    np.testing.assert_allclose(faint * 1e4, bright, atol=bright.max() * 2e-4)


def test_a_galaxy_without_size_is_a_star() -> None:
    star = draw(x=50, y=50, flux=1e4)
    galaxy = draw(x=50, y=50, flux=1e4, galaxy_shape=np.full((1, 2, 2), 1e-9), bulge=0.3)
    np.testing.assert_allclose(galaxy, star, atol=star.max() * 1e-3)


def test_a_galaxy_is_long_along_its_major_axis() -> None:
    image = draw(x=50, y=50, flux=1e5, galaxy_shape=np.diag([16.0, 1.0])[None], bulge=0.0)
    rows, columns = np.mgrid[:101, :101] - 50.0
    assert (image * columns**2).sum() > 3 * (image * rows**2).sum()
    assert image.sum() == pytest.approx(1e5, rel=0.01)


def test_a_source_beyond_the_edge_leaves_its_wing() -> None:
    whole = draw((101, 140), x=101.5, y=50, flux=1e6)
    part = draw((101, 101), x=101.5, y=50, flux=1e6)
    assert part.sum() > 0
    np.testing.assert_allclose(part, whole[:, :101], rtol=1e-5)


def test_many_sources_add_up() -> None:
    rng = np.random.default_rng(1)
    x, y, flux = rng.uniform(0, 101, 3000), rng.uniform(0, 101, 3000), rng.uniform(1, 1e4, 3000)
    together = draw(x=x, y=y, flux=flux)
    apart = sum(draw(x=x[k::3], y=y[k::3], flux=flux[k::3]) for k in range(3))
    np.testing.assert_allclose(together, apart, rtol=1e-4)


def test_ellipticity_turns_with_the_sensor() -> None:
    model = PsfModel(fwhm=3.0, ellipticity=(0.1, 0.02), growth=(0.1, 0, 0))
    straight = model.shape_at([0.5], [0.2])[0]
    turned = model.shape_at([0.5], [0.2], rotation=90.0)[0]
    # What lies along focal X lies along pixel -y then.
    np.testing.assert_allclose(turned, [[straight[1, 1], -straight[0, 1]], [-straight[0, 1], straight[0, 0]]])
    assert np.linalg.det(straight) ** 0.25 == pytest.approx(3.0 * 1.05)
