"""What Rucio's clients ask of a server, and what becomes of failures."""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from models.errors import InvalidConfiguration, InvalidMessage, TemporarilyUnavailable
from models.streaming.datasets import CatalogueFile, DatasetId
from repos.streaming.rucio_catalogue import RucioCatalogue
from repos.streaming.rucio_clients import RucioClients, in_order
from repos.streaming.rucio_configuration import require_rucio_configuration
from repos.streaming.rucio_storage import RucioUpload, XrootdCopy
from tests.repos.streaming.rucio_server import RSE, RucioDouble, configured
from tests.services.streaming.data_world import DataWorld

DATASET = DatasetId("group.daq", "swf.102363.run")
NAME = "swf.102363.000001.stf"
GUID = "0f3a7b52-6c8e-4e2b-9a45-3d1f60c2b7aa"
WEEK = 604800
DID = f"/dids/group.daq/{NAME}"


@pytest.fixture
def rucio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RucioDouble]:
    """A server, and a configuration that leads there."""
    with configured(RucioDouble(storage=tmp_path / "storage"), tmp_path, monkeypatch) as double:
        yield double


@pytest.fixture
def catalogue(rucio: RucioDouble) -> RucioCatalogue:
    return RucioCatalogue(RucioUpload(rse=RSE))


@pytest.fixture
def file(tmp_path: Path) -> CatalogueFile:
    path = tmp_path / NAME
    path.write_bytes(b"an STF of 20 bytes..")
    return CatalogueFile(
        name=NAME,
        path=path,
        size_bytes=20,
        adler32=f"{zlib.adler32(path.read_bytes()):08x}",
        guid=GUID,
        metadata={"run_number": 102363},
    )


def stored(rucio: RucioDouble) -> list[Path]:
    return [path for path in rucio.storage.rglob("*") if path.is_file()]


def replica(file: CatalogueFile, **more: Any) -> dict[str, Any]:
    return {
        "scope": "group.daq",
        "name": NAME,
        "bytes": 20,
        "adler32": file.adler32,
        "md5": hashlib.md5(file.path.read_bytes()).hexdigest(),
        "meta": {"guid": GUID.replace("-", "")},
        **more,
    }


def test_requests_of_a_run(rucio: RucioDouble, catalogue: RucioCatalogue, file: CatalogueFile) -> None:
    catalogue.create_dataset(DATASET, lifetime=WEEK)
    catalogue.add_files(DATASET, [file])
    catalogue.close_dataset(DATASET)
    dataset = "/dids/group.daq/swf.102363.run"
    calls = [call for call in rucio.calls() if call[1] != "/traces/"]
    assert calls == [
        ("POST", dataset, {"type": "DATASET", "meta": {"lifetime": WEEK}, "lifetime": WEEK}),
        ("PUT", f"{dataset}/status", {"open": True}),
        ("POST", "/replicas", {"rse": RSE, "files": [replica(file, state="C")], "ignore_availability": True}),
        ("POST", "/rules/", calls[3][2]),
        ("PUT", "/replicas", {"rse": RSE, "files": [replica(file, state="A")]}),
        ("POST", f"{DID}/meta/run_number", {"value": 102363, "recursive": False}),
        ("POST", f"{DID}/meta/guid", {"value": GUID, "recursive": False}),
        ("POST", f"{dataset}/dids", {"dids": [{"scope": "group.daq", "name": NAME}]}),
        ("PUT", f"{dataset}/status", {"open": False}),
    ]
    rule = calls[3][2]
    assert (rule["dids"], rule["copies"], rule["rse_expression"]) == (
        [{"scope": "group.daq", "name": NAME}],
        1,
        RSE,
    )
    [content] = stored(rucio)
    assert content.read_bytes() == file.path.read_bytes()
    assert catalogue.is_open(DATASET) is False


