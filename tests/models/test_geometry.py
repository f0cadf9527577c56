"""Where pixels fall on the sky: round trips, and agreement with astropy."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from config.instruments import InstrumentConfig, find_instrument_file, load_instrument
from models.geometry import (
    angular_separation,
    detector_center,
    detector_corners,
    focal_plane_to_pixel,
    focal_plane_to_sky,
    pixel_to_focal_plane,
    pixel_to_sky,
    plane_to_sky,
    sky_to_focal_plane,
    sky_to_pixel,
    sky_to_plane,
    wcs_header,
)

CAMERA = load_instrument(find_instrument_file("DemoCam"))
FLIPPED = CAMERA.model_copy(update={"flip_x": True})

ras = st.floats(0.0, 360.0, exclude_max=True)
# The poles themselves belong to it.
decs = st.floats(-90.0, 90.0)
angles = st.floats(-360.0, 360.0)
field_angles = st.floats(-2.0, 2.0)
cameras = st.sampled_from([CAMERA, FLIPPED])
detectors = st.sampled_from(list(CAMERA.detectors))
pixels = st.floats(-200.0, 1300.0)


@given(ra=ras, dec=decs, xi=field_angles, eta=field_angles)
def test_the_tangent_plane_and_back(ra: float, dec: float, xi: float, eta: float) -> None:
    target_ra, target_dec = plane_to_sky(ra, dec, xi, eta)
    assert 0.0 <= target_ra < 360.0
    back = sky_to_plane(ra, dec, target_ra, target_dec)
    np.testing.assert_allclose(back, (xi, eta), atol=1e-11)


@given(ra=ras, dec=decs, angle=angles, x=field_angles, y=field_angles, flip=st.booleans())
def test_the_focal_plane_and_back(
    ra: float, dec: float, angle: float, x: float, y: float, flip: bool
) -> None:
    sky = focal_plane_to_sky(ra, dec, angle, x, y, flip_x=flip)
    np.testing.assert_allclose(sky_to_focal_plane(ra, dec, angle, *sky, flip_x=flip), (x, y), atol=1e-11)


@given(camera=cameras, detector=detectors, ra=ras, dec=decs, angle=angles, x=pixels, y=pixels)
def test_pixels_and_back(
    camera: InstrumentConfig, detector: object, ra: float, dec: float, angle: float, x: float, y: float
) -> None:
    sky = pixel_to_sky(camera, detector, ra, dec, angle, x, y)
    np.testing.assert_allclose(sky_to_pixel(camera, detector, ra, dec, angle, *sky), (x, y), atol=1e-6)
    focal = pixel_to_focal_plane(camera, detector, x, y)
    np.testing.assert_allclose(focal_plane_to_pixel(camera, detector, *focal), (x, y), atol=1e-9)


@given(camera=cameras, detector=detectors, ra=ras, dec=decs, angle=angles)
def test_the_predicted_wcs_says_the_same(
    camera: InstrumentConfig, detector: object, ra: float, dec: float, angle: float
) -> None:
    x, y = np.array([0.0, 1023.0, 300.0]), np.array([0.0, 40.0, 1023.0])
    wcs = WCS(fits.Header(wcs_header(camera, detector, ra, dec, angle)))
    theirs = wcs.all_pix2world(x, y, 0)
    ours = pixel_to_sky(camera, detector, ra, dec, angle, x, y)
    assert angular_separation(*theirs, *ours).max() * 3600 < 1e-6


def test_up_is_north_and_right_is_west_at_angle_zero() -> None:
    assert focal_plane_to_sky(10.0, 0.0, 0.0, 0.0, 1.0) == pytest.approx((10.0, 1.0), abs=1e-3)
    assert focal_plane_to_sky(10.0, 0.0, 0.0, 1.0, 0.0) == pytest.approx((9.0, 0.0), abs=1e-3)
    assert focal_plane_to_sky(10.0, 0.0, 0.0, 1.0, 0.0, flip_x=True) == pytest.approx((11.0, 0.0), abs=1e-3)


@pytest.mark.parametrize("flip", [False, True])
def test_the_angle_turns_up_from_north_to_east(flip: bool) -> None:
    ra, dec = focal_plane_to_sky(10.0, 0.0, 90.0, 0.0, 1.0, flip_x=flip)
    assert (ra, dec) == pytest.approx((11.0, 0.0), abs=1e-3)


def test_right_ascension_wraps() -> None:
    ra, _ = focal_plane_to_sky(0.1, 0.0, 0.0, 0.5, 0.0)
    assert ra == pytest.approx(359.6, abs=1e-4)
    assert sky_to_focal_plane(359.9, 0.0, 0.0, 0.1, 0.0)[0] == pytest.approx(-0.2, abs=1e-6)


def test_the_far_side_of_the_sky_has_no_place() -> None:
    assert np.isnan(sky_to_focal_plane(10.0, 20.0, 0.0, 190.0, -20.0)).all()
    assert np.isnan(sky_to_plane(0.0, 0.0, 90.0, 0.0)).all()


def test_a_detector_is_mounted_as_the_camera_file_says() -> None:
    turned = CAMERA.by_id[1]
    assert turned.rotation == 90.0
    x, y = pixel_to_focal_plane(CAMERA, turned, [511.5, 512.5], [511.5, 511.5])
    # mm times arcsec per mm; one pixel along x moves up the focal plane.
    assert (x[0] * 3600, y[0] * 3600) == pytest.approx((5.4 * 40, -5.4 * 40))
    assert ((x[1] - x[0]) * 3600, (y[1] - y[0]) * 3600) == pytest.approx((0.0, 0.4), abs=1e-9)


@given(detector=detectors, ra=ras, dec=st.floats(-89.0, 89.0), angle=angles, padding=st.floats(0.0, 100.0))
def test_corners_lie_around_the_centre(
    detector: object, ra: float, dec: float, angle: float, padding: float
) -> None:
    corners = detector_corners(CAMERA, detector, ra, dec, angle, padding)
    x, y = sky_to_pixel(CAMERA, detector, ra, dec, angle, *np.array(corners).T)
    margin = 0.5 + padding / 0.4
    np.testing.assert_allclose(x, [-margin, 1023 + margin, 1023 + margin, -margin], atol=1e-6)
    np.testing.assert_allclose(y, [-margin, -margin, 1023 + margin, 1023 + margin], atol=1e-6)
    center = detector_center(CAMERA, detector, ra, dec, angle)
    assert sky_to_pixel(CAMERA, detector, ra, dec, angle, *center) == pytest.approx((511.5, 511.5))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 0), (1, 0), 1.0),
        ((359.5, 0), (0.5, 0), 1.0),
        ((0, 90), (123, 89), 1.0),
        ((0, 0), (180, 0), 180.0),
    ],
)
def test_separation(first: tuple[float, float], second: tuple[float, float], expected: float) -> None:
    assert angular_separation(*first, *second) == pytest.approx(expected)
