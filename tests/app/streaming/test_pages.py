"""Pages about executions, runs and files."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from flask import Flask
from flask.testing import FlaskClient
from markupsafe import escape

from app.streaming.monitor_factory import create_monitor
from app.streaming.pages.blueprint import streaming_pages
from app.streaming.pages.formats import age, duration, size
from app.streaming.pages.overview import overview
from app.streaming.pages.sources import monitor_records
from app.web.application import create_app
from app.web_factory import create_wsgi
from config.settings import load_service_settings
from config.streaming.settings import load_streaming_settings
from models.errors import TemporarilyUnavailable
from models.streaming.job_listing import JobListing, JobQuery
from models.streaming.monitoring import AgentReport, AgentStatus, ExecutionStatus
from repos.ledger_database import writing
from repos.streaming.database import create_streaming_engine
from repos.streaming.local_job_listing import LocalJobListing
from repos.streaming.monitor_tables import AGENTS, EXECUTIONS, LOGS, MESSAGES, STF_FILES
from simulator.servers.postgresql import PostgreSQLServer
from tests.app.streaming.monitor_world import (
    AGENTS as NAMES,
)
from tests.app.streaming.monitor_world import (
    BODIES,
    EXECUTION,
    FILES,
    NAMESPACE,
    RUN,
    MonitorWorld,
    whole_world,
)
from tests.servers import unique_name

#: What must be shown as it is, and not be taken for HTML.
NASTY = """<script>alert("x")</script> & 'y'"""


def client_of(world: MonitorWorld, **options: Any) -> FlaskClient:
    app = Flask("test")
    app.register_blueprint(streaming_pages(lambda: world.store, **options))
    return app.test_client()


def page(client: FlaskClient, path: str, status: int = 200) -> str:
    response = client.get(path)
    assert response.status_code == status, response.text
    assert response.content_type.startswith("text/html")
    return response.text


def text(html: str) -> str:
    """Return what a page says."""
    body = re.sub(r"(?s)<style>.*?</style>|<[^>]*>", " ", html)
    return " ".join(body.split())


def links(path: str, html: str) -> set[str]:
    """Return where the links of a page lead."""
    return {urljoin(path, found).split("?")[0] for found in re.findall(r'href="([^"]*)"', html)}


@pytest.fixture
def world(tmp_path: Path) -> MonitorWorld:
    return whole_world(tmp_path)


@pytest.fixture
def running(tmp_path: Path) -> MonitorWorld:
    world = MonitorWorld(tmp_path)
    world.begin_execution()
    world.hear(*BODIES[:5])
    world.take_run(processed=1)
    world.report_agents()
    return world


def test_every_link_leads_somewhere(world: MonitorWorld) -> None:
    world.run_jobs()
    client = client_of(world)
    seen: set[str] = set()
    waiting = {"/streaming"}
    while waiting:
        path = waiting.pop()
        seen.add(path)
        waiting |= links(path, page(client, path)) - seen
    assert seen == {
        "/streaming",
        "/streaming/executions",
        "/streaming/runs",
        "/streaming/files",
        f"/streaming/executions/{EXECUTION}",
        f"/streaming/runs/{RUN}",
    }


def test_what_is_going_on(running: MonitorWorld) -> None:
    html = page(client_of(running), "/streaming")
    said = text(html)
    assert said.startswith(f"PHYSICS run {RUN} - streaming workflow PHYSICS run {RUN} 1 of 3 files processed")
    assert '<header class="good">' in html
    assert "registered 2 processing 0 processed 1 failed 0" in said
    for name in NAMES:
        assert f"{name} {NAMESPACE} alive 0 s ago OK READY connected" in said
    assert 'http-equiv="refresh"' in html
    assert re.search(r"\d\d:\d\d:\d\d UTC", said)


@pytest.mark.parametrize(
    ("heard", "word"), [(0, "STARTING"), (1, "IMMINENT"), (2, "PHYSICS"), (6, "PHYSICS"), (7, "RUN ENDED")]
)
def test_the_word_is_the_phase(tmp_path: Path, heard: int, word: str) -> None:
    world = MonitorWorld(tmp_path)
    world.begin_execution()
    if heard:
        world.take_run(processed=0)
    world.hear(*BODIES[:heard])
    assert overview(world.store).word == word


def test_standby(running: MonitorWorld) -> None:
    pause = BODIES[1] | {"msg_type": "pause_run", "substate": "standby", "simulation_tick": 17.0}
    running.hear(pause)
    assert overview(running.store).word == "STANDBY"


def test_nothing_yet(tmp_path: Path) -> None:
    said = text(page(client_of(MonitorWorld(tmp_path)), "/streaming"))
    assert "IDLE" in said
    assert "no workflow has been run yet" in said


def test_errors_are_seen_from_afar(running: MonitorWorld) -> None:
    running.log("the catalogue answers 500", level=40)
    found = overview(running.store)
    assert (found.mood, found.reason) == ("warn", "last error: the catalogue answers 500")


def test_failed_files_are_seen_from_afar(running: MonitorWorld) -> None:
    running.take_run(processed=1, failed=1)
    assert overview(running.store).reason == "1 file failed"


@pytest.mark.parametrize(
    ("status", "word", "mood"),
    [
        (ExecutionStatus.FAILED, "FAILED", "bad"),
        (ExecutionStatus.TERMINATED, "STOPPED", "warn"),
        (ExecutionStatus.COMPLETED, "IDLE", "good"),
    ],
)
def test_how_it_ended(running: MonitorWorld, status: ExecutionStatus, word: str, mood: str) -> None:
    running.take_run(processed=3)
    running.end_execution(status)
    found = overview(running.store)
    assert (found.word, found.mood) == (word, mood)


def test_files_that_wait_after_the_end_are_processed_still(running: MonitorWorld) -> None:
    running.end_execution()
    assert overview(running.store).word == "PROCESSING"


def test_agents_that_are_silent(running: MonitorWorld) -> None:
    with writing(running.engine) as connection:
        earlier = datetime.now(UTC) - timedelta(minutes=5)
        connection.execute(
            AGENTS.update().where(AGENTS.c.instance_name == NAMES[1]).values(last_heartbeat=earlier)
        )
    running.monitor.report(AgentReport(instance_name=NAMES[2], agent_type="P", status=AgentStatus.EXITED))
    for _ in range(2):
        found = overview(running.store)
        life = {agent.name: agent.life for agent in found.agents}
        assert life == {NAMES[0]: "alive", NAMES[1]: "silent", NAMES[2]: "ended"}
        assert (found.mood, found.reason) == ("warn", f"silent: {NAMES[1]}")
        # The monitor notes that it is gone; it did not say so itself.
        running.store.agents.mark_silent()
    later = overview(running.store, datetime.now(UTC) + timedelta(minutes=10))
    assert later.mood == "bad"
    assert "no agent is heard" in later.reason
    assert not overview(running.store, datetime.now(UTC) + timedelta(days=2)).agents


def test_agents_that_have_ended_crowd_nobody_out(running: MonitorWorld) -> None:
    for number in range(40):
        running.monitor.report(
            AgentReport(instance_name=f"gone-{number}", agent_type="DATA", status=AgentStatus.EXITED)
        )
    found = [agent.name for agent in overview(running.store).agents]
    assert {*NAMES} <= {*found[: len(NAMES)]}
    assert found[len(NAMES) :] == [f"gone-{number}" for number in range(39, 33, -1)]


def test_an_execution(world: MonitorWorld) -> None:
    world.run_jobs()
    html = page(client_of(world), f"/streaming/executions/{EXECUTION}")
    tree = re.search(r"<pre>(.*?)</pre>", html, re.DOTALL)
    assert tree is not None
    lines = tree[1].splitlines()
    assert lines[0] == f"Run {RUN} Summary:"
    assert lines[1].startswith("├── Duration: ")
    assert lines[2:] == [
        "├── STF files: 3 (2 processed)",
        f"├── Dataset: swf.{RUN}.run",
        "├── Messages:",
        "│   ├── run_imminent → agents prepared",
        "│   ├── start_run → physics phase began",
        "│   ├── stf_gen (x3) → STF files generated",
        "│   ├── stf_ready → task asked for",
        "│   └── end_run → run complete",
        "├── Agents involved:",
        f"│   ├── {NAMES[0]}",
        f"│   ├── {NAMES[1]}",
        f"│   └── {NAMES[2]}",
        "├── Task: 1 for the entire dataset",
        f"└── Execution: {EXECUTION} (completed)",
    ]
    said = text(html)
    assert "the catalogue answers 500" in said
    assert "total_stf_files 3" in said
    assert 'stf_count" : 3' in said or "stf_count" in said
    assert '<header class="good">' in html


def test_a_run(world: MonitorWorld) -> None:
    world.run_jobs()
    jobs = LocalJobListing(create_streaming_engine(world.jobs_url, read_only=True))
    said = text(page(client_of(world, jobs=jobs), f"/streaming/runs/{RUN}"))
    assert "Task 1: 1 activated , 1 failed , 1 finished" in said
    assert "exit status 3" in said
    for name in FILES:
        assert name in said
    assert f"swf.{RUN}.run" in said
    assert EXECUTION in said
    assert "276 B 0a1b2c3d" in said


def test_a_run_without_anybody_who_knows_jobs(world: MonitorWorld) -> None:
    class Away:
        def listed(self, query: JobQuery) -> JobListing:
            raise TemporarilyUnavailable(f"PanDA is away {NASTY}")

    html = page(client_of(world, jobs=Away()), f"/streaming/runs/{RUN}")
    assert str(escape(f"PanDA is away {NASTY}")) in html
    assert "nothing here knows of jobs" in text(page(client_of(world), f"/streaming/runs/{RUN}"))


def test_files(world: MonitorWorld) -> None:
    client = client_of(world)
    for query, names in [
        ("", FILES),
        ("?status=processed", FILES[:2]),
        (f"?run_number={RUN}&status=registered", FILES[2:]),
        (f"?run_number={RUN + 1}", []),
        ("?run_number=abc", []),
        (f"?run_number={10**30}", []),
        ("?machine_state=physics", []),
        ("?offset=2", FILES[:1]),
        ("?offset=-1", FILES),
    ]:
        html = page(client, f"/streaming/files{query}")
        assert set(re.findall(r"swf\.\d+\.\d+\.stf", html)) == set(names), query
    assert 'value="abc"' in page(client, "/streaming/files?run_number=abc")


def test_files_page_by_page(world: MonitorWorld) -> None:
    client = client_of(world)
    first = page(client, f"/streaming/files?run_number={RUN}&offset=1")
    assert f'href="?run_number={RUN}&amp;status=&amp;machine_state=&amp;offset=0"' in first
    assert "older" not in first


def test_all_executions_and_runs_are_listed_page_by_page(world: MonitorWorld) -> None:
    for number in range(120):
        world.begin_execution(f"e-{number:03}", age=1000 - number, status="failed", namespace="other")
        world.monitor.open_run(RUN + 1 + number, start_time=datetime.now(UTC))
    client = client_of(world)
    overview_said = text(page(client, "/streaming"))
    assert "the last 20 of 121" in overview_said and "the last 10 of 121" in overview_said
    for path, first, last in [
        ("/streaming/executions", EXECUTION, "e-000"),
        ("/streaming/executions?status=failed&namespace=other", "e-119", "e-000"),
        ("/streaming/runs", str(RUN + 120), str(RUN)),
    ]:
        html = page(client, path)
        assert f">{first}</a>" in html and f">{last}</a>" not in html
        (older,) = re.findall(r'href="([^"]*)">older', html)
        rest = page(client, urljoin(path, unescape(older)))
        assert f">{last}</a>" in rest and f">{first}</a>" not in rest
        assert ">newer</a>" in rest and ">older</a>" not in rest
    assert "There is none" in text(page(client, "/streaming/executions?status=running"))
    assert page(client, "/streaming/runs?offset=x&status=%00")


def test_nothing_that_anybody_sent_is_taken_for_html(world: MonitorWorld) -> None:
    execution = f"prompt_processing-{NASTY.replace('/', '')}-0002"
    world.begin_execution(execution, parameter_values={NASTY: NASTY}, executed_by=NASTY)
    world.hear(
        {
            "msg_type": NASTY,
            "execution_id": execution,
            "run_id": str(RUN),
            "sender": NASTY,
            "simulation_tick": NASTY,
            NASTY: NASTY,
        },
        {"msg_type": "run_workflow_failed", "execution_id": execution, "error": NASTY, "sender": NASTY},
        {**BODIES[0], "run_id": str(RUN), "execution_id": execution, "dataset": NASTY},
    )
    world.log(NASTY, level=40, execution_id=execution)
    world.monitor.report(
        AgentReport(instance_name=NASTY, agent_type="X", namespace=NASTY, description=NASTY, hostname=NASTY)
    )
    client = client_of(world)
    for path in (
        "/streaming",
        "/streaming/executions",
        f"/streaming/executions/{execution}",
        f"/streaming/runs/{RUN}",
    ):
        html = page(client, path)
        assert "<script" not in html
        assert "&lt;script&gt;" in html
    assert "<script" not in page(client, f"/streaming/files?status={NASTY}&machine_state={NASTY}")
    assert "<script" not in page(client, f"/streaming/executions/{NASTY.replace('/', '')}", 404)


def test_json_of_any_kind_is_shown(world: MonitorWorld) -> None:
    """Agents may store what they like."""
    world.run_jobs()
    with writing(world.engine) as connection:
        for table, column in (
            (LOGS, "extra_data"),
            (STF_FILES, "metadata"),
            (EXECUTIONS, "parameter_values"),
        ):
            connection.execute(table.update().values({column: ["text", 1, None]}))
        connection.execute(MESSAGES.update().values(message_content=["text"], message_metadata="text"))
    client = client_of(world, jobs=LocalJobListing(create_streaming_engine(world.jobs_url)))
    for path in ("", f"/executions/{EXECUTION}", f"/runs/{RUN}", "/files", "/executions", "/runs"):
        page(client, f"/streaming{path}")


@pytest.mark.parametrize("path", ["executions/none", "runs/1", f"runs/{2**64}"])
def test_what_is_not_there(world: MonitorWorld, path: str) -> None:
    assert "The monitor knows no" in text(page(client_of(world), f"/streaming/{path}", 404))


@pytest.mark.parametrize(
    "path",
    [
        "/streaming",
        "/streaming/executions",
        "/streaming/runs",
        "/streaming/files",
        f"/streaming/runs/{RUN}",
        f"/streaming/executions/{EXECUTION}",
        "/streaming/executions/a%2Fb",
    ],
)
def test_with_a_slash_behind_it(world: MonitorWorld, path: str) -> None:
    world.begin_execution("a/b")
    response = client_of(world).get(f"{path}/?status=failed")
    assert response.status_code == 302
    assert urljoin(f"{path}/", response.location).split("?")[0] == path


def test_files_of_a_status_are_one_click_away(world: MonitorWorld) -> None:
    world.run_jobs()
    client = client_of(world)
    for shown in ("/streaming", f"/streaming/runs/{RUN}"):
        found = re.search(r'href="([^"]*status=processed)"', page(client, shown))
        assert found is not None
        said = text(page(client, urljoin(shown, unescape(found[1]))))
        assert said.count(f"{RUN} processed") == 2


def test_an_execution_with_failed_files_is_not_all_well(running: MonitorWorld) -> None:
    running.take_run(processed=1, failed=1)
    running.end_execution()
    html = page(client_of(running), f"/streaming/executions/{EXECUTION}")
    assert '<header class="warn">' in html and "completed, run running, 1 file failed" in text(html)


def test_an_execution_may_have_any_name(world: MonitorWorld) -> None:
    name = "a/b?c#d e-0001"
    world.begin_execution(name)
    client = client_of(world)
    (link,) = (found for found in links("/streaming", page(client, "/streaming")) if "a%2Fb" in found)
    html = page(client, link)
    assert name in text(html)
    assert 'href="../../streaming"' in html


@pytest.mark.servers
def test_text_that_no_database_takes_is_nobody(postgresql: PostgreSQLServer, tmp_path: Path) -> None:
    world = whole_world(tmp_path, postgresql.create_database(unique_name("monitor")))
    client = client_of(world)
    assert "The monitor knows no" in text(page(client, "/streaming/executions/a%00b", 404))
    assert "There is none." in page(client, "/streaming/files?status=%00&machine_state=%00")
    assert "There is none." in page(client, "/streaming/files?run_number=%00")


def test_a_database_that_is_not_there_yet(tmp_path: Path) -> None:
    url = load_streaming_settings(env={"PP_TESTBED_DIRECTORY": str(tmp_path)}).monitor_database_url
    app = Flask("test")
    app.register_blueprint(streaming_pages(monitor_records(url)))
    client = app.test_client()
    for path in ("", "/files", "/executions", "/runs", "/runs/1", "/executions/x"):
        html = page(client, f"/streaming{path}", 503)
        assert "there is no streaming database" in text(html)
        assert 'http-equiv="refresh"' in html
    whole_world(tmp_path)
    assert EXECUTION in page(client, "/streaming")


@pytest.fixture
def monitor_app(world: MonitorWorld) -> Flask:
    env = {"PP_TESTBED_DIRECTORY": str(world.directory)}
    return create_monitor(load_streaming_settings(env=env))


def test_the_monitor_has_the_pages(monitor_app: Flask) -> None:
    client = monitor_app.test_client()
    assert EXECUTION in page(client, "/streaming")
    home = client.get("/")
    assert (home.status_code, home.location) == (302, "streaming")
    assert client.get("/api/workflow-executions/").status_code == 200
    assert ">visits<" not in page(client, "/streaming")


class Service:
    """As much of the service of visits as is looked at when it is wired."""

    version = "0"
    token = None


def test_visits_and_the_streaming_workflow_in_one_application(world: MonitorWorld) -> None:
    pages = streaming_pages(lambda: world.store, visits=True)
    app = create_app(Service(), streaming=pages)  # type: ignore[arg-type]
    client = app.test_client()
    html = page(client, "/streaming")
    assert ">visits<" in html
    assert links("/streaming", html) >= {"/"}
    assert links("/streaming/files", page(client, "/streaming/files")) >= {"/", "/streaming"}
    rules = [rule.endpoint for rule in app.url_map.iter_rules() if rule.rule == "/"]
    assert rules == ["status"]
    assert client.get("/streaming/none").content_type == "application/problem+json"
    assert "/streaming" not in {rule.rule for rule in create_app(Service()).url_map.iter_rules()}  # type: ignore[arg-type]


@pytest.mark.parametrize("configured", [False, True])
def test_the_service_of_visits_is_wired_with_them(
    world: MonitorWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configured: bool
) -> None:
    monkeypatch.setattr("app.web_factory.configure_logging", lambda levels: None)
    variables = {
        "RUBIN_INSTRUMENT": "DemoCam",
        "SKYMAP": "demo",
        "CENTRAL_REPO": str(tmp_path / "central"),
        "CONFIG_APDB": "apdb.yaml",
        "MAIN_PIPELINES_CONFIG": "- {pipelines: [A.yaml]}",
        "PREPROCESSING_PIPELINES_CONFIG": "- {pipelines: [P.yaml]}",
        "PP_IMAGE_DIRECTORY": str(tmp_path / "images"),
        "PP_STATE_DIR": str(tmp_path / "state"),
        "PP_METRICS_PORT": "0",
        **({"PP_MONITOR_DATABASE": world.url} if configured else {}),
    }
    app = create_wsgi(load_service_settings(variables))
    try:
        client = app.test_client()
        home = page(client, "/")
        assert ("/streaming" in links("/", home)) is configured
        assert client.get("/streaming").status_code == (200 if configured else 404)
        if configured:
            assert EXECUTION in page(client, "/streaming")
            assert FILES[0] in page(client, f"/streaming/runs/{RUN}")
    finally:
        app.extensions["prompt-service"].close()


def test_times_and_sizes() -> None:
    now = datetime(2026, 3, 14, tzinfo=UTC)
    assert age(None, now) == "never"
    assert age(now - timedelta(seconds=90), now) == "90 s"
    assert [duration(s) for s in (None, -1, 119.4, 130, 7300, 200_000)] == [
        "",
        "0 s",
        "119 s",
        "2 min",
        "2 h",
        "2 days",
    ]
    assert [size(n) for n in (None, 0, 9_999, 10_000, 25_000_000, 10**10)] == [
        "",
        "0 B",
        "9999 B",
        "10 kB",
        "25 MB",
        "10 GB",
    ]