def test_what_is_asked_twice_has_one_effect(
    rucio: RucioDouble, catalogue: RucioCatalogue, file: CatalogueFile
) -> None:
    for _ in range(2):
        catalogue.create_dataset(DATASET, lifetime=WEEK)
        catalogue.add_files(DATASET, [file])
    for _ in range(2):
        catalogue.close_dataset(DATASET)
    assert rucio.contents == {str(DATASET): [f"group.daq:{NAME}"]}
    assert len(stored(rucio)) == 1
    assert ("POST", "/dids/group.daq/swf.102363.run/meta/lifetime", {"value": WEEK, "recursive": False}) in (
        rucio.calls()
    )
    [found] = catalogue.files(DATASET)
    assert (found.name, found.size_bytes, found.adler32) == (NAME, 20, file.adler32)
    assert catalogue.files(DATASET, after=1) == []
    rucio.dids[f"group.daq:{NAME}"]["adler32"] = None
    assert [file.adler32 for file in catalogue.files(DATASET)] == [""]


@pytest.mark.parametrize(
    "step",
    [
        "GET /rses/",
        f"GET {DID}/meta",
        "POST /replicas",
        "POST /rules",
        f"POST {DID}/meta/run_number",
        f"POST {DID}/meta/guid",
        "POST /dids/group.daq/swf.102363.run/dids",
    ],
)
def test_each_step_that_fails_is_done_again(
    rucio: RucioDouble, catalogue: RucioCatalogue, file: CatalogueFile, step: str
) -> None:
    catalogue.create_dataset(DATASET, lifetime=WEEK)
    rucio.failing[step] = 1
    with pytest.raises(TemporarilyUnavailable, match="Rucio"):
        catalogue.add_files(DATASET, [file])
    catalogue.add_files(DATASET, [file])
    assert rucio.failing[step] == 0
    assert rucio.contents[str(DATASET)] == [f"group.daq:{NAME}"]
    assert rucio.replicas == {f"group.daq:{NAME}": "A"}
    assert rucio.rules == [f"group.daq:{NAME}"]
    assert rucio.dids[f"group.daq:{NAME}"]["run_number"] == 102363


def test_upload_whose_last_request_fails_is_finished(
    rucio: RucioDouble, catalogue: RucioCatalogue, file: CatalogueFile
) -> None:
    """Killed, or failed, between the copy and the note that it is there."""
    catalogue.create_dataset(DATASET, lifetime=WEEK)
    rucio.failing["PUT /replicas"] = 1
    with pytest.raises(TemporarilyUnavailable):
        catalogue.add_files(DATASET, [file])
    assert rucio.replicas == {f"group.daq:{NAME}": "C"} and len(stored(rucio)) == 1
    catalogue.add_files(DATASET, [file])
    assert rucio.replicas == {f"group.daq:{NAME}": "A"}


def test_storage_that_fails(rucio: RucioDouble, catalogue: RucioCatalogue, file: CatalogueFile) -> None:
    catalogue.create_dataset(DATASET, lifetime=WEEK)
    rucio.storage.write_text("no directory")
    with pytest.raises(TemporarilyUnavailable):
        catalogue.add_files(DATASET, [file])
    assert rucio.contents == {}
    rucio.storage.unlink()
    catalogue.add_files(DATASET, [file])
    assert rucio.replicas == {f"group.daq:{NAME}": "A"}


def test_another_file_of_the_name_is_refused(
    rucio: RucioDouble, catalogue: RucioCatalogue, file: CatalogueFile
) -> None:
    catalogue.create_dataset(DATASET, lifetime=WEEK)
    catalogue.add_files(DATASET, [file])
    file.path.write_bytes(b"something else, long")
    with pytest.raises(InvalidMessage, match=NAME):
        catalogue.add_files(DATASET, [file])


