"""Local repos on disk: their making, their end, and what is left of them."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lsst.daf.butler import Butler, Config, DatasetRef
from sketch.formatters import ImageFormatter

from repos.central import CentralRepo
from repos.dataset_cache import DatasetCache
from repos.full_repo import FullRepo, local_config
from repos.memory_repo import MemoryRepo
from repos.scratch import LOCK_NAME, PREFIX, remove_leftovers
from repos.workspace import FoundInput, VisitContext
from tests.repos.sketch_repo import DETECTOR, INSTRUMENT, sketch_data_ids


@pytest.fixture(scope="module")
def central(built_central: Path) -> Iterator[CentralRepo]:
    made = CentralRepo(uri=str(built_central), retry_delay=0.001)
    yield made
    made.close()


@pytest.fixture
def local(tmp_path: Path) -> Path:
    path = tmp_path / "local"
    path.mkdir()
    return path


def make_full(central: CentralRepo, directory: Path, size: int = 3, config: Config | None = None) -> FullRepo:
    return FullRepo(
        central=central,
        directory=directory,
        config=config or local_config(str(central.read_butler._config.configDir)),
        cache=DatasetCache(size),
        raw_formatter=ImageFormatter,
    )


def context_of(central: CentralRepo, group: str) -> VisitContext:
    data_ids = sketch_data_ids(central, group)
    records = central.instrument_records(INSTRUMENT, DETECTOR)
    group_record = next(r for r in data_ids.records if r.definition.name == "group")
    return VisitContext(
        INSTRUMENT, DETECTOR, group, data_ids, [*records["physical_filter"], group_record], "preload"
    )


def biases(central: CentralRepo) -> list[DatasetRef]:
    return central.read_butler.query_datasets("bias", f"{INSTRUMENT}/calib/run", with_dimension_records=True)


def flats(central: CentralRepo) -> list[DatasetRef]:
    return central.read_butler.query_datasets("flat", f"{INSTRUMENT}/calib/run", with_dimension_records=True)


def hold(root: str, directory: str, ready: Any) -> None:
    """Live as a slot with a local repo of its own."""
    central = CentralRepo(uri=root)
    repo = make_full(central, Path(directory))
    ready.put(str(repo.butler._config.configDir.ospath))
    time.sleep(600)


def test_leftovers_of_the_dead_are_removed_and_the_living_kept(built_central: Path, local: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Queue()
    slots = [context.Process(target=hold, args=(str(built_central), str(local), ready)) for _ in range(2)]
    places = []
    for slot in slots:
        slot.start()
        places.append(Path(ready.get(timeout=60)))
    try:
        assert remove_leftovers(local) == 0
        assert all(place.exists() for place in places)
        slots[0].kill()
        slots[0].join(60)
        assert places[0].exists()
        assert remove_leftovers(local) == 1
        assert not places[0].exists()
        assert (places[1] / "butler.yaml").exists()
        assert remove_leftovers(local) == 0
    finally:
        for slot in slots:
            slot.kill()
            slot.join(60)


def test_leftovers_without_a_lock(local: Path) -> None:
    young, old, other = (local / name for name in (f"{PREFIX}young", f"{PREFIX}old", "data"))
    for path in (young, old, other):
        path.mkdir()
    os.utime(old, (0, 0))
    assert remove_leftovers(local) == 1
    assert young.exists() and other.exists() and not old.exists()
    assert remove_leftovers(local / "nowhere") == 0


def test_a_repo_is_made_when_first_needed_and_removed_at_the_end(central: CentralRepo, local: Path) -> None:
    repo = make_full(central, local)
    assert list(local.iterdir()) == []
    assert repo.butler.dimensions == central.universe
    (root,) = local.iterdir()
    assert (root / LOCK_NAME).exists()
    repo.close()
    assert list(local.iterdir()) == []
    repo.close()


def test_a_repo_that_cannot_be_made_leaves_nothing(central: CentralRepo, local: Path) -> None:
    repo = make_full(central, local, config=Config({"registry": {"db": "nonsense://"}}))
    with pytest.raises(Exception):  # noqa: B017, PT011 - sqlalchemy chooses
        _ = repo.butler
    assert list(local.iterdir()) == []


def test_a_repo_is_new_after_it_was_closed(central: CentralRepo, local: Path) -> None:
    repo = make_full(central, local)
    refs = biases(central)
    repo.transfer(refs)
    repo.close()
    # The cache must not believe in what is gone.
    repo.transfer(refs)
    assert all(repo.butler.stored_many(refs).values())
    repo.close()


def test_a_transfer_that_failed_is_made_again(
    central: CentralRepo, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = make_full(central, local)
    refs = biases(central)
    with monkeypatch.context() as patch:

        def fail(*args: Any, **kwargs: Any) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(repo.butler, "transfer_from", fail)
        with pytest.raises(OSError, match="No space"):
            repo.transfer(refs)
    repo.transfer(refs)
    assert all(repo.butler.stored_many(refs).values())
    repo.close()


def test_what_is_kept_is_not_copied_again(
    central: CentralRepo, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = make_full(central, local, size=1)
    first, second = biases(central)
    transferred: list[list[DatasetRef]] = []
    transfer = repo.butler.transfer_from

    def note(source: Butler, refs: list[DatasetRef], **kwargs: Any) -> Any:
        transferred.append(list(refs))
        return transfer(source, refs, **kwargs)

    monkeypatch.setattr(repo.butler, "transfer_from", note)
    for ref in (first, first, second, first):
        workspace = repo.open(context_of(central, f"g{len(transferred)}"))
        workspace.fetch([FoundInput(ref)])
        assert workspace.has("bias") and workspace.has_ref(ref)
        workspace.close()
    assert transferred == [[first], [second], [first]]
    assert not repo.butler.stored(second)
    repo.close()


def test_nothing_the_visit_needs_is_evicted(central: CentralRepo, local: Path) -> None:
    repo = make_full(central, local, size=1)
    refs = flats(central)
    assert len(refs) > 3
    workspace = repo.open(context_of(central, "many"))
    workspace.fetch(FoundInput(ref) for ref in refs)
    assert all(workspace.has_ref(ref) for ref in refs)
    workspace.close()
    assert sum(repo.butler.stored_many(refs).values()) == 1
    repo.close()


def test_what_is_cached_of_other_visits_is_not_seen(central: CentralRepo, local: Path) -> None:
    repo = make_full(central, local)
    workspace = repo.open(context_of(central, "first"))
    workspace.fetch(FoundInput(ref) for ref in biases(central))
    workspace.close()
    workspace = repo.open(context_of(central, "second"))
    assert not workspace.has("bias")
    assert workspace.inputs() == [] and workspace.outputs() == []
    workspace.close()
    repo.close()


def test_a_repo_from_which_a_visit_cannot_be_removed_is_given_up(
    central: CentralRepo, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = make_full(central, local)
    workspace = repo.open(context_of(central, "stuck"))
    workspace.fetch(FoundInput(ref) for ref in biases(central))
    (root,) = local.iterdir()
    (root / "gen3.sqlite3").unlink()
    (root / "gen3.sqlite3").write_bytes(b"not a database" * 100)
    workspace.close()
    assert root not in list(local.iterdir())
    again = repo.open(context_of(central, "next"))
    again.fetch(FoundInput(ref) for ref in biases(central))
    assert again.has("bias")
    again.close()
    repo.close()


def test_configuration_of_the_local_repo(central: CentralRepo, built_central: Path, tmp_path: Path) -> None:
    for uri in (built_central, built_central / "butler.yaml"):
        config = local_config(str(uri))
        assert config["storageClasses", "TestThing", "parameters"] == ["rows"]
        assert "PPImage" in config["datastore", "formatters"]
        assert ("registry", "db") not in config
    own = tmp_path / "own.yaml"
    own.write_text("storageClasses: {Mine: {pytype: dict}}\n")
    assert local_config(str(built_central), str(own))["storageClasses", "Mine", "pytype"] == "dict"


def test_memory_reads_once(central: CentralRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = MemoryRepo(central=central, cache=DatasetCache(1), raw_formatter=ImageFormatter)
    first, second = biases(central)
    read: list[DatasetRef] = []
    get = central.read_butler.get
    monkeypatch.setattr(central.read_butler, "get", lambda ref: read.append(ref) or get(ref))
    for ref in (first, first, second, first):
        workspace = repo.open(context_of(central, "g"))
        workspace.fetch([FoundInput(ref), FoundInput(ref)])
        assert workspace.has("bias") and workspace.inputs() == [ref]
        assert workspace.read(ref).data.mean() == 100.0
        assert repo.cached_bytes > 0
        workspace.close()
    assert read == [first, second, first]
    repo.close()
    assert repo.cached_bytes == 0
    workspace = repo.open(context_of(central, "g"))
    workspace.fetch([FoundInput(first)])
    assert workspace.read(first).data.mean() == 100.0


def test_memory_holds_all_that_a_visit_needs(central: CentralRepo) -> None:
    repo = MemoryRepo(central=central, cache=DatasetCache(1), raw_formatter=ImageFormatter)
    refs = flats(central)
    workspace = repo.open(context_of(central, "g"))
    workspace.fetch(FoundInput(ref) for ref in refs)
    assert all(workspace.has_ref(ref) for ref in refs)
    kept = repo.cached_bytes
    workspace.close()
    assert 0 < repo.cached_bytes < kept
