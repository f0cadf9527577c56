"""The processing agent as the process that people start, over a real broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from werkzeug.serving import make_server

from app.streaming.rest.blueprint import create_rest_blueprint
from config.streaming.settings import load_streaming_settings
from models.streaming.datasets import CatalogueFile, DatasetId
from models.streaming.messages import StfReady
from models.streaming.monitoring import NewStfFile
from models.streaming.names import stf_filename
from repos.streaming.database import create_streaming_engine
from repos.streaming.embedded_catalogue import EmbeddedCatalogue
from repos.streaming.monitor_store import MonitorStore
from simulator.servers.activemq import ActiveMQServer
from tests.agents.test_data_agent import RUN, World, until
from tests.repos.streaming.panda_server import panda_server

SCRIPT = Path(__file__).resolve().parents[2] / "agents" / "prompt_processing_agent.py"
DATASET = DatasetId("group.daq", f"swf.{RUN}.run")
OUTPUT = f"user.alice.swf.{RUN}.processed"


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


def attach(catalogue: EmbeddedCatalogue, directory: Path, *sequences: int) -> list[str]:
    files = []
    for sequence in sequences:
        path = directory / stf_filename(RUN, sequence)
        path.write_text("{}")
        files.append(CatalogueFile(path.name, path, 2, "00f600fb", f"guid-{sequence}"))
    catalogue.create_dataset(DATASET, lifetime=3600)
    catalogue.add_files(DATASET, files)
    return [file.name for file in files]


def test_help_names_the_options_of_the_field(tmp_path: Path) -> None:
    answer = call("-h", cwd=tmp_path, COLUMNS="200")
    assert answer.returncode == 0
    for option in ("-h", "-v", "-s", "-t", "-i", "-o"):
        assert f" {option}, --" in answer.stdout, option


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["-i", "a:b"], {}, "-i and -o go together"),
        ([], {"PP_PAYLOAD": "no-such-program"}, "no program no-such-program"),
        (["-s", "nowhere.sh"], {}, "nowhere.sh"),
        (["-s", "nowhere.sh"], {"PP_EXECUTOR": "panda"}, "there is no file"),
        ([], {"SWF_TESTBED_CONFIG": "nowhere.toml"}, "SWF_TESTBED_CONFIG"),
    ],
)
def test_what_is_wrong_is_said_at_once(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    answer = call(*arguments, cwd=tmp_path, **environment)
    assert answer.returncode == 2
    assert said in answer.stderr and "Traceback" not in answer.stderr


@pytest.mark.parametrize("fails", [False, True])
def test_one_dataset_is_processed_at_once(tmp_path: Path, fails: bool) -> None:
    """It is still open, and the agent is started in another directory."""
    environment = {"PP_TESTBED_DIRECTORY": str(tmp_path / "place"), "SWF_API_TOKEN": "hidden"}
    settings = load_streaming_settings(env=environment)
    catalogue = EmbeddedCatalogue(create_streaming_engine(settings.catalogue_database_url))
    name, _ = attach(catalogue, tmp_path, 1, 2)
    script = tmp_path / "mine.sh"
    script.write_text(f"#!/bin/sh\nenv > variables\n{'false' if fails else 'true'}\n")
    script.chmod(0o755)
    answer = call(
        "-i",
        str(DATASET),
        "-o",
        OUTPUT,
        "-s",
        "mine.sh",
        cwd=tmp_path,
        PP_PAYLOAD_ATTEMPTS="1",
        **environment,
    )
    assert answer.returncode == (1 if fails else 0), answer.stderr
    assert answer.stdout == f"task 1: {'failed' if fails else 'done'}\n"
    outputs = tmp_path / "place" / "outputs" / OUTPUT / (".failed" if fails else "")
    variables = (outputs / name / "variables").read_text()
    assert f"SWF_STF_NAME={name}\n" in variables
    assert "hidden" not in variables


def test_one_dataset_is_handed_to_panda(tmp_path: Path) -> None:
    with panda_server() as panda:
        answer = call(
            *("-i", str(DATASET), "-o", OUTPUT),
            cwd=tmp_path,
            PP_EXECUTOR="panda",
            PP_TESTBED_DIRECTORY=str(tmp_path),
            **panda.environment,
        )
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout == "task 5001: running\n"
        assert list(panda.tasks) == [f"{OUTPUT}/"]


class ProcessingWorld(World):
    """The same, around the processing agent."""

    def start(self) -> None:
        with (self.directory / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), "-v"],
                cwd=self.directory / "elsewhere",
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def add(self, *sequences: int) -> None:
        names = attach(self.catalogue, self.directory, *sequences)
        self.monitor.open_run(int(RUN), start_time=datetime.now(UTC))
        self.monitor.register_files(int(RUN), [NewStfFile(stf_filename=name) for name in names])

    @property
    def statuses(self) -> list[str]:
        return sorted(str(row.status) for row in self.monitor.files(int(RUN)))


@pytest.fixture
def world(tmp_path: Path, activemq: ActiveMQServer) -> Iterator[ProcessingWorld]:
    store = MonitorStore.on(create_streaming_engine(f"sqlite:///{tmp_path}/monitor.db"))
    app = Flask("test")
    app.register_blueprint(create_rest_blueprint(store, zone=ZoneInfo("UTC"), token=None))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    world = ProcessingWorld(tmp_path, activemq, f"http://127.0.0.1:{server.server_port}")
    wait = f"while ! test -e {tmp_path}/go; do sleep 0.05; done"
    payload = f"sh -c 'echo $SWF_STF_NAME >> {tmp_path}/begun; {wait}'"
    world.environment |= {"PANDA_NICKNAME": "alice", "PP_PAYLOAD": payload}
    yield world
    if world.process is not None and world.process.poll() is None:
        world.process.kill()
        world.process.wait()
    world.bus.stop(5.0)
    server.shutdown()
    thread.join()


@pytest.mark.slow
@pytest.mark.servers
def test_a_run_through_which_the_agent_is_killed(world: ProcessingWorld) -> None:
    ready = StfReady(namespace=world.namespace, run_id=RUN, execution_id="prompt_processing-alice-0001")
    begun = world.directory / "begun"
    world.start()
    until(world.ready)
    world.send(world.imminent())
    world.add(1, 2)
    world.send(ready)
    until(lambda: begun.exists() and world.statuses == ["processing", "processing"])
    world.end(signal.SIGKILL)
    world.add(3)
    world.send(ready)
    (world.directory / "go").touch()
    world.start()
    until(lambda: world.statuses == ["processed"] * 3)
    world.catalogue.close_dataset(DATASET)
    outputs = world.directory / "outputs" / OUTPUT
    until(lambda: any(agent["operational_state"] == "READY" for agent in world.agents()))
    assert world.end(signal.SIGQUIT) == 0
    assert len([path for path in outputs.iterdir() if not path.name.startswith(".")]) == 3
    tasks = {row.metadata["panda_task_id"] for row in world.monitor.files(int(RUN))}
    assert tasks == {"1"}
    [last] = world.agents()
    assert (last["status"], last["operational_state"]) == ("EXITED", "EXITED")