def files_of(directory: Path, count: int) -> list[CatalogueFile]:
    files = []
    for number in range(1, count + 1):
        path = directory / f"swf.102363.{number:06d}.stf"
        path.write_bytes(b"%020d" % number)
        adler32 = f"{zlib.adler32(path.read_bytes()):08x}"
        files.append(CatalogueFile(path.name, path, 20, adler32, str(uuid4()), {"run_number": 102363}))
    return files


def test_several_files_go_at_once(rucio: RucioDouble, tmp_path: Path) -> None:
    """The server answers no registration until three of them wait for it."""
    together = threading.Barrier(3, timeout=60)
    rucio.arrives = lambda asked: asked.path == "/replicas" and asked.method == "POST" and together.wait()
    catalogue = RucioCatalogue(RucioUpload(rse=RSE), uploads=3)
    catalogue.create_dataset(DATASET, lifetime=WEEK)
    files = files_of(tmp_path, 9)
    catalogue.add_files(DATASET, files)
    expected = sorted(f"group.daq:{file.name}" for file in files)
    assert sorted(rucio.contents[str(DATASET)]) == sorted(rucio.rules) == expected
    assert rucio.replicas == dict.fromkeys(expected, "A")
    attached = [body["dids"][0]["name"] for _, path, body in rucio.calls("POST") if path.endswith("/dids")]
    assert sorted(attached) == [file.name for file in files]
    for file in files:
        steps = [path for _, path, _ in rucio.calls() if file.name in path]
        assert [path.rpartition("/")[2] for path in steps] == ["run_number", "guid"], file.name


def test_one_refused_file_among_several_at_once(rucio: RucioDouble, tmp_path: Path) -> None:
    catalogue = RucioCatalogue(RucioUpload(rse=RSE), uploads=4)
    catalogue.create_dataset(DATASET, lifetime=WEEK)
    files = files_of(tmp_path, 12)
    catalogue.add_files(DATASET, [files[5]])
    files[5].path.write_bytes(b"something else, long")
    with pytest.raises(InvalidMessage, match=files[5].name):
        catalogue.add_files(DATASET, files)
    inside = {name.partition(":")[2] for name in rucio.contents[str(DATASET)]}
    assert inside >= {file.name for file in files[:5]}, "those before it"
    rucio.failing["POST /replicas"] = 1
    with pytest.raises(TemporarilyUnavailable):
        catalogue.add_files(DATASET, files[6:])
    catalogue.add_files(DATASET, files[6:])
    assert len(rucio.contents[str(DATASET)]) == 12


def test_nothing_is_begun_behind_a_failure() -> None:
    begun: list[int] = []

    def do(item: int) -> None:
        begun.append(item)
        if item == 2:
            raise ValueError(item)

    errors = in_order(do, range(10), at_once=1)
    assert begun == [0, 1, 2]
    assert [type(error) for error in errors] == [type(None), type(None), ValueError]
    assert in_order(do, [], at_once=4) == []
    assert in_order(do, [5, 6], at_once=8) == [None, None]


def test_fewer_threads_than_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    done: list[int] = []
    assert in_order(done.append, range(5), at_once=4) == [None] * 5
    assert done == [*range(5)]


def test_closed_dataset(rucio: RucioDouble, catalogue: RucioCatalogue, file: CatalogueFile) -> None:
    assert catalogue.is_open(DATASET) is None
    with pytest.raises(InvalidMessage, match="no dataset"):
        catalogue.close_dataset(DATASET)
    assert catalogue.files(DATASET) == []
    catalogue.create_dataset(DATASET, lifetime=WEEK)
    assert catalogue.is_open(DATASET) is True
    catalogue.close_dataset(DATASET)
    catalogue.create_dataset(DATASET, lifetime=WEEK)
    with pytest.raises(InvalidMessage, match="is closed"):
        catalogue.add_files(DATASET, [file])


