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
from lsst.sphgeom import ConvexPolygon, HtmPixelization, LonLat, UnitVector3d
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

JSON_FORMATTER = "lsst.daf.butler.formatters.json.JsonFormatter"
#: Dataset types, where they lie and how they are needed.
TYPES = {
    "alien": (("instrument", "detector"), InputKind.CALIBRATION),
    "alien_refcat": (("htm7",), InputKind.REFCAT),
    "alien_template": (("skymap", "tract", "patch"), InputKind.TEMPLATE),
    "alien_skymap": (("skymap",), InputKind.SKYMAP),
    "alien_other": (("instrument",), InputKind.OTHER),
}
RA, DEC = 10.0, 5.0


def need(name: str) -> InputNeed:
    return InputNeed(name, TYPES[name][1], required=True, prerequisite=True, constrains=False)


def around(radius: float) -> ConvexPolygon:
    """Return a square around the field, its half side in degrees."""
    corners = [(RA + x * radius, DEC + y * radius) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return ConvexPolygon([UnitVector3d(LonLat.fromDegrees(*corner)) for corner in corners])


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CentralRepo]:
    root = tmp_path_factory.mktemp("foreign") / "central"
    config = Config(
        {
            "storageClasses": {
                "HomePart": {"pytype": "json.JSONDecoder"},
                "HomeAlien": {
                    "pytype": "json.JSONDecoder",
                    "components": {"part": "HomePart", "other": "HomePart"},
                },
            },
            "datastore": {"formatters": {"HomeAlien": JSON_FORMATTER}},
        }
    )
    universe = DimensionConfig("resource://lsst.daf.butler/configs/old_dimensions/daf_butler_universe7.yaml")
    Butler.makeRepo(str(root), config=config, dimensionConfig=universe)
    with Butler.from_config(str(root), writeable=True) as butler:
        fill(butler, root.parent / "alien.json")
    # From here on nothing of it can be imported.
    text = (root / "butler.yaml").read_text()
    text = text.replace("pytype: json.JSONDecoder", "pytype: nowhere.Alien\n    delegate: nowhere.Delegate")
    text = text.replace("HomeAlien", "Alien").replace("HomePart", "Part")
    text = text.replace(f"Alien: {JSON_FORMATTER}", "Alien: nowhere.AlienFormatter")
    (root / "butler.yaml").write_text(text)
    with sqlite3.connect(root / "gen3.sqlite3") as database:
        database.execute(
            "UPDATE file_datastore_records SET formatter = 'nowhere.AlienFormatter', storage_class = 'Alien'"
        )
        database.execute("UPDATE dataset_type SET storage_class = 'Alien' WHERE name LIKE 'alien%'")
    database.close()
    made = CentralRepo(uri=str(root))
    yield made
    made.close()


