"""The metric bundles among a visit's outputs."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from lsst.daf.butler import DataCoordinate, DatasetRef, DatasetType, DimensionUniverse

from models.metrics import Metric, MetricMeasurementBundle
from repos.measurements import collect_measurements

UNIVERSE = DimensionUniverse()
DATA_ID = DataCoordinate.standardize(
    {"instrument": "DemoCam", "group": "g1", "detector": 3}, universe=UNIVERSE
)


@dataclass
class Workspace:
    """Outputs of a visit."""

    values: dict[DatasetRef, Any] = field(default_factory=dict)

    def add(self, name: str, storage_class: str, value: Any) -> DatasetRef:
        kind = DatasetType(name, DATA_ID.dimensions, storage_class, universe=UNIVERSE)
        ref = DatasetRef(kind, DATA_ID, run="DemoCam/run")
        self.values[ref] = value
        return ref

    def outputs(self) -> list[DatasetRef]:
        return list(self.values)

    def read(self, ref: DatasetRef) -> Any:
        value = self.values[ref]
        if isinstance(value, Exception):
            raise value
        return value


class Measurement:
    """As much of ``lsst.verify.Measurement`` as is used."""

    def __init__(self, **form: Any) -> None:
        self.json: Mapping[str, Any] = form


class ObservatorysBundle(UserDict[str, list[Measurement]]):
    """As the class of ``lsst.analysis.tools``."""

    dataset_identifier = "night"


def test_bundles() -> None:
    workspace = Workspace()
    workspace.add("regionTimeInfo", "StructuredDataDict", {})
    ref = workspace.add(
        "promptPreload_metrics",
        "MetricMeasurementBundle",
        MetricMeasurementBundle(
            {"timing": [Metric(metric="a", value=1.5, unit="s"), Metric(metric="b", value=2)]}
        ),
    )
    (bundle,) = collect_measurements(workspace)  # type: ignore[arg-type]
    assert UUID(bundle.id) == ref.id
    assert (bundle.dataset_type, bundle.run, bundle.tag) == ("promptPreload_metrics", "DemoCam/run", None)
    assert bundle.data_id == {"instrument": "DemoCam", "group": "g1", "detector": 3}
    assert bundle.values == {"timing": {"a": 1.5, "b": 2.0}}


def test_the_observatorys_own_class() -> None:
    workspace = Workspace()
    metrics = [
        Measurement(metric="a", value=1, unit="ct"),
        Measurement(metric="b", value=None),
        Measurement(metric="c", value=float("nan")),
    ]
    workspace.add("diffim_metrics", "MetricMeasurementBundle", ObservatorysBundle(timing=metrics))
    (bundle,) = collect_measurements(workspace)  # type: ignore[arg-type]
    assert bundle.values == {"timing": {"a": 1.0, "b": 0.0, "c": 0.0}}
    assert bundle.tag == "night"


def test_one_that_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    workspace = Workspace()
    workspace.add("broken_metrics", "MetricMeasurementBundle", ValueError("boom"))
    workspace.add("good_metrics", "MetricMeasurementBundle", MetricMeasurementBundle({"x": []}))
    (bundle,) = collect_measurements(workspace)  # type: ignore[arg-type]
    assert bundle.dataset_type == "good_metrics"
    assert "broken_metrics" in caplog.text
