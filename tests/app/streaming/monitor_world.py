"""A monitor that knows an execution of three files, and more."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app.streaming.job_sources import PROCESSING_ROLE
from benchmarks.streaming_schemas import EXAMPLES
from config.streaming.settings import load_streaming_settings
from models.streaming.bus import ReceivedMessage
from models.streaming.datasets import CatalogueFile, DatasetId
from models.streaming.messages import RUN_TOPIC
from models.streaming.monitoring import (
    AgentReport,
    AgentState,
    ExecutionStatus,
    FileUpdate,
    NewStfFile,
    StfStatus,
)
from models.streaming.tasks import FINISHED, TaskSpec
from repos.ledger_database import writing
from repos.streaming.database import create_streaming_engine
from repos.streaming.embedded_monitor import EmbeddedMonitor
from repos.streaming.local_jobs import LocalJob, LocalJobs
from repos.streaming.monitor_store import MonitorStore
from repos.streaming.monitor_tables import LOGS, MESSAGES
from services.streaming.message_recorder import MessageRecorder

NAMESPACE = "test-user"
EXECUTION = "prompt_processing-alice-0001"
RUN = 102363
#: The messages of the run, in order.
BODIES: list[dict[str, Any]] = json.loads((EXAMPLES / "run_of_3_files.json").read_text())
FILES = [body["filename"] for body in BODIES if body["msg_type"] == "stf_gen"]
AGENTS = ("daq_simulator-agent-alice-41", "data-agent-alice-42", "processing-agent-alice-43")


@dataclass
class MonitorWorld:
    """A monitor's database in a directory, and the jobs' beside it; or one for
    both.
    """

    directory: Path
    database: str | None = None

    def __post_init__(self) -> None:
        settings = load_streaming_settings(env={"PP_TESTBED_DIRECTORY": str(self.directory)})
        self.url = self.database or settings.monitor_database_url
        self.jobs_url = self.database or settings.agent_database_url(PROCESSING_ROLE)
        self.engine: sa.Engine = create_streaming_engine(self.url)
        self.store = MonitorStore.on(self.engine)
        self.monitor = EmbeddedMonitor(self.store)
        self.recorder = MessageRecorder(self.store.messages)

    def begin_execution(self, execution_id: str = EXECUTION, *, age: float = 0.0, **values: Any) -> None:
        self.store.executions.add(
            {
                "execution_id": execution_id,
                "namespace": NAMESPACE,
                "status": "running",
                "executed_by": "alice",
                "start_time": datetime.now(UTC) - timedelta(seconds=age),
                "parameter_values": {"simulation": {"stf_count": 3}},
                **values,
            }
        )

    def hear(self, *bodies: dict[str, Any] | str) -> None:
        for body in bodies:
            text = body if isinstance(body, str) else json.dumps(body)
            self.recorder.receive(ReceivedMessage(RUN_TOPIC, text))

    def take_run(self, *, processed: int = 2, failed: int = 0) -> None:
        """Let three files be registered, and some of them be processed."""
        self.monitor.open_run(RUN, start_time=datetime.now(UTC))
        registered = self.monitor.register_files(
            RUN,
            [
                NewStfFile(stf_filename=name, file_size_bytes=276, checksum="0a1b2c3d", machine_state="run")
                for name in FILES
            ],
        )
        ends = [StfStatus.PROCESSED] * processed + [StfStatus.FAILED] * failed
        self.monitor.update_files(
            RUN,
            [
                FileUpdate(
                    file_id=row.file_id,
                    status=end,
                    metadata={"panda_task_id": "1", "panda_tracking_agent": AGENTS[2]},
                )
                for row, end in zip(registered, ends, strict=False)
            ],
        )

    def log(
        self, message: str, *, level: int = logging.INFO, execution_id: str | None = EXECUTION, age: float = 0
    ) -> None:
        self.store.logs.add(
            {
                "app_name": "base_agent",
                "instance_name": AGENTS[1],
                "timestamp": datetime.now(UTC) - timedelta(seconds=age),
                "level": level,
                "levelname": logging.getLevelName(level),
                "message": message,
                "module": "data_agent",
                "funcname": "advance",
                "lineno": 12,
                "extra_data": {"execution_id": execution_id} if execution_id else None,
            }
        )

    def report_agents(self, *, state: AgentState = AgentState.READY) -> None:
        for name in AGENTS:
            self.monitor.report(
                AgentReport(
                    instance_name=name,
                    agent_type=name.split("-")[0].upper(),
                    namespace=NAMESPACE,
                    mq_connected=True,
                    hostname="host",
                    pid=4711,
                    operational_state=state,
                )
            )

    def end_execution(self, status: ExecutionStatus = ExecutionStatus.COMPLETED) -> None:
        self.monitor.end_execution(EXECUTION, status, end_time=datetime.now(UTC))

    def run_jobs(self) -> int:
        """Let a task have three jobs, one finished, one failed; return its id."""
        jobs = LocalJobs(create_streaming_engine(self.jobs_url), namespace=NAMESPACE)
        task = jobs.add_task(
            TaskSpec(
                name=f"user.alice.swf.{RUN}.processed",
                run_id=str(RUN),
                execution_id=EXECUTION,
                input=DatasetId("group.daq", f"swf.{RUN}.run"),
                output=f"user.alice.swf.{RUN}.processed",
                namespace=NAMESPACE,
            )
        )
        files = [CatalogueFile(name, Path("/data") / name, 276, "0a1b2c3d", "guid") for name in FILES]
        added = jobs.add_jobs(task.id, files, change=1)
        now = datetime.now(UTC)
        ends = [
            LocalJob(**{**vars(added[0]), "status": FINISHED, "attempts": 1, "started": now, "ended": now}),
            LocalJob(**{**vars(added[1]), "status": "failed", "attempts": 3, "error": "exit status 3"}),
        ]
        jobs.save([(4 + number, job) for number, job in enumerate(ends)])
        return task.id

    def age(self, seconds: float) -> None:
        """Have all messages and log lines be older."""
        then = datetime.now(UTC) - timedelta(seconds=seconds)
        with writing(self.engine) as connection:
            connection.execute(MESSAGES.update().values(sent_at=then))
            connection.execute(LOGS.update().values(timestamp=then))


def whole_world(directory: Path, database: str | None = None) -> MonitorWorld:
    """Return a monitor that knows an execution that is over."""
    world = MonitorWorld(directory, database)
    world.begin_execution()
    world.hear(*BODIES)
    world.take_run(processed=2)
    world.log("began")
    world.log("the catalogue answers 500", level=logging.ERROR)
    world.report_agents()
    world.end_execution()
    return world
