"""The REST resources, as agents in the field use them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.streaming.rest import batches, specs
from app.streaming.rest import blueprint as blueprint_module
from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.streaming.job_listing import JobListing, JobQuery, ListedJob
from models.streaming.monitoring import RecordedMessage
from repos.streaming.monitor_store import MonitorStore

RESOURCES = [
    "systemagents",
    "logs",
    "workflow-messages",
    "runs",
    "stf-files",
    "subscribers",
    "workflow-definitions",
    "workflow-executions",
    "run-states",
    "system-state-events",
    "namespaces",
]


def post_run(client: FlaskClient, number: int = 100010, **fields: Any) -> int:
    body = {"run_number": number, "start_time": "2026-05-04T03:02:01.5", "run_conditions": {}, **fields}
    response = client.post("/api/runs/", json=body)
    assert response.status_code == 201
    return int(response.json["run_id"])


class TestSequenceOfARun:
    """The requests of a run, in the order of the field."""

    def test_it_is_answered(self, client: FlaskClient) -> None:
        sequence = client.post("/api/state/next-workflow-execution-id/", json={"workflow_name": "p"})
        assert sequence.json == {"sequence": 1, "status": "success"}
        definition = {
            "workflow_name": "prompt_processing",
            "version": "1.0",
            "workflow_type": "simulation",
            "definition": "print()",
            "parameter_values": {},
            "created_by": "alice",
            "created_at": "2026-05-04T03:02:01.000000",
        }
        path = "/api/workflow-definitions/?workflow_name=prompt_processing&version=1.0"
        assert client.get(path).json == []
        assert client.post("/api/workflow-definitions/", json=definition).status_code == 201
        (found,) = client.get(path).json
        namespace = client.post("/api/namespaces/ensure/", json={"name": "epic", "owner": "alice"})
        assert namespace.json == {
            "name": "epic",
            "owner": "alice",
            "description": "",
            "created": True,
            "status": "success",
        }
        execution = {
            "execution_id": "prompt_processing-alice-0001",
            "workflow_definition": found["id"],
            "namespace": "epic",
            "status": "running",
            "executed_by": "alice",
            "start_time": "2026-05-04T03:02:01.000000",
            "parameter_values": {"git_version": {"commit": "0"}},
        }
        assert client.post("/api/workflow-executions/", json=execution).status_code == 201
        assert client.post("/api/state/next-run-number/").json == {"run_number": 100010, "status": "success"}
        counts = ["active_worker_count", "stf_samples_received", "slices_created", "slices_queued"]
        state = {
            "run_number": 100010,
            "phase": "initializing",
            "state": "imminent",
            "substate": "preparing",
            "target_worker_count": 0,
            **dict.fromkeys(counts, 0),
            "state_changed_at": "2026-05-04T03:02:01.000000",
            "metadata": {"execution_id": "prompt_processing-alice-0001", "stf_sampling_rate": None},
        }
        assert client.post("/api/run-states/", json=state).status_code == 201
        run = post_run(client)
        file = {
            "run": run,
            "stf_filename": "swf.100010.000001.stf",
            "file_size_bytes": None,
            "machine_state": "run",
            "status": "registered",
            "metadata": {"created_by": "data-agent-alice-1", "start": None, "sequence": 1},
        }
        created = client.post("/api/stf-files/", json=file)
        assert created.status_code == 201 and UUID(created.json["file_id"])
        change = {"status": "processing", "metadata": {**file["metadata"], "panda_task_id": "7"}}
        patched = client.patch(f"/api/stf-files/{created.json['file_id']}/", json=change)
        assert (patched.json["status"], patched.json["metadata"]["panda_task_id"]) == ("processing", "7")
        ended = client.patch(f"/api/runs/{run}/", json={"end_time": "2026-05-04T03:03:01"})
        assert ended.json["end_time"] == "2026-05-04T03:03:01+00:00"
        end = {"status": "completed", "end_time": "2026-05-04T03:03:01"}
        path = "/api/workflow-executions/prompt_processing-alice-0001/"
        assert client.patch(path, json=end).json["status"] == "completed"
        assert client.get(path).json["end_time"] == "2026-05-04T03:03:01+00:00"


class TestErrors:
    """They have the form of the field."""

    def test_fields_that_are_missing_or_wrong_are_named(self, client: FlaskClient) -> None:
        response = client.post("/api/runs/", json={"run_number": "x"})
        assert response.status_code == 400
        assert response.json == {
            "run_number": ["A valid integer is required."],
            "start_time": ["This field is required."],
        }

    @pytest.mark.parametrize(
        ("path", "body", "said"),
        [
            ("runs", {"run_number": 1, "start_time": None}, {"start_time": "This field may not be null."}),
            (
                "subscribers",
                {"subscriber_name": "n" * 256, "fraction": "x", "is_active": "perhaps"},
                {
                    "subscriber_name": "Ensure this field has no more than 255 characters.",
                    "fraction": "A valid number is required.",
                    "is_active": "Must be a valid boolean.",
                },
            ),
            (
                "logs",
                {
                    "app_name": "a",
                    "instance_name": "i",
                    "timestamp": "2026-01-01",
                    "level": 2**31,
                    "levelname": "X",
                    "message": "",
                },
                {"level": "Ensure this value is less than or equal to 2147483647."},
            ),
            (
                "workflow-messages",
                {"message_content": []},
                {"message_content": 'Expected a dictionary of items but got type "list".'},
            ),
        ],
    )
    def test_in_the_words_of_the_field(
        self, client: FlaskClient, path: str, body: dict[str, Any], said: dict[str, str]
    ) -> None:
        response = client.post(f"/api/{path}/", json=body)
        assert response.status_code == 400
        assert response.json == {name: [text] for name, text in said.items()}

    def test_what_is_there_already(self, client: FlaskClient) -> None:
        post_run(client)
        response = client.post(
            "/api/runs/", json={"run_number": 100010, "start_time": "2026-01-01T00:00:00Z"}
        )
        assert response.status_code == 400
        assert response.json == {"run_number": ["run with this run number already exists."]}
        subscriber = {"subscriber_name": "a-/topic/x", "description": "", "is_active": True, "fraction": 1.0}
        assert client.post("/api/subscribers/", json=subscriber).status_code == 201
        text = client.post("/api/subscribers/", json=subscriber).text
        # What agents look for.
        assert "already exists" in text and "subscriber" in text

    def test_what_is_not_there(self, client: FlaskClient) -> None:
        for path in ("runs/7/", "runs/x/", "stf-files/nonsense/", "workflow-executions/a/", "runs/²/"):
            response = client.get(f"/api/{path}")
            assert (response.status_code, response.json) == (404, {"detail": "Not found."}), path
        assert client.patch("/api/runs/7/", json={}).status_code == 404
        assert client.delete("/api/runs/7/").status_code == 404
        assert client.post("/api/state/next-week/").status_code == 404

    def test_a_row_that_is_referred_to(self, client: FlaskClient) -> None:
        response = client.post("/api/stf-files/", json={"run": 7, "stf_filename": "a"})
        assert response.json == {"run": ['Invalid pk "7" - object does not exist.']}

    @pytest.mark.parametrize(
        "body", ["{", "[1", '{"a": NaN}', '{"a": 1e999}', "[" * 100_000, "[" * 500 + "]" * 500]
    )
    def test_what_is_no_json(self, client: FlaskClient, body: str) -> None:
        response = client.post("/api/runs/", data=body, content_type="application/json")
        assert response.status_code == 400
        assert "JSON parse error" in response.json["detail"]

    def test_a_form_of_another_site(self, client: FlaskClient) -> None:
        assert client.post("/api/runs/", data="{}", content_type="text/plain").status_code == 415

    def test_a_body_that_is_too_large(self, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(blueprint_module, "MAX_BODY", 1000)
        response = client.post("/api/runs/", json={"x": "y" * 1000})
        assert response.status_code == 413 and "detail" in response.json

    def test_while_the_database_is_away(
        self, client: FlaskClient, store: MonitorStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: object, **__: object) -> None:
            raise TemporarilyUnavailable("the database is away")

        monkeypatch.setattr(store.runs, "page", away)
        monkeypatch.setattr(store.numbers, "next", away)
        response = client.get("/api/runs/")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
        response = client.post("/api/state/next-agent-id/")
        assert (response.status_code, response.json["status"]) == (500, "error")

    def test_something_of_ours_that_is_broken(
        self,
        client: FlaskClient,
        store: MonitorStore,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(store.runs, "page", lambda *_, **__: 1 / 0)
        response = client.get("/api/runs/")
        assert response.status_code == 500 and "ZeroDivisionError" in response.json["detail"]
        assert "Unexpected error" in caplog.text


class TestToken:
    def test_may_be_beyond_ascii(self, make_client: Callable[..., FlaskClient]) -> None:
        client = make_client(token="sésame")
        for presented, status in (("sésame", 200), ("sesame", 401)):
            sent = f"Token {presented}".encode().decode("latin-1")
            answer = client.post("/api/state/next-agent-id/", environ_overrides={"HTTP_AUTHORIZATION": sent})
            assert answer.status_code == status

    def test_writing_needs_it(self, make_client: Callable[..., FlaskClient]) -> None:
        client = make_client(token="secret")
        body = {"run_number": 1, "start_time": "2026-01-01T00:00:00Z"}
        assert client.post("/api/runs/", json=body).status_code == 401
        for wrong in ("Token wrong", "Token ", "Basic secret", "Token sécret"):
            response = client.post("/api/runs/", json=body, headers={"Authorization": wrong})
            assert response.status_code == 401
        assert client.get("/api/runs/").json == []
        right = {"Authorization": "Token secret"}
        assert client.post("/api/runs/", json=body, headers=right).status_code == 201
        assert client.patch("/api/runs/1/", json={}).status_code == 401
        assert client.delete("/api/runs/1/").status_code == 401
        assert client.post("/api/state/next-run-number/").status_code == 401

    def test_logs_are_open_to_all(self, make_client: Callable[..., FlaskClient]) -> None:
        client = make_client(token="secret")
        for path in ("/api/logs/", "/api/logs"):
            assert client.post(path, json={}).status_code == 400
        # To be written to, not to be written over.
        for method in ("PUT", "PATCH", "DELETE"):
            assert client.open("/api/logs/1/", method=method, json={}).status_code == 401


class TestTimes:
    def test_without_a_zone_they_are_in_the_monitors(self, make_client: Callable[..., FlaskClient]) -> None:
        client = make_client(zone="America/New_York")
        run = post_run(client, start_time="2026-05-04T03:02:01")
        assert client.get(f"/api/runs/{run}/").json["start_time"] == "2026-05-04T07:02:01+00:00"

    @pytest.mark.parametrize(
        ("text", "read"),
        [
            ("2026-05-04T03:02:01Z", "2026-05-04T03:02:01+00:00"),
            ("2026-05-04T03:02:01+02:00", "2026-05-04T01:02:01+00:00"),
            ("2026-05-04 03:02:01.25", "2026-05-04T03:02:01.250000+00:00"),
        ],
    )
    def test_as_they_are_written(self, client: FlaskClient, text: str, read: str) -> None:
        run = post_run(client, start_time=text)
        assert client.get(f"/api/runs/{run}/").json["start_time"] == read

    @pytest.mark.parametrize(
        "text", ["", "yesterday", 5, "0001-01-01T00:00:00+14:00", "0001-01-02", "9999-12-31", ["x"]]
    )
    def test_as_they_are_not(self, client: FlaskClient, text: object) -> None:
        response = client.post("/api/runs/", json={"run_number": 1, "start_time": text})
        assert response.status_code == 400 and "Datetime has wrong format" in response.json["start_time"][0]

    def test_a_plus_that_became_a_space_in_a_url(self, client: FlaskClient) -> None:
        path = "/api/logs/?start_time=2026-05-04T03:02:01+02:00"
        assert client.get(path).status_code == 200
        assert client.get("/api/logs/?start_time=soon").status_code == 400


class TestFiles:
    def test_a_list_is_registered_at_once(self, client: FlaskClient) -> None:
        run = post_run(client)
        bodies = [{"run": run, "stf_filename": f"{i}.stf", "file_size_bytes": i} for i in range(3)]
        first = client.post("/api/stf-files/", json=bodies)
        assert first.status_code == 201
        again = client.post("/api/stf-files/", json=bodies)
        assert [row["file_id"] for row in again.json] == [row["file_id"] for row in first.json]
        wrong = client.post("/api/stf-files/", json=[bodies[0], {"run": run, "stf_filename": ""}])
        assert wrong.status_code == 400
        assert wrong.json == [{}, {"stf_filename": ["This field may not be blank."]}]

    def test_a_list_is_changed_at_once(self, client: FlaskClient) -> None:
        run = post_run(client)
        (row,) = client.post(
            "/api/stf-files/", json=[{"run": run, "stf_filename": "a", "metadata": {"sequence": 1}}]
        ).json
        change = [{"file_id": row["file_id"], "status": "processed", "metadata": {"panda_job_id": "3"}}]
        assert client.patch("/api/stf-files/", json=change).json == {"updated": 1}
        after = client.get(f"/api/stf-files/{row['file_id']}/").json
        assert (after["status"], after["metadata"]) == ("processed", {"sequence": 1, "panda_job_id": "3"})
        assert client.patch("/api/stf-files/", json={}).status_code == 400
        assert client.patch("/api/stf-files/", json=[{"file_id": "x"}]).status_code == 400

    def test_all_of_a_run_or_the_newest(
        self, make_client: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(specs, "_MOST_FILES", 2)
        client = make_client()
        run = post_run(client)
        client.post("/api/stf-files/", json=[{"run": run, "stf_filename": f"{i}"} for i in range(3)])
        newest = client.get("/api/stf-files/?status=registered")
        assert [row["stf_filename"] for row in newest.json] == ["2", "1"]
        assert newest.headers["X-Total-Count"] == "3"
        assert len(client.get("/api/stf-files/?run_number=100010").json) == 3

    @pytest.mark.parametrize("most", [1, 4, 6, 7, 8, 100])
    def test_long_lists_are_sent_part_by_part(
        self, make_client: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch, most: int
    ) -> None:
        monkeypatch.setattr(batches, "_PART", 3)
        monkeypatch.setattr(specs, "_MOST_FILES", most)
        client = make_client()
        run = post_run(client)
        client.post("/api/stf-files/", json=[{"run": run, "stf_filename": f"{i}"} for i in range(4)])
        client.post("/api/stf-files/", json=[{"run": run, "stf_filename": f"{i}"} for i in range(4, 7)])
        limited = client.get("/api/stf-files/?run_number=100010&limit=100").json["results"]
        whole = client.get("/api/stf-files/?run_number=100010")
        assert whole.is_streamed and whole.headers["X-Total-Count"] == "7"
        assert whole.mimetype == "application/json" and whole.json == limited
        assert client.get("/api/stf-files/").json == limited[:most]

    def test_a_list_that_cannot_be_begun(
        self, client: FlaskClient, store: MonitorStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: Any, **__: Any) -> Any:
            raise TemporarilyUnavailable("the database is away")
            yield

        monkeypatch.setattr(store.files, "parts", away)
        assert client.get("/api/stf-files/").status_code == 503

    def test_filters_and_pages(self, client: FlaskClient) -> None:
        run = post_run(client)
        client.post("/api/stf-files/", json=[{"run": run, "stf_filename": f"{i}"} for i in range(5)])
        client.post("/api/stf-files/", json={"run": run, "stf_filename": "x", "status": "failed"})
        assert len(client.get("/api/stf-files/").json) == 6
        assert len(client.get("/api/stf-files/?run_number=100010&status=registered").json) == 5
        assert len(client.get("/api/stf-files/?run_number=7").json) == 0
        assert [r["stf_filename"] for r in client.get("/api/stf-files/?stf_filename=x").json] == ["x"]
        page = client.get("/api/stf-files/?limit=4&status=registered").json
        assert (page["count"], len(page["results"]), page["previous"]) == (5, 4, None)
        rest = client.get(page["next"]).json
        assert (len(rest["results"]), rest["next"]) == (1, None)
        assert client.get(rest["previous"]).json["results"] == page["results"]

    @pytest.mark.parametrize("query", ["run_number=x", "limit=-1", "limit=0", "workflow_id=5", "offset=1e3"])
    def test_bad_queries_are_named(self, client: FlaskClient, query: str) -> None:
        response = client.get(f"/api/stf-files/?{query}")
        assert response.status_code == 400 and query.partition("=")[0] in response.json

    def test_a_filter_without_a_value_is_none(self, client: FlaskClient) -> None:
        post_run(client)
        client.post("/api/stf-files/", json={"run": 1, "stf_filename": "a"})
        (row,) = client.get("/api/stf-files/?run_number=&status=&stf_filename=&limit=&workflow_id=").json
        assert row["stf_filename"] == "a"

    def test_a_status_that_is_none(self, client: FlaskClient) -> None:
        response = client.post("/api/stf-files/", json={"run": 1, "stf_filename": "a", "status": "lost"})
        assert response.json == {"status": ['"lost" is not a valid choice.']}


class TestExecutions:
    def test_filters(self, client: FlaskClient) -> None:
        for number, (namespace, status) in enumerate([("a", "running"), ("b", "running"), ("a", "failed")]):
            body = {
                "execution_id": f"e-{number}",
                "namespace": namespace,
                "status": status,
                "executed_by": "me",
            }
            assert client.post("/api/workflow-executions/", json=body).status_code == 201
        found = client.get("/api/workflow-executions/?namespace=a&status=running&executed_by=me").json
        assert [row["execution_id"] for row in found] == ["e-0"]

    def test_a_stopped_one_as_the_field_tells_it(self, client: FlaskClient) -> None:
        client.post("/api/workflow-executions/", json={"execution_id": "e", "status": "running"})
        end = "2026-05-04T03:02:01+00:00"
        client.patch("/api/workflow-executions/e/", json={"status": "completed", "end_time": end})
        response = client.patch(
            "/api/workflow-executions/e/", json={"status": "terminated", "end_time": None}
        )
        assert (response.json["status"], response.json["end_time"]) == ("terminated", end)

    def test_what_names_it_cannot_be_changed(self, client: FlaskClient) -> None:
        client.post("/api/workflow-executions/", json={"execution_id": "e"})
        assert client.patch("/api/workflow-executions/e/", json={"execution_id": "f"}).status_code == 200
        assert client.get("/api/workflow-executions/f/").status_code == 404
        assert client.put("/api/workflow-executions/e/", json={"status": "x"}).status_code == 400
        whole = {"execution_id": "e", "status": "paused", "namespace": "n"}
        before = client.get("/api/workflow-executions/e/").json
        assert client.put("/api/workflow-executions/e/", json=whole).json == {**before, **whole}
        assert client.delete("/api/workflow-executions/e/").status_code == 204
        assert client.get("/api/workflow-executions/").json == []


class TestAgents:
    def test_signs_of_life(self, client: FlaskClient) -> None:
        body = {
            "instance_name": "data-agent-alice-1",
            "agent_type": "DATA",
            "status": "OK",
            "description": "DATA agent. MQ: connected",
            "mq_connected": True,
            "pid": 4711,
            "hostname": "host",
            "operational_state": "READY",
            "namespace": "epic",
        }
        assert client.post("/api/systemagents/heartbeat/", json=body).status_code == 201
        enhanced = {**body, "workflow_enabled": True, "current_stf_count": 3, "total_stf_processed": 9}
        assert client.post("/api/systemagents/heartbeat/", json=enhanced).status_code == 200
        # What is not told stays.
        client.post("/api/systemagents/heartbeat/", json=body)
        (row,) = client.get("/api/systemagents/?namespace=epic").json
        assert (row["mq_connected"], row["current_stf_count"], row["total_stf_processed"]) == (True, 3, 9)
        assert client.post("/api/systemagents/heartbeat/", json={"status": "OK"}).status_code == 400
        assert client.get("/api/systemagents/?namespace=other").json == []


class TestMessagesAndLogs:
    def test_messages_of_an_execution(
        self, client: FlaskClient, store: MonitorStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = datetime.now(UTC)
        store.messages.record(
            [
                RecordedMessage(
                    message_type=kind,
                    execution_id="e",
                    run_id="100010",
                    message_content={"msg_type": kind},
                    sent_at=now + timedelta(seconds=number),
                    queue_name="/topic/epictopic",
                    broker_id=f"b{number}",
                )
                for number, kind in enumerate(["run_imminent", "start_run"])
            ]
        )
        rows = client.get("/api/workflow-messages/?execution_id=e").json
        assert [row["message_type"] for row in rows] == ["start_run", "run_imminent"]
        assert "broker_id" not in rows[0] and rows[0]["sent_at"].endswith("+00:00")
        assert len(client.get("/api/workflow-messages/?run_id=100010&message_type=start_run").json) == 1
        monkeypatch.setattr(specs, "_MOST_OF_ONE", 1)
        (newest,) = client.get("/api/workflow-messages/?execution_id=e").json
        assert newest == rows[0]
        limited = client.get("/api/workflow-messages/?limit=1")
        assert len(limited.json) == 1 and limited.headers["X-Total-Count"] == "2"
        one = client.get(f"/api/workflow-messages/{rows[0]['message_id']}/").json
        assert one == rows[0]

    @pytest.mark.parametrize("name", ["execution_id", "run_id", "sender_agent"])
    def test_a_name_that_is_too_long_for_an_index(self, client: FlaskClient, name: str) -> None:
        response = client.post("/api/workflow-messages/", json={name: "x" * 256})
        assert response.status_code == 400 and [*response.json] == [name]

    def test_logs_one_by_one_and_many(self, client: FlaskClient) -> None:
        line = {
            "app_name": "base_agent",
            "instance_name": "a",
            "timestamp": "2026-05-04T03:02:01.000001",
            "level": logging.ERROR,
            "levelname": "ERROR",
            "message": "it broke",
            "module": "m",
            "funcname": "f",
            "lineno": 1,
            "process": 2,
            "thread": 140_457_197_439_872,
            "extra_data": {"execution_id": "e"},
        }
        assert client.post("/api/logs/", json=line).status_code == 201
        many = client.post("/api/logs/", json=[line, {**line, "level": 20, "levelname": "INFO"}])
        assert many.json == {"created": 2}
        assert len(client.get("/api/logs/?level=error&execution_id=e&search=BROKE").json) == 2
        assert len(client.get("/api/logs/?level=20").json) == 3
        assert client.get("/api/logs/?level=loud").status_code == 400
        assert client.get("/api/logs/summary/").json[0]["levels"] == {"ERROR": 2, "INFO": 1}


class _Jobs:
    def __init__(self) -> None:
        self.queries: list[JobQuery] = []

    def listed(self, query: JobQuery) -> JobListing:
        self.queries.append(query)
        jobs = [
            ListedJob(pandaid=number, jobstatus="finished", jeditaskid=7, modificationtime=datetime.now(UTC))
            for number in (5, 4, 3)
            if query.before_id is None or number < query.before_id
        ]
        return JobListing(jobs=jobs[: query.limit], summary={"finished": 3})


class TestJobs:
    def test_they_are_listed_in_pages(self, make_client: Callable[..., FlaskClient]) -> None:
        jobs = _Jobs()
        client = make_client(jobs=jobs)
        page = client.get("/api/panda/jobs/?limit=2&status=finished").json
        assert [job["pandaid"] for job in page["items"]] == [5, 4]
        assert (page["total_count"], page["has_more"], page["next_before_id"]) == (3, True, 4)
        assert (jobs.queries[0].status, jobs.queries[0].limit) == ("finished", 2)
        last = client.get("/api/panda/jobs/?limit=2&before_id=4").json
        assert ([job["pandaid"] for job in last["items"]], last["has_more"]) == ([3], False)
        assert client.get("/api/panda/jobs/?taskid=7").json["filters"]["limit"] == 100_000
        assert jobs.queries[-1].since is None
        assert client.get("/api/panda/jobs/?days=x").status_code == 400

    def test_tasks(self, make_client: Callable[..., FlaskClient]) -> None:
        client = make_client(jobs=_Jobs())
        (task,) = client.get("/api/panda/tasks/").json["items"]
        assert (task["jeditaskid"], task["jobs"]) == (7, {"finished": 3})
        assert client.get("/api/panda/tasks/7/").json["jobs"] == {"finished": 3}
        assert client.get("/api/panda/tasks/x/").status_code == 404

    def test_while_those_who_know_have_not_run(self, make_client: Callable[..., FlaskClient]) -> None:
        class Nobody:
            def listed(self, query: JobQuery) -> JobListing:
                raise InvalidConfiguration("there is no database")

        response = make_client(jobs=Nobody()).get("/api/panda/jobs/")
        assert response.status_code == 503 and "no database" in response.json["detail"]

    def test_without_any(self, client: FlaskClient) -> None:
        assert client.get("/api/panda/jobs/").json["items"] == []
        assert client.get("/api/panda/tasks/7/").status_code == 404


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["\0", "\ud800", "100010", "2026-01-01T00:00:00", "running", "registered"]),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = [
    *("run_number", "start_time", "end_time", "run_conditions", "execution_id", "namespace", "status", "run"),
    *("stf_filename", "metadata", "app_name", "instance_name", "timestamp", "level", "levelname", "message"),
    *("thread", "extra_data", "name", "workflow_name", "version", "workflow_definition", "subscriber_name"),
    *(
        "fraction",
        "event_type",
        "event_data",
        "message_id",
        "message_content",
        "file_size_bytes",
        "is_active",
    ),
    *("agent_type", "last_heartbeat", "checksum", "parameter_values"),
]


class TestAnything:
    """Whatever is sent, it is not this side that breaks."""

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        resource=st.sampled_from([*RESOURCES, "systemagents/heartbeat", "namespaces/ensure"]),
        body=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8) | JSON,
        many=st.booleans(),
    )
    def test_bodies(self, client: FlaskClient, resource: str, body: Any, many: bool) -> None:
        text = json.dumps([body] if many else body)
        for method in ("POST", "PATCH", "PUT"):
            path = f"/api/{resource}/" if method == "POST" else f"/api/{resource}/1/"
            response = client.open(path, method=method, data=text, content_type="application/json")
            assert response.status_code in (200, 201, 400, 404, 405), response.text
        assert client.get(f"/api/{resource.partition('/')[0]}/").status_code == 200

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        resource=st.sampled_from([*RESOURCES, "panda/jobs", "panda/tasks", "logs/summary"]),
        query=st.dictionaries(
            st.sampled_from(
                ["limit", "offset", "run_number", "status", "workflow_id", "level", "start_time"]
            ),
            st.text(max_size=10) | st.integers().map(str),
            max_size=3,
        ),
        key=st.text(min_size=1, max_size=10),
    )
    def test_queries(self, client: FlaskClient, resource: str, query: dict[str, str], key: str) -> None:
        assert client.get(f"/api/{resource}/", query_string=query).status_code in (200, 400)
        for method in ("GET", "DELETE", "PATCH"):
            response = client.open(f"/api/{resource}/{key}/", method=method, json={})
            assert response.status_code in (200, 204, 404, 405, 308), response.text
