"""What is particular to a ledger on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.events import BUTLER_WRITER, OutboxMessage
from models.outcomes import Result
from repos.ledger import Ledger
from repos.ledger_database import create_ledger_engine, reading, writing
from repos.outbox import Outbox
from repos.postgresql import use_installed_driver
from simulator.servers.postgresql import PostgreSQLServer
from tests.repos.test_ledger import DAY, DEPLOYMENT, make_visit, outcome

pytestmark = pytest.mark.servers


@pytest.fixture
def url(postgresql: PostgreSQLServer) -> str:
    return postgresql.create_database(f"ledger_{uuid4().hex}")


@pytest.fixture
def observer(url: str) -> Iterator[sa.Connection]:
    """A connection that is not the ledger's."""
    use_installed_driver()
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def connections(observer: sa.Connection) -> int:
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    return observer.execute(sa.text(query)).scalar_one()


def test_a_url_with_driver(url: str) -> None:
    engine = create_ledger_engine(url.replace("postgresql:", "postgresql+psycopg2:"))
    assert Ledger(engine).visits() == []


def test_no_connection_is_kept_between_transactions(url: str, observer: sa.Connection) -> None:
    engine = create_ledger_engine(url)
    ledger = Ledger(engine)
    assert ledger.claim(make_visit(), DEPLOYMENT, DAY).granted
    with writing(engine):
        assert connections(observer) == 1
    ledger.finish(make_visit(), DEPLOYMENT, DAY, outcome(Result.PROCESSED))
    # The server takes a moment to see that a client has gone.
    for _ in range(3000):
        if connections(observer) == 0:
            break
        threading.Event().wait(0.02)
    assert connections(observer) == 0


def test_a_process_opens_few_at_a_time(url: str) -> None:
    engine = create_ledger_engine(url)
    lock = threading.Lock()
    now = most = 0

    def work(_: int) -> None:
        nonlocal now, most
        with reading(engine) as connection:
            with lock:
                now += 1
                most = max(most, now)
            connection.execute(sa.text("SELECT pg_sleep(0.01)"))
            with lock:
                now -= 1

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(work, range(64)))
    assert 1 < most <= 4


