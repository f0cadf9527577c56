"""Files written straight to their final place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table
from lsst.daf.butler import Butler, Config, DatasetType
from lsst.resources import ResourcePath
from sketch.model import Image

from models.errors import InvalidConfiguration
from repos.central_files import CentralFiles
from repos.data_ids import output_ref
from repos.memory_butler import StoredDataset
from tests.repos.sketch_repo import DETECTOR, INSTRUMENT

VALUES: dict[str, Any] = {
    "PPImage": Image(np.ones((3, 3), "f4"), {"A": 1}),
    "ArrowAstropy": Table({"a": np.arange(3)}),
    "DataFrame": Table({"a": np.arange(3)}),
    "StructuredDataDict": {"a": [1, 2]},
    "PPNpz": np.arange(4.0),
}


@pytest.fixture
def butler(central_root: Path) -> Iterator[Butler]:
    with Butler.from_config(str(central_root), writeable=True) as made:
        made.collections.register("u/run")
        for storage_class in VALUES:
            made.registry.registerDatasetType(
                DatasetType(
                    f"out_{storage_class}",
                    ("instrument", "detector"),
                    storage_class,
                    universe=made.dimensions,
                )
            )
        yield made


@pytest.fixture
def files(central_root: Path, butler: Butler) -> CentralFiles:
    return CentralFiles(str(central_root), butler.dimensions)


def dataset(butler: Butler, storage_class: str, value: Any = None) -> StoredDataset:
    data_id = butler.registry.expandDataId(instrument=INSTRUMENT, detector=DETECTOR)
    ref = output_ref(butler.get_dataset_type(f"out_{storage_class}"), data_id, "u/run")
    return StoredDataset(ref, VALUES[storage_class] if value is None else value)


@pytest.mark.parametrize("storage_class", VALUES)
def test_as_the_butler_would(
    butler: Butler, files: CentralFiles, central_root: Path, storage_class: str
) -> None:
    stored = dataset(butler, storage_class)
    written = files.write(stored)
    content = (central_root / str(written.path)).read_bytes()
    butler.put(stored.value, stored.ref)
    assert butler.getURI(stored.ref).ospath == str(central_root / str(written.path))
    exported = next(iter(butler._datastore.export([stored.ref], transfer="direct")))
    assert written.formatter == exported.formatter
    assert content == Path(butler.getURI(stored.ref).ospath).read_bytes()


@pytest.mark.parametrize("storage_class", VALUES)
def test_a_stranger_can_read_them(
    butler: Butler, files: CentralFiles, central_root: Path, storage_class: str
) -> None:
    stored = dataset(butler, storage_class)
    butler.ingest(files.write(stored), transfer=None)
    with Butler.from_config(str(central_root)) as fresh:
        value = fresh.get(stored.ref)
    wanted = stored.ref.datasetType.storageClass.coerce_type(VALUES[storage_class])
    same = np.all(value == wanted) if not isinstance(value, dict) else value == wanted
    assert same


@pytest.mark.parametrize("storage_class", ["PPImage", "ArrowAstropy"])
def test_a_file_is_replaced_in_one_step(
    butler: Butler, files: CentralFiles, central_root: Path, storage_class: str
) -> None:
    # Of different lengths, so that half of one is neither.
    values: list[Any] = (
        [Image(np.full((n, n), n, "f4")) for n in (64, 128)]
        if storage_class == "PPImage"
        else [Table({"a": np.arange(n)}) for n in (1000, 5000)]
    )
    versions = [dataset(butler, storage_class, value) for value in values]
    path = central_root / str(files.write(versions[0]).path)
    contents = {path.read_bytes()}
    files.write(versions[1])
    contents.add(path.read_bytes())
    seen: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    with path.open("rb") as held:
        begun = held.read(100)
        for i in range(60):
            files.write(versions[i % 2])
        # Who has it open goes on with the file that was.
        assert begun + held.read() in contents
    done.set()
    reader.join()
    assert seen and set(seen) <= contents
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("storage_class", ["StructuredDataDict", "ArrowAstropy"])
def test_nothing_is_left_of_a_failure(
    butler: Butler,
    files: CentralFiles,
    central_root: Path,
    storage_class: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = dataset(butler, storage_class)
    path = central_root / str(files.write(stored).path)
    before = path.read_bytes()

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="No space"):
            files.write(stored)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_a_copy(butler: Butler, files: CentralFiles, central_root: Path, tmp_path: Path) -> None:
    stored = dataset(butler, "StructuredDataDict")
    source = tmp_path / "elsewhere.yaml"
    source.write_text("a: 5\n")
    copied = files.copy(ResourcePath(str(source)), stored.ref)
    assert copied.path == files.write(stored).path
    files.copy(ResourcePath(str(source)), stored.ref)
    assert (central_root / str(copied.path)).read_text() == "a: 5\n"
    butler.ingest(copied, transfer=None)
    assert butler.get(stored.ref) == {"a": 5}


def test_a_datastore_without_files(central_root: Path, butler: Butler) -> None:
    config = Config(str(central_root / "butler.yaml"))
    config["datastore"] = {"cls": "lsst.daf.butler.datastores.inMemoryDatastore.InMemoryDatastore"}
    config.dumpToUri(str(central_root / "butler.yaml"))
    with pytest.raises(InvalidConfiguration, match="file datastore"):
        CentralFiles(str(central_root), butler.dimensions)
