"""An APDB on PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from lsst.dax.apdb.sql import ApdbSqlConfig

from init_job.new_repository import create_apdb
from models.errors import InvalidConfiguration, TemporarilyUnavailable
from pipelines.apdb_access import open_apdb
from repos.apdb import ApdbClient, check_apdb
from repos.postgresql import use_installed_driver
from simulator.servers.postgresql import PostgreSQLServer
from tests.repos.test_apdb import store
from tests.servers import unique_name

pytestmark = pytest.mark.servers


@pytest.fixture
def database(postgresql: PostgreSQLServer) -> str:
    return postgresql.create_database(unique_name("apdb"))


@pytest.fixture
def config(database: str, tmp_path: Path) -> str:
    path = tmp_path / "apdb.yaml"
    create_apdb(database, path, namespace="night")
    return str(path)


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    use_installed_driver()
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(sa.text(statement))]
    engine.dispose()
    return rows


def test_before_and_after(config: str, database: str) -> None:
    client = ApdbClient(config, connect=open_apdb)
    assert client.contains([11, 12], 3) is False
    store(config, 12, 3)
    assert client.contains([11, 12], 3) is True
    assert client.contains([12], 4) is False
    assert query(
        database, "SELECT table_schema FROM information_schema.tables WHERE table_name = 'DiaSource'"
    ) == [("night",)]


def test_a_slot_at_rest_holds_no_connection(config: str, database: str) -> None:
    others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    before = set(query(database, others))
    ApdbClient(config, connect=open_apdb).contains([1], 1)
    # The server takes a moment to see that a client has gone.
    assert any(set(query(database, others)) <= before for _ in range(100))


def test_it_waits_no_longer_than_it_must(config: str) -> None:
    apdb_config = open_apdb(config).getConfig()
    assert isinstance(apdb_config, ApdbSqlConfig)
    assert "connect_timeout=10" in apdb_config.db_url
    assert apdb_config.connection_config.connection_timeout is None


def test_a_restart_between_visits(config: str, postgresql: PostgreSQLServer) -> None:
    client = ApdbClient(config, connect=open_apdb)
    assert client.contains([1], 1) is False
    postgresql.stop()
    postgresql.start()
    assert client.contains([1], 1) is False


def test_it_is_away(config: str, postgresql: PostgreSQLServer) -> None:
    client = ApdbClient(config, connect=open_apdb)
    assert client.contains([1], 1) is False
    postgresql.stop()
    try:
        with pytest.raises(TemporarilyUnavailable, match=r"apdb\.yaml cannot be asked: OperationalError"):
            client.contains([1], 1)
        (fault,) = check_apdb(config)
        assert "refused" in fault
    finally:
        postgresql.start()
    assert client.contains([1], 1) is False


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
        ({"username": "nobody_here"}, 'role "nobody_here" does not exist'),
        ({"port": 1}, "refused"),
    ],
)
def test_it_cannot_be_made(database: str, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    url = sa.make_url(database).set(**change).render_as_string(hide_password=False)
    with pytest.raises(InvalidConfiguration, match=said):
        create_apdb(url, tmp_path / "apdb.yaml")
    assert not (tmp_path / "apdb.yaml").exists()


def test_the_schema_is_missing(config: str, database: str) -> None:
    engine = sa.create_engine(database)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA night CASCADE"))
    engine.dispose()
    with pytest.raises(TemporarilyUnavailable, match="NoSuchTableError"):
        ApdbClient(config).contains([1], 1)
