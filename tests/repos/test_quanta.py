"""Quanta made without a registry; see also `test_local_repo_forms`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lsst.daf.butler import DataCoordinate, DatasetRef

from models.errors import NoPipelineBuilt, TaskFailed
from repos.central import CentralRepo
from repos.pipeline_graphs import LoadedPipeline, load_pipeline, resolve_pipeline
from repos.quanta import plan_quanta, quantum_id
from repos.quantum_runner import RunReport
from tests.repos.sketch_repo import sketch_data_ids
from tests.repos.test_local_repo_forms import PIPELINES


@pytest.fixture(scope="module")
def central(built_central: Path) -> Iterator[CentralRepo]:
    made = CentralRepo(uri=str(built_central))
    yield made
    made.close()


@pytest.fixture
def reading(central: CentralRepo, tmp_path: Path) -> LoadedPipeline:
    path = tmp_path / "reading.yaml"
    path.write_text(PIPELINES["reading"])
    return resolve_pipeline(load_pipeline(str(path), {"apdb_config": ""}), central.read_butler)


def exposed(exposure: int) -> dict[str, Any]:
    """Return what an image adds to the data ids."""
    return {
        "exposure": exposure,
        "visit": exposure,
        "day_obs": 20260101,
        "physical_filter": "g_6",
        "band": "g",
    }


def raw_ref(central: CentralRepo, exposure: int = 5) -> DatasetRef:
    raw = central.dataset_type("raw")
    assert raw is not None
    return DatasetRef(raw, sketch_data_ids(central, **exposed(exposure)).get(raw.dimensions), run="raws")


def test_unknown_dimensions(central: CentralRepo, reading: LoadedPipeline) -> None:
    data_ids = sketch_data_ids(central)
    with pytest.raises(NoPipelineBuilt, match="exposure"):
        plan_quanta(reading, data_ids, {"raw": [raw_ref(central)]}, "run", {})


def test_the_image_is_missing(central: CentralRepo, reading: LoadedPipeline) -> None:
    with pytest.raises(NoPipelineBuilt, match="no raw"):
        plan_quanta(reading, sketch_data_ids(central), {}, "run", {})


def test_the_image_is_of_another_exposure(central: CentralRepo, reading: LoadedPipeline) -> None:
    with pytest.raises(NoPipelineBuilt, match="no raw"):
        plan_quanta(reading, sketch_data_ids(central, **exposed(6)), {"raw": [raw_ref(central)]}, "run", {})


def test_init_outputs_are_missing(central: CentralRepo, reading: LoadedPipeline) -> None:
    data_ids = sketch_data_ids(central, **exposed(5))
    available = {"raw": [raw_ref(central)]}
    for name in ("thing_calib", "weights"):
        dataset_type = central.dataset_type(name)
        assert dataset_type is not None
        available[name] = [DatasetRef(dataset_type, data_ids.get(dataset_type.dimensions), run="r")]
    with pytest.raises(NoPipelineBuilt, match=r"made_schema.*prompt-processing init"):
        plan_quanta(reading, data_ids, available, "run", {})
    for name in ("thing_calib", "weights"):
        with pytest.raises(NoPipelineBuilt, match=name):
            plan_quanta(reading, data_ids, {k: v for k, v in available.items() if k != name}, "run", {})


def test_quantum_ids_follow_from_run_task_and_data_id(central: CentralRepo) -> None:
    universe = central.universe
    ids = {
        quantum_id(run, label, DataCoordinate.standardize(instrument="C", detector=d, universe=universe))
        for run in ("a", "b")
        for label in ("isr", "calibrate")
        for d in (1, 2)
    }
    assert len(ids) == 8
    one = DataCoordinate.standardize(instrument="C", detector=1, universe=universe)
    assert quantum_id("a", "isr", one) in ids


def test_the_first_failure_is_raised() -> None:
    RunReport().raise_failure("ApPipe")
    first, second = ValueError("bad pixel"), KeyError("later")
    report = RunReport(failed=[("isr", first), ("subtract", second)])
    with pytest.raises(TaskFailed, match="task isr of pipeline ApPipe failed: ValueError") as caught:
        report.raise_failure("ApPipe")
    assert caught.value.__cause__ is first
