"""Dimension records that go out with a visit's outputs, and ids that stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lsst.daf.butler import DimensionConfig, DimensionRecord, DimensionUniverse
from lsst.sphgeom import ConvexPolygon, UnitVector3d

from repos.central import CentralRepo
from repos.data_ids import output_ref
from repos.workspace import exported_records
from tests.repos.sketch_repo import Observatory, sketch_data_ids
from tests.repos.test_local_repo_forms import PIPELINES

UNIVERSES = {
    "installed": DimensionUniverse(),
    "field": DimensionUniverse(
        DimensionConfig("resource://lsst.daf.butler/configs/old_dimensions/daf_butler_universe7.yaml")
    ),
}
#: Id of the bias of detector 1 in collection a/run.
KNOWN_ID = "e5188071-ce4a-5b93-91fb-d63b12c997fd"
REGION = ConvexPolygon([UnitVector3d(1, 0, 0), UnitVector3d(0, 1, 0), UnitVector3d(0, 0, 1)])

VALUES: dict[str, dict[str, Any]] = {
    "skymap": {"name": "sky"},
    "instrument": {"name": "Cam"},
    "tract": {"skymap": "sky", "id": 0, "region": REGION},
    "patch": {"skymap": "sky", "tract": 0, "id": 0, "region": REGION},
    "detector": {"instrument": "Cam", "id": 3, "full_name": "D3"},
    "physical_filter": {"instrument": "Cam", "name": "g1", "band": "g"},
    "group": {"instrument": "Cam", "name": "g-1"},
    "day_obs": {"instrument": "Cam", "id": 20260101},
    "exposure": {
        "instrument": "Cam",
        "id": 7,
        "group": "g-1",
        "day_obs": 20260101,
        "physical_filter": "g1",
        "obs_id": "7",
    },
    "visit_system": {"instrument": "Cam", "id": 0, "name": "one-to-one"},
    "visit": {"instrument": "Cam", "id": 7, "day_obs": 20260101, "physical_filter": "g1", "name": "7"},
    "visit_definition": {"instrument": "Cam", "exposure": 7, "visit": 7},
    "visit_system_membership": {"instrument": "Cam", "visit": 7, "visit_system": 0},
    "visit_detector_region": {"instrument": "Cam", "visit": 7, "detector": 3, "region": REGION},
}
EXPORTED = {
    "group",
    "day_obs",
    "exposure",
    "visit_system",
    "visit",
    "visit_definition",
    "visit_system_membership",
    "visit_detector_region",
}


def make_records(universe: DimensionUniverse) -> list[DimensionRecord]:
    return [universe[name].RecordClass(**values) for name, values in VALUES.items()]


@pytest.mark.parametrize("name", UNIVERSES)
def test_what_is_exported(name: str) -> None:
    universe = UNIVERSES[name]
    records = make_records(universe)
    # However they come, and however often.
    chosen = exported_records(universe, [*reversed(records), *records])
    names = [r.definition.name for r in chosen]
    assert set(names) == EXPORTED
    assert len(names) == len(EXPORTED)
    assert names == [e.name for e in universe.sorted(names)]
    for record in chosen:
        assert record == next(r for r in records if r.definition.name == record.definition.name)


def test_nothing() -> None:
    assert exported_records(UNIVERSES["installed"], []) == []


def test_all_exposures_of_a_group() -> None:
    universe = UNIVERSES["installed"]
    second = universe["exposure"].RecordClass(**{**VALUES["exposure"], "id": 8, "obs_id": "8"})
    chosen = exported_records(universe, [*make_records(universe), second])
    assert [r.id for r in chosen if r.definition.name == "exposure"] == [7, 8]


def test_ids_follow_from_type_run_and_data_id(built_central: Path) -> None:
    central = CentralRepo(uri=str(built_central))
    bias = central.dataset_type("bias")
    assert bias is not None
    data_ids = sketch_data_ids(central)
    ref = output_ref(bias, data_ids.get(bias.dimensions), "a/run")
    # Written down: it may never change, or visits run twice are stored twice.
    assert str(ref.id) == KNOWN_ID
    assert ref.dataId.hasRecords()
    assert output_ref(bias, data_ids.get(bias.dimensions), "other/run").id != ref.id
    dark = central.dataset_type("dark")
    assert dark is not None
    assert output_ref(dark, data_ids.get(dark.dimensions), "a/run").id != ref.id
    other = sketch_data_ids(central, detector=2)
    assert output_ref(bias, other.get(bias.dimensions), "a/run").id != ref.id
    central.close()


def test_data_ids(built_central: Path) -> None:
    central = CentralRepo(uri=str(built_central))
    universe = central.universe
    data_ids = sketch_data_ids(central, "g-1")
    by_group = universe.conform(["group", "detector"])
    assert data_ids.covers(by_group) and not data_ids.covers(universe.conform(["exposure"]))
    assert dict(data_ids.get(by_group).required) == {"instrument": "ProtoCam", "group": "g-1", "detector": 1}
    assert data_ids.get(by_group) is data_ids.get(by_group)
    with pytest.raises(KeyError):
        data_ids.get(universe.conform(["exposure"]))
    more = data_ids.extended({"exposure": 5, "day_obs": 20260101, "physical_filter": "g_6", "band": "g"}, [])
    assert more.covers(universe.conform(["exposure"])) and not data_ids.knows("exposure")
    assert data_ids.agrees(more.get(universe.conform(["exposure", "detector"])))
    assert not more.agrees(data_ids.extended({"detector": 2}, []).get(by_group))
    central.close()


SCRIPT = """
import json, sys
sys.path.append("benchmarks")
from pathlib import Path
from tests.repos.test_workspace import observe_once
print(json.dumps(observe_once(Path(sys.argv[1]))))
"""


def observe_once(place: Path) -> dict[str, list[str]]:
    """Process a visit; returns what it would write, and where, by dataset."""
    observatory = Observatory(place / "central", place / "work", {"sketch": PIPELINES["sketch"]})
    observed = observatory.observe("memory", "sketch", group="fresh", exposures=[77])
    observatory.close()
    return {key: [d["path"], d["formatter"]] for d in observed.message["datasets"] for key in d["refs"]}


def test_ids_are_the_same_in_a_fresh_process(central_root: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    here = observe_once(central_root.parent)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(central_root.parent)],
        cwd=root,
        env={**os.environ, "PYTHONHASHSEED": "4321", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == here
    assert len(here) > 10
