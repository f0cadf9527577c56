"""The sky is what its densities say, and lies where the WCS says."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from models.geometry import sky_to_plane
from models.sky_map import Tract
from simulator.profiles import PsfModel
from simulator.sky import Grid, Sky, ab_to_njy, draw_sky, make_sky
from simulator.transients import Transients, merge_transients, place_transients


@pytest.fixture(scope="module")
def sky() -> Sky:
    return make_sky(7, ra=0.05, dec=-40.0, half_width=0.15)


def test_the_same_seed_gives_the_same_sky(sky: Sky) -> None:
    again = make_sky(7, ra=0.05, dec=-40.0, half_width=0.15)
    other = make_sky(8, ra=0.05, dec=-40.0, half_width=0.15)
    np.testing.assert_array_equal(again.stars.ra, sky.stars.ra)
    np.testing.assert_array_equal(again.galaxies.magnitude, sky.galaxies.magnitude)
    assert not np.array_equal(other.stars.ra, sky.stars.ra)


def test_the_sky_fills_its_square_across_the_wrap(sky: Sky) -> None:
    for table in (sky.stars, sky.galaxies):
        assert table.ra.min() < 1.0
        assert table.ra.max() > 359.0
        plane = np.abs(sky_to_plane(sky.ra, sky.dec, table.ra, table.dec))
        assert 0.14 < plane.max() <= 0.15 + 1e-9


def test_few_stars_are_bright_and_few_vary(sky: Sky) -> None:
    magnitude = sky.stars.magnitude
    assert (magnitude < 16).mean() < 0.06
    assert (magnitude > 21).mean() > 0.5
    variable = sky.stars.amplitude > 0
    assert variable.sum() == 27
    assert magnitude[variable].max() < 20.0
    np.testing.assert_array_equal(sky.stars.flux("r")[~variable], sky.stars.flux_in_visit("r", 5)[~variable])
    changes = np.array(
        [sky.stars.flux_in_visit("r", n)[variable] / sky.stars.flux("r")[variable] for n in range(30)]
    )
    assert abs(changes.mean() - 1.0) < 0.03
    assert changes.std(axis=0).min() > 0.04


def test_ab_magnitudes() -> None:
    np.testing.assert_allclose(ab_to_njy([31.4, 21.4, 8.9]), [1.0, 1e4, 1e9])


def test_a_grid_is_the_wcs_that_it_was_made_of() -> None:
    tract = Tract(id=0, ra=0.05, dec=-40.0, nx=2, ny=2, patch_size=300, overlap=10, pixel_scale=0.4)
    header = tract.patch_wcs_header(1)
    ra, dec = np.array([0.0, 359.95]), np.array([-40.02, -39.98])
    np.testing.assert_allclose(
        Grid.from_header(header).to_pixel(ra, dec),
        WCS(fits.Header(header)).all_world2pix(ra, dec, 0),
        atol=1e-6,
    )


def test_stars_are_drawn_where_they_are(sky: Sky) -> None:
    tract = Tract(id=0, ra=sky.ra, dec=sky.dec, nx=1, ny=1, patch_size=300, overlap=0, pixel_scale=0.4)
    grid = Grid.from_header(tract.patch_wcs_header(0))
    image = np.zeros((300, 300), np.float32)
    flux = np.where(sky.stars.magnitude < 20.5, sky.stars.flux("r"), 0.0)
    draw_sky(
        image,
        sky,
        grid,
        star_flux=flux,
        galaxy_flux=np.zeros(len(sky.galaxies.ra)),
        psf_shape=PsfModel(fwhm=2.5).shape_at,
        floor=1.0,
    )
    x, y = grid.to_pixel(sky.stars.ra, sky.stars.dec)
    inside = (flux > 0) & (x > 12) & (x < 288) & (y > 12) & (y < 288)
    assert inside.sum() >= 3
    for column, row, expected in zip(np.rint(x[inside]), np.rint(y[inside]), flux[inside], strict=True):
        box = image[int(row) - 8 : int(row) + 9, int(column) - 8 : int(column) + 9]
        assert box.sum() > 0.95 * expected


class TestTransients:
    """Placing of transients."""

    def place(self, sky: Sky, number: int, seed: int = 1, **kwargs: object) -> Transients:
        options: dict[str, object] = {
            "draw_position": lambda rng: (
                (0.05 + rng.uniform(-0.08, 0.08)) % 360,
                -40 + rng.uniform(-0.08, 0.08),
            ),
            "is_allowed": lambda *_: True,
            "flux_error": 100.0,
            "others": merge_transients([]),
            **kwargs,
        }
        return place_transients(np.random.default_rng(seed), sky, number=number, **options)  # type: ignore[arg-type]

    def test_enough_are_bright_enough(self, sky: Sky) -> None:
        placed = self.place(sky, 150)
        assert len(placed) == 150
        snr = placed.flux / 100.0
        assert snr.min() >= 8.0
        assert snr.max() <= 100.0
        assert (snr >= 10).mean() > 0.8
        assert 0.4 < placed.hosted.mean() < 0.8

    def test_they_keep_away_from_each_other_and_from_variables(self, sky: Sky) -> None:
        placed = self.place(sky, 60)
        more = self.place(sky, 60, seed=2, others=placed)
        variable = sky.stars.amplitude > 0
        ra = np.concatenate([placed.ra, more.ra, sky.stars.ra[variable]])
        dec = np.concatenate([placed.dec, more.dec, sky.stars.dec[variable]])
        x, y = (3600 * c for c in sky_to_plane(sky.ra, sky.dec, ra, dec))
        distance = np.hypot(x[:120, None] - x, y[:120, None] - y)
        distance[np.arange(120), np.arange(120)] = np.inf
        assert distance.min() > 7.99

    def test_no_room_no_transient(self, sky: Sky) -> None:
        assert len(self.place(sky, 5, is_allowed=lambda *_: False)) == 0

    def test_none_wanted(self, sky: Sky) -> None:
        assert len(self.place(sky, 0)) == 0
        assert len(merge_transients([]).flux_in_visit(3)) == 0
