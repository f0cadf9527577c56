"""The whole workflow in one process: bus, DAQ, agents, monitor, catalogue.

What they keep is in SQLite files of one directory; monitor and catalogue are
where settings say. Agents over a broker may have the same monitor: this
touches there what is its own only.
"""

from __future__ import annotations

__all__ = ["EmbeddedTestbed"]

import logging
import os
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

from app.streaming.data_factory import create_catalogue, create_data_agent
from app.streaming.embedded_daq_monitor import EmbeddedDaqMonitor
from app.streaming.embedded_past import Traces
from app.streaming.local_daq_bus import LocalDaqBus
from app.streaming.processing_factory import create_executor, create_processing_agent
from app.streaming.run_summary import Standing
from config.streaming.settings import StreamingSettings
from config.user import user_name
from models.errors import TemporarilyUnavailable
from models.streaming.daq import DaqWorkflow
from models.streaming.datasets import DatasetId
from models.streaming.messages import RUN_TOPIC, Message, StfGen
from models.streaming.monitoring import AgentState, AgentStatus, ExecutionStatus
from models.streaming.names import DEFAULT_SCOPE, dataset_name
from models.streaming.tasks import TaskPhase
from repos.streaming.database import create_streaming_engine
from repos.streaming.embedded_monitor import EmbeddedMonitor
from repos.streaming.local_bus import LocalBroker
from repos.streaming.monitor_logs import MonitorLogHandler, StoreLogSink
from repos.streaming.monitor_store import MonitorStore
from repos.streaming.task_store import TaskStore
from services.streaming.message_recorder import BufferedRecorder
from services.streaming.task_attendance import ProcessingLimits
from simulator.daq.execution import DaqResult
from simulator.daq.runner import DaqRunner

_log = logging.getLogger(__name__)

#: Seconds that each part has to end.
_PATIENCE = 10.0
#: Seconds between looks whether the agents are ready, and until that is an error.
_GLANCE, _READY = 0.02, 60.0
#: Seconds between looks at a local task.
_POLL = 0.2


