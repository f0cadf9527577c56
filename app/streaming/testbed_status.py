"""``testbed status``: what the monitor knows."""

from __future__ import annotations

__all__ = ["gather_status", "print_status"]

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from app.streaming.embedded_past import Traces
from app.streaming.workplace import running_testbed
from config.streaming.settings import StreamingSettings
from models.errors import TemporarilyUnavailable
from models.streaming.monitoring import AgentStatus, ExecutionStatus
from repos.streaming.database import create_streaming_engine
from repos.streaming.embedded_monitor import EmbeddedMonitor
from repos.streaming.monitor_client import MonitorClient
from repos.streaming.monitor_http import MonitorHttp
from repos.streaming.monitor_overview import HttpOverview, Overview, StoreOverview
from repos.streaming.monitor_store import MonitorStore
from services.streaming.monitor import Monitor

#: How URLs of SQLite's files begin.
_SQLITE = "sqlite:///"


def print_status(
    settings: StreamingSettings, *, namespace: str | None, limit: int, json_wanted: bool, console: Console
) -> None:
    """Print executions, with their runs and tasks, and agents.

    Parameters
    ----------
    settings : `config.streaming.settings.StreamingSettings`
        With a monitor's URL or a broker, the monitor is asked; else its
        database in the testbed's directory.
    namespace : `str` or `None`
        Whose; None for all.
    limit : `int`
        Executions that are shown.
    json_wanted : `bool`
    console : `rich.console.Console`

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if the monitor is away, or nothing was kept yet.
    """
    if settings.has_monitor or settings.has_broker:
        http = MonitorHttp(str(settings.monitor_url), token=settings.api_token.get_secret_value())
        client = MonitorClient(http)
        try:
            facts = gather_status(client, HttpOverview(http), namespace=namespace, limit=limit)
        except TemporarilyUnavailable as error:
            raise TemporarilyUnavailable(
                f"{error}. Asked at {settings.monitor_url}: SWF_MONITOR_URL names another monitor, "
                "`prompt-processing monitor` starts one"
            ) from error
        finally:
            client.close()
    else:
        _check(settings)
        engine = create_streaming_engine(
            settings.monitor_database_url, setting="PP_MONITOR_DATABASE", read_only=True
        )
        try:
            store = MonitorStore.on(engine)
            facts = gather_status(
                EmbeddedMonitor(store), StoreOverview(store), namespace=namespace, limit=limit
            )
        finally:
            engine.dispose()
        here = settings.in_one_process.testbed_directory
        # In this order: what was there before and has no process died.
        facts["process"] = running_testbed(here)
        facts["execution_here"] = Traces(here).execution_id
        facts["agents_here"] = Traces(here).agents
    if json_wanted:
        console.print_json(json.dumps(facts, default=str), ensure_ascii=True)
    else:
        _print(facts, console)


def gather_status(
    monitor: Monitor, overview: Overview, *, namespace: str | None, limit: int
) -> dict[str, Any]:
    """Return ``executions`` and ``agents``."""
    executions = []
    for row in overview.executions(namespace, limit=limit):
        number = overview.run_number(row["execution_id"])
        run = overview.run(number) if number is not None else None
        files = monitor.tally_files(number) if number is not None and run is not None else {}
        state = monitor.run_state(number) if number is not None else None
        metadata = [tally.latest.metadata for tally in files.values()]
        tasks = {str(told["panda_task_id"]) for told in metadata if "panda_task_id" in told}
        executions.append(
            {
                "execution_id": row["execution_id"],
                "namespace": row.get("namespace"),
                "status": row.get("status"),
                "start_time": row.get("start_time"),
                "end_time": row.get("end_time"),
                "run_number": number,
                "phase": state.phase if state else None,
                "files": {status: tally.count for status, tally in files.items()},
                "tasks": sorted(tasks),
            }
        )
    columns = ("instance_name", "namespace", "status", "operational_state", "last_heartbeat", "description")
    agents = [{name: row.get(name) for name in columns} for row in overview.agents(namespace)]
    return {"executions": executions, "agents": agents}


def _check(settings: StreamingSettings) -> None:
    url = settings.monitor_database_url
    if url.startswith(_SQLITE) and not Path(url.removeprefix(_SQLITE)).exists():
        if settings.monitor_database is not None:
            raise TemporarilyUnavailable(f"PP_MONITOR_DATABASE: nothing has made {url} yet")
        raise TemporarilyUnavailable(
            f"nothing has run in {settings.testbed_directory} yet: begin with `testbed run`"
        )


def _print(facts: Mapping[str, Any], console: Console) -> None:
    executions = Tree("Executions:" if facts["executions"] else "No execution is known.", guide_style="")
    for row in facts["executions"]:
        ended = f", ended {_time(row['end_time'])}" if row["end_time"] else ""
        text = f"{row['execution_id']}: {row['status']}, began {_time(row['start_time'])}{ended}"
        branch = executions.add(Text(text))
        if row["run_number"] is not None:
            files = ", ".join(f"{count} {status}" for status, count in row["files"].items())
            branch.add(Text(f"Run {row['run_number']}: {row['phase']}; files: {files or 'none'}"))
        for task in row["tasks"]:
            branch.add(Text(f"Task {task}"))
    alive = [row for row in facts["agents"] if row["status"] != "EXITED"]
    agents = Tree("Agents:" if alive else "No agent is alive.", guide_style="")
    for row in alive:
        how = f"{row['status']}, {row['operational_state']}, heard of {_time(row['last_heartbeat'])}"
        text = f"{row['instance_name']}: {how}"
        agents.add(Text(text)).add(Text(f"Namespace {row['namespace']}. {row['description'] or ''}"))
    console.print(executions, agents, highlight=False)
    if facts.get("process"):
        console.print(f"A testbed runs here, process {facts['process']}.", highlight=False)
    elif died := _died(facts):
        text = f"{', '.join(died)}: died with the process, as the next run will note."
        console.print(text, highlight=False, markup=False)


def _died(facts: Mapping[str, Any]) -> list[str]:
    """Return the names of what the monitor has as alive, and is not."""
    execution, agents = facts.get("execution_here"), facts.get("agents_here", ())
    return [
        *(
            row["execution_id"]
            for row in facts["executions"]
            if row["status"] == ExecutionStatus.RUNNING and row["execution_id"] == execution
        ),
        *(
            row["instance_name"]
            for row in facts["agents"]
            if row["status"] != AgentStatus.EXITED and row["instance_name"] in agents
        ),
    ]


def _time(value: datetime | str | None) -> str:
    if value is None:
        return "never"
    when = datetime.fromisoformat(value) if isinstance(value, str) else value
    return when.astimezone().strftime("%Y-%m-%d %H:%M:%S")
