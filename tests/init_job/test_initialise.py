"""The initializer."""

from __future__ import annotations

import multiprocessing
import shutil
import traceback
from collections.abc import Iterator
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pytest
from lsst.daf.butler import Butler, CollectionType, DatasetType
from lsst.daf.butler.registry import ConflictingDefinitionError

from init_job.initialise import Initializer, MissingDatasetTypes
from models.errors import NoPipelineBuilt
from repos.central import CentralRepo, sqlite_lock
from repos.pipeline_graphs import LoadedPipeline, load_pipeline
from tests.repos.sketch_repo import INSTRUMENT, build_central
from tests.repos.test_local_repo_forms import PIPELINES

DATES = ["2026-01-01", "2026-01-02"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("init") / "central"
    build_central(root)
    return root


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "central"))


@pytest.fixture
def butler(root: Path) -> Iterator[Butler]:
    with Butler.from_config(str(root), writeable=True) as made:
        yield made


@pytest.fixture
def pipelines(tmp_path: Path) -> dict[str, LoadedPipeline]:
    made = {}
    for stem in ("sketch", "reading", "prepare", "sky"):
        path = tmp_path / f"{stem}.yaml"
        path.write_text(PIPELINES[stem])
        made[stem] = load_pipeline(str(path), {"apdb_config": ""})
    return made


def initialise(
    butler: Butler,
    root: Path,
    pipelines: dict[str, LoadedPipeline],
    *,
    deployment: str = "d1",
    register: bool = True,
    main: tuple[str, ...] = ("reading", "sky"),
    dates: list[str] = DATES,
) -> list[str]:
    return Initializer(
        butler=butler,
        instrument=INSTRUMENT,
        deployment_id=deployment,
        register_dataset_types=register,
        lock=sqlite_lock(str(root)),
    ).run(preprocessing=[pipelines["prepare"]], main=[pipelines[s] for s in main], dates=dates)


def expected(date: str, deployment: str = "d1", main: tuple[str, ...] = ("reading", "sky")) -> list[str]:
    stems = ("NoPipeline", "prepare", *main)
    return [f"{INSTRUMENT}/prompt/output-{date}/{stem}/{deployment}" for stem in stems]


def chain(butler: Butler, date: str) -> list[str]:
    return list(butler.collections.get_info(f"{INSTRUMENT}/prompt/output-{date}").children)


def contents(root: Path) -> dict[str, set[str]]:
    """Return the ids of all init-outputs."""
    with Butler.from_config(str(root)) as fresh:
        found: dict[str, set[str]] = {}
        for name in ("packages", "made_schema", "read_config", "make_config", "sky_config", "prepare_config"):
            for date in DATES:
                for run in expected(date):
                    refs = fresh.query_datasets(name, run, explain=False)
                    found.setdefault(name, set()).update(str(r.id) for r in refs)
        return found


def test_what_is_made(butler: Butler, root: Path, pipelines: dict[str, LoadedPipeline]) -> None:
    runs = initialise(butler, root, pipelines)
    assert runs == expected(DATES[0]) + expected(DATES[1])
    central = CentralRepo(uri=str(root))
    for date in DATES:
        assert chain(central.read_butler, date) == expected(date)
        assert central.is_initialised(expected(date)[1:])
        found = central.init_outputs(expected(date)[2], ["made_schema"])
        assert central.read_butler.get(found["made_schema"]).colnames == ["ra", "flux"]
    assert {k: len(v) for k, v in contents(root).items()} == {
        "packages": 6,
        "made_schema": 2,
        "read_config": 2,
        "make_config": 2,
        "sky_config": 2,
        "prepare_config": 2,
    }
    for name in ("regionTimeInfo", "promptPreload_metrics", "prompt_provenance", "read_result", "prepared"):
        assert central.dataset_type(name) is not None
    central.close()


def test_safe_twice(butler: Butler, root: Path, pipelines: dict[str, LoadedPipeline]) -> None:
    first = initialise(butler, root, pipelines)
    before = contents(root)
    assert initialise(butler, root, pipelines) == first
    assert contents(root) == before
    assert chain(butler, DATES[0]) == expected(DATES[0])


