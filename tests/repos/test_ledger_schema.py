"""Versions of the ledger's tables, in both databases."""

from __future__ import annotations

import subprocess
import sys
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

from models.errors import InvalidConfiguration
from repos.ledger import Ledger
from repos.ledger_database import create_ledger_engine
from repos.ledger_schema import LATEST, installed_version
from repos.ledger_tables import metadata
from repos.outbox import Outbox
from repos.postgresql import use_installed_driver
from tests.repos.test_ledger import DAY, DEPLOYMENT, make_visit

ROOT = Path(__file__).resolve().parents[2]
STARTERS = 8


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    return request.getfixturevalue("postgresql").create_database(f"ledger_{uuid4().hex}")


def config() -> Config:
    made = Config()
    made.set_main_option("script_location", str(ROOT / "repos" / "ledger_migrations"))
    return made


def make_first_version(url: str) -> None:
    """Make the ledger of a version without migrations, with a visit in it."""
    use_installed_driver()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        settings = config()
        settings.attributes["connection"] = connection
        command.upgrade(settings, "first_tables")
        connection.execute(sa.text("DROP TABLE alembic_version"))
        connection.execute(
            sa.text(
                'INSERT INTO visits (instrument, "group", detector, deployment_id, day_obs, state, attempts, '
                "owner, created, started, visit) VALUES ('DemoCam', 'old', 3, 'd', :day, 'failed', 1, '', "
                "'2025-04-02 03:00:00+00:00', '2025-04-02 03:00:00+00:00', :visit)"
            ),
            {"day": DAY, "visit": make_visit("old").model_dump_json()},
        )
    engine.dispose()


def test_there_is_one_latest_version() -> None:
    assert ScriptDirectory.from_config(config()).get_current_head() == LATEST


def test_the_tables_are_those_that_the_code_works_with(url: str) -> None:
    engine = create_ledger_engine(url)

    def ours(_object: Any, name: str | None, kind: str, *_: object) -> bool:
        return kind != "table" or name != "alembic_version"

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": ours, "compare_type": True})
        differences = compare_metadata(context, metadata)
        assert installed_version(connection) == LATEST
    # Comments are for readers of the code.
    assert [d for d in differences if not (isinstance(d, list) and d[0][0] == "modify_comment")] == []


def test_a_ledger_without_migrations_is_upgraded(url: str) -> None:
    make_first_version(url)
    with pytest.raises(InvalidConfiguration, match="earlier version"):
        create_ledger_engine(url, read_only=True)
    engine = create_ledger_engine(url)
    assert [r.visit.groupId for r in Ledger(engine).visits()] == ["old"]
    assert Ledger(engine).claim(make_visit("old"), "d", DAY).attempt == 2
    assert Outbox(engine).pending() == []
    engine.dispose()
    assert len(Ledger(create_ledger_engine(url, read_only=True)).visits()) == 1


def test_tables_of_a_later_version_are_used_as_they_are(url: str, caplog: pytest.LogCaptureFixture) -> None:
    engine = create_ledger_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'from_the_future'"))
    engine.dispose()
    again = create_ledger_engine(url)
    assert Ledger(again).claim(make_visit(), DEPLOYMENT, DAY).granted
    assert "later version, 'from_the_future'" in caplog.text


def test_the_way_back(url: str) -> None:
    engine = create_ledger_engine(url)
    with engine.begin() as connection:
        settings = config()
        settings.attributes["connection"] = connection
        command.downgrade(settings, "base")
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]


def test_many_may_start_at_once(url: str) -> None:
    make_first_version(url)
    code = (
        "import sys\n"
        "from repos.ledger_database import create_ledger_engine\n"
        "from repos.ledger import Ledger\n"
        "sys.stdin.readline()\n"
        f"print(len(Ledger(create_ledger_engine({url!r})).visits()))\n"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(STARTERS)
    ]
    answers = [starter.communicate("go\n") for starter in starters]
    assert [out for out, _ in answers] == ["1\n"] * STARTERS, answers
