"""The monitor over HTTP: ours, and one as in the field."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.monitoring import (
    AgentReport,
    ExecutionStatus,
    FileUpdate,
    NewStfFile,
    RecordedMessage,
    StfStatus,
)
from repos.streaming import monitor_client
from repos.streaming.monitor_client import MonitorClient
from repos.streaming.monitor_http import MonitorHttp
from repos.streaming.monitor_store import MonitorStore
from tests.repos.streaming.monitors import TOKEN, FieldMonitor, now, our_monitor, served

RUN = 100010


def files(count: int, **fields: Any) -> list[NewStfFile]:
    return [
        NewStfFile(stf_filename=f"swf.{RUN}.{i:06d}.stf", metadata={"sequence": i}, **fields)
        for i in range(1, count + 1)
    ]


@pytest.fixture
def field() -> FieldMonitor:
    return FieldMonitor()


@pytest.fixture
def field_client(field: FieldMonitor) -> Iterator[MonitorClient]:
    with served(field.app) as url:
        client = MonitorClient(MonitorHttp(url))
        yield client
        client.close()


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[tuple[MonitorClient, MonitorStore]]:
    app, store = our_monitor(tmp_path)
    with served(app) as url:
        client = MonitorClient(MonitorHttp(f"{url}/", token=TOKEN))
        yield client, store
        client.close()


@pytest.fixture(params=["ours", "field"])
def client(request: pytest.FixtureRequest) -> MonitorClient:
    if request.param == "field":
        found: MonitorClient = request.getfixturevalue("field_client")
    else:
        found, _ = request.getfixturevalue("ours")
    return found


class TestEither:
    """What holds whichever monitor there is."""

    def test_a_run_is_opened_once_and_closed(self, client: MonitorClient) -> None:
        first = client.open_run(RUN, start_time=now(), run_conditions={"beam": "e-p"})
        other = client.open_run(RUN + 1, start_time=now())
        again = client.open_run(RUN, start_time=now())
        assert (again.run_id, again.run_number) == (first.run_id, RUN) and other.run_id != first.run_id
        client.close_run(RUN, end_time=now())
        assert client.open_run(RUN, start_time=now()).end_time is not None
        with pytest.raises(InvalidMessage, match="no run 7"):
            client.close_run(7, end_time=now())

    def test_files_are_registered_once(self, client: MonitorClient) -> None:
        client.open_run(RUN, start_time=now())
        first = client.register_files(RUN, files(3, file_size_bytes=251, checksum="00ab12cd"))
        again = client.register_files(RUN, [*reversed(files(5))])
        assert [f.stf_filename for f in again] == [f.stf_filename for f in reversed(files(5))]
        assert {f.file_id for f in again[2:]} == {f.file_id for f in first}
        assert (again[4].file_size_bytes, again[4].checksum) == (251, "00ab12cd")
        assert len(client.files(RUN)) == 5
        assert client.register_files(RUN, []) == []

    def test_after_a_restart_the_run_is_looked_up(
        self, client: MonitorClient, request: pytest.FixtureRequest
    ) -> None:
        client.open_run(RUN, start_time=now())
        client._keys.clear()
        assert len(client.register_files(RUN, files(1))) == 1

    def test_a_run_that_the_monitor_has_anew_is_looked_up_again(self, client: MonitorClient) -> None:
        client.open_run(RUN, start_time=now())
        client._keys[RUN] = 4711
        assert len(client.register_files(RUN, files(1))) == 1

    def test_updates_leave_other_metadata_alone(self, client: MonitorClient) -> None:
        client.open_run(RUN, start_time=now())
        one, two = client.register_files(RUN, files(2))
        done = FileUpdate(file_id=one.file_id, status=StfStatus.PROCESSED, metadata={"panda_job_id": "5"})
        client.update_files(RUN, [done])
        # One that comes late.
        client.update_files(RUN, [FileUpdate(file_id=one.file_id, status=StfStatus.PROCESSING)])
        (after,) = client.files(RUN, statuses=[StfStatus.PROCESSED])
        assert after.metadata == {"sequence": 1, "panda_job_id": "5"}
        assert [f.file_id for f in client.files(RUN, statuses=[StfStatus.REGISTERED])] == [two.file_id]
        both = client.files(RUN, statuses=[StfStatus.REGISTERED, StfStatus.PROCESSED])
        assert [f.stf_filename for f in both] == [f.stf_filename for f in files(2)]
        unknown = FileUpdate(file_id="00000000-0000-0000-0000-000000000000", status=StfStatus.DONE)
        with pytest.raises(InvalidMessage, match="file_id"):
            client.update_files(RUN, [unknown])

    def test_files_are_counted_by_status(self, client: MonitorClient) -> None:
        client.open_run(RUN, start_time=now())
        assert client.tally_files(RUN) == {}
        one, *_ = client.register_files(RUN, files(4))
        client.update_files(RUN, [FileUpdate(file_id=one.file_id, status=StfStatus.PROCESSED)])
        tally = client.tally_files(RUN)
        assert {status: each.count for status, each in tally.items()} == {"registered": 3, "processed": 1}
        assert tally["processed"].latest.file_id == one.file_id

    def test_files_are_named_page_by_page(
        self, client: MonitorClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(monitor_client, "_NAMES", 2)
        client.open_run(RUN, start_time=now())
        assert [*client.file_names(RUN)] == []
        client.register_files(RUN, files(5))
        assert sorted(client.file_names(RUN)) == [file.stf_filename for file in files(5)]

    def test_what_is_not_there(self, client: MonitorClient) -> None:
        assert client.execution("prompt_processing-alice-0001") is None
        assert client.execution("../runs") is None
        assert client.execution("..") is None
        assert client.run_state(RUN) is None
        assert client.messages("e") == []
        assert client.executions("n", status=ExecutionStatus.RUNNING) == []
        assert client.files(RUN) == []

    def test_agents(self, client: MonitorClient) -> None:
        numbers = [client.next_agent_id() for _ in range(2)]
        assert numbers == [1, 2]
        report = AgentReport(instance_name="data-agent-alice-1", agent_type="DATA", namespace="n")
        client.report(report)
        client.report(report)
        client.add_subscriber("data-agent-alice-1-/topic/epictopic", "reads")
        client.add_subscriber("data-agent-alice-1-/topic/epictopic", "reads")


class TestOurs:
    def test_lists_go_in_one_request(self, ours: tuple[MonitorClient, MonitorStore]) -> None:
        client, store = ours
        client.open_run(RUN, start_time=now())
        registered = client.register_files(RUN, files(1500))
        updates = [FileUpdate(file_id=f.file_id, status=StfStatus.PROCESSED) for f in registered]
        client.update_files(RUN, updates)
        assert store.files.listed(status="processed").total == 1500

    def test_executions_and_messages(
        self, ours: tuple[MonitorClient, MonitorStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client, store = ours
        store.executions.add(
            {"execution_id": "e 1", "namespace": "n", "status": "running", "start_time": now()}
        )
        assert [e.execution_id for e in client.executions("n", status=ExecutionStatus.RUNNING)] == ["e 1"]
        client.end_execution("e 1", ExecutionStatus.TERMINATED, end_time=now())
        client.end_execution("e 1", ExecutionStatus.COMPLETED, end_time=now())
        execution = client.execution("e 1")
        assert execution is not None and execution.status == "terminated" and execution.end_time is not None
        with pytest.raises(InvalidMessage, match="no execution"):
            client.end_execution("e 2", ExecutionStatus.FAILED, end_time=now())
        moment = now()
        store.messages.record(
            [
                RecordedMessage(
                    message_type=kind,
                    execution_id="e 1",
                    run_id=str(RUN),
                    message_content={"msg_type": kind, "state": "run", "substate": "physics"},
                    # All at once: the order of arrival tells them apart.
                    sent_at=moment,
                    queue_name="/topic/epictopic",
                )
                for kind in ("run_imminent", "start_run", "stf_gen")
            ]
        )
        for many in (10_000, 3, 2, 1):
            monkeypatch.setattr(monitor_client, "_MESSAGES", many)
            kinds = [body["msg_type"] for body in client.messages("e 1")]
            assert kinds == ["run_imminent", "start_run", "stf_gen"]
        state = client.run_state(RUN)
        assert state is not None and state.phase == "physics"

    def test_a_wrong_token_is_no_fault_of_the_message(self, tmp_path: Path) -> None:
        app, _ = our_monitor(tmp_path)
        with served(app) as url, pytest.raises(TemporarilyUnavailable, match="SWF_API_TOKEN"):
            MonitorClient(MonitorHttp(url, token="wrong")).open_run(RUN, start_time=now())


class TestField:
    def test_one_list_is_tried_and_no_more(self, field: FieldMonitor, field_client: MonitorClient) -> None:
        field_client.open_run(RUN, start_time=now())
        field.requests.clear()
        registered = field_client.register_files(RUN, files(2))
        assert field.requests == [("POST", "/api/stf-files/")] * 3
        field.requests.clear()
        field_client.register_files(RUN, files(2))
        # One that is there is a reason to look at all of the run.
        assert field.requests == [("POST", "/api/stf-files/"), ("GET", "/api/stf-files/")]
        field.requests.clear()
        updates = [FileUpdate(file_id=f.file_id, status=StfStatus.PROCESSED) for f in registered]
        field_client.update_files(RUN, updates)
        field_client.update_files(RUN, updates)
        methods = [method for method, _ in field.requests]
        # Nothing is written that is so already.
        assert methods == ["GET", "GET", "PATCH", "PATCH", "GET", "GET"]

    def test_of_many_files_those_that_change_are_fetched(
        self, field: FieldMonitor, field_client: MonitorClient
    ) -> None:
        field_client.open_run(RUN, start_time=now())
        registered = field_client.register_files(RUN, files(23))
        field.requests.clear()
        done = [FileUpdate(file_id=f.file_id, status=StfStatus.PROCESSED) for f in registered[:2]]
        field_client.update_files(RUN, done)
        one, two = (f"/api/stf-files/{update.file_id}/" for update in done)
        assert field.requests == [
            ("GET", "/api/stf-files/"),
            *(("GET", url) for url in (one, two)),
            *(("PATCH", url) for url in (one, two)),
        ]
        lost = FileUpdate(file_id="00000000-0000-0000-0000-000000000000", status=StfStatus.DONE)
        with pytest.raises(InvalidMessage, match="file_id"):
            field_client.update_files(RUN, [lost])

    def test_a_page_that_does_not_say_how_many_there_are(
        self, field: FieldMonitor, field_client: MonitorClient
    ) -> None:
        field_client.open_run(RUN, start_time=now())
        field.paged = False
        with pytest.raises(TemporarilyUnavailable, match="how many"):
            field_client.tally_files(RUN)

    def test_pages_that_are_none(
        self, field: FieldMonitor, field_client: MonitorClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(monitor_client, "_NAMES", 2)
        field.one_page = True
        field_client.open_run(RUN, start_time=now())
        field_client.register_files(RUN, files(5))
        assert sorted(field_client.file_names(RUN)) == [file.stf_filename for file in files(5)]

    def test_a_name_that_another_run_has(self, field: FieldMonitor, field_client: MonitorClient) -> None:
        field_client.open_run(RUN, start_time=now())
        field_client.open_run(RUN + 1, start_time=now())
        (there,) = field_client.register_files(RUN, files(1))
        assert field_client.register_files(RUN + 1, files(1)) == [there]

    def test_all_runs_are_fetched_once(self, field: FieldMonitor, field_client: MonitorClient) -> None:
        for number in range(3):
            field.runs[number + 1] = {"run_id": number + 1, "run_number": RUN + number, "end_time": None}
        field_client.close_run(RUN, end_time=now())
        field_client.close_run(RUN + 2, end_time=now())
        assert [m for m, path in field.requests if path == "/api/runs/"] == ["GET"]
        assert field.runs[3]["end_time"] is not None

    def test_an_execution_that_failed_stays_so(
        self, field: FieldMonitor, field_client: MonitorClient
    ) -> None:
        field.executions["e"] = {"execution_id": "e", "namespace": "n", "status": "failed", "end_time": None}
        field_client.end_execution("e", ExecutionStatus.COMPLETED, end_time=now())
        assert field.executions["e"]["status"] == "failed"
        field.executions["e"]["status"] = "completed"
        field_client.end_execution("e", ExecutionStatus.FAILED, end_time=now())
        assert field.executions["e"]["status"] == "failed" and field.executions["e"]["end_time"]

    @pytest.mark.parametrize("many", [10_000, 3, 2])
    def test_messages_are_the_oldest_first(
        self, field: FieldMonitor, field_client: MonitorClient, monkeypatch: pytest.MonkeyPatch, many: int
    ) -> None:
        monkeypatch.setattr(monitor_client, "_MESSAGES", many)
        field.messages = [
            {
                "execution_id": "e",
                "sent_at": (now() - timedelta(seconds=age)).isoformat(),
                "message_content": {"age": age},
                "is_successful": None,
            }
            for age in (1, 2, 3)
        ]
        assert [body["age"] for body in field_client.messages("e")] == [3, 2, 1]
        field.messages.reverse()
        assert [body["age"] for body in field_client.messages("e")] == [3, 2, 1]

    def test_heartbeats_have_the_fields(self, field: FieldMonitor, field_client: MonitorClient) -> None:
        field_client.report(
            AgentReport(instance_name="a", agent_type="DATA", namespace="n", pid=1, hostname="h")
        )
        assert {*field.heartbeats[0]} == {
            *("instance_name", "agent_type", "status", "description", "mq_connected", "pid", "hostname"),
            *("operational_state", "namespace", "workflow_enabled", "current_stf_count"),
            "total_stf_processed",
        }


class TestAnswers:
    """What a monitor that is not well answers."""

    def client(self, answer: httpx.Response | Exception) -> MonitorClient:
        def handle(_: httpx.Request) -> httpx.Response:
            if isinstance(answer, Exception):
                raise answer
            return answer

        return MonitorClient(MonitorHttp("http://monitor", transport=httpx.MockTransport(handle)))

    @pytest.mark.parametrize(
        "answer",
        [
            httpx.Response(500, text="oops"),
            httpx.Response(502),
            httpx.Response(503, json={"detail": "away"}),
            httpx.Response(429),
            httpx.Response(302, headers={"Location": "/login"}),
            httpx.Response(403, json={"detail": "CSRF"}),
            httpx.Response(404, text="<html>nothing here</html>"),
            httpx.Response(200, text="<html>welcome</html>"),
            httpx.Response(200, json={"unexpected": 1}),
            httpx.ConnectError("refused"),
            httpx.ReadTimeout("slow"),
        ],
        ids=lambda answer: str(getattr(answer, "status_code", type(answer).__name__)),
    )
    def test_it_is_asked_again(self, answer: httpx.Response | Exception) -> None:
        client = self.client(answer)
        for ask in (
            client.next_agent_id,
            lambda: client.open_run(RUN, start_time=now()),
            lambda: client.files(RUN),
            lambda: client.execution("e"),
            lambda: client.messages("e"),
        ):
            with pytest.raises(TemporarilyUnavailable, match="monitor"):
                ask()

    def test_of_a_page_its_words_are_quoted_in_a_line(self) -> None:
        """Another server may be where the monitor is looked for."""
        page = (
            "\n <!DOCTYPE html>\n<style>p { color: red }</style>\n<p>File\n not <b>found</b>\n</p>"
            + "<p>" * 999
        )
        with pytest.raises(TemporarilyUnavailable, match=r": 404 File not found$"):
            self.client(httpx.Response(404, text=page)).next_agent_id()

    def test_one_that_hangs_is_left_alone_for_a_while(self) -> None:
        """Each question takes as long as may be waited for."""
        answers: list[httpx.Response | Exception] = []
        clock = [0.0]

        def handle(_: httpx.Request) -> httpx.Response:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        transport = httpx.MockTransport(handle)
        http = MonitorHttp("http://monitor", transport=transport, clock=lambda: clock[0])

        def ask(answer: httpx.Response | Exception) -> str:
            answers[:] = [answer]
            try:
                return str(http.get("x/"))
            except TemporarilyUnavailable as error:
                return "not asked" if answers else str(error)

        good, slow = httpx.Response(200, json=1), httpx.ReadTimeout("slow")
        # One that is slow with one question, and refused connections, cost nothing.
        told = [ask(answer) for answer in (slow, good, slow, httpx.ConnectError("refused"), slow, slow, good)]
        assert [text.rpartition(" ")[2] for text in told] == [
            "slow", "1", "slow", "refused", "slow", "slow", "asked"
        ]  # fmt: skip
        clock[0] = 29.0
        assert ask(good) == "not asked"
        clock[0] = 31.0
        assert ask(slow).endswith("slow") and ask(good) == "not asked"
        clock[0] = 62.0
        assert [ask(good), ask(slow)[-4:], ask(good)] == ["1", "slow", "1"]

    def test_what_it_refuses_is_refused(self) -> None:
        client = self.client(httpx.Response(400, json={"agent_type": ["is too long"]}))
        with pytest.raises(InvalidMessage, match="agent_type"):
            client.report(AgentReport(instance_name="a", agent_type="x" * 30))
