"""``prompt-processing daq``: as a process, at a real broker and a monitor."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from typer.testing import CliRunner
from werkzeug.serving import make_server

from app.cli import build
from app.streaming.agent_parts import ending_signals
from app.streaming.daq_factory import load_daq_workflow, run_once
from app.streaming.embedded_daq_monitor import EmbeddedDaqMonitor
from app.streaming.rest.blueprint import create_rest_blueprint
from benchmarks.streaming_schemas import validate
from config.streaming.settings import load_streaming_settings
from models.errors import InvalidConfiguration
from models.streaming.bus import ReceivedMessage
from models.streaming.daq import DaqParameters, DaqWorkflow
from models.streaming.messages import COMMAND_QUEUE, RUN_TOPIC, Message
from models.streaming.monitoring import ExecutionStatus
from repos.streaming.database import create_streaming_engine
from repos.streaming.monitor_store import MonitorStore
from simulator.daq.runner import DaqRunner
from simulator.io.daq_bus import StompDaqBus
from simulator.io.daq_link import BrokerAddress
from simulator.servers.activemq import ActiveMQServer
from tests.servers import unique_name
from tests.simulator.daq.conftest import FakeBus, FakeMonitor

#: Runs of these tests are quick, but for what a stop ends.
QUICK = """
[testbed]
namespace = "{namespace}"

[prompt_processing]
container = "{container}"
"""


class Place:
    """A broker, a monitor, and who listens."""

    def __init__(self, activemq: ActiveMQServer, directory: Path) -> None:
        self.namespace = unique_name("ns")
        self.container = directory / "stf"
        self.testbed = directory / "testbed.toml"
        self.testbed.write_text(QUICK.format(namespace=self.namespace, container=self.container))
        database = f"sqlite:///{directory / 'monitor.sqlite3'}"
        self.store = MonitorStore.on(create_streaming_engine(database, setting="TEST"))
        app = Flask("monitor")
        app.register_blueprint(create_rest_blueprint(self.store, zone=ZoneInfo("UTC")))
        self.server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = BrokerAddress(
            host=activemq.host, port=activemq.port, user=activemq.user, password=activemq.password
        )
        self._activemq = activemq
        self._messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self.bus = StompDaqBus(self.address)
        self.bus.subscribe(RUN_TOPIC, self._take)
        self.bus.start()
        self.processes: list[subprocess.Popen[str]] = []
        # Once this is back, the subscription is there as well.
        self._barrier()

    def _barrier(self) -> None:
        self.bus.send(RUN_TOPIC, json.dumps({"msg_type": "barrier", "namespace": self.namespace}))
        assert self.next()["msg_type"] == "barrier"

    def _take(self, message: ReceivedMessage) -> None:
        body = json.loads(message.text)
        if body.get("namespace") == self.namespace:
            self._messages.put(body)

    def next(self) -> dict[str, Any]:
        """The next message of the namespace."""
        return self._messages.get(timeout=120)

    def until(self, kind: str) -> list[dict[str, Any]]:
        """The messages up to one of a type."""
        bodies = [self.next()]
        while bodies[-1]["msg_type"] != kind:
            bodies.append(self.next())
        return bodies

    def command(self, kind: str, **fields: Any) -> None:
        """Send a command."""
        body = {"msg_type": kind, "namespace": self.namespace, "timestamp": "2026-03-14T09:26:58.589793"}
        self.bus.send(COMMAND_QUEUE, json.dumps({**body, **fields}))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``prompt-processing daq``."""
        environment = {
            **os.environ,
            **self._activemq.environment,
            "SWF_MONITOR_URL": f"http://127.0.0.1:{self.server.port}",
            "SWF_TESTBED_CONFIG": str(self.testbed),
            "PP_TESTBED_DIRECTORY": str(self.testbed.parent),
            "no_proxy": "*",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "daq", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def close(self) -> None:
        """End everything."""
        for process in self.processes:
            process.kill()
            process.communicate()
        self.bus.stop()
        self.server.shutdown()


@pytest.fixture
def place(activemq: ActiveMQServer, tmp_path: Path) -> Iterator[Place]:
    place = Place(activemq, tmp_path)
    yield place
    place.close()


@pytest.mark.servers
@pytest.mark.slow
def test_one_run(place: Place) -> None:
    process = place.start("--run-once", "prompt_processing", "--no-realtime", "--stf-count", "3")
    bodies = place.until("end_run")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "3 STF files" in out
    assert "completed" in out
    assert [body["simulation_tick"] for body in bodies] == [5, 13.1, 14.2, 16.4, 18.6, 18.800000000000004]
    for body in bodies:
        validate(body)
    assert bodies[0]["sender"].startswith("prompt_processing-agent-")
    assert bodies[0]["container"] == str(place.container)
    files = sorted(path.name for path in (place.container / bodies[0]["dataset"]).iterdir())
    assert files == [body["filename"] for body in bodies if body["msg_type"] == "stf_gen"]
    execution = place.store.executions.get(bodies[0]["execution_id"])
    assert execution is not None
    assert (execution["status"], execution["namespace"]) == ("completed", place.namespace)
    assert execution["end_time"] >= execution["start_time"]


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM])
def test_a_signal_ends_a_run_cleanly(place: Place, number: signal.Signals) -> None:
    process = place.start()
    place.command(
        "run_workflow",
        workflow_name="prompt_processing",
        config=None,
        params={"no_beam_not_ready_delay": 0, "beam_not_ready_delay": 1e6},
    )
    first = place.until("run_imminent")[-1]
    process.send_signal(number)
    last = place.until("end_run")[-1]
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert last["total_stf_files"] == 0
    assert last["run_id"] == first["run_id"]
    execution = place.store.executions.get(first["execution_id"])
    assert execution is not None
    assert execution["status"] == "terminated"
    assert execution["end_time"] is not None
    (agent,) = place.store.agents.listed(instance_name=first["sender"]).items
    assert (agent["status"], agent["operational_state"]) == ("EXITED", "EXITED")
    assert (agent["agent_type"], agent["namespace"]) == ("DAQ_Simulator", place.namespace)


