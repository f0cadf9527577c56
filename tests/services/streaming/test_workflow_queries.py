"""Answers about workflows, from a monitor's own database."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.job_listing import JobListing, JobQuery, ListedJob
from models.streaming.monitoring import ExecutionStatus
from repos.streaming.database import create_streaming_engine
from repos.streaming.local_job_listing import LocalJobListing
from services.streaming.query_arguments import Window, log_level, read_time
from services.streaming.workflow_queries import WorkflowQueries
from tests.app.streaming.monitor_world import (
    AGENTS,
    BODIES,
    EXECUTION,
    FILES,
    NAMESPACE,
    RUN,
    MonitorWorld,
    whole_world,
)
from tests.servers import unique_name


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> MonitorWorld:
    if request.param == "sqlite":
        return whole_world(tmp_path)
    server = request.getfixturevalue("postgresql")
    return whole_world(tmp_path, server.create_database(unique_name("monitor")))


@pytest.fixture
def queries(world: MonitorWorld) -> WorkflowQueries:
    return WorkflowQueries(records=lambda: world.store, jobs=None, pages="https://monitor.example/")


def is_aware(text: str) -> bool:
    return datetime.fromisoformat(text).tzinfo is not None


def test_the_monitor_of_an_execution(queries: WorkflowQueries) -> None:
    answer = queries.workflow_monitor(EXECUTION)
    assert json.loads(json.dumps(answer)) == answer
    assert answer["status"] == "completed"
    assert answer["phase"] == "ended"
    assert answer["run_id"] == str(RUN)
    assert answer["stf_count"] == 3
    assert answer["files"] == {"processed": 2, "registered": 1}
    assert [event["type"] for event in answer["events"]] == ["run_imminent", "start_run", "end_run"]
    assert {event["run_id"] for event in answer["events"]} == {str(RUN)}
    (error,) = answer["errors"]
    assert (error["error"], error["source"]) == ("the catalogue answers 500", AGENTS[1])
    assert answer["duration_seconds"] >= 0
    times = [answer["start_time"], answer["end_time"], error["time"], *(e["time"] for e in answer["events"])]
    assert all(is_aware(time) for time in times)
    assert answer["monitor_urls"][0] == {
        "title": f"Execution {EXECUTION}",
        "url": f"https://monitor.example/streaming/executions/{EXECUTION}",
    }


@pytest.mark.parametrize(("heard", "phase"), [(0, "unknown"), (1, "imminent"), (2, "running"), (7, "ended")])
def test_the_phase_follows_the_messages(tmp_path: Path, heard: int, phase: str) -> None:
    world = MonitorWorld(tmp_path)
    world.begin_execution()
    world.hear(*BODIES[:heard])
    answer = WorkflowQueries(records=lambda: world.store, jobs=None).workflow_monitor(EXECUTION)
    assert (answer["phase"], answer["status"], answer["end_time"]) == (phase, "running", None)
    assert answer["duration_seconds"] is not None


def test_a_message_that_is_late_does_not_reopen_a_run(tmp_path: Path) -> None:
    world = MonitorWorld(tmp_path)
    world.begin_execution()
    world.hear(*reversed(BODIES))
    answer = WorkflowQueries(records=lambda: world.store, jobs=None).workflow_monitor(EXECUTION)
    assert answer["phase"] == "ended"


def test_failed_commands_are_errors_of_the_execution(world: MonitorWorld, queries: WorkflowQueries) -> None:
    world.hear(
        {
            "msg_type": "run_workflow_failed",
            "namespace": NAMESPACE,
            "execution_id": EXECUTION,
            "error": "no agent of this namespace has been heard",
            "sender": AGENTS[0],
        }
    )
    errors = queries.workflow_monitor(EXECUTION)["errors"]
    assert [error["error"] for error in errors] == [
        "no agent of this namespace has been heard",
        "the catalogue answers 500",
    ]


def test_what_is_not_there_is_said(queries: WorkflowQueries) -> None:
    assert "there is no execution 'none'" in queries.workflow_monitor("none")["error"]


def test_messages_newest_first(queries: WorkflowQueries) -> None:
    answer = queries.messages(execution_id=EXECUTION)
    assert [item["message_type"] for item in answer["items"]] == [b["msg_type"] for b in reversed(BODIES)]
    assert (answer["total_count"], answer["has_more"]) == (len(BODIES), False)
    first = answer["items"][-1]
    assert set(first) == {
        "message_type",
        "sender_agent",
        "namespace",
        "sent_at",
        "execution_id",
        "run_id",
        "payload_summary",
    }
    assert first["payload_summary"] == json.dumps(BODIES[0])[:200]
    assert is_aware(first["sent_at"])


def test_messages_are_filtered_and_paged(queries: WorkflowQueries) -> None:
    assert queries.messages(message_type="stf_gen")["total_count"] == 3
    assert queries.messages(agent=AGENTS[1])["total_count"] == 1
    assert queries.messages(namespace="other")["items"] == []
    page = queries.messages(execution_id=EXECUTION, limit=2, offset=1)
    assert [item["message_type"] for item in page["items"]] == ["stf_gen", "stf_gen"]
    assert page["has_more"] is True
    assert queries.messages(execution_id=EXECUTION, limit=2, offset=5)["has_more"] is False


def test_what_is_named_is_found_whatever_its_age(world: MonitorWorld, queries: WorkflowQueries) -> None:
    world.age(48 * 3600)
    named = queries.messages(execution_id=EXECUTION)
    assert named["total_count"] == len(BODIES)
    assert "older_count" not in named
    recent = queries.messages(namespace=NAMESPACE)
    assert (recent["total_count"], recent["older_count"]) == (0, len(BODIES))
    assert is_aware(recent["window_start"])
    assert queries.logs(execution_id=EXECUTION)["total_count"] == 2
    assert queries.logs()["older_count"] == 2
    since = (datetime.now(UTC) - timedelta(hours=50)).isoformat()
    asked = queries.messages(start_time=since)
    assert asked["total_count"] == len(BODIES)
    assert "older_count" not in asked


def test_what_could_not_be_read_is_listed_as_it_came(world: MonitorWorld, queries: WorkflowQueries) -> None:
    world.hear("{not json")
    (item, *_) = queries.messages()["items"]
    assert item["payload_summary"] == "{not json"


def test_files(queries: WorkflowQueries) -> None:
    answer = queries.stf_files(run_number=RUN)
    assert {item["stf_filename"] for item in answer["items"]} == set(FILES)
    item = answer["items"][0]
    assert item["run_number"] == RUN
    assert item["file_size_bytes"] == 276
    assert item["tf_file_count"] == 0
    assert is_aware(item["created_at"])
    assert json.loads(json.dumps(answer)) == answer
    assert queries.stf_files(status="processed")["total_count"] == 2
    assert queries.stf_files(run_number=RUN + 1)["items"] == []
    assert queries.stf_files(machine_state="physics")["items"] == []
    assert answer["monitor_urls"][0]["url"].endswith(f"/streaming/runs/{RUN}")


def test_logs_by_level_and_text(world: MonitorWorld, queries: WorkflowQueries) -> None:
    world.log("elsewhere", execution_id=None)
    assert queries.logs()["total_count"] == 3
    assert queries.logs(execution_id=EXECUTION)["total_count"] == 2
    (item,) = queries.logs(level="warning")["items"]
    assert (item["level"], item["message"]) == ("ERROR", "the catalogue answers 500")
    assert queries.logs(level=logging.ERROR)["total_count"] == 1
    assert queries.logs(search="CATALOGUE")["total_count"] == 1
    assert queries.logs(search="%")["total_count"] == 0
    assert queries.logs(instance_name=AGENTS[0])["total_count"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"start_time": "yesterday"}, "start_time: 'yesterday' is no time"),
        ({"start_time": "2026-03-02", "end_time": "2026-03-01"}, "before start_time"),
        ({"limit": 0}, "limit: 0"),
        ({"offset": -1}, "offset"),
        ({"offset": 2**63}, "offset"),
        ({"start_time": "0001-01-01T00:00:00+23:59"}, "is no time"),
    ],
)
def test_what_was_wrong_with_the_question_is_said(
    queries: WorkflowQueries, arguments: dict[str, Any], said: str
) -> None:
    for ask in (queries.messages, queries.stf_files, queries.logs):
        answer = ask(**arguments)
        assert set(answer) == {"error"}
        assert said in answer["error"]


def test_levels_and_runs_that_there_cannot_be(queries: WorkflowQueries) -> None:
    assert "DEBUG, INFO" in queries.logs(level="loud")["error"]
    assert "run_number" in queries.stf_files(run_number=2**63)["error"]


def test_a_status_that_no_file_has_is_told_from_one_that_none_has_now(queries: WorkflowQueries) -> None:
    assert "registered, processing, processed, failed" in queries.stf_files(status="finished")["error"]
    assert queries.stf_files(status="failed")["items"] == []
    assert queries.stf_files(status=" Processed")["total_count"] == 2
    assert queries.stf_files(status="")["total_count"] == 3


def test_of_a_very_long_line_beginning_and_end_are_shown(
    world: MonitorWorld, queries: WorkflowQueries
) -> None:
    world.log("began\n" + "x" * 100_000 + "\nValueError: at last")
    (line,) = queries.logs(search="at last")["items"]
    assert len(line["message"]) < 5000
    assert line["message"].startswith("began") and line["message"].endswith("ValueError: at last")
    assert "characters are left out" in line["message"]
    assert queries.logs(level=2**80)["items"] == []


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_no_database_takes_is_nobody(world: MonitorWorld, text: str) -> None:
    jobs = LocalJobListing(create_streaming_engine(world.jobs_url))
    queries = WorkflowQueries(records=lambda: world.store, jobs=jobs)
    assert "there is no execution" in queries.workflow_monitor(text)["error"]
    assert queries.messages(namespace=text, execution_id=text, agent=text)["items"] == []
    assert queries.messages(message_type=text)["items"] == []
    assert queries.stf_files(run_number=RUN, machine_state=text)["items"] == []
    assert queries.logs(app_name=text, instance_name=text, search=text)["items"] == []
    assert queries.jobs(status=text, username=text, site=text)["jobs"] == []
    assert queries.jobs(username=text)["jobs"] == []


@pytest.mark.parametrize("days", [-1.0, float("-inf"), float("nan")])
def test_days_that_there_cannot_be(world: MonitorWorld, days: float) -> None:
    source = Recorded()
    assert (
        WorkflowQueries(records=lambda: world.store, jobs=source)
        .jobs(days=days)["error"]
        .startswith("days: ")
    )
    assert not source.asked


@given(text=st.text(max_size=40))
def test_no_text_breaks_the_reading_of_arguments(text: str) -> None:
    for read in (lambda: read_time("t", text), lambda: log_level(text)):
        try:
            value = read()
        except InvalidMessage:
            continue
        assert value is None or isinstance(value, datetime | int)


def test_times_without_zone_are_utc() -> None:
    window = Window.read("2026-03-14T09:26:53", "2026-03-14T12:00:00+01:00", hours=1, named=False)
    assert window.start == datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
    assert window.end == datetime(2026, 3, 14, 11, tzinfo=UTC)
    assert not window.assumed


class Broken:
    """Is away."""

    def __getattr__(self, name: str) -> Any:
        raise TemporarilyUnavailable("the monitor's database is away")


def test_a_database_that_is_away_is_said() -> None:
    queries = WorkflowQueries(records=Broken, jobs=Broken())
    for answer in (
        queries.workflow_monitor(EXECUTION),
        queries.messages(),
        queries.stf_files(),
        queries.logs(),
        queries.jobs(),
    ):
        assert answer == {"error": "the monitor's database is away"}


def test_without_an_executor_nothing_knows_of_jobs(queries: WorkflowQueries) -> None:
    assert "neither a local executor nor PanDA" in queries.jobs()["error"]


def test_local_jobs(world: MonitorWorld) -> None:
    task = world.run_jobs()
    jobs = LocalJobListing(create_streaming_engine(world.jobs_url, read_only=True))
    queries = WorkflowQueries(records=lambda: world.store, jobs=jobs)
    answer = queries.jobs(taskid=task)
    assert json.loads(json.dumps(answer)) == answer
    assert answer["summary"] == {"activated": 1, "failed": 1, "finished": 1}
    assert (answer["total_in_window"], answer["count"]) == (3, 3)
    assert answer["filters"]["days"] is None
    assert answer["pagination"]["limit"] == 100_000
    assert [job["jobstatus"] for job in answer["jobs"]] == ["activated", "failed", "finished"]
    failed = answer["jobs"][1]
    assert (failed["error"], failed["inputfiles"]) == ("exit status 3", [FILES[1]])
    assert failed["jeditaskid"] == task
    assert is_aware(failed["creationtime"])
    assert queries.jobs(taskid=task + 1)["jobs"] == []
    assert queries.jobs(status="finished")["count"] == 1
    assert queries.jobs(username=NAMESPACE)["count"] == 3
    assert queries.jobs(site="local")["count"] == 3
    assert queries.jobs(site="BNL")["summary"] == {}
    assert queries.jobs(days=0)["jobs"] == []


def test_jobs_page_by_page(world: MonitorWorld) -> None:
    world.run_jobs()
    jobs = LocalJobListing(create_streaming_engine(world.jobs_url, read_only=True))
    queries = WorkflowQueries(records=lambda: world.store, jobs=jobs)
    seen: list[int] = []
    before: int | None = None
    for _ in range(3):
        answer = queries.jobs(limit=1, before_id=before)
        assert answer["total_in_window"] == 3
        seen += [job["pandaid"] for job in answer["jobs"]]
        before = answer["pagination"]["next_before_id"]
        assert answer["pagination"]["has_more"] is (before is not None)
    assert before is None
    assert seen == sorted(set(seen), reverse=True) and len(seen) == 3


class Recorded:
    """Remembers what it was asked."""

    def __init__(self, jobs: Sequence[ListedJob] = ()) -> None:
        self.asked: list[JobQuery] = []
        self._jobs = jobs

    def listed(self, query: JobQuery) -> JobListing:
        self.asked.append(query)
        return JobListing(self._jobs, {})


def test_jobs_of_a_week_unless_a_task_is_named(world: MonitorWorld) -> None:
    source = Recorded()
    queries = WorkflowQueries(records=lambda: world.store, jobs=source)
    queries.jobs()
    queries.jobs(taskid=12)
    queries.jobs(taskid=12, days=1, limit=5)
    queries.jobs(days=1e300)
    week, task, day, ever = source.asked
    assert week.since is not None and timedelta(days=6) < datetime.now(UTC) - week.since < timedelta(days=8)
    assert (week.limit, task.limit, task.since, day.limit) == (200, 100_000, None, 5)
    assert day.since is not None
    assert ever.since is not None


def test_failed_executions_say_so(world: MonitorWorld, queries: WorkflowQueries) -> None:
    world.end_execution(ExecutionStatus.FAILED)
    assert queries.workflow_monitor(EXECUTION)["status"] == "failed"
