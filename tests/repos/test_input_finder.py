"""Where each kind of input is looked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lsst.daf.butler import Butler, DatasetType
from lsst.sphgeom import Region
from sketch.model import polygon

from models.inputs import InputKind, InputNeed
from repos.central import CentralRepo
from repos.index import CentralIndex
from repos.input_finder import InputFinder
from tests.repos.sketch_repo import DEC, INSTRUMENT, RA, SENT, SKYMAP

DATA_ID = {"instrument": INSTRUMENT, "detector": 1, "physical_filter": "g_6", "band": "g"}


@pytest.fixture
def central(central_root: Path) -> Iterator[CentralRepo]:
    made = CentralRepo(uri=str(central_root))
    yield made
    made.close()


@pytest.fixture
def finder(central: CentralRepo) -> InputFinder:
    index = CentralIndex(central.read_butler, max_age=60.0)
    return InputFinder(central=central, index=index, instrument=INSTRUMENT, skymap=SKYMAP)


@pytest.fixture
def region() -> Region:
    return polygon(RA, DEC, 0.0, [(-0.1, -0.1), (0.1, -0.1), (0.1, 0.1), (-0.1, 0.1)])


def need(name: str, kind: InputKind) -> InputNeed:
    return InputNeed(name, kind, required=True, prerequisite=False, constrains=False)


@pytest.mark.parametrize(
    ("name", "kind", "run"),
    [
        ("bias", InputKind.CALIBRATION, f"{INSTRUMENT}/calib/run"),
        ("flat", InputKind.CALIBRATION, f"{INSTRUMENT}/calib/run"),
        ("refcat", InputKind.REFCAT, "refcats/r1"),
        ("template_coadd", InputKind.TEMPLATE, f"{INSTRUMENT}/templates/t1"),
        ("skyMap", InputKind.SKYMAP, "skymaps"),
        ("weights", InputKind.OTHER, f"{INSTRUMENT}/other"),
        ("global_settings", InputKind.OTHER, f"{INSTRUMENT}/other"),
    ],
)
def test_each_kind(finder: InputFinder, region: Region, name: str, kind: InputKind, run: str) -> None:
    found = finder.find(need(name, kind), DATA_ID, valid_at=SENT, region=region)
    assert found
    assert {f.ref.run for f in found} == {run}
    assert all(f.ref.dataId.hasRecords() for f in found)
    assert all((f.calibration is not None) == (kind is InputKind.CALIBRATION) for f in found)


@pytest.mark.parametrize("kind", [InputKind.REFCAT, InputKind.TEMPLATE])
def test_no_footprint_nothing_on_the_sky(finder: InputFinder, kind: InputKind) -> None:
    name = "refcat" if kind is InputKind.REFCAT else "template_coadd"
    assert finder.find(need(name, kind), DATA_ID, valid_at=SENT, region=None) == []


def test_templates_are_those_of_the_band_and_sky_map(finder: InputFinder, region: Region) -> None:
    templates = need("template_coadd", InputKind.TEMPLATE)
    assert finder.find(templates, {**DATA_ID, "band": "z"}, valid_at=SENT, region=region) == []


def test_other_sky_map(central: CentralRepo, region: Region) -> None:
    index = CentralIndex(central.read_butler, max_age=60.0)
    finder = InputFinder(central=central, index=index, instrument=INSTRUMENT, skymap="other")
    for name, kind in (("template_coadd", InputKind.TEMPLATE), ("skyMap", InputKind.SKYMAP)):
        assert finder.find(need(name, kind), DATA_ID, valid_at=SENT, region=region) == []


@pytest.mark.parametrize("kind", [InputKind.VISIT, InputKind.GROUP])
def test_what_is_made_for_the_visit_is_not_looked_for(finder: InputFinder, kind: InputKind) -> None:
    with pytest.raises(ValueError, match="raw is made for the visit"):
        finder.find(need("raw", kind), DATA_ID, valid_at=SENT, region=None)


def test_a_type_that_is_registered_later(finder: InputFinder, central_root: Path) -> None:
    later = need("later", InputKind.OTHER)
    assert finder.find(later, DATA_ID, valid_at=SENT, region=None) == []
    with Butler.from_config(str(central_root), writeable=True) as other:
        other.registry.registerDatasetType(
            DatasetType("later", ("instrument",), "StructuredDataDict", universe=other.dimensions)
        )
        other.put({}, "later", instrument=INSTRUMENT, run=f"{INSTRUMENT}/other")
    assert len(finder.find(later, DATA_ID, valid_at=SENT, region=None)) == 1
