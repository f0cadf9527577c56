"""The agents' programs, started under supervisord until all are ready."""

from __future__ import annotations

__all__ = ["AgentPrograms", "write_agents_file"]

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.streaming.supervisor import Program, Supervisor
from app.streaming.supervisord_file import agents_place
from config.server_settings import server_environment
from config.streaming.sections import AGENTS, check_agents
from config.streaming.settings import StreamingSettings
from config.streaming.testbed import TestbedConfig
from models.errors import TemporarilyUnavailable
from models.streaming.monitoring import AgentState, AgentStatus
from repos.streaming.monitor_overview import Overview

#: Programs of supervisord's by what the testbed's file calls the agents.
_PROGRAMS = {name: f"{name}-agent" for name in AGENTS}
_RUNNER, _MONITOR = "workflow-runner", "monitor"
#: Where the monitor is that is started with the agents.
_MONITOR_URL = StreamingSettings.model_fields["monitor_url"].default
#: File with the configuration that agents are started with.
_AGENTS_FILE = "agents.toml"
#: Seconds between looks, and until agents that are not ready are an error.
_GLANCE, _READY = 0.25, 90.0
#: Processes that a program may have had until it is ready.
_LIVES = 3
#: States from which supervisord does not bring a program back.
_LOST = ("FATAL", "EXITED", "STOPPED", "UNKNOWN")


def write_agents_file(config: TestbedConfig, directory: Path) -> Path:
    """Write a testbed file that has agents agree with the workflow's
    namespace and container, whatever files and options these come from.
    """
    container = config.container or directory / "stf"
    place = agents_place(directory, config.namespace)
    processing = {**config.values.get("prompt_processing", {}), "container": str(container)}
    lines = ["# Made by `testbed run`.", "[testbed]", f"namespace = {json.dumps(config.namespace)}"]
    # Strings and numbers are written in JSON as in TOML.
    lines += [
        "",
        "[prompt_processing]",
        *(f"{key} = {json.dumps(value)}" for key, value in processing.items()),
    ]
    place.mkdir(parents=True, exist_ok=True)
    path = place / _AGENTS_FILE
    path.write_text("\n".join(lines) + "\n")
    return path


class AgentPrograms:
    """Programs that a workflow needs.

    Parameters
    ----------
    supervisor : `app.streaming.supervisor.Supervisor`
    settings : `config.streaming.settings.StreamingSettings`
    config : `config.streaming.testbed.TestbedConfig`
    overview : `repos.streaming.monitor_overview.Overview`
    stops : callable
        Says whether somebody asked for a stop.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if there is no program for an agent.
    """

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        settings: StreamingSettings,
        config: TestbedConfig,
        overview: Overview,
        stops: Callable[[], int],
    ) -> None:
        self._supervisor = supervisor
        self._settings = settings
        self._config = config
        self._overview = overview
        self._stops = stops
        #: Whether supervisord was started by this.
        self.ours = False
        #: Whether a monitor is used that was there.
        self.monitor_found = False
        check_agents(config.agents, all_needed=False)
        agents = [_PROGRAMS[name] for name, agent in config.agents.items() if agent.enabled]
        self._names = [_RUNNER, *agents]

    def start(self) -> None:
        """Start all, and wait until each is ready, by what the monitor says.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if programs run already, or one does not become ready; the
            text has the end of its log.
        """
        self._clear()
        self.ours = True
        self._supervisor.launch(self._environment())
        # One that is there will do.
        if missing := self._without_monitor({}):
            if self._settings.monitor_url != _MONITOR_URL:
                raise TemporarilyUnavailable(f"SWF_MONITOR_URL: {missing[_MONITOR]}")
            self._supervisor.start(_MONITOR)
            self._wait([_MONITOR], self._without_monitor)
        else:
            self.monitor_found = True
        for name in self._names:
            self._supervisor.start(name)
        self._wait(self._names, self._not_ready)

    def log_of_runner(self) -> str:
        """Return the end of the runner's log."""
        return self._supervisor.programs()[_RUNNER].tail()

    def _clear(self) -> None:
        """End a supervisord that has nothing to do: its environment is old."""
        if not self._supervisor.reachable:
            return
        if alive := self._supervisor.alive():
            raise TemporarilyUnavailable(
                f"{', '.join(alive)} run under supervisord already; end them with `testbed stop --agents`, "
                "or use them with --use-running"
            )
        self._supervisor.shut_down()

    def _environment(self) -> dict[str, str]:
        settings = self._settings
        own = Path(sys.executable).parent
        path = server_environment({}).get("PATH", "")
        return server_environment(
            {
                "PATH": f"{own}:{path}" if path else str(own),
                "ACTIVEMQ_HOST": settings.activemq_host,
                "SWF_TESTBED_CONFIG": str(write_agents_file(self._config, settings.testbed_directory)),
                "PP_TESTBED_DIRECTORY": str(settings.testbed_directory),
                "PP_PAYLOAD": settings.payload,
                "PP_PAYLOAD_WORKERS": str(settings.payload_workers),
            }
        )

    def _wait(
        self, names: Sequence[str], missing: Callable[[Mapping[str, Program]], Mapping[str, str]]
    ) -> None:
        deadline = time.monotonic() + _READY
        lives: dict[str, set[int]] = {name: set() for name in names}
        while True:
            programs = self._supervisor.programs()
            for name in names:
                lives[name].add(programs[name].pid)
            # One that takes a while to fail is brought back for ever.
            lost = [
                programs[name]
                for name in names
                if programs[name].state in _LOST or len(lives[name] - {0}) > _LIVES
            ]
            if lost:
                raise TemporarilyUnavailable(
                    f"{lost[0].name} does not stay: {lost[0].problem}. Its log ends:\n{lost[0].tail()}"
                )
            waits = missing(programs)
            if not waits:
                return
            if self._stops():
                raise TemporarilyUnavailable("stopped before the agents were ready")
            if time.monotonic() > deadline:
                name, why = next(iter(waits.items()))
                raise TemporarilyUnavailable(
                    f"{name} is not ready after {_READY:g} s: {why}. Its log ends:\n{programs[name].tail()}"
                )
            time.sleep(_GLANCE)

    def _without_monitor(self, _: Mapping[str, Program]) -> dict[str, str]:
        try:
            self._overview.agents()
        except TemporarilyUnavailable as error:
            return {_MONITOR: str(error)}
        return {}

    def _not_ready(self, programs: Mapping[str, Program]) -> dict[str, str]:
        """Return which programs the monitor does not know to be ready, and
        what it knows; a heartbeat of an earlier life does not count.
        """
        try:
            rows = {row.get("pid"): row for row in self._overview.agents(self._config.namespace)}
        except TemporarilyUnavailable as error:
            return {self._names[0]: str(error)}
        waits = {}
        for name in self._names:
            row = rows.get(programs[name].pid)
            if row is None:
                waits[name] = f"the monitor had no sign of life of it in namespace {self._config.namespace}"
            elif not _is_ready(row):
                waits[name] = f"it is {row.get('operational_state')}: {row.get('description')}"
        return waits


def _is_ready(row: Mapping[str, Any]) -> bool:
    return (
        row.get("operational_state") in (AgentState.READY, AgentState.PROCESSING)
        and row.get("status") != AgentStatus.EXITED
    )
