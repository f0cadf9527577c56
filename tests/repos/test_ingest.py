"""Raw files as datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lsst.daf.butler import (
    Butler,
    DatasetIdGenEnum,
    DatasetRef,
    DatasetType,
    DimensionRecord,
)

from config.instruments import InstrumentConfig
from models.errors import UnreadableImage
from models.raws import FoundImage
from repos.footprint import CameraGeometry
from repos.image_store import DirectoryImageStore
from repos.ingest import RawIngester
from repos.instrument import register_instrument
from repos.observation import ObservationReader
from tests.repos.raw_files import EXPOSURE, GROUP, make_camera, make_visit, write_raw

RUN = "TestCam/raw/all"


@pytest.fixture(scope="module")
def butler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Butler]:
    root = str(tmp_path_factory.mktemp("repo"))
    Butler.makeRepo(root)
    with Butler.from_config(root, writeable=True) as made:
        register_instrument(made.registry, make_camera())
        made.collections.register(RUN)
        dimensions = ("instrument", "exposure", "detector")
        made.registry.registerDatasetType(
            DatasetType("raw", dimensions, "StructuredDataDict", universe=made.dimensions)
        )
        yield made


@pytest.fixture
def ingester(butler: Butler, tmp_path: Path) -> RawIngester:
    camera: InstrumentConfig = make_camera()

    def records(instrument: str, detector: int) -> dict[str, list[DimensionRecord]]:
        query = butler.query_dimension_records
        return {
            "instrument": query("instrument", instrument=instrument),
            "detector": query("detector", instrument=instrument, detector=detector),
            "physical_filter": query("physical_filter", instrument=instrument),
        }

    return RawIngester(
        universe=butler.dimensions,
        dataset_type=butler.get_dataset_type("raw"),
        run=RUN,
        records=records,
        fetch=DirectoryImageStore(tmp_path).fetch,
        reader=ObservationReader(camera),
        geometry=CameraGeometry(camera),
    )


def test_same_as_a_full_ingest(butler: Butler, ingester: RawIngester, tmp_path: Path) -> None:
    found = write_raw(tmp_path)
    raw = ingester.ingest(found, make_visit())
    ingested = raw.ingested
    assert raw.exposure == EXPOSURE
    assert raw.sky_angle == pytest.approx(15.0)
    assert (ingested.exposure, ingested.visit, ingested.day_obs) == (EXPOSURE, EXPOSURE, 20251231)
    assert (ingested.physical_filter, ingested.band) == ("r_01", "r")
    assert ingested.path == found.location

    # The registry takes the records in this order, and with them makes the
    # same of the data id.
    for element, group in ingested.records.items():
        butler.registry.insertDimensionData(element, *group)
    expanded = butler.registry.expandDataId(instrument="TestCam", exposure=EXPOSURE, detector=2)
    expected = DatasetRef(
        butler.get_dataset_type("raw"),
        expanded,
        run=RUN,
        id_generation_mode=DatasetIdGenEnum.DATAID_TYPE_RUN,
    )
    assert ingested.ref == expected
    assert ingested.ref.id == expected.id
    assert ingested.ref.dataId.hasRecords()
    for element in expanded.dimensions.elements:
        assert ingested.ref.dataId.records[element] == expanded.records[element]
    [visit] = butler.query_dimension_records("visit", instrument="TestCam", visit=EXPOSURE)
    assert visit == ingested.records["visit"][0]


def test_frame_without_pointing(ingester: RawIngester, tmp_path: Path) -> None:
    raw = ingester.ingest(write_raw(tmp_path, RA=None, DEC=None, ROTANGLE=None), make_visit())
    assert raw.ingested.visit is None
    assert raw.sky_angle is None


def test_group_is_that_of_the_visit(ingester: RawIngester, tmp_path: Path) -> None:
    raw = ingester.ingest(write_raw(tmp_path), make_visit())
    assert raw.ingested.records["group"][0].name == GROUP


def test_unknown_filter(ingester: RawIngester, tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match=r"filter 'z_99'.* does not know; it knows g_01, r_01"):
        ingester.ingest(write_raw(tmp_path, FILTER="z_99"), make_visit())


def test_gone_in_the_meantime(ingester: RawIngester, tmp_path: Path) -> None:
    found: FoundImage = write_raw(tmp_path)
    Path(found.location).unlink()
    with pytest.raises(UnreadableImage, match="No such file"):
        ingester.ingest(found, make_visit())
