"""What the monitor keeps, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import logging
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from models.errors import InvalidMessage
from models.streaming.bus import ReceivedMessage
from models.streaming.monitoring import (
    AgentReport,
    AgentState,
    AgentStatus,
    BusHeartbeat,
    ExecutionStatus,
    FileUpdate,
    NewStfFile,
    RecordedMessage,
    StfStatus,
)
from repos.ledger_database import writing
from repos.streaming.database import create_streaming_engine
from repos.streaming.embedded_monitor import EmbeddedMonitor
from repos.streaming.monitor_rows import AlreadyThere, RefusedField
from repos.streaming.monitor_store import MonitorStore
from repos.streaming.monitor_tables import AGENTS
from services.streaming.message_recorder import MessageRecorder
from tests.servers import unique_name

NOW = datetime(2026, 5, 4, 3, 2, 1, 7, tzinfo=UTC)
RUN = 100010


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> MonitorStore:
    if request.param == "sqlite":
        return MonitorStore.on(create_streaming_engine(f"sqlite:///{tmp_path}/monitor.db"))
    server = request.getfixturevalue("postgresql")
    return MonitorStore.on(create_streaming_engine(server.create_database(unique_name())))


@pytest.fixture
def monitor(store: MonitorStore) -> EmbeddedMonitor:
    return EmbeddedMonitor(store)


def message(kind: str = "stf_gen", *, broker_id: str | None = None, **fields: Any) -> RecordedMessage:
    body = {"msg_type": kind, "run_id": str(RUN), "execution_id": "e-1", "namespace": "n", **fields}
    return RecordedMessage(
        message_type=kind,
        sender_agent=body.get("sender"),
        namespace=body["namespace"],
        execution_id=body["execution_id"],
        run_id=body["run_id"],
        message_content=body,
        sent_at=body.pop("at", NOW),
        queue_name="/topic/epictopic",
        broker_id=broker_id,
    )


def begin(store: MonitorStore, execution_id: str = "e-1", **values: Any) -> None:
    store.executions.add(
        {"execution_id": execution_id, "namespace": "n", "status": "running", "start_time": NOW, **values}
    )


def files(count: int) -> list[NewStfFile]:
    return [
        NewStfFile(
            stf_filename=f"swf.{RUN}.{i:06d}.stf",
            file_size_bytes=251,
            checksum="00ab12cd",
            machine_state="run",
            metadata={"sequence": i},
        )
        for i in range(1, count + 1)
    ]


class TestNumbers:
    def test_they_begin_where_the_fields_do_and_go_up(self, store: MonitorStore) -> None:
        assert [store.numbers.next("run_number") for _ in range(3)] == [100010, 100011, 100012]
        assert [store.numbers.next("agent_id") for _ in range(2)] == [1, 2]
        assert store.numbers.next("workflow_execution_id") == 1

    def test_nobody_gets_the_same(self, store: MonitorStore) -> None:
        numbers: list[int] = []

        def take() -> None:
            numbers.extend(store.numbers.next("run_number") for _ in range(10))

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(numbers) == [*range(100010, 100050)]


class TestRuns:
    def test_a_run_is_opened_once(self, monitor: EmbeddedMonitor) -> None:
        run = monitor.open_run(RUN, start_time=NOW, run_conditions={"beam": "e-p"})
        again = monitor.open_run(RUN, start_time=NOW + timedelta(1))
        assert again == run
        assert (run.run_number, run.start_time, run.end_time) == (RUN, NOW, None)
        assert run.run_conditions == {"beam": "e-p"}

    def test_the_end_that_was_told_first_stays(self, monitor: EmbeddedMonitor, store: MonitorStore) -> None:
        monitor.open_run(RUN, start_time=NOW)
        monitor.close_run(RUN, end_time=NOW + timedelta(seconds=5))
        monitor.close_run(RUN, end_time=NOW + timedelta(seconds=9))
        row = store.runs.by_number(RUN)
        assert row is not None and row["end_time"] == NOW + timedelta(seconds=5)

    def test_a_run_that_is_not_there_cannot_end(self, monitor: EmbeddedMonitor) -> None:
        with pytest.raises(InvalidMessage, match=str(RUN)):
            monitor.close_run(RUN, end_time=NOW)

    def test_runs_are_listed_with_their_files_and_state(
        self, monitor: EmbeddedMonitor, store: MonitorStore
    ) -> None:
        monitor.open_run(RUN, start_time=NOW)
        monitor.open_run(RUN + 1, start_time=NOW)
        registered = monitor.register_files(RUN, files(3))
        monitor.update_files(RUN, [FileUpdate(file_id=registered[0].file_id, status=StfStatus.PROCESSED)])
        store.messages.record([message("start_run", state="run", substate="physics", simulation_tick=13.1)])
        page = store.runs.listed(execution_id="e-1")
        assert page.total == 1
        (row,) = page.items
        assert row["files"] == {"processed": 1, "registered": 2}
        assert (row["phase"], row["substate"]) == ("physics", "physics")
        assert [row["run_number"] for row in store.runs.listed().items] == [RUN + 1, RUN]


class TestFiles:
    def test_a_file_is_registered_once(self, monitor: EmbeddedMonitor, store: MonitorStore) -> None:
        monitor.open_run(RUN, start_time=NOW)
        first = monitor.register_files(RUN, files(3))
        again = monitor.register_files(RUN, [*reversed(files(5))])
        assert [file.stf_filename for file in again] == [f.stf_filename for f in reversed(files(5))]
        assert {file.file_id for file in first} == {file.file_id for file in again[2:]}
        assert store.files.listed(run_number=RUN).total == store.files.count([RUN]) == 5
        assert first[0].checksum == "00ab12cd" and first[0].metadata == {"sequence": 1}

    def test_twice_in_one_list_is_once(self, monitor: EmbeddedMonitor, store: MonitorStore) -> None:
        monitor.open_run(RUN, start_time=NOW)
        one, two = monitor.register_files(RUN, [*files(1), *files(1)])
        assert one.file_id == two.file_id
        assert store.files.count([RUN]) == 1

    def test_without_its_run_none_is(self, monitor: EmbeddedMonitor, store: MonitorStore) -> None:
        with pytest.raises(InvalidMessage, match="no run"):
            monitor.register_files(RUN, files(1))
        with pytest.raises(RefusedField, match="Invalid pk"):
            store.files.register([{"run": 77, "stf_filename": "a"}])
        assert monitor.files(RUN) == []

    def test_many_at_once(self, monitor: EmbeddedMonitor) -> None:
        monitor.open_run(RUN, start_time=NOW)
        registered = monitor.register_files(RUN, files(1200))
        monitor.update_files(
            RUN, [FileUpdate(file_id=f.file_id, status=StfStatus.PROCESSED) for f in registered]
        )
        assert len(monitor.files(RUN, statuses=[StfStatus.PROCESSED])) == 1200

    def test_metadata_are_merged(self, monitor: EmbeddedMonitor) -> None:
        monitor.open_run(RUN, start_time=NOW)
        (file,) = monitor.register_files(RUN, files(1))
        change = {"file_id": file.file_id}
        monitor.update_files(
            RUN,
            [
                FileUpdate(**change, status=StfStatus.PROCESSING, metadata={"panda_task_id": "1"}),
                FileUpdate(**change, status=StfStatus.PROCESSED, metadata={"panda_job_id": "2"}),
            ],
        )
        (after,) = monitor.files(RUN)
        assert after.metadata == {"sequence": 1, "panda_task_id": "1", "panda_job_id": "2"}

    def test_what_comes_late_does_not_undo_the_end(self, monitor: EmbeddedMonitor) -> None:
        monitor.open_run(RUN, start_time=NOW)
        (file,) = monitor.register_files(RUN, files(1))
        monitor.update_files(RUN, [FileUpdate(file_id=file.file_id, status=StfStatus.FAILED)])
        monitor.update_files(RUN, [FileUpdate(file_id=file.file_id, status=StfStatus.PROCESSING)])
        assert monitor.files(RUN)[0].status is StfStatus.FAILED
        # A later attempt that succeeded is no way back.
        monitor.update_files(RUN, [FileUpdate(file_id=file.file_id, status=StfStatus.PROCESSED)])
        assert monitor.files(RUN)[0].status is StfStatus.PROCESSED

    def test_one_that_is_missing_changes_none(self, monitor: EmbeddedMonitor) -> None:
        monitor.open_run(RUN, start_time=NOW)
        (file,) = monitor.register_files(RUN, files(1))
        updates = [FileUpdate(file_id=id_, status=StfStatus.DONE) for id_ in (file.file_id, uuid4())]
        with pytest.raises(InvalidMessage, match="file_id"):
            monitor.update_files(RUN, updates)
        assert monitor.files(RUN)[0].status is StfStatus.REGISTERED

    def test_part_by_part_without_those_that_come_meanwhile(
        self, monitor: EmbeddedMonitor, store: MonitorStore
    ) -> None:
        monitor.open_run(RUN, start_time=NOW)
        monitor.register_files(RUN, files(4))
        monitor.register_files(RUN, files(7))
        monitor.open_run(RUN + 1, start_time=NOW)
        other = [NewStfFile(stf_filename="of another run")]
        monitor.register_files(RUN + 1, other)
        listed = store.files.listed(run_number=RUN).items
        parts = store.files.parts(3, run_number=RUN)
        begun = [*next(parts)]
        monitor.register_files(RUN, files(9))
        assert [*begun, *(row for part in parts for row in part)] == listed
        assert [*store.files.parts(3, run_number=7)] == [[]]
        assert [len(part) for part in store.files.parts(5)] == [5, 5, 0]

    def test_they_are_named(self, monitor: EmbeddedMonitor) -> None:
        monitor.open_run(RUN, start_time=NOW)
        monitor.open_run(RUN + 1, start_time=NOW)
        monitor.register_files(RUN, files(3))
        monitor.register_files(RUN + 1, [NewStfFile(stf_filename="of another run")])
        assert sorted(monitor.file_names(RUN)) == [file.stf_filename for file in files(3)]
        assert [*monitor.file_names(7)] == []

    def test_they_are_counted_by_status(self, monitor: EmbeddedMonitor, store: MonitorStore) -> None:
        monitor.open_run(RUN, start_time=NOW)
        assert monitor.tally_files(RUN) == {} == monitor.tally_files(7)
        registered = monitor.register_files(RUN, files(3))
        monitor.update_files(RUN, [FileUpdate(file_id=registered[0].file_id, status=StfStatus.FAILED)])
        tally = monitor.tally_files(RUN)
        assert {status: each.count for status, each in tally.items()} == {"failed": 1, "registered": 2}
        assert tally["failed"].latest.file_id == registered[0].file_id
        assert tally["registered"].latest.stf_filename == registered[2].stf_filename

    def test_they_are_found_by_what_they_are(self, monitor: EmbeddedMonitor, store: MonitorStore) -> None:
        monitor.open_run(RUN, start_time=NOW)
        monitor.register_files(RUN, files(3))
        assert store.files.listed(status="registered", machine_state="run", limit=2).total == 3
        assert len(store.files.listed(limit=2, offset=2).items) == 1
        assert store.files.listed(status="failed").total == 0
        assert store.files.listed(stf_filename=f"swf.{RUN}.000002.stf").items[0]["run_number"] == RUN
        assert store.files.listed(start=datetime.now(UTC) + timedelta(hours=1)).total == 0
        assert store.files.listed(end=datetime.now(UTC) + timedelta(hours=1)).total == 3


class TestExecutions:
    @pytest.mark.parametrize(
        ("told", "stays"),
        [
            (("completed", "terminated"), "terminated"),
            (("terminated", "completed"), "terminated"),
            (("failed", "completed"), "failed"),
            (("completed", "failed"), "failed"),
            (("failed", "terminated"), "failed"),
            (("completed", "running"), "completed"),
            (("paused", "running"), "running"),
        ],
    )
    def test_an_end_is_not_taken_back(self, store: MonitorStore, told: tuple[str, str], stays: str) -> None:
        begin(store)
        for status in told:
            store.executions.change("e-1", {"status": status})
        row = store.executions.get("e-1")
        assert row is not None and row["status"] == stays

    def test_the_time_of_the_end_is_kept(self, store: MonitorStore) -> None:
        begin(store)
        end = NOW + timedelta(seconds=40)
        # As the runner in the field does when it is stopped.
        store.executions.change("e-1", {"status": "completed", "end_time": end})
        store.executions.change("e-1", {"status": "terminated", "end_time": None})
        row = store.executions.get("e-1")
        assert row is not None and (row["status"], row["end_time"]) == ("terminated", end)
        store.executions.change("e-1", {"status": "completed", "end_time": end + timedelta(1)})
        row = store.executions.get("e-1")
        assert row is not None and row["end_time"] == end

    def test_an_end_without_a_time_is_now(self, store: MonitorStore) -> None:
        begin(store)
        row = store.executions.change("e-1", {"status": "running", "end_time": None})
        assert row is not None and row["end_time"] is None
        # As the runner in the field does when it fails.
        row = store.executions.change("e-1", {"status": "failed", "end_time": None})
        assert row is not None and row["end_time"] is not None
        assert abs(row["end_time"] - datetime.now(UTC)) < timedelta(minutes=1)
        kept = store.executions.get("e-1")
        assert kept is not None and kept["end_time"] == row["end_time"]

    def test_by_namespace_and_status(self, store: MonitorStore, monitor: EmbeddedMonitor) -> None:
        begin(store)
        begin(store, "e-2", namespace="other", start_time=NOW + timedelta(1))
        begin(store, "e-3", start_time=NOW + timedelta(2))
        monitor.end_execution("e-3", ExecutionStatus.COMPLETED, end_time=NOW + timedelta(3))
        assert [e.execution_id for e in monitor.executions("n", status=ExecutionStatus.RUNNING)] == ["e-1"]
        assert [row["execution_id"] for row in store.executions.listed().items] == ["e-3", "e-2", "e-1"]
        assert store.executions.listed(start=NOW + timedelta(1), limit=1).total == 2
        assert monitor.execution("nobody") is None

    def test_one_that_is_not_there_cannot_end(self, monitor: EmbeddedMonitor) -> None:
        with pytest.raises(InvalidMessage, match="e-9"):
            monitor.end_execution("e-9", ExecutionStatus.FAILED, end_time=NOW)

    def test_a_definition_is_made_once_and_left_alone(self, store: MonitorStore) -> None:
        values = {"workflow_name": "w", "version": "1.0", "workflow_type": "simulation"}
        first = store.definitions.ensure({**values, "definition": "a"})
        second = store.definitions.ensure({**values, "definition": "b"})
        assert second == first
        begin(store, workflow_definition=first["id"])
        assert store.executions.listed(workflow_name="w").total == 1
        assert store.executions.listed(workflow_name="v").total == 0
        with pytest.raises(AlreadyThere, match="unique set"):
            store.definitions.add({**values, "created_at": NOW, "updated_at": NOW})

    def test_a_namespace_is_made_once(self, store: MonitorStore) -> None:
        assert store.namespaces.ensure("n", owner="me")[1]
        row, created = store.namespaces.ensure("n", owner="you")
        assert not created and row["owner"] == "me"


class TestMessages:
    def test_a_message_that_comes_again_is_kept_once(self, store: MonitorStore) -> None:
        store.messages.record([message(broker_id="1"), message(broker_id="2"), message(broker_id="1")])
        store.messages.record([message(broker_id="2"), message()])
        assert store.messages.listed().total == 3

    def test_how_a_run_stands(self, store: MonitorStore, monitor: EmbeddedMonitor) -> None:
        assert monitor.run_state(RUN) is None
        pause = message("pause_run", state="run", substate="standby", simulation_tick=16.6)
        store.messages.record([message("end_run", simulation_tick=23.2)])
        store.messages.record([pause])
        state = monitor.run_state(RUN)
        assert state is not None
        assert (state.phase, state.state, state.substate) == ("completed", "ended", None)
        assert state.metadata == {"execution_id": "e-1"}

    def test_what_the_runner_told_first_stays(self, store: MonitorStore, monitor: EmbeddedMonitor) -> None:
        store.run_states.ensure({"run_number": RUN, "phase": "initializing", "metadata": {"a": 1}})
        store.messages.record(
            [message("run_imminent", state="beam", substate="not_ready", simulation_tick=5)]
        )
        state = monitor.run_state(RUN)
        assert state is not None
        assert (state.phase, state.state, state.metadata) == ("initializing", "beam", {"a": 1})

    @pytest.mark.parametrize("run_id", ["", "x", "²", "9" * 30, None])
    def test_a_run_that_is_no_number_has_no_state(self, store: MonitorStore, run_id: str | None) -> None:
        told = message("start_run", state="run").model_copy(update={"run_id": run_id})
        store.messages.record([told])
        assert store.run_states.find() == []
        assert store.messages.listed().total == 1

    def test_the_newest_are_first_and_bodies_the_oldest(self, store: MonitorStore) -> None:
        bodies = [message("stf_gen", simulation_tick=tick, at=NOW) for tick in range(4)]
        store.messages.record(bodies)
        ticks = [row["message_content"]["simulation_tick"] for row in store.messages.listed(limit=2).items]
        assert ticks == [3, 2]
        assert [body["simulation_tick"] for body in store.messages.bodies("e-1")] == [0, 1, 2, 3]
        assert store.messages.bodies("e-1", message_type="end_run") == []

    def test_they_are_found_by_what_they_say(self, store: MonitorStore) -> None:
        store.messages.record(
            [
                message("start_run", sender="daq"),
                message("stf_ready", sender="data", at=NOW + timedelta(hours=2)),
                message("stf_gen", namespace="other", run_id="7", execution_id="e-2"),
            ]
        )
        for wanted, count in [
            ({"namespace": "n"}, 2),
            ({"execution_id": "e-2"}, 1),
            ({"run_id": "7"}, 1),
            ({"sender_agent": "data"}, 1),
            ({"message_types": ["start_run", "stf_gen"]}, 2),
            ({"start": NOW + timedelta(hours=1)}, 1),
            ({"end": NOW + timedelta(hours=1)}, 2),
        ]:
            assert store.messages.listed(**wanted).total == count, wanted

    def test_what_follows(self, store: MonitorStore) -> None:
        assert store.messages.latest() == 0
        store.messages.record([message("start_run"), message("stf_gen"), message("stf_gen")])
        last = store.messages.latest()
        assert store.messages.following(last, limit=5) == []
        assert len(store.messages.following(0, limit=2)) == 2
        assert len(store.messages.following(0, message_types=["stf_gen"], run_ids=[str(RUN)], limit=9)) == 2

    def test_whatever_a_run_tells_is_kept(self, store: MonitorStore, monitor: EmbeddedMonitor) -> None:
        recorder = MessageRecorder(store.messages)
        long = secrets.token_hex(9000)
        bodies: list[dict[str, Any]] = [
            {"run_id": long, "execution_id": long},
            {"run_id": "9" * 5000},
            {"run_id": str(RUN), "simulation_tick": 10**400, "timestamp": long, "state": "r\0n"},
            {"run_id": str(RUN), "simulation_tick": 7.0, "substate": "\ud800"},
        ]
        for body in bodies:
            text = json.dumps({"msg_type": "start_run", **body})
            recorder.receive(ReceivedMessage("/topic/epictopic", text))
        recorder.receive(ReceivedMessage("/topic/x", json.dumps({"agent_name": long, "status": "OK"})))
        assert (store.messages.listed().total, store.agents.listed().total) == (4, 1)
        state = monitor.run_state(RUN)
        assert state is not None and (state.phase, state.substate) == ("physics", "?")

    def test_old_ones_are_forgotten_a_few_at_once(self, store: MonitorStore) -> None:
        days = [NOW - timedelta(days=day) for day in (5, 4, 3, 1)]
        store.messages.record([message(broker_id=str(at), at=at) for at in days])
        before = NOW - timedelta(days=2)
        assert [store.messages.forget(before, at_most=2) for _ in range(3)] == [2, 1, 0]
        assert [row["sent_at"] for row in store.messages.find()] == [days[-1]]
        with pytest.raises(TypeError, match="for ever"):
            store.runs.forget(before, at_most=2)


class TestAgents:
    def report(self, monitor: EmbeddedMonitor, name: str = "data-agent-alice-1", **fields: Any) -> None:
        monitor.report(AgentReport(instance_name=name, agent_type="DATA", namespace="n", **fields))

    def test_signs_of_life(self, store: MonitorStore, monitor: EmbeddedMonitor) -> None:
        self.report(monitor, mq_connected=True, current_stf_count=3, total_stf_processed=17)
        self.report(
            monitor, mq_connected=True, operational_state=AgentState.PROCESSING, total_stf_processed=18
        )
        (row,) = store.agents.listed().items
        assert (row["operational_state"], row["total_stf_processed"]) == ("PROCESSING", 18)
        assert row["mq_connected"] is True
        assert [agent["instance_name"] for agent in store.agents.alive("n")] == ["data-agent-alice-1"]
        assert store.agents.alive("other") == []

    def test_one_that_said_goodbye_is_not_alive(self, store: MonitorStore, monitor: EmbeddedMonitor) -> None:
        self.report(monitor, status=AgentStatus.EXITED, operational_state=AgentState.EXITED)
        assert store.agents.alive("n") == []

    def test_one_that_is_silent_is_gone(self, store: MonitorStore, monitor: EmbeddedMonitor) -> None:
        self.report(monitor, "silent")
        self.report(monitor, "alive")
        with writing(store.agents.engine) as connection:
            long_ago = datetime.now(UTC) - timedelta(seconds=181)
            connection.execute(
                AGENTS.update().where(AGENTS.c.instance_name == "silent").values(last_heartbeat=long_ago)
            )
        assert [row["instance_name"] for row in store.agents.alive("n")] == ["alive"]
        store.agents.mark_silent()
        assert store.agents.listed(instance_name="silent").items[0]["status"] == "EXITED"
        assert store.agents.listed(status="OK").items[0]["instance_name"] == "alive"

    def test_many_that_come_back_do_not_wait_for_each_other(
        self, store: MonitorStore, monitor: EmbeddedMonitor
    ) -> None:
        names = [f"a{number}" for number in range(4)]
        for _ in range(5):
            for name in names:
                self.report(monitor, name)
            with writing(store.agents.engine) as connection:
                long_ago = datetime.now(UTC) - timedelta(hours=1)
                connection.execute(AGENTS.update().values(last_heartbeat=long_ago))
            with ThreadPoolExecutor(len(names)) as pool:
                assert [*pool.map(lambda name: self.report(monitor, name), names)] == [None] * 4
            assert len(store.agents.alive("n")) == len(names)

    def test_over_the_bus(self, store: MonitorStore) -> None:
        beat = BusHeartbeat(agent_name="a", agent_type="x", status="OK", received=NOW)
        store.messages.record([], [beat, beat.model_copy(update={"status": "WARNING"})])
        (row,) = store.agents.listed().items
        assert (row["status"], row["last_heartbeat"]) == ("WARNING", NOW)

    def test_who_listens(self, store: MonitorStore, monitor: EmbeddedMonitor) -> None:
        monitor.add_subscriber("data-agent-1-/topic/epictopic", "reads")
        monitor.add_subscriber("data-agent-1-/topic/epictopic", "reads")
        assert len(store.subscribers.find()) == 1


class TestLogs:
    def line(self, text: str, level: int = logging.INFO, **values: Any) -> dict[str, Any]:
        return {
            "app_name": "base_agent",
            "instance_name": "data-agent-alice-1",
            "timestamp": NOW,
            "level": level,
            "levelname": logging.getLevelName(level),
            "message": text,
            "extra_data": None,
            **values,
        }

    def test_they_are_found_by_what_they_say(self, store: MonitorStore) -> None:
        store.logs.add_all(
            [
                self.line("registered 50% of the files"),
                self.line("the catalogue answers 500", logging.ERROR, extra_data={"execution_id": "e-1"}),
            ]
        )
        store.logs.add(self.line("later", logging.WARNING, timestamp=NOW + timedelta(hours=1)))
        for wanted, texts in [
            ({}, ["later", "the catalogue answers 500", "registered 50% of the files"]),
            ({"level": logging.WARNING}, ["later", "the catalogue answers 500"]),
            ({"search": "0% OF"}, ["registered 50% of the files"]),
            ({"search": "5_"}, []),
            ({"execution_id": "e-1"}, ["the catalogue answers 500"]),
            ({"start": NOW + timedelta(minutes=1)}, ["later"]),
            ({"instance_name": "nobody"}, []),
        ]:
            assert [row["message"] for row in store.logs.listed(**wanted).items] == texts, wanted

    def test_an_execution_that_no_database_takes(self, store: MonitorStore) -> None:
        for text in ("a\0b", "\ud800", secrets.token_hex(9000)):
            row = store.logs.add(self.line("x", extra_data={"execution_id": text}))
            assert row["extra_data"] == {"execution_id": text}
        assert store.logs.listed(execution_id="a\ufffdb").total == 1

    def test_who_wrote_how_much(self, store: MonitorStore) -> None:
        store.logs.add_all([self.line("a"), self.line("b"), self.line("c", logging.ERROR)])
        (row,) = store.logs.summary()
        assert (row["total"], row["levels"], row["latest_timestamp"]) == (3, {"INFO": 2, "ERROR": 1}, NOW)


class TestRows:
    def test_what_only_one_may_have(self, store: MonitorStore) -> None:
        store.runs.add({"run_number": RUN, "start_time": NOW})
        other = store.runs.add({"run_number": RUN + 1, "start_time": NOW})
        with pytest.raises(AlreadyThere, match="run with this run number already exists") as caught:
            store.runs.add({"run_number": RUN, "start_time": NOW})
        assert caught.value.field == "run_number"
        with pytest.raises(AlreadyThere, match="already exists"):
            store.runs.change(other["run_id"], {"run_number": RUN})
        assert store.runs.change(other["run_id"], {"run_number": RUN + 1}) is not None
        begin(store)
        with pytest.raises(AlreadyThere, match="execution id"):
            begin(store)

    def test_what_others_refer_to_stays(self, store: MonitorStore, monitor: EmbeddedMonitor) -> None:
        run = monitor.open_run(RUN, start_time=NOW)
        (file,) = monitor.register_files(RUN, files(1))
        with pytest.raises(RefusedField, match="refers"):
            store.runs.remove(run.run_id)
        assert store.files.remove(file.file_id)
        assert store.runs.remove(run.run_id)
        assert not store.runs.remove(run.run_id)
        assert store.runs.change(run.run_id, {"end_time": NOW}) is None