def fill(butler: Butler, source: Path) -> None:
    registry = butler.registry
    camera = {"name": "ForeignCam", "class_name": "nowhere.ForeignCam", "detector_max": 9}
    registry.syncDimensionData("instrument", camera | {"visit_max": 10**12, "exposure_max": 10**12})
    registry.syncDimensionData(
        "detector", {"instrument": "ForeignCam", "id": 1, "full_name": "D1", "purpose": "SCIENCE"}
    )
    sky = {"name": "sky", "hash": b"0" * 20, "tract_max": 9, "patch_nx_max": 1, "patch_ny_max": 1}
    registry.syncDimensionData("skymap", sky)
    registry.insertDimensionData("tract", {"skymap": "sky", "id": 1, "region": around(1.0)})
    registry.insertDimensionData(
        "patch", {"skymap": "sky", "tract": 1, "id": 0, "cell_x": 0, "cell_y": 0, "region": around(1.0)}
    )
    values = {
        "instrument": "ForeignCam",
        "detector": 1,
        "skymap": "sky",
        "tract": 1,
        "patch": 0,
        "htm7": HtmPixelization(7).index(UnitVector3d(LonLat.fromDegrees(RA, DEC))),
    }
    source.write_text("{}")
    refs = {}
    for name, (dimensions, kind) in TYPES.items():
        dataset_type = DatasetType(
            name,
            dimensions,
            "HomeAlien",
            universe=butler.dimensions,
            isCalibration=kind is InputKind.CALIBRATION,
        )
        registry.registerDatasetType(dataset_type)
        butler.collections.register(f"run/{name}")
        data_id = DataCoordinate.standardize({d: values[d] for d in dimensions}, universe=butler.dimensions)
        refs[name] = DatasetRef(dataset_type, data_id, run=f"run/{name}")
        butler.ingest(FileDataset(str(source), [refs[name]], formatter=JSON_FORMATTER), transfer="copy")
    butler.collections.register("ForeignCam/calib", CollectionType.CALIBRATION)
    registry.certify("ForeignCam/calib", [refs["alien"]], Timespan(None, None))
    for chain, name in (
        ("refcats", "alien_refcat"),
        ("ForeignCam/templates", "alien_template"),
        ("skymaps", "alien_skymap"),
        ("ForeignCam/defaults", "alien_other"),
    ):
        butler.collections.register(chain, CollectionType.CHAINED)
        butler.collections.redefine_chain(chain, [f"run/{name}"])


@pytest.fixture
def finder(foreign: CentralRepo) -> InputFinder:
    return InputFinder(
        central=foreign,
        index=CentralIndex(foreign.read_butler, max_age=60.0),
        instrument="ForeignCam",
        skymap="sky",
    )


def find(finder: InputFinder, name: str) -> list[FoundInput]:
    values = {"instrument": "ForeignCam", "detector": 1}
    return finder.find(need(name), values, valid_at=1.7e9, region=around(0.1))


@pytest.fixture
def found(finder: InputFinder) -> list[FoundInput]:
    return [one for name in TYPES for one in find(finder, name)]


def context_of(central: CentralRepo) -> VisitContext:
    known = central.instrument_records("ForeignCam", 1)
    group = central.universe["group"].RecordClass(instrument="ForeignCam", name="g")
    values = {"instrument": "ForeignCam", "detector": 1, "group": "g"}
    data_ids = VisitDataIds(central.universe, values, [*known["instrument"], *known["detector"], group])
    return VisitContext("ForeignCam", 1, "g", data_ids, [group], "preload")


@pytest.mark.parametrize("name", TYPES)
def test_selection(foreign: CentralRepo, finder: InputFinder, name: str) -> None:
    assert foreign.universe.version == 7
    (one,) = find(finder, name)
    assert one.ref.datasetType.name == name
    assert one.ref.datasetType.storageClass_name == "Alien"
    assert one.calibration == (
        ("ForeignCam/calib", Timespan(None, None)) if TYPES[name][1] is InputKind.CALIBRATION else None
    )


def test_check(foreign: CentralRepo) -> None:
    assert check_central_repo(str(foreign.read_butler._config.configDir), "ForeignCam") == []


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
    assert repo.butler.dimensions.version == 7
    assert len(found) == len(TYPES)
    for one in found:
        assert workspace.has(one.ref.datasetType.name)
        assert repo.butler.getURI(one.ref).read() == b"{}"
        with pytest.raises(ModuleNotFoundError, match="nowhere"):
            workspace.read(one.ref)
    workspace.close()
    # Caches and clean-up know the datasets by their refs alone.
    workspace = repo.open(context_of(foreign))
    workspace.fetch(found)
    workspace.close()
    repo.close()


def test_preload_into_memory_leaves_the_failure_to_the_tasks(
    foreign: CentralRepo, found: list[FoundInput]
) -> None:
    repo = MemoryRepo(central=foreign, cache=DatasetCache(), raw_formatter=ImageFormatter)
    workspace = repo.open(context_of(foreign))
    workspace.fetch(found)
    for name in TYPES:
        assert workspace.has(name)
    workspace.close()
