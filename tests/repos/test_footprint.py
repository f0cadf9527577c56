"""Footprints of detectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from models.errors import UnusableVisit
from models.geometry import detector_center, pixel_to_sky
from repos.footprint import CameraGeometry
from tests.repos.raw_files import SIZE, make_camera

CAMERA = make_camera()
GEOMETRY = CameraGeometry(CAMERA)


def contains(region: ConvexPolygon, ra: float, dec: float) -> bool:
    return bool(region.contains(UnitVector3d(LonLat.fromDegrees(ra, dec))))


pointings = {
    "ra": st.floats(0, 359.99),
    "dec": st.floats(-90, 90),
    "angle": st.floats(-180, 180),
    "detector": st.sampled_from([0, 1, 2, 3]),
}


@given(**pointings, x=st.floats(0, 1), y=st.floats(0, 1))
def test_every_pixel_is_inside(
    ra: float, dec: float, angle: float, detector: int, x: float, y: float
) -> None:
    sky = pixel_to_sky(CAMERA, CAMERA.by_id[detector], ra, dec, angle, x * (SIZE[0] - 1), y * (SIZE[1] - 1))
    point = float(sky[0]), float(sky[1])
    assert contains(GEOMETRY.detector_region(detector, ra, dec, angle, 0.0), *point)
    assert contains(GEOMETRY.visit_region(ra, dec, angle, 0.0), *point)


@given(**pointings)
def test_detectors_do_not_overlap_and_padding_grows(
    ra: float, dec: float, angle: float, detector: int
) -> None:
    region = GEOMETRY.detector_region(detector, ra, dec, angle, 0.0)
    padded = GEOMETRY.detector_region(detector, ra, dec, angle, 2.0)
    assert padded.contains(region)
    other = CAMERA.by_id[(detector + 1) % 4]
    assert not contains(region, *detector_center(CAMERA, other, ra, dec, angle))
    # A square of 64 x 48 pixels of 0.4 arcsec, 2 arcsec added on every side.
    limit = 2.001 * (0.5 * (64**2 + 48**2) ** 0.5 * 0.4 + 2.0 * 2**0.5) / 3600
    assert padded.getBoundingCircle().getOpeningAngle().asDegrees() * 2 < limit


@given(ra=st.floats(0, 359.99), dec=st.floats(-90, 90), angle=st.floats(-180, 180))
def test_visit_is_the_hull_of_its_detectors(ra: float, dec: float, angle: float) -> None:
    # The middle of the camera lies in the gap between all detectors.
    assert contains(GEOMETRY.visit_region(ra, dec, angle, 5.0), ra, dec)
    regions = [GEOMETRY.detector_region(d, ra, dec, angle, 5.0) for d in GEOMETRY.detectors]
    assert not any(contains(region, ra, dec) for region in regions)
    visit = GEOMETRY.visit_region(ra, dec, angle, 5.0)
    assert all(visit.contains(region) for region in regions)
    hull = ConvexPolygon.convexHull([vertex for region in regions for vertex in region.getVertices()])
    size = hull.getBoundingCircle().getOpeningAngle().asDegrees()
    assert visit.getBoundingCircle().getOpeningAngle().asDegrees() == pytest.approx(size, abs=1e-6)


def test_unknown_detector() -> None:
    with pytest.raises(UnusableVisit, match="TestCam has no detector 9"):
        GEOMETRY.detector_region(9, 0.0, 0.0, 0.0, 0.0)