def test_a_server_without_a_free_place_is_asked_again(url: str, observer: sa.Connection) -> None:
    role, database = f"worker_{uuid4().hex}", sa.make_url(url).database
    create_ledger_engine(url).dispose()
    observer.execute(sa.text(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1"))
    observer.execute(sa.text(f'GRANT ALL ON DATABASE "{database}" TO {role}'))
    observer.execute(sa.text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"))
    limited = sa.make_url(url).set(username=role).render_as_string(hide_password=False)
    ledgers = [Ledger(create_ledger_engine(limited, read_only=True)) for _ in range(12)]
    start = threading.Barrier(len(ledgers))

    def look(ledger: Ledger) -> int:
        start.wait()
        return sum(len(ledger.visits()) for _ in range(5))

    with ThreadPoolExecutor(len(ledgers)) as threads:
        assert list(threads.map(look, ledgers)) == [0] * len(ledgers)


def test_a_schema_of_its_own(url: str, observer: sa.Connection) -> None:
    ours, other = (create_ledger_engine(f"{url}?schema=prompt_{name}") for name in ("a", "b"))
    message = OutboxMessage(BUTLER_WRITER, "topic", None, b"1")
    Ledger(ours).finish(make_visit(), DEPLOYMENT, DAY, outcome(Result.PROCESSED), [message])
    assert Ledger(other).visits() == []
    assert Outbox(ours).count_pending() == {BUTLER_WRITER: 1}
    inspector = sa.inspect(observer)
    assert inspector.get_table_names() == []
    assert set(inspector.get_table_names("prompt_a")) == {"alembic_version", "visits", "outbox"}
    assert Ledger(create_ledger_engine(f"{url}?schema=prompt_a", read_only=True)).last_day() == DAY


@pytest.mark.parametrize("name", ["a b", "a;drop", "A"])
def test_a_name_that_no_schema_can_have(url: str, name: str) -> None:
    with pytest.raises(InvalidConfiguration, match=r"PP_LEDGER_URL: .* cannot be the name of a schema"):
        create_ledger_engine(f"{url}?schema={name}")


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
        ({"username": "nobody_here"}, "nobody_here"),
    ],
)
def test_a_server_that_refuses(url: str, change: dict[str, Any], said: str, *, read_only: bool) -> None:
    refused = sa.make_url(url).set(**change).render_as_string(hide_password=False)
    with pytest.raises((InvalidConfiguration, TemporarilyUnavailable), match=said) as caught:
        create_ledger_engine(refused, read_only=read_only)
    assert isinstance(caught.value, InvalidConfiguration) or read_only


@pytest.fixture
def role(observer: sa.Connection) -> Iterator[str]:
    """A role that has a password and needs it, whatever else the server trusts."""
    name = f"worker_{uuid4().hex}"
    observer.execute(sa.text(f"CREATE ROLE {name} LOGIN PASSWORD 'right'"))
    file = observer.execute(sa.text("SHOW hba_file")).scalar_one()
    lines = observer.execute(sa.text("SELECT pg_read_file(:file)"), {"file": file}).scalar_one()
    _write_rules(observer, file, f"host all {name} all scram-sha-256\n{lines}")
    yield name
    _write_rules(observer, file, lines)


def _write_rules(observer: sa.Connection, file: str, lines: str) -> None:
    quoted = [lines.replace("'", "''"), file]
    # Comments apart: COPY would escape what is in them.
    rules = "".join(f"{line}\n" for line in quoted[0].splitlines() if line and not line.startswith("#"))
    query = f"COPY (SELECT unnest(string_to_array(trim('{rules}'), E'\\n'))) TO '{quoted[1]}'"
    observer.exec_driver_sql(query)
    observer.exec_driver_sql("SELECT pg_reload_conf()")


def test_a_wrong_password(url: str, role: str) -> None:
    def with_password(password: str) -> str:
        return sa.make_url(url).set(username=role, password=password).render_as_string(hide_password=False)

    for _ in range(3000):
        try:
            create_ledger_engine(with_password("not-this"))
        except InvalidConfiguration as error:
            caught = error
            break
        # The server takes a moment to read its rules again.
        threading.Event().wait(0.02)
    assert "password authentication failed" in str(caught)
    assert "not-this" not in str(caught)


def test_another_kind_of_database() -> None:
    with pytest.raises(InvalidConfiguration, match="PP_LEDGER_URL: a ledger cannot be kept in mysql"):
        create_ledger_engine("mysql://host/ledger")


def test_a_server_that_is_away(
    postgresql: PostgreSQLServer, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    ready = Ledger(create_ledger_engine(url))
    assert ready.claim(make_visit("before"), DEPLOYMENT, DAY).granted
    postgresql.stop()
    try:
        with pytest.raises(TemporarilyUnavailable, match="the ledger's database"):
            ready.claim(make_visit(), DEPLOYMENT, DAY)
        with pytest.raises(TemporarilyUnavailable, match="the ledger's database"):
            ready.finish(make_visit("before"), DEPLOYMENT, DAY, outcome(Result.PROCESSED))
        # A service starts without its ledger.
        late = Ledger(create_ledger_engine(url))
        assert "cannot be used for now" in caplog.text
        with pytest.raises(TemporarilyUnavailable, match="the ledger's database"):
            late.visits()
        with pytest.raises(TemporarilyUnavailable, match="the ledger's database"):
            create_ledger_engine(url, read_only=True)
    finally:
        postgresql.start()
    ready.finish(make_visit("before"), DEPLOYMENT, DAY, outcome(Result.PROCESSED))
    assert late.claim(make_visit("before"), DEPLOYMENT, DAY).outcome is not None


def test_tables_are_made_when_the_server_comes_back(postgresql: PostgreSQLServer, url: str) -> None:
    postgresql.stop()
    try:
        ledger = Ledger(create_ledger_engine(url))
    finally:
        postgresql.start()
    assert ledger.claim(make_visit(), DEPLOYMENT, DAY).granted
