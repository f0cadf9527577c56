"""The streaming workflow's tables, on SQLite and PostgreSQL."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from repos.ledger_database import create_ledger_engine
from repos.streaming.database import STREAMING, create_streaming_engine
from repos.streaming.monitor_tables import RUNS, STF_FILES
from repos.streaming.tables import metadata
from tests.servers import unique_name

#: Where the tables are defined.
TABLES = ("tables", "monitor_tables", "catalogue_tables", "data_tables", "task_tables")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/streaming.db"
    made: str = request.getfixturevalue("postgresql").create_database(unique_name())
    return made


def test_there_is_one_latest_version() -> None:
    config = Config()
    config.set_main_option("script_location", str(STREAMING.migrations))
    assert ScriptDirectory.from_config(config).get_current_head() == STREAMING.latest


def test_every_module_of_tables_is_known() -> None:
    found = {path.stem for path in STREAMING.migrations.parent.glob("*tables.py")}
    assert found == set(TABLES)


def test_the_tables_are_those_that_the_code_works_with(url: str) -> None:
    for name in TABLES:
        importlib.import_module(f"repos.streaming.{name}")
    engine = create_streaming_engine(url)

    def ours(_object: Any, name: str | None, kind: str, *_: object) -> bool:
        return kind != "table" or name != STREAMING.version_table

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": ours, "compare_type": True})
        differences = compare_metadata(context, metadata)
        assert STREAMING.installed(connection) == STREAMING.latest
    # Comments are for readers of the code.
    assert [d for d in differences if not (isinstance(d, list) and d[0][0] == "modify_comment")] == []
    engine.dispose()


def test_earlier_tables_are_upgraded(url: str) -> None:
    engine = create_streaming_engine(url)
    now = datetime.now(UTC)
    config = Config()
    config.set_main_option("script_location", str(STREAMING.migrations))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "first")
        assert STREAMING.installed(connection) == "first"
        run = connection.execute(RUNS.insert().values(run_number=7, start_time=now)).inserted_primary_key
        assert run is not None
        connection.execute(
            STF_FILES.insert().values(
                file_id=uuid4(), run=run[0], stf_filename="a", created_at=now, status="registered"
            )
        )
    engine.dispose()
    engine = create_streaming_engine(url)
    with engine.connect() as connection:
        assert STREAMING.installed(connection) == STREAMING.latest
        assert connection.execute(sa.select(STF_FILES.c.stf_filename)).scalars().all() == ["a"]
        names = {index["name"] for index in sa.inspect(connection).get_indexes("swf_stf_files")}
    assert {index.name for index in STF_FILES.indexes} <= names and "swf_stf_files_run" not in names
    engine.dispose()


def test_rows_number_themselves(url: str) -> None:
    engine = create_streaming_engine(url)
    statement = "INSERT INTO inbox (agent, destination, text, received) VALUES ('a', 'b', 'c', '2026-01-01')"
    with engine.begin() as connection:
        for _ in range(2):
            connection.execute(sa.text(statement))
        ids = connection.execute(sa.text("SELECT id FROM inbox ORDER BY id")).scalars().all()
    assert ids == [1, 2]
    engine.dispose()


def test_it_may_be_in_a_ledgers_database(url: str) -> None:
    create_ledger_engine(url).dispose()
    create_streaming_engine(url).dispose()
    create_ledger_engine(url, read_only=True).dispose()
    with create_streaming_engine(url, read_only=True).connect() as connection:
        assert STREAMING.installed(connection) == STREAMING.latest
