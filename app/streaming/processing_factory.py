"""Wiring of the prompt processing agent and of its executors."""

from __future__ import annotations

__all__ = [
    "ProcessingOptions",
    "build_processing_agent",
    "create_executor",
    "create_processing_agent",
    "submit_once",
]

import shlex
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from app.streaming.agent_parts import connect_monitor, create_agent
from app.streaming.bus_factory import create_stomp_bus
from app.streaming.data_factory import create_catalogue
from config.streaming.panda_environment import panda_environment
from config.streaming.payload_environment import payload_environment
from config.streaming.settings import StreamingSettings
from config.streaming.testbed import load_testbed_config
from config.user import user_name
from models.errors import InvalidConfiguration
from models.streaming.datasets import DatasetId
from models.streaming.names import DEFAULT_SCOPE
from models.streaming.tasks import TERMINAL_TASKS, TaskSpec, TaskState
from repos.streaming.database import create_streaming_engine
from repos.streaming.local_executor import LocalExecutor
from repos.streaming.local_jobs import LocalJobs
from repos.streaming.panda_client import PandaClient
from repos.streaming.panda_clients import PandaClients
from repos.streaming.panda_executor import PandaExecutor
from repos.streaming.payloads import PayloadRunner, parse_payload
from repos.streaming.task_store import TaskStore
from services.streaming.agent import Agent
from services.streaming.bus import Bus
from services.streaming.catalogue import Catalogue
from services.streaming.executor import Executor
from services.streaming.monitor import Monitor
from services.streaming.processing_agent import AGENT_TYPE, ProcessingAgent
from services.streaming.task_attendance import ProcessingLimits

#: Names its journal and subscription, and its database.
ROLE = "processing"
_DATABASE = "processing-agent"
#: Directory of what tasks that are executed here make.
_OUTPUTS = "outputs"
#: Seconds between looks at a task, if nobody says: here, and at PanDA.
_LOCAL_POLL, _PANDA_POLL = 0.5, 60.0


@dataclass(frozen=True)
class ProcessingOptions:
    """What the processing agent's command line says.

    Attributes
    ----------
    script : `pathlib.Path` or `None`
        What processes a file, instead of the configured payload.
    """

    script: Path | None = None


def create_executor(
    settings: StreamingSettings,
    *,
    namespace: str,
    catalogue: Catalogue | None = None,
    options: ProcessingOptions | None = None,
) -> Executor:
    """Return the executor that the settings name, not started yet.

    Parameters
    ----------
    settings : `config.streaming.settings.StreamingSettings`
    namespace : `str`
    catalogue : `services.streaming.catalogue.Catalogue`, optional
        Knows files that are processed here; that of the settings by default.
    options : `ProcessingOptions`, optional

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the payload is no program, the agent's database cannot be
        used, or the catalogue does not know where files are.
    models.errors.TemporarilyUnavailable
        Raised if that is away.
    """
    script = (options or ProcessingOptions()).script
    if settings.executor == "panda":
        if script is not None and not script.is_file():
            raise InvalidConfiguration(f"-s: there is no file {script}")
        environment = panda_environment()
        return PandaExecutor(
            clients=PandaClients(partial(PandaClient, environment=environment)), script=script
        )
    if settings.catalogue != "embedded":
        raise InvalidConfiguration(
            "PP_EXECUTOR=local: Rucio does not say where files are, so none could be processed here; "
            "set PP_EXECUTOR=panda or PP_CATALOGUE=embedded"
        )
    environment = payload_environment()
    if script is None:
        search = environment.get("PATH")
        command = parse_payload(settings.payload, directory=Path.cwd(), search=search)
    else:
        command = parse_payload(shlex.quote(str(script.absolute())), directory=Path.cwd(), search=None)
    return LocalExecutor(
        jobs=LocalJobs(create_streaming_engine(settings.agent_database_url(_DATABASE)), namespace=namespace),
        catalogue=catalogue or create_catalogue(settings),
        runner=PayloadRunner(
            command=command,
            directory=settings.testbed_directory / _OUTPUTS,
            environment=environment,
            timeout=settings.payload_timeout or None,
        ),
        workers=settings.payload_workers,
        attempts=settings.payload_attempts,
        keep=timedelta(days=settings.payload_keep_days) if settings.payload_keep_days else None,
    )


