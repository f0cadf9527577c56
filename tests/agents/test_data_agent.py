"""The data agent as the process that people start, over a real broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from werkzeug.serving import make_server

from app.streaming.bus_factory import create_stomp_bus
from app.streaming.rest.blueprint import create_rest_blueprint
from app.streaming.workplace import the_only_agent
from config.streaming.settings import load_streaming_settings
from models.streaming.bus import ReceivedMessage
from models.streaming.datasets import DatasetId
from models.streaming.messages import RUN_TOPIC, EndRun, Message, RunImminent, StfGen
from repos.streaming.database import create_streaming_engine
from repos.streaming.embedded_catalogue import EmbeddedCatalogue
from repos.streaming.embedded_monitor import EmbeddedMonitor
from repos.streaming.monitor_store import MonitorStore
from simulator.servers.activemq import ActiveMQServer
from tests.servers import unique_name

SCRIPT = Path(__file__).resolve().parents[2] / "agents" / "data_agent.py"
RUN = "102363"


def until(what: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def call(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": os.environ["PATH"], "HOME": str(cwd), **environment}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=cwd,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_help_names_the_options_of_the_field(tmp_path: Path) -> None:
    answer = call("-h", cwd=tmp_path, COLUMNS="200")
    assert answer.returncode == 0
    for option in ("-h", "-v", "-x", "-m", "-s", "-d", "-r"):
        assert f" {option}, --" in answer.stdout, option


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ([], {"SWF_TESTBED_CONFIG": "nowhere.toml"}, "SWF_TESTBED_CONFIG"),
        (["-s", ""], {}, "the scope is empty"),
        ([], {"SWF_MONITOR_URL": ""}, "SWF_MONITOR_URL"),
        (["-x"], {"PP_CATALOGUE": "rucio", "RUCIO_CONFIG": "/nowhere/rucio.cfg"}, "RUCIO_CONFIG"),
    ],
)
def test_what_is_wrong_is_said_at_once(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    answer = call(*arguments, cwd=tmp_path, **environment)
    assert answer.returncode == 2
    assert said in answer.stderr and "Traceback" not in answer.stderr


def test_there_is_one_of_a_namespace_in_a_directory(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('[testbed]\nnamespace = "epic"\n')
    with the_only_agent(tmp_path / "kept", "data", "epic"):
        answer = call(cwd=tmp_path, SWF_TESTBED_CONFIG="t.toml", PP_TESTBED_DIRECTORY="kept")
    assert answer.returncode == 1
    assert f"runs in {tmp_path}/kept already (process {os.getpid()})" in answer.stderr


class World:
    """A monitor, a catalogue, a broker, a folder, and the agent's process."""

    def __init__(self, directory: Path, broker: ActiveMQServer, url: str) -> None:
        self.directory = directory
        self.container = directory / "container"
        self.namespace = unique_name()
        (directory / "testbed.toml").write_text(f'[testbed]\nnamespace = "{self.namespace}"\n')
        (directory / "elsewhere").mkdir()
        self.environment = {
            **broker.environment,
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "OMP_NUM_THREADS": "1",
            "SWF_MONITOR_URL": url,
            "SWF_TESTBED_CONFIG": str(directory / "testbed.toml"),
            "PP_TESTBED_DIRECTORY": str(directory),
        }
        self.settings = load_streaming_settings(env=self.environment)
        self.catalogue = EmbeddedCatalogue(create_streaming_engine(self.settings.catalogue_database_url))
        self.store = MonitorStore.on(create_streaming_engine(self.settings.monitor_database_url))
        self.monitor = EmbeddedMonitor(self.store)
        self.heard: list[dict[str, Any]] = []
        self.bus = create_stomp_bus(self.settings, client_id=unique_name())
        self.bus.subscribe(RUN_TOPIC, self._hear)
        self.bus.start()
        self.process: subprocess.Popen[bytes] | None = None

    def _hear(self, message: ReceivedMessage) -> None:
        body = json.loads(message.text)
        if body.get("namespace") == self.namespace:
            self.heard.append(body)

    def start(self) -> None:
        with (self.directory / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), "-v", "-d", str(self.container)],
                cwd=self.directory / "elsewhere",
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(120)

    def ready(self) -> bool:
        return any(agent["status"] == "OK" for agent in self.agents())

    def agents(self) -> list[Any]:
        """Return what the monitor knows of the present process."""
        return [agent for agent in self.store.agents.listed().items if agent["pid"] == self.pid]

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def send(self, message: Message) -> None:
        self.bus.send(RUN_TOPIC, message.to_text())

    def imminent(self) -> RunImminent:
        return RunImminent(
            namespace=self.namespace,
            run_id=RUN,
            dataset=f"swf.{RUN}.run",
            container=str(self.container),
        )

    def generate(self, sequence: int) -> None:
        folder = self.container / f"swf.{RUN}.run"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"swf.{RUN}.{sequence:06d}.stf"
        path.write_text(f"file {sequence}")
        self.send(
            StfGen(namespace=self.namespace, run_id=RUN, filename=path.name, sequence=sequence, state="run")
        )

    @property
    def files(self) -> list[str]:
        dataset = DatasetId("group.daq", f"swf.{RUN}.run")
        return sorted(file.name for file in self.catalogue.files(dataset))


@pytest.fixture
def world(tmp_path: Path, activemq: ActiveMQServer) -> Iterator[World]:
    store = MonitorStore.on(create_streaming_engine(f"sqlite:///{tmp_path}/monitor.db"))
    app = Flask("test")
    app.register_blueprint(create_rest_blueprint(store, zone=ZoneInfo("UTC"), token=None))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    world = World(tmp_path, activemq, f"http://127.0.0.1:{server.server_port}")
    yield world
    if world.process is not None and world.process.poll() is None:
        world.process.kill()
        world.process.wait()
    world.bus.stop(5.0)
    server.shutdown()
    thread.join()


@pytest.mark.slow
@pytest.mark.servers
def test_a_run_through_which_the_agent_is_killed(world: World) -> None:
    world.start()
    until(world.ready)
    world.send(world.imminent())
    for sequence in (1, 2):
        world.generate(sequence)
    until(lambda: len(world.files) == 2)
    world.end(signal.SIGKILL)
    for sequence in (3, 4):
        world.generate(sequence)
    world.start()
    until(lambda: len(world.files) == 4)
    world.send(EndRun(namespace=world.namespace, run_id=RUN, total_stf_files=4))
    until(lambda: world.catalogue.is_open(DatasetId("group.daq", f"swf.{RUN}.run")) is False)
    until(lambda: len(world.monitor.files(int(RUN))) == 4)
    until(lambda: any(body["msg_type"] == "stf_ready" for body in world.heard))
    assert world.end(signal.SIGQUIT) == 0
    assert [body["msg_type"] for body in world.heard].count("stf_ready") == 1
    [last] = world.agents()
    assert (last["status"], last["operational_state"]) == ("EXITED", "EXITED")
