"""Beside the programs that exist: ours and the field's take turns."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.agent_scene import AgentScene, Listener
from simulator.servers.activemq import ActiveMQServer
from tests.e2e.field_agents import FieldDataAgent, FieldProcessingAgent, FieldRunner


@pytest.fixture
def scene(tmp_path: Path, activemq: ActiveMQServer) -> AgentScene:
    return AgentScene(tmp_path, activemq, PP_PAYLOAD="true")


@pytest.fixture
def heard(activemq: ActiveMQServer) -> Iterator[Listener]:
    listener = Listener(activemq)
    yield listener
    listener.close()


def test_their_agents_follow_our_data_acquisition(scene: AgentScene, heard: Listener) -> None:
    monitor = scene.start_monitor()
    try:
        scene.wait_until(scene.monitor_answers, "the monitor answers")
        data = FieldDataAgent(scene.broker, scene.monitor_url, scene.namespace)
        processing = FieldProcessingAgent(scene.broker, scene.monitor_url, scene.namespace)
        agents = (data, processing)
        for agent in agents:
            agent.listen()
        daq = scene.take_data("--no-realtime", "--stf-count", "3")
        scene.wait_until(lambda: not daq.running, "the run is over")
        assert daq.process.returncode == 0
        scene.wait_until(lambda: all("end_run" in agent.handled for agent in agents), "both heard the end")

        (execution,) = scene.get("workflow-executions", namespace=scene.namespace)
        (run,) = data.active_runs
        names = [f"swf.{run}.{number:06d}.stf" for number in (1, 2, 3)]
        assert data.datasets == {f"swf.{run}.run": names}
        assert data.closed == [f"swf.{run}.run"]
        assert processing.poll(run, execution["execution_id"]) == 3
        for agent in agents:
            agent.close()
            assert agent.troubles == []
            assert {status for _, _, status in agent.rest.calls} <= {200, 201}

        assert execution["status"] == "completed"
        files = scene.get("stf-files", run_number=run)
        assert {row["stf_filename"]: row["status"] for row in files} == dict.fromkeys(names, "processed")
        folder = scene.root / "stf" / f"swf.{run}.run"
        assert {r["stf_filename"]: r["file_size_bytes"] for r in files} == {
            path.name: path.stat().st_size for path in folder.iterdir()
        }
        assert {row["metadata"]["panda_task_id"] for row in files} == {"4711"}
        recorded = Counter(
            row["message_type"]
            for row in scene.get("workflow-messages", execution_id=execution["execution_id"])
        )
        assert recorded == {"run_imminent": 1, "start_run": 1, "stf_gen": 3, "end_run": 1, "stf_ready": 1}
        (state,) = (row for row in scene.get("run-states") if row["run_number"] == int(run))
        assert (state["phase"], state["state"], state["substate"]) == ("completed", "ended", None)
        states = {row["instance_name"]: row["status"] for row in scene.get("systemagents")}
        assert states[data.name] == states[processing.name] == "EXITED"
    finally:
        monitor.stop()


def test_our_agents_follow_their_runner(scene: AgentScene, heard: Listener) -> None:
    with scene.running():
        runner = FieldRunner(scene.broker, scene.monitor_url, scene.namespace)
        run = runner.run(scene.root / "stf")
        runner.close()
        scene.wait_until(
            lambda: [r["status"] for r in scene.get("stf-files", run_number=run)] == ["processed"] * 3,
            "the files are processed",
        )
        (ready,) = heard.of_type("stf_ready")
        assert ready == {
            "namespace": scene.namespace,
            "sender": ready["sender"],
            "req_id": 1,
            "msg_type": "stf_ready",
            "run_id": run,
            "execution_id": runner.execution,
        }
        assert ready["sender"].startswith("data-agent-")
        for row in scene.get("stf-files", run_number=run):
            path = scene.root / "stf" / f"swf.{run}.run" / row["stf_filename"]
            assert row["file_size_bytes"] == path.stat().st_size  # which their runner does not tell
            assert row["metadata"]["sequence"] == json.loads(path.read_text())["sequence"]
        scene.wait_until(
            lambda: all(r["end_time"] for r in scene.get("runs") if r["run_number"] == int(run)),
            "the run is closed",
        )
        (execution,) = scene.get("workflow-executions", namespace=scene.namespace)
        assert execution["status"] == "completed"
