"""A central repo that the project did not make, with classes that cannot be
imported here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from lsst.daf.butler import (
    Butler,
    CollectionType,
    Config,
    DataCoordinate,
    DatasetRef,
    DatasetType,
    DimensionConfig,
    FileDataset,
    Timespan,
)
from sketch.formatters import ImageFormatter

from models.inputs import InputKind, InputNeed
from repos.central import CentralRepo, check_central_repo
from repos.data_ids import VisitDataIds
from repos.dataset_cache import DatasetCache
from repos.full_repo import FullRepo, local_config
from repos.index import CentralIndex
from repos.input_finder import InputFinder
from repos.memory_repo import MemoryRepo
from repos.workspace import FoundInput, VisitContext

NEED = InputNeed("alien", InputKind.CALIBRATION, required=True, prerequisite=True, constrains=False)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CentralRepo]:
    root = tmp_path_factory.mktemp("foreign") / "central"
    json_formatter = "lsst.daf.butler.formatters.json.JsonFormatter"
    config = Config(
        {
            "storageClasses": {"HomeAlien": {"pytype": "json.JSONDecoder"}},
            "datastore": {"formatters": {"HomeAlien": json_formatter}},
        }
    )
    universe = DimensionConfig("resource://lsst.daf.butler/configs/old_dimensions/daf_butler_universe7.yaml")
    Butler.makeRepo(str(root), config=config, dimensionConfig=universe)
    with Butler.from_config(str(root), writeable=True) as butler:
        registry = butler.registry
        registry.syncDimensionData(
            "instrument",
            {
                "name": "ForeignCam",
                "class_name": "nowhere.ForeignCam",
                "detector_max": 9,
                "visit_max": 10**12,
                "exposure_max": 10**12,
            },
        )
        registry.syncDimensionData(
            "detector", {"instrument": "ForeignCam", "id": 1, "full_name": "D1", "purpose": "SCIENCE"}
        )
        alien = DatasetType(
            "alien", ("instrument", "detector"), "HomeAlien", universe=butler.dimensions, isCalibration=True
        )
        registry.registerDatasetType(alien)
        butler.collections.register("run")
        butler.collections.register("ForeignCam/calib", CollectionType.CALIBRATION)
        data_id = DataCoordinate.standardize(instrument="ForeignCam", detector=1, universe=butler.dimensions)
        ref = DatasetRef(alien, data_id, run="run")
        source = root.parent / "alien.json"
        source.write_text("{}")
        butler.ingest(FileDataset(str(source), [ref], formatter=json_formatter), transfer="copy")
        registry.certify("ForeignCam/calib", [ref], Timespan(None, None))
    text = (root / "butler.yaml").read_text()
    text = text.replace("json.JSONDecoder", "nowhere.Alien").replace("HomeAlien", "Alien")
    text = text.replace(f"Alien: {json_formatter}", "Alien: nowhere.AlienFormatter")
    (root / "butler.yaml").write_text(text)
    with sqlite3.connect(root / "gen3.sqlite3") as database:
        database.execute(
            "UPDATE file_datastore_records SET formatter = 'nowhere.AlienFormatter', storage_class = 'Alien'"
        )
        database.execute("UPDATE dataset_type SET storage_class = 'Alien' WHERE name = 'alien'")
    database.close()
    made = CentralRepo(uri=str(root))
    yield made
    made.close()


@pytest.fixture
def found(foreign: CentralRepo) -> list[FoundInput]:
    finder = InputFinder(
        central=foreign,
        index=CentralIndex(foreign.read_butler, max_age=60.0),
        instrument="ForeignCam",
        skymap="sky",
    )
    return finder.find(NEED, {"instrument": "ForeignCam", "detector": 1}, valid_at=1.7e9, region=None)


def context_of(central: CentralRepo) -> VisitContext:
    known = central.instrument_records("ForeignCam", 1)
    group = central.universe["group"].RecordClass(instrument="ForeignCam", name="g")
    values = {"instrument": "ForeignCam", "detector": 1, "group": "g"}
    data_ids = VisitDataIds(central.universe, values, [*known["instrument"], *known["detector"], group])
    return VisitContext("ForeignCam", 1, "g", data_ids, [group], "preload")


def test_selection(foreign: CentralRepo, found: list[FoundInput]) -> None:
    assert foreign.universe.version == 7
    assert check_central_repo(str(foreign.read_butler._config.configDir), "ForeignCam") == []
    (one,) = found
    assert one.ref.datasetType.name == "alien"
    assert one.calibration is not None and one.calibration[0] == "ForeignCam/calib"


def test_transfer_by_files(foreign: CentralRepo, found: list[FoundInput], tmp_path: Path) -> None:
    repo = FullRepo(
        central=foreign,
        directory=tmp_path,
        config=local_config(str(foreign.read_butler._config.configDir)),
        cache=DatasetCache(),
        raw_formatter=ImageFormatter,
    )
    workspace = repo.open(context_of(foreign))
    workspace.fetch(found)
    assert workspace.has("alien")
    assert repo.butler.getURI(found[0].ref).read() == b"{}"
    assert repo.butler.dimensions.version == 7
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        workspace.read(found[0].ref)
    workspace.close()
    repo.close()


def test_preload_into_memory_leaves_the_failure_to_the_tasks(
    foreign: CentralRepo, found: list[FoundInput]
) -> None:
    repo = MemoryRepo(central=foreign, cache=DatasetCache(), raw_formatter=ImageFormatter)
    workspace = repo.open(context_of(foreign))
    workspace.fetch(found)
    assert workspace.has("alien")
    workspace.close()