def create_processing_agent(
    *,
    settings: StreamingSettings,
    namespace: str,
    executor: Executor,
    bus: Bus,
    monitor: Monitor,
    limits: ProcessingLimits,
) -> Agent:
    """Return a processing agent, not started yet. Its executor is to be closed
    after it has stopped.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if its database is away.
    """
    engine = create_streaming_engine(settings.agent_database_url(_DATABASE))

    def logic(name: str) -> ProcessingAgent:
        return ProcessingAgent(
            name=name,
            namespace=namespace,
            nickname=_nickname(settings),
            store=TaskStore(engine, namespace=namespace),
            executor=executor,
            monitor=monitor,
            limits=limits,
        )

    return create_agent(
        engine=engine,
        role=ROLE,
        agent_type=AGENT_TYPE,
        namespace=namespace,
        bus=bus,
        monitor=monitor,
        logic=logic,
        keep=settings.agent_keep,
    )


def build_processing_agent(settings: StreamingSettings, options: ProcessingOptions) -> tuple[Agent, Executor]:
    """Return the processing agent of a process of its own, and its executor,
    which is to be closed when the agent has stopped.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if a setting or the testbed's file is wrong.
    models.errors.TemporarilyUnavailable
        Raised if its database is away.
    """
    config = load_testbed_config(settings=settings)
    executor = create_executor(settings, namespace=config.namespace, options=options)
    interval = settings.panda_poll_interval
    if interval is None:
        interval = (config.poll_interval or _PANDA_POLL) if settings.executor == "panda" else _LOCAL_POLL
    timeout = settings.panda_poll_timeout
    agent = create_processing_agent(
        settings=settings,
        namespace=config.namespace,
        executor=executor,
        bus=create_stomp_bus(settings, client_id=f"{ROLE}-agent-{config.namespace}"),
        monitor=connect_monitor(settings),
        limits=ProcessingLimits(
            poll_interval=interval,
            poll_timeout=(config.poll_timeout or 0.0) if timeout is None else timeout,
            submissions=settings.task_submissions,
        ),
    )
    return agent, executor


def submit_once(
    settings: StreamingSettings, options: ProcessingOptions, *, input_name: str, output: str
) -> tuple[str, TaskState]:
    """Submit one task for a dataset as it is; if it is executed here, wait
    until it has ended.

    Parameters
    ----------
    settings : `config.streaming.settings.StreamingSettings`
    options : `ProcessingOptions`
    input_name : `str`
        The dataset, ``scope:name`` or a name in the usual scope.
    output : `str`
        Name of the dataset of what it makes.

    Returns
    -------
    task_id : `str`
    state : `models.streaming.tasks.TaskState`

    Raises
    ------
    models.errors.PromptProcessingError
        Raised if it cannot be submitted.
    """
    scope, _, name = input_name.rpartition(":")
    if not (name and output):
        raise InvalidConfiguration(f"-i {input_name!r} -o {output!r}: a dataset has no name")
    namespace = load_testbed_config(settings=settings).namespace
    executor = create_executor(settings, namespace=namespace, options=options)
    task = TaskSpec(
        name=output,
        run_id="",
        execution_id=None,
        input=DatasetId(scope or DEFAULT_SCOPE, name),
        output=output,
        namespace=namespace,
        until_closed=False,
    )
    try:
        executor.start()
        task_id = executor.submit(task)
        state = TaskState.RUNNING
        while settings.executor == "local" and state not in TERMINAL_TASKS:
            state = executor.status(task_id)
            time.sleep(_LOCAL_POLL / 5)
        return task_id, state
    finally:
        executor.close()


def _nickname(settings: StreamingSettings) -> str:
    return settings.panda_nickname or user_name()