@pytest.mark.servers
@pytest.mark.slow
def test_a_run_goes_on_after_its_process_was_killed(place: Place) -> None:
    process = place.start()
    quick = dict.fromkeys(("no_beam_not_ready_delay", "beam_not_ready_delay", "beam_ready_delay"), 0)
    place.command(
        "run_workflow",
        workflow_name="prompt_processing",
        config=None,
        params={**quick, "stf_count": 6, "stf_interval": 0.3, "beam_not_ready_end_delay": 0},
    )
    bodies = place.until("stf_gen")
    process.kill()
    process.communicate()
    process = place.start()
    bodies += place.until("end_run")
    # What the broker had not confirmed is said again, in the same words.
    once = [json.loads(text) for text in dict.fromkeys(json.dumps(body) for body in bodies)]
    kinds = [body["msg_type"] for body in once]
    assert kinds == ["run_imminent", "start_run", *["stf_gen"] * 6, "end_run"]
    assert [body["sequence"] for body in once if "sequence" in body] == [1, 2, 3, 4, 5, 6]
    assert len({(body["run_id"], body["execution_id"], body["sender"]) for body in once}) == 1
    assert [body["simulation_tick"] for body in once][:4] == pytest.approx([0, 1.1, 2.2, 2.7])
    deadline = time.monotonic() + 60
    while (execution := place.store.executions.get(once[0]["execution_id"]) or {})["status"] != "completed":
        assert time.monotonic() < deadline, execution
        time.sleep(0.05)
    (agent,) = place.store.agents.listed(agent_type="DAQ_Simulator").items
    assert agent["instance_name"] == once[0]["sender"]


@pytest.mark.servers
def test_commands_find_the_runner_of_their_namespace(place: Place, tmp_path: Path) -> None:
    settings = load_streaming_settings(env={"SWF_TESTBED_CONFIG": str(place.testbed)})
    monitor = EmbeddedDaqMonitor(place.store)

    def load(workflow_name: str, config: str | None, params: Any) -> Any:
        return load_daq_workflow(settings, workflow_name, config, params)

    def runner(namespace: str) -> DaqRunner:
        return DaqRunner(
            bus=StompDaqBus(place.address), monitor=monitor, namespace=namespace, user="alice", load=load
        )

    # Several others, so that a command rather reaches one of them first.
    runners = [runner(unique_name("other")) for _ in range(3)]
    runners.append(runner(place.namespace))
    try:
        for each in runners:
            each.start()
        place.command(
            "run_workflow", workflow_name="prompt_processing", config=None, realtime=False, params={}
        )
        assert place.until("end_run")[-1]["total_stf_files"] == 10
        # Nobody runs a workflow for this one.
        nobody = unique_name("nobody")
        place.namespace = nobody
        place.command("run_workflow", workflow_name="prompt_processing", config=None)
        failure = place.until("run_workflow_failed")[-1]
        assert f"no runner serves namespace {nobody}" in failure["error"]
        validate(failure)
    finally:
        for each in runners:
            each.close()


