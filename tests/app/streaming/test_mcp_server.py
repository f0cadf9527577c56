"""The MCP server, asked by the official client: over stdio and HTTP."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from app.streaming.job_sources import PROCESSING_ROLE, job_source
from app.streaming.mcp_factory import parse_address, run_over_http, workflow_queries
from app.streaming.mcp_server import PATH, PREFIX, create_mcp_server, http_application
from config.streaming.settings import StreamingSettings, load_streaming_settings
from models.errors import InvalidConfiguration
from models.streaming.job_listing import JobQuery
from repos.streaming.database import create_streaming_engine
from simulator.servers.process import free_port
from tests.app.streaming.monitor_world import BODIES, EXECUTION, FILES, RUN, MonitorWorld, whole_world

TOOLS = ("get_workflow_monitor", "list_messages", "list_stf_files", "list_logs", "panda_list_jobs")
TOKEN = "open sesame"
#: The official client against a server that answers at once takes no time.
_PATIENCE = 60.0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> MonitorWorld:
    world = whole_world(tmp_path_factory.mktemp("monitor"))
    world.run_jobs()
    return world


def variables(world: MonitorWorld, **more: str) -> dict[str, str]:
    return {"PP_TESTBED_DIRECTORY": str(world.directory), "PP_MONITOR_DATABASE": world.url, **more}


def settings(world: MonitorWorld, **more: str) -> StreamingSettings:
    return load_streaming_settings(env=variables(world, **more))


def asked(ask: Callable[[], Awaitable[Any]]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(ask(), _PATIENCE)

    return asyncio.run(limited())


async def check_everything(client: Client) -> None:
    """List the tools and call each, under both names."""
    listed = (await client.list_tools()).tools
    assert {tool.name for tool in listed} == {*TOOLS, *(PREFIX + name for name in TOOLS)}
    assert all(tool.description for tool in listed)

    async def call(name: str, **arguments: Any) -> dict[str, Any]:
        answers = []
        for called in (name, PREFIX + name):
            result = await client.call_tool(called, arguments)
            assert not result.is_error, result
            assert json.loads(result.content[0].text) == result.structured_content  # type: ignore[union-attr]
            answers.append(result.structured_content)
        assert answers[0] is not None
        assert {*answers[0]} == {*(answers[1] or {})}
        return answers[0]

    monitor = await call("get_workflow_monitor", execution_id=EXECUTION)
    assert (monitor["status"], monitor["phase"], monitor["stf_count"]) == ("completed", "ended", 3)
    messages = await call("list_messages", execution_id=EXECUTION)
    assert [m["message_type"] for m in messages["items"]] == [b["msg_type"] for b in reversed(BODIES)]
    files = await call("list_stf_files", run_number=RUN)
    assert {file["stf_filename"] for file in files["items"]} == set(FILES)
    assert (files["total_count"], files["has_more"]) == (3, False)
    assert files["monitor_urls"]
    logs = await call("list_logs", execution_id=EXECUTION, level="ERROR")
    assert [line["message"] for line in logs["items"]] == ["the catalogue answers 500"]
    jobs = await call("panda_list_jobs", taskid=1)
    assert jobs["summary"] == {"activated": 1, "failed": 1, "finished": 1}
    assert "there is no execution" in (await call("get_workflow_monitor", execution_id="none"))["error"]
    wrong = await client.call_tool("list_stf_files", {"run_number": "many"})
    assert wrong.is_error
    assert "run_number cannot be 'many'" in wrong.content[0].text  # type: ignore[union-attr]
    misspelt = await client.call_tool("list_messages", {"execution": EXECUTION})
    assert misspelt.is_error
    said = misspelt.content[0].text  # type: ignore[union-attr]
    assert "there is no argument execution (is it execution_id?)" in said
    assert "message_type" in said and "pydantic" not in said
    missing = await client.call_tool("get_workflow_monitor", {})
    assert missing.is_error
    assert "execution_id is needed" in missing.content[0].text  # type: ignore[union-attr]
    assert all(tool.input_schema["additionalProperties"] is False for tool in listed)


def test_in_one_process(world: MonitorWorld) -> None:
    async def ask() -> None:
        async with Client(create_mcp_server(workflow_queries(settings(world)))) as client:
            await check_everything(client)

    asked(ask)


def test_over_stdio_as_it_is_started(world: MonitorWorld) -> None:
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "app.cli", "mcp"],
        # What is logged must not get between the answers.
        env=variables(world, SERVICE_LOG_LEVELS=".=DEBUG", PYTHONWARNINGS="always"),
        cwd=Path(__file__).parents[3],
    )

    async def ask() -> None:
        async with Client(command) as client:
            await check_everything(client)
        async with Client(command, mode="legacy") as client:
            await check_everything(client)

    asked(ask)


def test_a_server_without_database_starts_all_the_same_and_says_nothing_on_stdout(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "mcp"],
        cwd=Path(__file__).parents[3],
        env={"PATH": "/usr/bin:/bin", "PP_TESTBED_DIRECTORY": str(tmp_path / "none")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout == ""


@contextmanager
def begun(world: MonitorWorld) -> Iterator[subprocess.Popen[str]]:
    """Start the command as a client does that has said hello."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "mcp"],
        cwd=Path(__file__).parents[3],
        env={"PATH": "/usr/bin:/bin", **variables(world)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout
    hello = {
        "protocolVersion": "2025-03-26",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    try:
        process.stdin.write(
            json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}) + "\n"
        )
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_client_that_is_gone_is_no_failure(world: MonitorWorld) -> None:
    with begun(world) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.write('{"jsonrpc": "2.0", "id": 2, "method": "tools/list"}\n')
        process.stdin.close()
        assert process.wait(_PATIENCE) == 0
        assert "Traceback" not in process.stderr.read()