class EmbeddedTestbed:
    """Runs one workflow; a `app.streaming.following.Follower`.

    Parameters
    ----------
    settings : `config.streaming.settings.StreamingSettings`
    workflow : `models.streaming.daq.DaqWorkflow`
    poll_interval, poll_timeout : `float`, optional
        Seconds between looks at a task of PanDA, and after which a task is
        given up, 0 for never.
    """

    def __init__(
        self,
        *,
        settings: StreamingSettings,
        workflow: DaqWorkflow,
        poll_interval: float = 60.0,
        poll_timeout: float = 0.0,
    ) -> None:
        self._settings = settings
        self._workflow = workflow
        self._user = user_name()
        self._ends = ExitStack()
        self._traces = Traces(settings.testbed_directory)
        self._broker = LocalBroker()
        self._generated = 0
        self._run_id: str | None = None
        self._result: Future[DaqResult] | None = None
        try:
            self._build(poll_interval, poll_timeout)
        except BaseException:
            self._ends.close()
            raise

    def _build(self, poll_interval: float, poll_timeout: float) -> None:
        settings, namespace = self._settings, self._workflow.namespace
        monitor = create_streaming_engine(settings.monitor_database_url, setting="PP_MONITOR_DATABASE")
        self._ends.callback(monitor.dispose)
        self._store = MonitorStore.on(monitor)
        self._ends.callback(self._settle)
        self._monitor = EmbeddedMonitor(self._store)
        self._catalogue = create_catalogue(settings)
        self._recorder = BufferedRecorder(self._store.messages)
        self._monitor_bus = self._broker.connect("monitor")
        self._monitor_bus.subscribe(RUN_TOPIC, self._recorder.receive)
        tasks = create_streaming_engine(settings.agent_database_url("processing-agent"))
        self._ends.callback(tasks.dispose)
        self._tasks = TaskStore(tasks, namespace=namespace)
        executor = create_executor(settings, namespace=namespace, catalogue=self._catalogue)
        self._ends.callback(executor.close)
        self._agents = [
            create_data_agent(
                settings=settings,
                namespace=namespace,
                bus=self._broker.connect("data"),
                monitor=self._monitor,
                catalogue=self._catalogue,
                container=self._workflow.parameters.container,
            ),
            create_processing_agent(
                settings=settings,
                namespace=namespace,
                executor=executor,
                bus=self._broker.connect("processing"),
                monitor=self._monitor,
                limits=ProcessingLimits(
                    poll_interval=_POLL if settings.executor == "local" else poll_interval,
                    poll_timeout=poll_timeout,
                ),
            ),
        ]
        self._runner = DaqRunner(
            bus=LocalDaqBus(self._broker.connect("daq")),
            monitor=EmbeddedDaqMonitor(
                self._store,
                before_execution=lambda execution_id: self._traces.note(execution_id=execution_id),
                before_agent=lambda name: self._traces.note(agents=[name, *self._agent_names]),
                is_taken=self._has_run,
            ),
            namespace=namespace,
            user=self._user,
            on_message=self._see,
        )

    def start(self) -> None:
        """Start everything, wait until the agents are ready, and begin the run.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if an agent does not become ready, or the run cannot begin.
        """
        self._log_to_monitor()
        # Without it the run would be waited for.
        self._catalogue.is_open(DatasetId(DEFAULT_SCOPE, dataset_name("0")))
        self._traces.settle(self._store)
        self._traces.note(namespace=self._workflow.namespace, agents=self._agent_names)
        self._recorder.start()
        self._ends.callback(self._recorder.stop, _PATIENCE)
        self._monitor_bus.start()
        self._ends.callback(self._monitor_bus.stop, _PATIENCE)
        for agent in self._agents:
            agent.start()
            self._ends.callback(agent.stop, _PATIENCE)
        self._runner.start()
        self._ends.callback(self._runner.close)
        self._wait_until_ready()
        threads = ThreadPoolExecutor(1, "daq")
        self._ends.callback(threads.shutdown)
        self._result = threads.submit(self._runner.run_once, self._workflow)
        self._wait_until_begun(self._result)

    def _has_run(self, run_number: int) -> bool:
        """Say whether a run of a number left something here, whose files would
        mix with those of a new one: the monitor's database may be new.
        """
        run_id = str(run_number)
        name = dataset_name(run_id)
        return (
            os.path.exists(self._workflow.parameters.container / name)
            or self._tasks.task(run_id) is not None
            or self._catalogue.is_open(DatasetId(DEFAULT_SCOPE, name)) is not None
        )

    def stop(self) -> None:
        """Have the run ended; what there is will be processed."""
        self._runner.stop_run()

    def close(self) -> None:
        """End everything."""
        self._ends.close()

    @property
    def result(self) -> DaqResult | None:
        """What became of the simulation; None while it runs."""
        return self._result.result() if self._result is not None and self._result.done() else None

    def look(self) -> Standing:
        """Return how the run stands now.

        Raises
        ------
        models.errors.PromptProcessingError
            Raised if it could not begin.
        """
        result, run_id = self.result, self._run_id
        execution_id = result.execution_id if result else self._runner.execution_id or ""
        standing = Standing(
            execution_id=execution_id, generated=self._generated, total=self._expected(result)
        )
        if run_id is None:
            # Before the first message; if it ended before, nobody else knows of it.
            status = result.status if result else standing.execution_status
            return replace(
                standing, execution_status=str(status), over=result is not None, waiting_for="the run"
            )
        # Before the files: when it is over, they are as they will be.
        task = self._tasks.task(run_id)
        counts: Counter[str] = Counter()
        handed_over = False
        for row in self._store.runs.listed(run_number=int(run_id)).items:
            counts.update(row["files"])
            # The data agent says so last.
            handed_over = row["end_time"] is not None
        dataset = DatasetId(DEFAULT_SCOPE, result.dataset if result else dataset_name(run_id))
        execution = self._monitor.execution(execution_id)
        standing = replace(
            standing,
            execution_status=str(execution.status) if execution else "unknown",
            run_number=int(run_id),
            registered=counts.total(),
            processed=counts["processed"] + counts["done"],
            failed=counts["failed"],
            dataset=dataset.name,
            dataset_open=self._catalogue.is_open(dataset),
            task_id=task.task_id if task else None,
            task_state=str(task.task_state or task.phase) if task else None,
        )
        ended = task is not None and task.phase in (TaskPhase.COMPLETE, TaskPhase.GIVEN_UP)
        waiting = ["the end of the run"]
        if result is not None:
            waiting = self._waiting_for(standing, task_ended=ended, handed_over=handed_over)
        return replace(standing, waiting_for=", ".join(waiting), over=not waiting)

    def finish(self, standing: Standing) -> Standing:
        """Add to how a run stood in the end what takes longer to find out."""
        self._broker.drain(_PATIENCE)
        self._recorder.flush(_PATIENCE)
        bodies = self._monitor.messages(standing.execution_id)
        files = self._catalogue.files(DatasetId(DEFAULT_SCOPE, standing.dataset))
        return replace(
            standing,
            messages=Counter(str(body["msg_type"]) for body in bodies),
            agents=(self._runner.name, *self._agent_names),
            dataset_files=len(files),
        )

    def trouble(self) -> str:
        """Say what keeps agents from their work, if anything does."""
        rows = self._store.agents.alive(self._workflow.namespace)
        return "; ".join(
            f"{row['instance_name']}: {row['description']}" for row in rows if row["status"] != AgentStatus.OK
        )

    def _log_to_monitor(self) -> None:
        """Have the monitor keep the log of all parts, which are one process."""
        name = f"testbed-{self._user}-{os.getpid()}"
        handler = MonitorLogHandler(StoreLogSink(self._store.logs), instance_name=name)
        logging.getLogger().addHandler(handler)
        handler.start()
        self._ends.callback(handler.stop, _PATIENCE)
        self._ends.callback(logging.getLogger().removeHandler, handler)

    def _settle(self) -> None:
        """Note what is over, now or else at the next start."""
        try:
            self._traces.settle(self._store)
        except TemporarilyUnavailable as error:
            _log.error("The monitor does not hear what is over: %s", error)

    @property
    def _agent_names(self) -> list[str]:
        return [agent.name for agent in self._agents]

    def _see(self, message: Message) -> None:
        self._run_id = self._run_id or getattr(message, "run_id", None)
        if isinstance(message, StfGen):
            self._generated += 1

    def _expected(self, result: DaqResult | None) -> int | None:
        parameters = self._workflow.parameters
        if result is not None:
            return result.stf_count
        if parameters.duration or not parameters.physics_period_count or not parameters.stf_count:
            return None
        return parameters.stf_count * parameters.physics_period_count

    def _waiting_for(self, standing: Standing, *, task_ended: bool, handed_over: bool) -> list[str]:
        waiting = []
        if standing.execution_status == ExecutionStatus.RUNNING:
            waiting.append("the end of the execution")
        if standing.dataset_open is not False or not handed_over:
            files = f"{standing.registered} of {standing.generated} files are registered"
            waiting.append(f"the closing of {standing.dataset}, {files}")
        if (standing.registered or standing.task_id) and not task_ended:
            waiting.append(f"the task, {standing.processed} of {standing.generated} files are processed")
        return waiting

    def _wait_until_begun(self, result: Future[DaqResult]) -> None:
        """Wait until there is a run that a stop would end."""
        while self._runner.execution_id is None and not result.done():
            time.sleep(_GLANCE)
        if result.done():
            result.result()

    def _wait_until_ready(self) -> None:
        names = {agent.name for agent in self._agents}
        deadline = time.monotonic() + _READY
        while True:
            agents = {row["instance_name"]: row for row in self._store.agents.alive(self._workflow.namespace)}
            ready = {
                name
                for name, row in agents.items()
                if row["operational_state"] in (AgentState.READY, AgentState.PROCESSING)
            }
            if names <= ready:
                return
            if time.monotonic() > deadline:
                waits = ", ".join(
                    f"{name} ({agents[name]['description'] if name in agents else 'no sign of life'})"
                    for name in sorted(names - ready)
                )
                raise TemporarilyUnavailable(f"agents do not become ready: {waits}")
            time.sleep(_GLANCE)