def settings_of(tmp_path: Path) -> Any:
    testbed = tmp_path / "testbed.toml"
    testbed.write_text('[testbed]\nnamespace = "bob"\n')
    return load_streaming_settings(env={"SWF_TESTBED_CONFIG": str(testbed)})


def test_a_workflow_is_the_defaults_with_what_is_given(tmp_path: Path) -> None:
    workflow = load_daq_workflow(
        settings_of(tmp_path), "prompt_processing", None, {"stf_interval": 0.5, "realtime": False}
    )
    assert (workflow.namespace, workflow.name, workflow.version) == ("bob", "prompt_processing", "1.0")
    parameters = workflow.parameters
    assert (parameters.stf_count, parameters.physics_period_count) == (10, 1)
    assert (parameters.stf_interval, parameters.realtime) == (0.5, False)
    assert parameters.container == Path("/tmp")
    assert workflow.parameter_values["simulation"]["stf_interval"] == 0.5
    json.dumps(workflow.parameter_values)


def test_a_key_that_is_not_known_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="stf_cuont"):
        load_daq_workflow(settings_of(tmp_path), "prompt_processing", None, {"stf_cuont": 3})


def test_a_container_that_no_message_can_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"cannot be run: container: must be UTF-8.*\\udcff"):
        load_daq_workflow(
            settings_of(tmp_path), "prompt_processing", None, {"container": str(tmp_path / "\udcff")}
        )


def test_a_run_without_files_and_end_is_refused(tmp_path: Path) -> None:
    nothing = {
        "physics_period_count": 0,
        "stf_count": 0,
        "physics_period_duration": 0,
        "realtime": False,
        "duration": 0,
    }
    settings = settings_of(tmp_path)
    with pytest.raises(InvalidConfiguration, match=r"physics_period_count.* are all 0"):
        load_daq_workflow(settings, "prompt_processing", None, nothing)
    # With the clock, with an end, or with files, it is no flood.
    for change in (
        {"realtime": True},
        {"duration": 5},
        {"physics_period_count": 2},
        {"stf_count": 1},
        {"physics_period_duration": 1},
    ):
        load_daq_workflow(settings, "prompt_processing", None, {**nothing, **change})


def test_options_of_a_run_are_for_one_run() -> None:
    answer = CliRunner().invoke(build(["daq"]), ["--stf-count", "3"])
    assert answer.exit_code == 2
    assert "--stf-count" in answer.output


def test_a_hangup_ends_an_agent_unless_it_was_begun_with_nohup() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        for ignored, ends in ((signal.SIG_DFL, True), (signal.SIG_IGN, False)):
            signal.signal(signal.SIGHUP, ignored)
            assert (signal.SIGHUP in ending_signals()) is ends
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("last", [signal.SIGTERM, signal.SIGHUP])
def test_signals_pause_resume_and_stop(
    tmp_path: Path, last: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever has these tests run with nohup.
    monkeypatch.setattr("app.streaming.daq_factory.ending_signals", lambda: (signal.SIGTERM, signal.SIGHUP))
    bus, monitor = FakeBus(), FakeMonitor()
    signals = {"stf_gen": signal.SIGUSR1, "pause_run": signal.SIGUSR2, "resume_run": last}

    def react(message: Message) -> None:
        if message.msg_type in signals:
            os.kill(os.getpid(), signals.pop(message.msg_type))

    quick = dict.fromkeys(("no_beam_not_ready_delay", "beam_not_ready_delay", "beam_ready_delay"), 0)
    workflow = DaqWorkflow(
        namespace="bob",
        name="prompt_processing",
        parameters=DaqParameters(
            container=tmp_path, stf_count=1000, broadcast_delay=0, stf_interval=0, **quick
        ),
    )
    before = signal.getsignal(last)
    result = run_once(
        load_streaming_settings(env={"SWF_MONITOR_URL": ""}),
        workflow,
        runner=DaqRunner(bus=bus, monitor=monitor, namespace="bob", user="alice", on_message=react),
    )
    assert (result.status, signals) == (ExecutionStatus.TERMINATED, {})
    assert bus.bodies("pause_run")[0]["reason"] == "Paused by the operator"
    assert bus.bodies()[-1]["total_stf_files"] == result.stf_count < 1000
    assert signal.getsignal(last) is before
