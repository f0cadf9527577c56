"""Connections to the central repo, and what is read through them."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import filelock
import pytest
import sqlalchemy.exc
from lsst.daf.butler import Butler, Config, DatasetType

from models.errors import InvalidConfiguration
from repos.central import CentralRepo, check_central_repo, open_butler, sqlite_lock
from tests.repos.sketch_repo import DETECTOR, INSTRUMENT


@pytest.fixture
def central(central_root: Path) -> Iterator[CentralRepo]:
    made = CentralRepo(uri=str(central_root), retry_delay=0.001)
    yield made
    made.close()


def initialise(root: Path, run: str) -> None:
    """Write what the initializer writes last."""
    with Butler.from_config(str(root), run=run, writeable=True) as butler:
        butler.registry.registerDatasetType(
            DatasetType("packages", (), "StructuredDataDict", universe=butler.dimensions)
        )
        butler.put({}, "packages")


def change_attribute(root: Path, name: str, value: str) -> None:
    with sqlite3.connect(root / "gen3.sqlite3") as database:
        changed = database.execute("UPDATE butler_attributes SET value = ? WHERE name = ?", (value, name))
        assert changed.rowcount == 1
    database.close()


def test_there_is_no_repo(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="nothing-here"):
        open_butler(str(tmp_path / "nothing-here"))
    assert "nothing-here" in check_central_repo(str(tmp_path / "nothing-here"), INSTRUMENT)[0]


@pytest.mark.parametrize("broken", ["config:dimensions.json", "config:registry.managers.dimensions"])
def test_a_repo_that_the_installed_butler_cannot_open(central_root: Path, broken: str) -> None:
    change_attribute(central_root, broken, json.dumps({"version": 9999, "namespace": "x", "elements": {}}))
    with pytest.raises(InvalidConfiguration, match="cannot be opened by the installed Butler"):
        open_butler(str(central_root))


def test_a_database_that_cannot_be_reached_is_not_a_wrong_configuration(central_root: Path) -> None:
    config = Config(str(central_root / "butler.yaml"))
    config["registry", "db"] = "sqlite:////nonexistent/directory/gen3.sqlite3"
    config.dumpToUri(str(central_root / "butler.yaml"))
    with pytest.raises(sqlalchemy.exc.OperationalError):
        open_butler(str(central_root))
    assert check_central_repo(str(central_root), INSTRUMENT)


def test_check(central_root: Path) -> None:
    assert check_central_repo(str(central_root), INSTRUMENT) == []
    (fault,) = check_central_repo(str(central_root), "OtherCam")
    assert "OtherCam" in fault and str(central_root) in fault


def test_records(central: CentralRepo) -> None:
    records = central.instrument_records(INSTRUMENT, DETECTOR)
    assert [r.id for r in records["detector"]] == [DETECTOR]
    assert {r.name for r in records["physical_filter"]} == {"g_6", "r_57", "i_39"}
    for instrument, detector in (("OtherCam", 1), (INSTRUMENT, 4000)):
        with pytest.raises(InvalidConfiguration, match=f"{instrument} detector {detector}"):
            central.instrument_records(instrument, detector)


def test_dataset_types_that_come_later(central: CentralRepo, central_root: Path) -> None:
    assert central.dataset_type("later") is None
    with Butler.from_config(str(central_root), writeable=True) as other:
        other.registry.registerDatasetType(
            DatasetType("later", ("instrument",), "StructuredDataDict", universe=other.dimensions)
        )
    found = central.dataset_type("later")
    assert found is not None and found.name == "later"


def test_initialisation_is_noticed(central: CentralRepo, central_root: Path) -> None:
    runs = ["ProtoCam/prompt/a", "ProtoCam/prompt/b"]
    assert not central.is_initialised(runs)
    initialise(central_root, runs[0])
    assert central.is_initialised(runs[:1])
    assert not central.is_initialised(runs)
    initialise(central_root, runs[1])
    assert central.is_initialised(runs)


def test_a_run_without_packages_is_not_ready(central: CentralRepo, central_root: Path) -> None:
    with Butler.from_config(str(central_root), writeable=True) as other:
        other.collections.register("ProtoCam/prompt/half")
    assert not central.is_initialised(["ProtoCam/prompt/half"])


def test_the_primary_is_asked_where_the_replica_lags(central_root: Path, tmp_path: Path) -> None:
    replica = Path(shutil.copytree(central_root, tmp_path / "replica"))
    initialise(central_root, "ProtoCam/prompt/a")
    central = CentralRepo(uri=str(central_root), read_uri=str(replica))
    try:
        assert central.is_initialised(["ProtoCam/prompt/a"])
        assert central.write_butler.isWriteable()
        assert not central.read_butler.isWriteable()
    finally:
        central.close()
    alone = CentralRepo(uri=str(replica))
    assert not alone.is_initialised(["ProtoCam/prompt/a"])
    alone.close()


def test_init_outputs(central: CentralRepo, central_root: Path) -> None:
    assert central.init_outputs("nowhere", ["packages", "unknown"]) == {}
    initialise(central_root, "ProtoCam/prompt/a")
    found = central.init_outputs("ProtoCam/prompt/a", ["packages", "unknown"])
    assert set(found) == {"packages"}
    assert central.artifact(found["packages"]).exists()


def test_nothing_is_opened_before_it_is_used(tmp_path: Path) -> None:
    central = CentralRepo(uri=str(tmp_path / "nothing"), retry_delay=0.001)
    central.close()
    with pytest.raises(InvalidConfiguration):
        _ = central.read_butler


def test_opening_is_tried_twice(central_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def fail_once(uri: str, *, writeable: bool = False) -> Butler:
        calls.append(uri)
        if len(calls) == 1:
            raise sqlalchemy.exc.OperationalError("connect", {}, Exception("gone"))
        return open_butler(uri, writeable=writeable)

    monkeypatch.setattr("repos.central.open_butler", fail_once)
    central = CentralRepo(uri=str(central_root), retry_delay=0.001)
    assert central.universe.version >= 7
    assert len(calls) == 2
    central.close()


def test_writers_to_sqlite_stand_in_line(central_root: Path) -> None:
    lock, same = sqlite_lock(str(central_root)), sqlite_lock(str(central_root))
    with lock:
        assert isinstance(same, filelock.BaseFileLock)
        with pytest.raises(filelock.Timeout):
            same.acquire(blocking=False)
    with same:
        pass


def test_a_database_server_needs_no_lock(central_root: Path) -> None:
    config = Config(str(central_root / "butler.yaml"))
    config["registry", "db"] = "postgresql://host/database"
    config.dumpToUri(str(central_root / "butler.yaml"))
    assert isinstance(sqlite_lock(str(central_root)), nullcontext)