def test_an_interrupt_ends_it_although_it_waits_for_its_client(world: MonitorWorld) -> None:
    with begun(world) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(_PATIENCE) == -signal.SIGINT


@contextmanager
def served(world: MonitorWorld, token: str | None) -> Iterator[str]:
    """Serve over HTTP in a thread; yield the URL."""
    server = create_mcp_server(workflow_queries(settings(world)))
    port = free_port()
    application = http_application(server, host="127.0.0.1", token=token)
    running = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=port, log_config=None))
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        while not running.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}{PATH}"
    finally:
        running.should_exit = True
        thread.join(_PATIENCE)
    assert not thread.is_alive()


@asynccontextmanager
async def client_with(url: str, authorization: str | None, mode: str = "auto") -> Any:
    headers = {"Authorization": authorization} if authorization else None
    async with (
        create_mcp_http_client(headers=headers) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


def test_over_http_with_a_token(world: MonitorWorld) -> None:
    async def ask() -> None:
        for mode in ("auto", "legacy"):
            async with client_with(url, f"Bearer {TOKEN}", mode) as client:
                await check_everything(client)

    with served(world, TOKEN) as url:
        asked(ask)
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": f"Basic {TOKEN}"}):
            refused = httpx.post(url, json={}, headers=headers)
            assert refused.status_code == 401
            assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        odd = httpx.post(url, json={}, headers={b"Authorization": b"Bearer \xc3\xa9"})
        assert odd.status_code == 401
    with served(world, "sésame") as url:
        known = httpx.post(url, json={}, headers={b"Authorization": "Bearer sésame".encode()})
        assert known.status_code == 400  # It may ask, but that is no question.


def test_over_http_on_this_machine_no_token_is_needed(world: MonitorWorld) -> None:
    async def ask() -> None:
        async with client_with(url, None) as client:
            await check_everything(client)

    with served(world, None) as url:
        asked(ask)
        # A page of somebody else's that a browser here shows gets nothing.
        assert httpx.post(url, json={}, headers={"Host": "evil.example"}).status_code >= 400
        assert httpx.post(url, json={}, headers={"Origin": "https://evil.example"}).status_code >= 400


def test_the_command_serves_over_http_until_it_is_told_to_end(world: MonitorWorld) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "mcp", "--http", f"127.0.0.1:{port}"],
        cwd=Path(__file__).parents[3],
        env={"PATH": "/usr/bin:/bin", **variables(world, PP_MCP_TOKEN=TOKEN)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = f"http://127.0.0.1:{port}{PATH}"
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                assert httpx.post(url, json={}).status_code == 401
                break
            except httpx.TransportError:
                assert process.poll() is None, process.stderr
                assert time.monotonic() < deadline
                time.sleep(0.05)

        async def ask() -> list[str]:
            async with client_with(url, f"Bearer {TOKEN}") as client:
                return [tool.name for tool in (await client.list_tools()).tools]

        assert "swf_list_logs" in asked(ask)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=_PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert out == ""


def test_nobody_else_is_served_without_a_token(world: MonitorWorld) -> None:
    for address in ("0.0.0.0:8010", "[::]:8010", "monitor.example:8010"):
        for token in ("", " \n"):
            with pytest.raises(InvalidConfiguration, match="PP_MCP_TOKEN"):
                run_over_http(settings(world, PP_MCP_TOKEN=token), parse_address(address))


@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        ("8010", ("127.0.0.1", 8010), True),
        (":8010", ("127.0.0.1", 8010), True),
        ("localhost:8010", ("localhost", 8010), True),
        ("[::1]:8010", ("::1", 8010), True),
        ("0.0.0.0:8010", ("0.0.0.0", 8010), False),
        ("monitor.example:8010", ("monitor.example", 8010), False),
    ],
)
def test_addresses(text: str, address: tuple[str, int], loopback: bool) -> None:
    assert parse_address(text) == address
    assert parse_address(text).is_loopback is loopback


@pytest.mark.parametrize("text", ["", "x", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", ":٣"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfiguration, match="--http"):
        parse_address(text)


def test_jobs_are_looked_for_when_they_are_asked_for(tmp_path: Path) -> None:
    world = MonitorWorld(tmp_path)
    source = job_source(settings(world))
    with pytest.raises(InvalidConfiguration, match="there is no streaming database"):
        source.listed(JobQuery())
    world.run_jobs()
    assert source.listed(JobQuery()).total == 3


def test_without_a_broker_jobs_are_those_of_the_testbed_in_one_process(tmp_path: Path) -> None:
    world = MonitorWorld(tmp_path)
    world.run_jobs()
    given = {"PP_TESTBED_DIRECTORY": str(tmp_path)}
    alone = load_streaming_settings(env=given).in_one_process
    create_streaming_engine(alone.agent_database_url(PROCESSING_ROLE)).dispose()
    assert job_source(load_streaming_settings(env=given)).listed(JobQuery()).total == 0
    given["ACTIVEMQ_HOST"] = "broker"
    assert job_source(load_streaming_settings(env=given)).listed(JobQuery()).total == 3


def test_a_server_that_is_away_is_called_by_its_name() -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    queries = workflow_queries(load_streaming_settings(env={"PP_MONITOR_DATABASE": url}))
    assert queries.messages()["error"].startswith("the streaming database: ")


def test_a_database_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/later.db"
    queries = workflow_queries(load_streaming_settings(env={"PP_MONITOR_DATABASE": url}))
    assert "there is no streaming database" in queries.messages()["error"]
    create_streaming_engine(url).dispose()
    assert queries.messages()["items"] == []
