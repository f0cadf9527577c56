"""Pipelines: loading them, and what each needs from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lsst.daf.butler import Butler, DatasetType

from models.errors import NoPipelineBuilt, PipelineUnreadable
from models.inputs import InputKind
from repos.pipeline_graphs import LoadedPipeline, load_pipeline, resolve_pipeline
from repos.pipeline_library import PipelineLibrary
from tests.repos.test_local_repo_forms import PIPELINES, pipeline


@pytest.fixture(scope="module")
def butler(built_central: Path) -> Iterator[Butler]:
    with Butler.from_config(str(built_central)) as made:
        yield made


def load(tmp_path: Path, text: str, name: str = "Test", apdb: str = "") -> LoadedPipeline:
    path = tmp_path / f"{name}.yaml"
    path.write_text(text)
    return load_pipeline(str(path), {"apdb_config": apdb})


def test_needs(butler: Butler, tmp_path: Path) -> None:
    made = resolve_pipeline(load(tmp_path, PIPELINES["sketch"]), butler)
    needs = {n.dataset_type: n for n in made.needs}
    assert {name for name, n in needs.items() if n.kind is InputKind.CALIBRATION} == {
        "bias",
        "dark",
        "flat",
        "defects",
        "linearizer",
        "crosstalk",
        "ptc",
        "camera",
    }
    assert needs["refcat"].kind is InputKind.REFCAT
    assert needs["template_coadd"].kind is InputKind.TEMPLATE
    assert needs["raw"].kind is InputKind.VISIT
    assert not needs["raw"].preloadable and needs["bias"].preloadable
    assert {name for name, n in needs.items() if n.filter_dependent} == {"flat", "template_coadd", "raw"}
    assert {name for name, n in needs.items() if n.constrains} == {"raw", "template_coadd"}
    assert all(n.required for n in needs.values())
    assert made.products >= {"post_isr_image", "visit_image", "dia_source", "star_schema"}
    assert made.stem == "Test"


def test_optional_init_and_group_inputs(butler: Butler, tmp_path: Path) -> None:
    reading = resolve_pipeline(load(tmp_path, PIPELINES["reading"]), butler)
    needs = {n.dataset_type: n for n in reading.needs}
    # A component is had with the whole, and tasks read inputs when made.
    assert set(needs) == {"raw", "thing_calib", "weights", "global_settings"}
    assert needs["weights"].kind is needs["global_settings"].kind is InputKind.OTHER
    assert needs["global_settings"].required and not needs["global_settings"].constrains
    assert reading.init_inputs == {"made_schema", "global_settings"}
    optional = resolve_pipeline(load(tmp_path, PIPELINES["steps_good"], "Other"), butler)
    needs = {n.dataset_type: n for n in optional.needs}
    for name in ("never_made", "no_such_calibration", "no_such_catalogue"):
        assert not needs[name].required and not needs[name].constrains
    prepare = resolve_pipeline(load(tmp_path, PIPELINES["prepare"], "Prepare"), butler)
    needs = {n.dataset_type: n for n in prepare.needs}
    assert needs["regionTimeInfo"].kind is InputKind.GROUP and not needs["regionTimeInfo"].preloadable
    sky = resolve_pipeline(load(tmp_path, PIPELINES["sky"], "Sky"), butler)
    assert {n.dataset_type: n.kind for n in sky.needs}["skyMap"] is InputKind.SKYMAP


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("description: x\ntasks: {a: nowhere.Task}\n", "nowhere"),
        ("description: [\n", "Test.yaml"),
        ("description: x\n", "Test.yaml"),
        (pipeline("start: StartTask no_such_field=1"), "no_such_field"),
        ("description: x\ntasks: {a: tests.repos.pipeline_tasks.Thing}\n", "Thing"),
    ],
    ids=["import", "yaml", "empty", "config", "no task"],
)
def test_files_that_cannot_be_loaded(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PipelineUnreadable, match=r"Test\.yaml") as caught:
        load(tmp_path, text)
    assert said in str(caught.value)


def test_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(PipelineUnreadable, match="absent"):
        load_pipeline(str(tmp_path / "absent.yaml"), {"apdb_config": ""})


def test_every_pipeline_gets_the_apdb(tmp_path: Path) -> None:
    text = (
        "description: x\nparameters: {apdb_config: ''}\ntasks:\n  step:\n"
        "    class: tests.repos.pipeline_tasks.FirstStepTask\n    config:\n"
        "      - mode: parameters.apdb_config\n"
    )
    made = load(tmp_path, text, apdb="label:apdb")
    assert made.graph.tasks["step"].config.mode == "label:apdb"
    # Also one that does not use it.
    assert load(tmp_path, "description: x\ntasks: {s: tests.repos.pipeline_tasks.StartTask}\n", apdb="a")


def test_dataset_types_that_do_not_fit(central_root: Path, tmp_path: Path) -> None:
    with Butler.from_config(str(central_root), writeable=True) as butler:
        butler.registry.registerDatasetType(
            DatasetType("start", ("instrument",), "StructuredDataDict", universe=butler.dimensions)
        )
        with pytest.raises(NoPipelineBuilt, match="start"):
            resolve_pipeline(load(tmp_path, pipeline("start: StartTask")), butler)
        twice = pipeline("a: StartTask connections.dst=same", "b: StartTask connections.dst=same")
        with pytest.raises(NoPipelineBuilt, match="same"):
            resolve_pipeline(load(tmp_path, twice), butler)


def test_the_library(butler: Butler, tmp_path: Path) -> None:
    good, bad = tmp_path / "Good.yaml", tmp_path / "Bad.yaml"
    good.write_text(PIPELINES["sky"])
    bad.write_text("tasks: {a: nowhere.Task}")
    library = PipelineLibrary(apdb_config="")
    library.load([str(good), str(bad), str(good)])
    assert [p.stem for p in library.loaded()] == ["Good"]
    assert len(library.faults()) == 1
    assert library.get(str(good), butler) is library.get(str(good), butler)
    with pytest.raises(PipelineUnreadable, match=r"Bad\.yaml"):
        library.get(str(bad), butler)
    good.unlink()
    assert library.get(str(good), butler).fits_memory
    late = tmp_path / "Late.yaml"
    late.write_text(PIPELINES["sky"])
    assert library.get(str(late), butler).stem == "Late"