def test_closed_dataset_has_what_is_in_it(
    rucio: RucioDouble, catalogue: RucioCatalogue, file: CatalogueFile
) -> None:
    """An agent that lost its memory goes through a run again."""
    catalogue.create_dataset(DATASET, lifetime=WEEK)
    catalogue.add_files(DATASET, [file])
    catalogue.close_dataset(DATASET)
    catalogue.create_dataset(DATASET, lifetime=WEEK)
    catalogue.add_files(DATASET, [file])
    assert rucio.contents == {str(DATASET): [f"group.daq:{NAME}"]}


@pytest.mark.parametrize("missing", ["ScopeNotFound", "RSENotFound"])
def test_what_an_operator_can_make_is_waited_for(
    rucio: RucioDouble,
    catalogue: RucioCatalogue,
    file: CatalogueFile,
    missing: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            rucio, "answer", lambda *_: (404, {"ExceptionClass": missing, "ExceptionMessage": "no"})
        )
        with pytest.raises(TemporarilyUnavailable, match=missing):
            catalogue.create_dataset(DATASET, lifetime=WEEK)
        with pytest.raises(TemporarilyUnavailable, match=missing):
            catalogue.add_files(DATASET, [file])


def test_file_that_went_before_it_was_uploaded(
    rucio: RucioDouble, catalogue: RucioCatalogue, file: CatalogueFile
) -> None:
    catalogue.create_dataset(DATASET, lifetime=WEEK)
    aside = file.path.rename(file.path.with_suffix(".aside"))
    with pytest.raises(TemporarilyUnavailable, match="cannot be read"):
        catalogue.add_files(DATASET, [file])
    aside.rename(file.path)
    catalogue.add_files(DATASET, [file])
    assert rucio.contents == {str(DATASET): [f"group.daq:{NAME}"]}


def test_server_that_is_away_at_the_start(rucio: RucioDouble, catalogue: RucioCatalogue) -> None:
    rucio.tokens = False
    with pytest.raises(TemporarilyUnavailable, match="Authenticate"):
        catalogue.create_dataset(DATASET, lifetime=WEEK)
    rucio.tokens = True
    catalogue.create_dataset(DATASET, lifetime=WEEK)
    assert catalogue.is_open(DATASET)


