"""The workflow runner and agents of the field, as programs that exist.

Stand-ins: what exists cannot be had here. They do on the wire what
``docs/streaming.md`` says of the system in the field, and know nothing of
this project's code: STOMP by stomp.py, REST by httpx. Whatever Rucio and
PanDA would be asked is only noted.
"""

from __future__ import annotations

import getpass
import json
import os
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import stomp

TOPIC = "/topic/epictopic"


def now() -> str:
    """Naive local time, as the field tells it."""
    return datetime.now(UTC).astimezone().replace(tzinfo=None).isoformat()


class Rest:
    """The monitor's resources; every call that is not followed is an error."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=f"{url}/api", timeout=120.0, trust_env=False)
        self.calls: list[tuple[str, str, int]] = []

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._client.request(method, path, json=body)
        self.calls.append((method, path, answer.status_code))
        if not 200 <= answer.status_code < 300:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()


class FieldAgent(stomp.ConnectionListener):
    """What the agents have in common: name, connection, signs of life."""

    agent_type = ""

    def __init__(self, broker: Any, monitor: str, namespace: str) -> None:
        self.rest = Rest(monitor)
        self.namespace = namespace
        number = self.rest("POST", "/state/next-agent-id/")["agent_id"]
        self.name = f"{self.agent_type.lower()}-agent-{getpass.getuser()}-{number}"
        self.troubles: list[str] = []
        self.handled: list[str] = []
        self._connection = stomp.Connection11(
            [(broker.host, broker.port)], heartbeats=(30000, 30000), auto_content_length=False
        )
        self._connection.set_listener("", self)
        self._connection.connect(
            broker.user, broker.password, wait=True, version="1.1", headers={"client-id": self.name}
        )

    def listen(self) -> None:
        self.rest(
            "POST",
            "/subscribers/",
            {
                "subscriber_name": f"{self.name}-{TOPIC}",
                "description": f"{self.agent_type} agent",
                "is_active": True,
                "fraction": 1.0,
            },
        )
        self._connection.subscribe(destination=TOPIC, id=1, ack="auto")
        self.heartbeat()

    def send(self, message: dict[str, Any], destination: str = TOPIC) -> None:
        self._connection.send(body=json.dumps(message), destination=destination)

    def heartbeat(self, status: str = "OK", **more: Any) -> None:
        self.rest(
            "POST",
            "/systemagents/heartbeat/",
            {
                "instance_name": self.name,
                "agent_type": self.agent_type,
                "status": status,
                "description": f"{self.agent_type} agent. MQ: connected",
                "mq_connected": True,
                "pid": os.getpid(),
                "hostname": "field",
                "operational_state": "READY",
                "namespace": self.namespace,
                **more,
            },
        )

    def log(self, text: str) -> None:
        self.rest(
            "POST",
            "/logs/",
            {
                "app_name": "base_agent",
                "instance_name": self.name,
                "timestamp": now(),
                "level": 20,
                "levelname": "INFO",
                "message": text,
                "module": "field_agents",
                "funcname": "log",
                "lineno": 1,
                "process": os.getpid(),
                "thread": threading.get_ident(),
                "extra_data": None,
            },
        )

    def on_message(self, frame: stomp.utils.Frame) -> None:
        message = json.loads(frame.body)
        if message.get("namespace") != self.namespace:
            return
        kind = message.get("msg_type")
        handler: Callable[[dict[str, Any]], None] | None = getattr(self, f"on_{kind}", None)
        try:
            if handler is not None:
                handler(message)
        except Exception as error:  # as in the field: told, and the message is gone
            self.troubles.append(f"{kind}: {error!r}")
        self.handled.append(str(kind))

    def close(self) -> None:
        self.heartbeat("EXITED", operational_state="EXITED")
        self._connection.disconnect()


class FieldDataAgent(FieldAgent):
    """Registers files; its Rucio is a dictionary."""

    agent_type = "DATA"

    def __init__(self, broker: Any, monitor: str, namespace: str) -> None:
        super().__init__(broker, monitor, namespace)
        self.active_runs: dict[str, int] = {}
        self.datasets: dict[str, list[str]] = {}
        self.closed: list[str] = []
        self._count = 0
        self._folder = self._dataset = ""

    def on_run_imminent(self, message: dict[str, Any]) -> None:
        run = message["run_id"]
        row = self.rest(
            "POST",
            "/runs/",
            {
                "run_number": int(run),
                "start_time": now(),
                "run_conditions": message.get("run_conditions", {}),
            },
        )
        self.active_runs[run] = row["run_id"]
        self._count, self._dataset = 0, message["dataset"]
        self._folder = str(Path(message["container"]) / self._dataset)
        self.datasets[self._dataset] = []

    def on_start_run(self, message: dict[str, Any]) -> None:
        self._count = 0

    def on_stf_gen(self, message: dict[str, Any]) -> None:
        if not (Path(self._folder) / message["filename"]).exists():
            self.troubles.append(f"no file {message['filename']}")
            return
        self.datasets[self._dataset].append(message["filename"])
        if self._count == 0:
            self.send(
                {
                    "namespace": self.namespace,
                    "sender": self.name,
                    "req_id": 1,
                    "msg_type": "stf_ready",
                    "run_id": message["run_id"],
                    "execution_id": message["execution_id"],
                }
            )
        self._count += 1
        row = self.rest(
            "POST",
            "/stf-files/",
            {
                "run": self.active_runs[message["run_id"]],
                "stf_filename": message["filename"],
                "file_size_bytes": message.get("size_bytes"),
                "checksum": message.get("checksum"),
                "machine_state": message.get("state", "unknown"),
                "status": "registered",
                "metadata": {
                    "created_by": self.name,
                    "substate": message["substate"],
                    "start": message.get("start"),
                    "end": message.get("end"),
                    "sequence": message["sequence"],
                },
            },
        )
        uuid.UUID(row["file_id"])
        self.log(f"registered {message['filename']}")

    def on_end_run(self, message: dict[str, Any]) -> None:
        self.closed.append(self._dataset)
        self.rest("PATCH", f"/runs/{self.active_runs[message['run_id']]}/", {"end_time": now()})


class FieldProcessingAgent(FieldAgent):
    """Follows one task a run; its PanDA has finished whatever it is asked."""

    agent_type = "PROCESSING"

    def __init__(self, broker: Any, monitor: str, namespace: str) -> None:
        super().__init__(broker, monitor, namespace)
        self.tasks: dict[str, int] = {}

    def on_run_imminent(self, message: dict[str, Any]) -> None:
        self.heartbeat(description=f"PROCESSING agent. Preparing for run {message['run_id']}")

    def on_start_run(self, message: dict[str, Any]) -> None:
        self.heartbeat(workflow_enabled=True, current_stf_count=0, total_stf_processed=0)

    def on_stf_ready(self, message: dict[str, Any]) -> None:
        self.tasks[message["run_id"]] = 4711

    def poll(self, run: str, execution: str) -> int:
        """Look once at a task; returns how many files it marked."""
        (pk,) = (r["run_id"] for r in self.rest("GET", "/runs/") if r["run_number"] == int(run))
        rows = [r for r in self.rest("GET", "/stf-files/") if r["run"] == pk]
        for row in rows:
            tracking = {
                "processed_by": self.name,
                "panda_tracking_agent": self.name,
                "panda_tracking_namespace": self.namespace,
                "panda_task_id": str(self.tasks[run]),
                "panda_output_dataset": f"user.alice.swf.{run}.processed",
                "panda_polled_at": now(),
                "workflow_execution_id": execution,
            }
            final = {
                "matched_input_files": [row["stf_filename"]],
                "panda_job_id": "1",
                "panda_job_status": "finished",
            }
            metadata = {**row["metadata"], **tracking}
            self.rest(
                "PATCH", f"/stf-files/{row['file_id']}/", {"status": "processing", "metadata": metadata}
            )
            self.rest(
                "PATCH",
                f"/stf-files/{row['file_id']}/",
                {"status": "processed", "metadata": {**metadata, **final}},
            )
        return len(rows)


class FieldRunner(FieldAgent):
    """Runs the workflow as fast as possible; writes files as it goes."""

    agent_type = "DAQ_Simulator"

    def run(self, container: Path, files: int = 3) -> str:
        """Take data; returns the run number."""
        user = getpass.getuser()
        sequence = self.rest(
            "POST", "/state/next-workflow-execution-id/", {"workflow_name": "prompt_processing"}
        )
        self.execution = execution = f"prompt_processing-{user}-{sequence['sequence']:04d}"
        query = "/workflow-definitions/?workflow_name=prompt_processing&version=1.0"
        if not self.rest("GET", query):
            self.rest(
                "POST",
                "/workflow-definitions/",
                {
                    "workflow_name": "prompt_processing",
                    "version": "1.0",
                    "workflow_type": "simulation",
                    "definition": "class WorkflowExecutor: ...",
                    "parameter_values": {"stf_count": files},
                    "created_by": user,
                    "created_at": now(),
                },
            )
        (definition,) = self.rest("GET", query)
        self.rest("POST", "/namespaces/ensure/", {"name": self.namespace, "owner": user})
        self.rest(
            "POST",
            "/workflow-executions/",
            {
                "execution_id": execution,
                "workflow_definition": definition["id"],
                "namespace": self.namespace,
                "status": "running",
                "executed_by": user,
                "start_time": now(),
                "parameter_values": {
                    "stf_count": files,
                    "git_version": {"commit": "c", "tag": "t", "branch": "b"},
                },
            },
        )
        run = str(self.rest("POST", "/state/next-run-number/")["run_number"])
        self.rest(
            "POST",
            "/run-states/",
            {
                "run_number": int(run),
                "phase": "initializing",
                "state": "imminent",
                "substate": "preparing",
                "target_worker_count": 0,
                "active_worker_count": 0,
                "stf_samples_received": 0,
                "slices_created": 0,
                "slices_queued": 0,
                "slices_processing": 0,
                "slices_completed": 0,
                "slices_failed": 0,
                "state_changed_at": now(),
                "metadata": {"execution_id": execution, "stf_sampling_rate": None, "slices_per_sample": None},
            },
        )
        tick: float = 5

        def message(msg_type: str, **more: Any) -> dict[str, Any]:
            return {
                "msg_type": msg_type,
                "namespace": self.namespace,
                "execution_id": execution,
                "run_id": run,
                "timestamp": now(),
                "simulation_tick": tick,
                **more,
            }

        def tell(msg_type: str, **more: Any) -> None:
            self.send({**message(msg_type, **more), "sender": self.name})

        dataset = f"swf.{run}.run"
        (container / dataset).mkdir(parents=True)
        tell("run_imminent", state="beam", substate="not_ready", dataset=dataset, container=str(container))
        tick = 13.1
        tell("start_run", state="run", substate="physics")
        for number in range(1, files + 1):
            tick += 1.1
            name = f"swf.{run}.{number:06d}.stf"
            physics = {"filename": name, "sequence": number, "state": "run", "substate": "physics"}
            (container / dataset / name).write_text(json.dumps(message("stf_gen", **physics)))
            tell("stf_gen", **physics)
        tell("end_run", total_stf_files=files)
        self.rest("PATCH", f"/workflow-executions/{execution}/", {"status": "completed", "end_time": now()})
        return run
