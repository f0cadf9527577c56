"""What the pages about the streaming workflow say of commands, messages,
resources, metrics and tools is so.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from typing import Any

import typer
from mcp import Client

from app import testbed
from app.streaming.mcp_server import PREFIX, create_mcp_server
from benchmarks.streaming_schemas import SCHEMAS
from models.streaming.messages import COMMANDS, EVENTS
from tests.docs.pages import ROOT, blocks, links, section

PAGE = ROOT / "docs" / "streaming.md"
MONITOR = ROOT / "docs" / "monitor.md"


def test_commands_of_the_testbed_exist() -> None:
    group: Any = typer.main.get_command(testbed.app)
    known = {
        name: {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
        for name, command in group.commands.items()
    }
    calls = [
        shlex.split(line.removeprefix("$ testbed "))
        for block in blocks(PAGE)
        for line in block.text.splitlines()
        if line.startswith("$ testbed ")
    ]
    assert {name for name, *_ in calls} == set(known)
    for name, *words in calls:
        assert {word for word in words if word.startswith("--")} <= known[name], (name, words)


def test_every_message_is_listed_with_its_schema() -> None:
    named = {link.removeprefix("schemas/streaming/") for link in links(PAGE) if link.startswith("schemas/")}
    assert named == {f"{kind}.schema.json" for kind in (*EVENTS, *COMMANDS, "stf_file")}
    assert {path.name for path in SCHEMAS.glob("*.json")} - named == {"message.schema.json"}


def test_tools_and_their_arguments_are_those_of_the_server() -> None:
    async def listed() -> dict[str, list[str]]:
        async with Client(create_mcp_server(None)) as client:  # type: ignore[arg-type]
            tools = (await client.list_tools()).tools
        return {tool.name: list(tool.input_schema["properties"]) for tool in tools}

    served = asyncio.run(listed())
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", section(MONITOR, "MCP"), re.MULTILINE)
    told = {name: re.findall(r"`(\w+)`", arguments) for name, arguments in rows}
    assert {**told, **{PREFIX + name: arguments for name, arguments in told.items()}} == served


def test_resources_are_served(tmp_path: Any) -> None:
    from app.streaming.monitor_factory import create_monitor
    from config.streaming.settings import load_streaming_settings

    app = create_monitor(load_streaming_settings(env={"PP_TESTBED_DIRECTORY": str(tmp_path)}))
    rules = {rule.rule for rule in app.url_map.iter_rules()}
    paths = app.url_map.bind("monitor")
    named = re.findall(r"`([\w/-]+/)`", section(MONITOR, "REST"))
    assert len(named) > 12
    for name in named:
        places = [f"/api/{name}", f"/api/systemagents/{name}"]
        assert any(paths.test(place, method) for place in places for method in ("GET", "POST")), name
        if name.startswith("state/"):
            assert app.test_client().post(f"/api/{name}", json={}).status_code == 200, name
    for page in re.findall(r"`(/streaming[^`]*)`", section(MONITOR, "Pages")):
        pattern = re.sub(r"<[^>]*>", "<", page)
        assert any(re.sub(r"<[^>]*>", "<", rule) == pattern for rule in rules), page


def test_metrics_are_those_of_the_monitor(tmp_path: Any) -> None:
    from prometheus_client import generate_latest

    from app.streaming.monitor_metrics import MonitorMetrics
    from repos.streaming.database import create_streaming_engine
    from repos.streaming.monitor_store import MonitorStore

    store = MonitorStore.on(create_streaming_engine(f"sqlite:///{tmp_path}/monitor.db"))
    metrics = MonitorMetrics(store, bus_connected=lambda: True)
    lines = generate_latest(metrics.registry).decode().splitlines()
    names = {line.split()[2] for line in lines if line.startswith("# HELP")}
    sold = {name.removeprefix("prompt_processing_streaming_") for name in names}
    rows = re.findall(r"^\| (`.+?`) \|", section(MONITOR, "Metrics"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert {name for name in sold if not name.endswith("_created")} == named
