"""What the data agent keeps, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from models.streaming.data_runs import Changes, DataFile, DataRun, FileState
from models.streaming.messages import RUN_TOPIC, StfReady
from repos.ledger_database import writing
from repos.streaming.agent_outbox import AgentOutbox
from repos.streaming.data_store import DataStore
from repos.streaming.database import create_streaming_engine
from repos.streaming.journal import add_to_outbox
from tests.servers import unique_name

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> sa.Engine:
    if request.param == "sqlite":
        return create_streaming_engine(f"sqlite:///{tmp_path}/agent.db")
    server = request.getfixturevalue("postgresql")
    name = unique_name()
    server.create_database(name)
    return create_streaming_engine(server.url(name))


@pytest.fixture
def store(engine: sa.Engine) -> DataStore:
    return DataStore(engine, namespace="epic", agent="data.epic")


def run(number: int = 1, **fields: object) -> DataRun:
    seen = NOW + timedelta(seconds=number)
    values = {"scope": "group.daq", "dataset": f"swf.{number}.run", "first_seen": seen, "last_sign": seen}
    return DataRun(run_id=str(number), **{**values, **fields})  # type: ignore[arg-type]


def file(number: int, **fields: object) -> DataFile:
    return DataFile(
        run_id="1",
        filename=f"swf.1.{number:06d}.stf",
        guid=f"g{number}",
        sequence=number,
        **fields,  # type: ignore[arg-type]
    )


def test_runs_come_back_as_they_were(store: DataStore) -> None:
    full = run(
        execution_id="e",
        container="/data",
        announced=True,
        run_conditions={"beam": 1},
        ended=NOW,
        end_assumed=True,
        total=3,
        dataset_created=True,
        run_opened=True,
        ready=True,
        ready_heard=True,
        closed=NOW,
        complete=False,
        note="2 are missing",
    )
    store.save(Changes(runs=[run(), run(2)]))
    store.save(Changes(runs=[full]))
    assert store.runs(["1", "2", "3"]) == {"1": full, "2": run(2)}
    assert store.unfinished() == [full, run(2)]
    assert store.latest(1) == [run(2)]
    store.save(Changes(runs=[replace(full, finished=NOW)]))
    assert store.unfinished() == [run(2)]


def test_files(store: DataStore) -> None:
    store.save(Changes(runs=[run()], new_files=[file(n) for n in (3, 1, 2)]))
    store.save(Changes(corrected=[file(2, expected_size=1, error="of no account")]))
    late = file(2, attempts=4, due=NOW + timedelta(seconds=9), error="not there", expected_size=1)
    done = file(3, state=FileState.REGISTERED, size_bytes=5, adler32="00000001", machine_state="run")
    # What was announced meanwhile stays.
    store.save(
        Changes(files=[replace(late, expected_size=None), done], new_files=[file(1, state=FileState.FAILED)])
    )
    assert store.files("1", FileState.ANNOUNCED) == [file(1), late]
    assert store.files("1", FileState.ANNOUNCED, due=NOW) == [file(1)]
    assert store.files("1", FileState.ANNOUNCED, limit=1) == [file(1)]
    assert store.files("1", FileState.REGISTERED) == [done]
    assert store.counts("1") == {FileState.ANNOUNCED: 2, FileState.REGISTERED: 1}
    assert store.in_hand() == 2
    assert store.next_due("1") == late.due
    assert store.next_due("2") is None
    assert store.named("1", [done.filename, "other"]) == {done.filename: done}
    assert len(store.known("1")) == 3
    store.save(Changes(runs=[run(finished=NOW)]))
    assert store.in_hand() == 0


def test_namespaces_do_not_mix(engine: sa.Engine, store: DataStore) -> None:
    other = DataStore(engine, namespace="other", agent="data.other")
    store.save(Changes(runs=[run()], new_files=[file(1)]))
    assert other.unfinished() == [] and other.known("1") == {}
    other.save(Changes(runs=[run(total=7)], new_files=[file(1)], files=[file(1, state=FileState.LATE)]))
    assert store.counts("1") == {FileState.ANNOUNCED: 1}
    assert store.runs(["1"])["1"].total is None


def test_messages_are_stored_with_what_they_tell(engine: sa.Engine, store: DataStore) -> None:
    other = DataStore(engine, namespace="other", agent="data.other")
    ready = [StfReady(namespace="epic", run_id=n) for n in ("1", "2")]
    store.save(Changes(runs=[run()], send=ready))
    other.save(Changes(send=[StfReady(namespace="other", run_id="1")]))
    with pytest.raises(AttributeError):
        store.save(Changes(runs=[run(2)], send=[None]))  # type: ignore[list-item]
    assert store.runs(["2"]) == {}
    store.save(Changes(heard=["1"]))
    outbox = AgentOutbox(engine, agent="data.epic", owner="me")
    [left] = outbox.pending()
    assert (left.message.topic, b'"run_id": "2"' in left.message.payload) == (RUN_TOPIC, True)
    assert outbox.count_pending() == {"stomp": 1}


def test_agents_send_only_their_own(engine: sa.Engine) -> None:
    with writing(engine) as connection:
        for agent in ("data.epic", "data.other"):
            add_to_outbox(connection, RUN_TOPIC, [StfReady(run_id="1")], agent=agent)
    dead, other = (AgentOutbox(engine, agent=agent, owner="dead") for agent in ("data.epic", "data.other"))
    assert len(dead.lease("stomp", RUN_TOPIC, limit=10, seconds=60.0)) == 1
    assert other.count_refused() == {}
    # The next life takes at once what the dead one leased, and nothing else.
    alive = AgentOutbox(engine, agent="data.epic", owner="alive")
    [mine] = alive.lease("stomp", RUN_TOPIC, limit=10, seconds=60.0)
    alive.refuse(mine.id, "no")
    assert alive.count_refused() == {"stomp": 1} and other.count_refused() == {}


def test_old_files_are_forgotten(store: DataStore) -> None:
    store.save(Changes(runs=[run(finished=NOW), run(2)], new_files=[file(1)]))
    assert store.forget(NOW) == 0
    assert store.forget(NOW + timedelta(seconds=1)) == 1
    assert store.known("1") == {}