def test_nobody_there(rucio: RucioDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    from rucio.client.client import Client

    nowhere = "http://127.0.0.1:9"
    clients = RucioClients(lambda: Client(rucio_host=nowhere, auth_host=nowhere))
    catalogue = RucioCatalogue(RucioUpload(rse=RSE), clients=clients)
    with pytest.raises(TemporarilyUnavailable):
        catalogue.is_open(DATASET)


def test_the_data_agent_gets_its_run_through_all_failures(
    rucio: RucioDouble, catalogue: RucioCatalogue, tmp_path: Path
) -> None:
    world = DataWorld(tmp_path)
    world.catalogue = catalogue  # type: ignore[assignment]
    world.restart().receive(world.announce("102363", 3))
    dataset = "/dids/group.daq/swf.102363.run"
    rucio.failing = {
        f"POST {dataset}/dids": 1,
        f"POST {dataset}": 1,
        f"PUT {dataset}": 2,
        "POST /replicas": 2,
        "PUT /replicas": 1,
        f"POST {DID}/meta": 2,
        "GET": 2,
    }
    world.pass_time(400.0, step=5.0)
    assert set(rucio.failing.values()) == {0}
    assert world.run("102363").complete
    attached = sorted(name[-7:] for name in rucio.contents[str(DATASET)])
    assert attached == ["001.stf", "002.stf", "003.stf"]
    assert set(rucio.replicas.values()) == {"A"} and len(stored(rucio)) == 3
    assert catalogue.is_open(DATASET) is False
    assert len(world.outbox()) == 1
    guids = [body["value"] for _, path, body in rucio.calls("POST") if path == f"{DID}/meta/guid"]
    assert len(set(guids)) == 1, "it is the same in every attempt"


def test_place_of_our_own(rucio: RucioDouble, file: CatalogueFile) -> None:
    rucio.deterministic = False
    catalogue = RucioCatalogue(RucioUpload(rse=RSE, door="file://localhost", folder=str(rucio.storage)))
    catalogue.create_dataset(DATASET, lifetime=WEEK)
    catalogue.add_files(DATASET, [file])
    assert stored(rucio) == [rucio.storage / DATASET.name / NAME]
    [added] = [body for method, path, body in rucio.calls("POST") if path == "/replicas"]
    assert added["files"][0]["pfn"] == f"file://localhost{rucio.storage}/{DATASET.name}/{NAME}"


def test_place_of_our_own_where_rucio_decides(rucio: RucioDouble, file: CatalogueFile) -> None:
    catalogue = RucioCatalogue(RucioUpload(rse=RSE, door="file://localhost", folder=str(rucio.storage)))
    catalogue.create_dataset(DATASET, lifetime=WEEK)
    for _ in range(2):
        with pytest.raises(InvalidMessage, match="unset PP_XROOTD_DOOR"):
            catalogue.add_files(DATASET, [file])


class Door:
    """Stands in for XRootD's file system."""

    def __init__(self) -> None:
        self.did: list[tuple[Any, ...]] = []
        self.ok = True

    def mkdir(self, path: str, flags: Any) -> tuple[Any, Any]:
        self.did.append(("mkdir", path))
        return SimpleNamespace(ok=True), None

    def copy(self, source: str, target: str, *, force: bool) -> tuple[Any, Any]:
        self.did.append(("copy", source, target, force))
        return SimpleNamespace(ok=self.ok, message="no space\n"), None


def test_copy_with_xrootd(rucio: RucioDouble, file: CatalogueFile) -> None:
    door = Door()
    storage = XrootdCopy(rse=RSE, door="root://door:1094/", folder="/epic/swf", files=door)
    catalogue = RucioCatalogue(storage)
    catalogue.create_dataset(DATASET, lifetime=WEEK)
    door.ok = False
    with pytest.raises(TemporarilyUnavailable, match="no space"):
        catalogue.add_files(DATASET, [file])
    door.ok = True
    for _ in range(2):
        catalogue.add_files(DATASET, [file])
    pfn = f"root://door:1094//epic/swf/swf.102363.run/{NAME}"
    assert door.did[-2:] == [("mkdir", "/epic/swf/swf.102363.run"), ("copy", str(file.path), pfn, True)]
    added = [body for method, path, body in rucio.calls("POST") if path == "/replicas"]
    assert added[0] == {
        "rse": RSE,
        "files": [
            {
                "scope": "group.daq",
                "name": NAME,
                "bytes": 20,
                "meta": {},
                "adler32": file.adler32,
                "pfn": pfn,
            }
        ],
        "ignore_availability": True,
    }
    assert len(added[0]["files"][0]["adler32"]) == 8
    copies = len(door.did)
    file.path.write_bytes(b"something else, long")
    other = replace(file, adler32=f"{zlib.adler32(file.path.read_bytes()):08x}")
    with pytest.raises(InvalidMessage, match="another file"):
        catalogue.add_files(DATASET, [other])
    assert len(door.did) == copies, "what is there is not written over"
    assert rucio.contents[str(DATASET)] == [f"group.daq:{NAME}"]


def test_xrootd_that_is_not_there() -> None:
    with pytest.raises(InvalidConfiguration, match="PP_XROOTD_DOOR"):
        XrootdCopy(rse=RSE, door=None, folder="/x")
    with pytest.raises(InvalidConfiguration, match="bindings"):
        XrootdCopy(rse=RSE, door="root://door/", folder="/x")


def test_configuration_that_is_missing(rucio: RucioDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    from rucio.common.config import clean_cached_config

    require_rucio_configuration()
    monkeypatch.setenv("RUCIO_CONFIG", "/nowhere/rucio.cfg")
    clean_cached_config()
    with pytest.raises(InvalidConfiguration, match="RUCIO_CONFIG"):
        require_rucio_configuration()
