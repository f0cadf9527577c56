"""A slot whose central repo and APDB are on PostgreSQL, and its files in a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from app.commands.create_central import create_central
from app.deployment import load_library
from app.initialising import initialise
from app.slot_application import Application
from app.slot_factory import SlotFactory
from config.settings import PROJECT, load_service_settings
from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.outcomes import Result, VisitOutcome
from simulator.servers.postgresql import PostgreSQLServer
from simulator.servers.s3 import S3Server
from tests.app.test_slot_factory import DATE, request
from tests.servers import unique_name
from tests.services.world import Channel

pytestmark = pytest.mark.servers


@pytest.fixture
def on_servers(
    variables: dict[str, str], postgresql: PostgreSQLServer, s3: S3Server, tmp_path: Path
) -> dict[str, str]:
    """Settings of a service on servers; the repo is made by ``create-central``."""
    bucket, database = unique_name("b"), unique_name("d")
    s3.create_bucket(bucket)
    url = postgresql.create_database(database)
    command = typer.Typer()
    command.command()(create_central)
    camera = PROJECT / "config" / "instruments" / "DemoCam.yaml"
    arguments = [f"s3://{bucket}/central", camera, "--registry", url, "--namespace", "demo"]
    arguments += ["--apdb", tmp_path / "apdb.yaml", "--apdb-url", url, "--apdb-namespace", "apdb"]
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return variables | {
        "CENTRAL_REPO": f"s3://{bucket}/central",
        "CONFIG_APDB": str(tmp_path / "apdb.yaml"),
        "REPO_RETRY_DELAY": "0.1",
        # What is known already would be found in memory.
        "PP_INDEX_MAX_AGE": "0",
    }


@pytest.fixture
def application(on_servers: dict[str, str]) -> Iterator[Application]:
    settings = load_service_settings(on_servers)
    initialise(settings, [DATE])
    made = SlotFactory(settings, load_library(settings), "d0").create_application()
    made.warm_up()
    yield made
    made.close()


def process(application: Application, variables: dict[str, str]) -> VisitOutcome:
    return application.process(request(variables), Channel()).outcome


def test_visits_before_in_and_after_an_outage(
    application: Application, on_servers: dict[str, str], postgresql: PostgreSQLServer
) -> None:
    # There are no calibrations: it gets as far as it can.
    before = process(application, on_servers)
    assert (before.result, before.title) == (Result.FAILED, "NoPipelineBuilt")
    application.idle()
    postgresql.stop()
    try:
        outcome = process(application, on_servers)
        assert (outcome.result, outcome.title) == (Result.INTERRUPTED, "TemporarilyUnavailable")
        assert "refused" in outcome.detail
        assert application.apdb_contains([1], 0) is None
    finally:
        postgresql.start()
    after = process(application, on_servers)
    assert (after.result, after.title) == (before.result, before.title)
    assert application.apdb_contains([1], 0) is False


def test_the_initializer_while_the_server_is_away(
    on_servers: dict[str, str], postgresql: PostgreSQLServer
) -> None:
    settings = load_service_settings(on_servers)
    postgresql.stop()
    try:
        with pytest.raises(TemporarilyUnavailable, match=r"the central repo s3://.*refused"):
            initialise(settings, [DATE])
    finally:
        postgresql.start()
    assert initialise(settings, [DATE])


def test_the_registry_refuses(on_servers: dict[str, str], postgresql: PostgreSQLServer, s3: S3Server) -> None:
    from lsst.resources import ResourcePath

    file = ResourcePath(on_servers["CENTRAL_REPO"], forceDirectory=True).join("butler.yaml")
    config = file.read().decode()
    url = next(line.split("db: ")[1] for line in config.splitlines() if "db: " in line)
    file.write(config.replace(url, postgresql.url("nowhere")).encode())
    with pytest.raises(InvalidConfiguration, match='database "nowhere" does not exist'):
        initialise(load_service_settings(on_servers), [DATE])
