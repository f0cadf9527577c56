"""Tracts, patches, and which of them a footprint touches."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.geometry import angular_separation, plane_to_sky, sky_to_plane
from models.sky_map import SkyMap, Tract


def make_tract(ra: float = 0.1, dec: float = -30.0, tract_id: int = 3) -> Tract:
    return Tract(id=tract_id, ra=ra, dec=dec, nx=3, ny=2, patch_size=500, overlap=20, pixel_scale=0.4)


@pytest.mark.parametrize(("ra", "dec"), [(0.1, -30.0), (200.0, 89.9), (359.9, -90.0)])
def test_corners_are_those_of_the_wcs(ra: float, dec: float) -> None:
    tract = make_tract(ra, dec)
    ny, nx = tract.patch_shape
    assert (ny, nx) == (540, 540)
    for patch in tract.patches:
        wcs = WCS(fits.Header(tract.patch_wcs_header(patch)))
        theirs = wcs.all_pix2world([-0.5, nx - 0.5, nx - 0.5, -0.5], [-0.5, -0.5, ny - 0.5, ny - 0.5], 0)
        ours = np.array(tract.patch_corners(patch)).T
        assert angular_separation(*theirs, *ours).max() * 3600 < 1e-6


def test_neighbours_share_the_pixels_of_their_borders() -> None:
    tract = make_tract()
    left, right, above = (WCS(fits.Header(tract.patch_wcs_header(n))) for n in (0, 1, 3))
    assert right.all_world2pix(*left.all_pix2world(510.0, 77.0, 0), 0) == pytest.approx((10.0, 77.0))
    assert above.all_world2pix(*left.all_pix2world(33.0, 510.0, 0), 0) == pytest.approx((33.0, 10.0))


def test_patches_are_numbered_row_by_row() -> None:
    tract = make_tract()
    assert [tract.patch_index(n) for n in tract.patches] == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]
    with pytest.raises(IndexError, match="patches 0 to 5, not 6"):
        tract.patch_index(6)


def test_the_tract_holds_its_patches() -> None:
    tract = make_tract(ra=0.0)
    outer = np.array(sky_to_plane(tract.ra, tract.dec, *np.array(tract.tract_corners()).T))
    patches = np.array([c for n in tract.patches for c in tract.patch_corners(n)])
    inner = np.array(sky_to_plane(tract.ra, tract.dec, *patches.T))
    np.testing.assert_allclose(outer.max(axis=1), inner.max(axis=1))
    np.testing.assert_allclose(outer.min(axis=1), inner.min(axis=1))


@given(
    xi=st.floats(-0.2, 0.2),
    eta=st.floats(-0.2, 0.2),
    half=st.floats(0.001, 0.1),
    turn=st.floats(0.0, 2 * np.pi),
)
def test_a_patch_is_found_when_points_of_the_footprint_lie_in_it(
    xi: float, eta: float, half: float, turn: float
) -> None:
    tract = make_tract()
    steps = np.linspace(-half, half, 15)
    u, v = (a.ravel() for a in np.meshgrid(steps, steps))
    cos, sin = np.cos(turn), np.sin(turn)
    ra, dec = plane_to_sky(tract.ra, tract.dec, xi + u * cos - v * sin, eta + u * sin + v * cos)
    corner = [0, 14, 224, 210]
    found = set(tract.patches_overlapping(list(zip(ra[corner], dec[corner], strict=True))))
    for patch in tract.patches:
        x, y = WCS(fits.Header(tract.patch_wcs_header(patch))).all_world2pix(ra, dec, 0)
        if ((x > -0.4) & (x < 539.4) & (y > -0.4) & (y < 539.4)).any():
            assert patch in found


def test_a_footprint_between_the_corners_of_a_box_is_not_found() -> None:
    # Diagonal, beyond the corner of patch 5: only an edge of the footprint
    # separates the two.
    tract = make_tract()
    x, y = 770 * 0.4 / 3600, 520 * 0.4 / 3600
    ra, dec = plane_to_sky(
        tract.ra,
        tract.dec,
        [-x - 0.06, -x + 0.05, -x + 0.06, -x - 0.05],
        [y - 0.05, y + 0.06, y + 0.07, y - 0.04],
    )
    assert tract.patches_overlapping(list(zip(ra, dec, strict=True))) == []


def test_the_far_side_of_the_sky_touches_nothing() -> None:
    assert make_tract().patches_overlapping([(180, 30), (181, 30), (181, 31)]) == []


def test_a_sky_map_finds_patches_of_all_its_tracts_and_survives_json() -> None:
    sky_map = SkyMap(name="test", tracts=(make_tract(), make_tract(ra=0.25, tract_id=4)))
    corners = sky_map.tract(3).patch_corners(3)
    assert {tract for tract, _ in sky_map.patches_overlapping(corners)} == {3, 4}
    assert SkyMap.model_validate_json(sky_map.model_dump_json()) == sky_map
    with pytest.raises(KeyError, match="no tract 9"):
        sky_map.tract(9)


def test_tracts_must_differ() -> None:
    with pytest.raises(ValidationError, match="ids must differ"):
        SkyMap(name="test", tracts=(make_tract(), make_tract()))
