"""A central repo on PostgreSQL and S3."""

from __future__ import annotations

import dataclasses
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy.exc
from botocore.exceptions import ClientError
from lsst.daf.butler import Config, DatasetRef
from lsst.daf.butler.registry import ConflictingDefinitionError
from lsst.resources import ResourcePath
from lsst.resources.s3utils import getS3Client

from init_job.create_central import create_central
from models.errors import InvalidConfiguration
from repos.central import CentralRepo, check_central_repo, open_butler
from repos.dataset_cache import DatasetCache
from repos.formatters import raw_formatter
from repos.full_repo import FullRepo, local_config
from repos.handover import DirectHandover
from repos.memory_repo import MemoryRepo
from repos.retry import is_outage
from simulator.servers.postgresql import PostgreSQLServer
from simulator.servers.s3 import S3Server
from tests.init_job.seed import write_seed
from tests.repos.server_repo import INSTRUMENT, RUN, TYPES, ServerRepo
from tests.servers import unique_name

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module", autouse=True)
def s3(s3_server: S3Server) -> Iterator[S3Server]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        yield s3_server


@pytest.fixture(scope="module")
def repo(postgresql: PostgreSQLServer, s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> ServerRepo:
    return ServerRepo.create(postgresql, s3, tmp_path_factory.mktemp("servers"))


@pytest.fixture
def central(repo: ServerRepo) -> Iterator[CentralRepo]:
    made = CentralRepo(uri=repo.uri, retry_delay=0.05)
    yield made
    made.close()


def test_what_was_made_can_be_read(repo: ServerRepo, central: CentralRepo) -> None:
    butler = central.read_butler
    refs = butler.query_datasets("flat", f"{INSTRUMENT}/calib/run", instrument=INSTRUMENT)
    assert len(refs) == 4
    assert all(str(central.artifact(ref)).startswith(repo.uri) for ref in refs)
    assert butler.get(refs[0]).image.shape == butler.get(refs[1]).image.shape
    assert check_central_repo(repo.uri, INSTRUMENT) == []
    tables = repo.execute(
        "SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_name = 'dataset_type'"
    )
    assert [schema for (schema,) in tables] == [repo.schema]


def test_preload_in_both_forms(repo: ServerRepo, central: CentralRepo, tmp_path: Path) -> None:
    (ref,) = central.read_butler.query_datasets(
        "bias",
        f"{INSTRUMENT}/calib/run",
        data_id={"instrument": INSTRUMENT, "detector": 1},
        with_dimension_records=True,
    )
    expected = central.read_butler.get(ref).image
    memory = MemoryRepo(central=central, cache=DatasetCache(), raw_formatter=raw_formatter(1))
    assert (memory.load(ref).image == expected).all()
    full = FullRepo(
        central=central,
        directory=tmp_path,
        config=local_config(repo.uri),
        cache=DatasetCache(),
        raw_formatter=raw_formatter(1),
    )
    full.transfer([ref])
    assert full.butler.getURI(ref).isLocal
    assert (full.butler.get(ref).image == expected).all()
    full.close()


def test_direct_export(repo: ServerRepo, central: CentralRepo) -> None:
    outputs = repo.outputs(central, "exported")
    assert DirectHandover(central.registry_writer).hand_over(outputs) == ()
    assert repo.held()["exported"] == {"group": "exported", "value": ""}
    # Again: nothing is inserted, and the file is the new one.
    again = repo.outputs(central, "exported", value="second")
    DirectHandover(central.registry_writer).hand_over(again)
    assert repo.held()["exported"] == {"group": "exported", "value": "second"}


def test_a_file_is_put_in_one_request(repo: ServerRepo, central: CentralRepo) -> None:
    repo.outputs(central, "warm")
    requests: list[str] = []
    events = getS3Client().meta.events
    events.register("before-call.s3", lambda model, **_: requests.append(model.name), unique_id="spy")
    try:
        repo.outputs(central, "counted")
    finally:
        events.unregister("before-call.s3", unique_id="spy")
    assert requests == ["PutObject"] * len(TYPES)


def test_files_are_copied_from_the_full_form(repo: ServerRepo, central: CentralRepo, tmp_path: Path) -> None:
    (file,) = repo.outputs(central, "copied").files[:1]
    source = tmp_path / "made.yaml"
    source.write_text("{group: copied, value: copy}")
    copied = central.files.copy(ResourcePath(str(source)), file.refs[0])
    assert (copied.path, copied.formatter) == (file.path, file.formatter)
    assert ResourcePath(repo.uri).join(str(copied.path)).read() == source.read_bytes()


def test_a_conflict_with_the_registry(repo: ServerRepo, central: CentralRepo) -> None:
    outputs = repo.outputs(central, "conflict")
    (ref,) = outputs.files[0].refs
    other = DatasetRef(ref.datasetType, ref.dataId, RUN, id=uuid.uuid4())
    conflicting = dataclasses.replace(outputs, files=[dataclasses.replace(outputs.files[0], refs=[other])])
    central.registry_writer.ingest([conflicting])
    with pytest.raises(ConflictingDefinitionError) as caught:
        central.registry_writer.ingest([outputs])
    assert not is_outage(caught.value)
    # The connection is of use afterwards, and nothing of the export is there.
    central.registry_writer.ingest([repo.outputs(central, "after")])
    assert TYPES[1] not in {r.datasetType.name for r in _of_group(repo, "conflict")}


def _of_group(repo: ServerRepo, group: str) -> list[DatasetRef]:
    with open_butler(repo.uri) as fresh:
        data_id = {"instrument": INSTRUMENT, "group": group}
        return [r for name in TYPES for r in fresh.query_datasets(name, RUN, data_id=data_id, explain=False)]


def test_a_replica_that_can_only_be_read(repo: ServerRepo, tmp_path: Path) -> None:
    reader = unique_name("reader")
    repo.execute(f"CREATE ROLE {reader} LOGIN")
    repo.execute(f"GRANT USAGE ON SCHEMA {repo.schema} TO {reader}")
    repo.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {repo.schema} TO {reader}")
    config = Config(ResourcePath(repo.uri, forceDirectory=True).join("butler.yaml"))
    config["registry", "db"] = repo.server.url(repo.database).replace("prompt@", f"{reader}@")
    config["root"] = repo.uri
    config.dumpToUri(str(tmp_path / "butler.yaml"))
    central = CentralRepo(uri=repo.uri, read_uri=str(tmp_path / "butler.yaml"), retry_delay=0.05)
    (ref,) = central.read_butler.query_datasets(
        "bias", f"{INSTRUMENT}/calib/run", data_id={"instrument": INSTRUMENT, "detector": 0}
    )
    assert central.read_butler.get(ref).image.shape
    central.registry_writer.ingest([repo.outputs(central, "through-the-primary")])
    assert "through-the-primary" in repo.held()
    with pytest.raises(InvalidConfiguration, match="permission denied"):
        open_butler(str(tmp_path / "butler.yaml"), writeable=True)
    central.close()


def test_idle_workers_hold_no_connection(repo: ServerRepo, central: CentralRepo) -> None:
    def connections() -> set[int]:
        query = (
            f"SELECT pid FROM pg_stat_activity WHERE datname = '{repo.database}' AND pid <> pg_backend_pid()"
        )
        return {pid for (pid,) in repo.execute(query)}

    others = connections()
    central.registry_writer.ingest([repo.outputs(central, "busy")])
    ours = connections() - others
    assert len(ours) == 2
    central.rest()
    # The server takes a moment to see that a client has gone.
    for _ in range(100):
        if not ours & connections():
            break
    assert not ours & connections()
    central.registry_writer.ingest([repo.outputs(central, "busy-again")])


def test_connections_survive_a_restart_between_visits(
    repo: ServerRepo, central: CentralRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    central.registry_writer.ingest([repo.outputs(central, "before")])
    repo.server.stop()
    repo.server.start()

    pause = time.sleep

    def no_pause(seconds: float) -> None:
        # Threads of clients may wait for what they like.
        assert threading.current_thread() is not threading.main_thread(), "the first try should do"
        pause(seconds)

    with monkeypatch.context() as impatient:
        impatient.setattr("time.sleep", no_pause)
        assert central.instrument_records(INSTRUMENT, 1)
        central.registry_writer.ingest([repo.outputs(central, "after-restart")])
    assert {"before", "after-restart"} <= repo.held().keys()


def test_connections_that_the_server_cut(repo: ServerRepo, central: CentralRepo) -> None:
    central.registry_writer.ingest([repo.outputs(central, "before-cut")])
    repo.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{repo.database}' "
        "AND pid <> pg_backend_pid()"
    )
    central.registry_writer.ingest([repo.outputs(central, "after-cut")])


def test_a_server_that_is_away(repo: ServerRepo, central: CentralRepo) -> None:
    outputs = repo.outputs(central, "away")
    assert central.dataset_type("bias") is not None
    central.write_butler.registry.refresh()
    repo.server.stop()
    try:
        with pytest.raises(sqlalchemy.exc.OperationalError) as caught:
            central.registry_writer.ingest([outputs])
        assert is_outage(caught.value)
        with pytest.raises(sqlalchemy.exc.OperationalError):
            open_butler(repo.uri)
        (fault,) = check_central_repo(repo.uri, INSTRUMENT)
        assert "refused" in fault
    finally:
        repo.server.start()
    central.registry_writer.ingest([outputs])
    assert "away" in repo.held()


def test_a_server_that_comes_back_before_the_second_try(
    repo: ServerRepo, central: CentralRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = repo.outputs(central, "meanwhile")
    _ = central.registry_writer
    repo.server.stop()
    monkeypatch.setattr("time.sleep", lambda _seconds: repo.server.start())
    try:
        central.registry_writer.ingest([outputs])
    finally:
        monkeypatch.undo()
        repo.server.start()
    assert "meanwhile" in repo.held()


def test_a_store_that_comes_back(repo: ServerRepo, central: CentralRepo, s3: S3Server) -> None:
    repo.outputs(central, "stored")
    s3.pause()
    later = threading.Timer(1.0, s3.resume)
    later.start()
    repo.outputs(central, "stored-again")
    later.join()


def test_a_bucket_is_missing(repo: ServerRepo, central: CentralRepo, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="No such resource: s3://there-is-none/central"):
        open_butler("s3://there-is-none/central")
    config = Config(ResourcePath(repo.uri, forceDirectory=True).join("butler.yaml"))
    config["datastore", "root"] = "s3://gone"
    config.dumpToUri(str(tmp_path / "butler.yaml"))
    broken = CentralRepo(uri=str(tmp_path / "butler.yaml"), retry_delay=0.01)
    with pytest.raises(ClientError, match="NoSuchBucket") as caught:
        repo.outputs(broken, "lost")
    assert is_outage(caught.value)
    broken.close()


def test_an_input_is_missing(repo: ServerRepo, central: CentralRepo) -> None:
    (ref,) = central.read_butler.query_datasets(
        "dark", f"{INSTRUMENT}/calib/run", data_id={"instrument": INSTRUMENT, "detector": 0}
    )
    central.artifact(ref).remove()
    with pytest.raises(FileNotFoundError, match=f"s3://{repo.bucket}"):
        central.read_butler.get(ref)


class TestNew:
    """Repos that cannot be made."""

    @pytest.fixture
    def bucket(self, s3: S3Server) -> str:
        name = unique_name("b")
        s3.create_bucket(name)
        return name

    def test_without_the_extension(
        self, postgresql: PostgreSQLServer, s3: S3Server, bucket: str, tmp_path: Path
    ) -> None:
        database = unique_name("d")
        url = postgresql.create_database(database)
        other = ServerRepo("", bucket, database, "public", postgresql)
        other.execute("DROP EXTENSION btree_gist")
        write_seed(tmp_path / "seed")
        root = f"s3://{bucket}/central"
        with pytest.raises(InvalidConfiguration) as caught:
            create_central(root, tmp_path / "seed", registry=url)
        assert f"psql -d {database} -c 'CREATE EXTENSION btree_gist'" in str(caught.value)
        other.execute("CREATE EXTENSION btree_gist")
        create_central(root, tmp_path / "seed", registry=url)
        with pytest.raises(InvalidConfiguration, match=r"there is a repository at .* already"):
            create_central(root, tmp_path / "seed", registry=url)
        # The one that is there has not been touched.
        assert check_central_repo(root, INSTRUMENT) == []
        with pytest.raises(InvalidConfiguration, match="holds a repository already"):
            create_central(f"{root}-2", tmp_path / "seed", registry=url)
        create_central(f"{root}-2", tmp_path / "seed", registry=url, namespace="second")
        assert check_central_repo(f"{root}-2", INSTRUMENT) == []

    def test_the_files_elsewhere(self, postgresql: PostgreSQLServer, bucket: str, tmp_path: Path) -> None:
        write_seed(tmp_path / "seed")
        store = f"s3://{bucket}/files"
        create_central(str(tmp_path / "central"), tmp_path / "seed", datastore=store)
        central = CentralRepo(uri=str(tmp_path / "central"), retry_delay=0.01)
        (ref,) = central.read_butler.query_datasets(
            "bias", f"{INSTRUMENT}/calib/run", data_id={"instrument": INSTRUMENT, "detector": 0}
        )
        assert str(central.artifact(ref)).startswith(store)
        central.close()

    @pytest.mark.parametrize(
        ("root", "database", "said"),
        [
            ("s3://{bucket}/central", None, "needs a registry on a server"),
            ("s3://{bucket}/central", "nowhere", 'database "nowhere" does not exist'),
            ("s3://there-is-none/central", "postgres", "there-is-none"),
            ("{tmp_path}/central", "nowhere", 'database "nowhere" does not exist'),
        ],
    )
    def test_something_is_missing(
        self,
        postgresql: PostgreSQLServer,
        bucket: str,
        tmp_path: Path,
        root: str,
        database: str | None,
        said: str,
    ) -> None:
        write_seed(tmp_path / "seed")
        place = root.format(bucket=bucket, tmp_path=tmp_path)
        with pytest.raises(InvalidConfiguration, match=said):
            create_central(place, tmp_path / "seed", registry=postgresql.url(database) if database else None)
        assert not (tmp_path / "central").exists()