def test_an_unfinished_one_is_finished(
    butler: Butler, root: Path, pipelines: dict[str, LoadedPipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = expected(DATES[0])[2]

    def fail(graph: Any, packages_butler: Butler) -> None:
        if packages_butler.run == run:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lsst.pipe.base.pipeline_graph.PipelineGraph.write_packages", fail)
        with pytest.raises(OSError, match="No space"):
            initialise(butler, root, pipelines)
    central = CentralRepo(uri=str(root))
    assert not central.is_initialised([run])
    initialise(butler, root, pipelines)
    assert central.is_initialised([run])
    central.close()


def test_the_chain_keeps_what_was_there(
    butler: Butler, root: Path, pipelines: dict[str, LoadedPipeline]
) -> None:
    name = f"{INSTRUMENT}/prompt/output-{DATES[0]}"
    butler.collections.register("other/run")
    butler.collections.register(name, CollectionType.CHAINED)
    butler.collections.redefine_chain(name, ["other/run"])
    initialise(butler, root, pipelines, dates=DATES[:1])
    assert chain(butler, DATES[0]) == [*expected(DATES[0]), "other/run"]
    # A new deployment comes first; repeating the old one brings it back.
    initialise(butler, root, pipelines, deployment="d2", dates=DATES[:1])
    both = [*expected(DATES[0], "d2"), *expected(DATES[0]), "other/run"]
    assert chain(butler, DATES[0]) == both
    initialise(butler, root, pipelines, deployment="d2", dates=DATES[:1])
    assert chain(butler, DATES[0]) == both
    # One more pipeline, and the others keep their places.
    main = ("sketch", "reading", "sky")
    initialise(butler, root, pipelines, deployment="d2", dates=DATES[:1], main=main)
    assert chain(butler, DATES[0]) == [
        *expected(DATES[0], "d2", main),
        *expected(DATES[0]),
        "other/run",
    ]


def test_every_missing_dataset_type_is_named(
    butler: Butler, root: Path, pipelines: dict[str, LoadedPipeline]
) -> None:
    butler.registry.registerDatasetType(
        DatasetType(
            "start", ("instrument", "exposure", "detector"), "StructuredDataDict", universe=butler.dimensions
        )
    )
    with pytest.raises(MissingDatasetTypes) as caught:
        initialise(butler, root, pipelines, register=False)
    said = str(caught.value)
    for name in (
        "regionTimeInfo",
        "read_result",
        "made_schema",
        "read_config",
        "packages",
        "prepared",
        "read_log",
    ):
        assert name in said
    assert " start," not in said and "REGISTER_DATASET_TYPES" in said
    assert not butler.collections.query(f"{INSTRUMENT}/prompt/*")


def test_registered_types_are_enough(
    butler: Butler, root: Path, pipelines: dict[str, LoadedPipeline]
) -> None:
    initialise(butler, root, pipelines)
    with Butler.from_config(str(root), writeable=True) as other:
        assert initialise(other, root, pipelines, register=False, deployment="d2")


def test_a_pipeline_that_does_not_fit(
    butler: Butler, root: Path, pipelines: dict[str, LoadedPipeline]
) -> None:
    butler.registry.registerDatasetType(
        DatasetType("start", ("instrument",), "StructuredDataDict", universe=butler.dimensions)
    )
    with pytest.raises(NoPipelineBuilt, match=r"reading\.yaml"):
        initialise(butler, root, pipelines)


def test_an_init_input_that_is_nowhere(
    butler: Butler, root: Path, pipelines: dict[str, LoadedPipeline]
) -> None:
    butler.collections.redefine_chain(f"{INSTRUMENT}/defaults", ["refcats"])
    with pytest.raises(NoPipelineBuilt, match=r"reading\.yaml.*global_settings"):
        initialise(butler, root, pipelines)


def test_another_was_quicker(
    butler: Butler, root: Path, pipelines: dict[str, LoadedPipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []
    write = Initializer._write_init_outputs

    def conflict(self: Initializer, pipeline: LoadedPipeline, run: str) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise ConflictingDefinitionError("somebody put it first")
        write(self, pipeline, run)

    with monkeypatch.context() as patch:
        patch.setattr(Initializer, "_write_init_outputs", conflict)
        initialise(butler, root, pipelines, dates=DATES[:1])
    assert len(tries) == 2 + 3
    tries.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Initializer, "_write_init_outputs", lambda *_: tries.append(1) or conflict_forever())
        with pytest.raises(ConflictingDefinitionError):
            initialise(butler, root, pipelines, dates=DATES[:1])
    assert len(tries) == 3


def conflict_forever() -> None:
    raise ConflictingDefinitionError("somebody put something else first")


def initialise_in_process(root: Path, directory: str, barrier: Any, faults: Queue[str]) -> None:
    try:
        loaded = {
            stem: load_pipeline(f"{directory}/{stem}.yaml", {"apdb_config": ""})
            for stem in ("reading", "prepare", "sky")
        }
        with Butler.from_config(str(root), writeable=True) as butler:
            barrier.wait(60)
            initialise(butler, root, loaded)
    except BaseException:
        faults.put(traceback.format_exc())
        raise


def test_two_at_once(root: Path, pipelines: dict[str, LoadedPipeline], tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    faults: Queue[str] = context.Queue()
    barrier = context.Barrier(2)
    both = [
        context.Process(target=initialise_in_process, args=(root, str(tmp_path), barrier, faults))
        for _ in range(2)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0], faults.get(timeout=1)
    with Butler.from_config(str(root)) as fresh:
        assert chain(fresh, DATES[0]) == expected(DATES[0])
        assert chain(fresh, DATES[1]) == expected(DATES[1])
    assert len(contents(root)["packages"]) == 6
    assert len(contents(root)["made_schema"]) == 2
