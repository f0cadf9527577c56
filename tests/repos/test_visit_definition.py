"""Dimension records of exposures and visits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lsst.daf.butler
import pytest
from lsst.daf.butler import DimensionConfig, DimensionRecord, DimensionUniverse

from repos.footprint import CameraGeometry
from repos.observation import ObservationReader
from repos.visit_definition import dimension_records
from tests.repos.raw_files import EXPOSURE, GROUP, make_camera, write_raw

_OLD = Path(lsst.daf.butler.__file__).parent / "configs" / "old_dimensions"

EXPOSURE_ELEMENTS = ["day_obs", "group", "exposure"]
VISIT_ELEMENTS = [
    "visit_system",
    "visit",
    "visit_definition",
    "visit_system_membership",
    "visit_detector_region",
]


@pytest.fixture(scope="module", params=[7, 8])
def universe(request: pytest.FixtureRequest) -> DimensionUniverse:
    return DimensionUniverse(DimensionConfig(str(_OLD / f"daf_butler_universe{request.param}.yaml")))


def records(root: Path, universe: DimensionUniverse, **cards: Any) -> dict[str, list[DimensionRecord]]:
    camera = make_camera()
    reader = ObservationReader(camera)
    found = write_raw(root, **cards)
    info = reader.observation_info(
        reader.read_header(found.location), found.raw, group=GROUP, detector=2, file_name="raw.fits"
    )
    return dimension_records(info, universe, CameraGeometry(camera), detector=2, padding=5.0)


def test_exposure_and_visit(universe: DimensionUniverse, tmp_path: Path) -> None:
    made = records(tmp_path, universe)
    assert sorted(made) == sorted(EXPOSURE_ELEMENTS + VISIT_ELEMENTS)
    # In an order in which they can be inserted.
    assert list(made) == [element.name for element in universe.sorted(made)]
    assert all(len(group) == 1 for group in made.values())
    exposure, visit = made["exposure"][0], made["visit"][0]
    assert (exposure.id, exposure.group, exposure.day_obs) == (EXPOSURE, GROUP, 20251231)
    assert (exposure.tracking_ra, exposure.tracking_dec) == pytest.approx((30.0, -40.0))
    assert exposure.sky_angle == pytest.approx(15.0)
    assert exposure.zenith_angle == pytest.approx(60.0)
    assert (exposure.can_see_sky, exposure.has_simulated) == (True, False)
    assert (exposure.seq_num, exposure.exposure_time, exposure.dark_time) == (7, 30.0, 30.0)
    assert (visit.id, visit.name, visit.physical_filter) == (EXPOSURE, "TC_20260101_000007", "r_01")
    assert visit.timespan == exposure.timespan
    assert visit.timespan.begin.tai.isot.startswith("2026-01-01T05:00:00.000")
    definition = made["visit_definition"][0]
    assert (definition.exposure, definition.visit) == (EXPOSURE, EXPOSURE)
    region = made["visit_detector_region"][0]
    assert (region.detector, region.visit) == (2, EXPOSURE)
    assert visit.region.contains(region.region)


def test_survive_the_message(universe: DimensionUniverse, tmp_path: Path) -> None:
    for group in records(tmp_path, universe).values():
        for record in group:
            again = DimensionRecord.from_simple(record.to_simple(), universe=universe)
            assert again == record


@pytest.mark.parametrize("lacking", ["RA", "DEC", "ROTANGLE"])
def test_without_pointing_there_is_no_visit(tmp_path: Path, lacking: str) -> None:
    made = records(tmp_path, DimensionUniverse(), **{lacking: None}, IMGTYPE="dark")
    assert list(made) == EXPOSURE_ELEMENTS
    assert made["exposure"][0].observation_type == "dark"


def test_descriptions_are_cut_to_what_the_repo_takes(tmp_path: Path) -> None:
    made = records(tmp_path, DimensionUniverse(), IMGTYPE="a very long type of observation", OBJECT=None)
    assert made["exposure"][0].observation_type == "a very long type"
