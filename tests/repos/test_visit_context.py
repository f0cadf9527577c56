"""What the repositories know of a visit before its images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from astropy.time import Time
from lsst.pipe.base.utils import RegionTimeInfo
from lsst.sphgeom import CONTAINS, ConvexPolygon

from config.instruments import load_instrument
from models.errors import InvalidConfiguration
from models.metrics import MetricMeasurementBundle
from models.visits import FannedOutVisit
from repos.central import CentralRepo
from repos.footprint import CameraGeometry
from repos.service_datasets import (
    METRICS,
    PROVENANCE,
    REGION_TIME_INFO,
    ServiceDatasets,
    service_dataset_types,
)
from repos.visit_context import VisitContexts
from tests.repos.sketch_repo import ANGLE, CAMERA_FILE, DATE, DEC, FILTER, INSTRUMENT, RA, SENT
from tests.visits import make_visit


@pytest.fixture(scope="module")
def central(built_central: Path) -> Iterator[CentralRepo]:
    made = CentralRepo(uri=str(built_central))
    yield made
    made.close()


def make_contexts(central: CentralRepo, padding: float = 30.0) -> VisitContexts:
    geometry = CameraGeometry(load_instrument(CAMERA_FILE))
    return VisitContexts(central=central, geometry=geometry, deployment_id="d1", padding=padding)


@pytest.fixture
def contexts(central: CentralRepo) -> VisitContexts:
    return make_contexts(central)


def visit(**fields: Any) -> FannedOutVisit:
    values = {
        "instrument": INSTRUMENT,
        "detector": 2,
        "groupId": "g-1",
        "position": [RA, DEC],
        "cameraAngle": ANGLE,
        "filters": FILTER,
        "private_sndStamp": SENT,
        "duration": 35.0,
    }
    return make_visit(**{**values, **fields})


def test_context(contexts: VisitContexts) -> None:
    made = contexts.make(visit(), DATE)
    assert (made.instrument, made.detector, made.group) == (INSTRUMENT, 2, "g-1")
    assert made.preload_run == f"{INSTRUMENT}/prompt/output-{DATE}/NoPipeline/d1"
    assert dict(made.data_ids.values) == {
        "instrument": INSTRUMENT,
        "detector": 2,
        "group": "g-1",
        "physical_filter": FILTER,
        "band": "g",
    }
    assert {r.definition.name for r in made.records} == {"physical_filter", "group"}


@pytest.mark.parametrize("announced", ["", "z_unknown"])
def test_without_a_known_filter(contexts: VisitContexts, announced: str) -> None:
    values = contexts.make(visit(filters=announced), DATE).data_ids.values
    assert "physical_filter" not in values and "band" not in values


def test_unknown_detector(contexts: VisitContexts) -> None:
    with pytest.raises(InvalidConfiguration, match="4000"):
        contexts.make(visit(detector=4000), DATE)


def test_records_are_read_once(central: CentralRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts = make_contexts(central)
    contexts.make(visit(), DATE)
    monkeypatch.setattr(central, "instrument_records", None)
    contexts.make(visit(groupId="g-2"), DATE)


def test_footprint(central: CentralRepo) -> None:
    narrow, wide = (make_contexts(central, padding) for padding in (0.0, 30.0))
    inner, outer = narrow.footprint(visit()), wide.footprint(visit())
    assert isinstance(inner, ConvexPolygon) and isinstance(outer, ConvexPolygon)
    assert outer.relate(inner) & CONTAINS
    box, larger = inner.getBoundingBox(), outer.getBoundingBox()
    grown = larger.getHeight().asDegrees() - box.getHeight().asDegrees()
    # 30 arcsec on either side, along the edges of a square that is turned.
    assert 60.0 / 3600 <= grown <= 60.0 * 1.42 / 3600


@pytest.mark.parametrize("fields", [{"coordinateSystem": 1}, {"rotationSystem": 1}])
def test_no_footprint(contexts: VisitContexts, fields: dict[str, int]) -> None:
    assert contexts.footprint(visit(**fields)) is None


def test_region_and_time(contexts: VisitContexts) -> None:
    region = contexts.footprint(visit())
    assert region is not None
    info = contexts.region_time_info(visit(), region)
    assert info.region is region
    begin, end = info.timespan.begin, info.timespan.end
    assert (begin - Time("2025-06-14T02:00:00", scale="tai")).to_value("s") == pytest.approx(0.0)
    assert (end - begin).to_value("s") == pytest.approx(3 * 35.0)


class Recorder:
    """Keeps what is put."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[Any, str]] = {}

    def put(self, dataset_type: Any, value: Any, run: str) -> None:
        self.kept[dataset_type.name] = (value, run)


def test_own_datasets(central: CentralRepo, contexts: VisitContexts) -> None:
    own = ServiceDatasets(
        universe=central.universe, deployment_id="d1", region_time_info=contexts.region_time_info
    )
    workspace: Any = Recorder()
    region = contexts.footprint(visit())
    assert region is not None
    own.put_region_time_info(workspace, visit(), region, "preload")
    own.put_preload_metrics(workspace, "preload", {"total": 1.5, "search": 0.5})
    own.put_provenance(workspace, "output", {"pipeline": "ApPipe"})
    assert own.expected == (REGION_TIME_INFO,)
    info, run = workspace.kept[REGION_TIME_INFO]
    assert isinstance(info, RegionTimeInfo) and run == "preload"
    metrics, run = workspace.kept[METRICS]
    assert isinstance(metrics, MetricMeasurementBundle) and run == "preload"
    assert {m.metric: m.value for m in metrics.root["prepButlerTimeMetric"]} == {
        "prep_butlerTotalTime": 1.5,
        "prep_butlerSearchTime": 0.5,
        # Always present, whatever was done.
        "prep_butlerTransferTime": 0.0,
        "prep_butlerPreprocessTime": 0.0,
    }
    assert workspace.kept[PROVENANCE] == ({"deployment_id": "d1", "pipeline": "ApPipe"}, "output")


def test_their_types(central: CentralRepo) -> None:
    types = service_dataset_types(central.universe)
    assert {name: t.storageClass_name for name, t in types.items()} == {
        "regionTimeInfo": "RegionTimeInfo",
        "promptPreload_metrics": "MetricMeasurementBundle",
        "prompt_provenance": "StructuredDataDict",
    }
    for dataset_type in types.values():
        assert set(dataset_type.dimensions.required) == {"instrument", "group", "detector"}
