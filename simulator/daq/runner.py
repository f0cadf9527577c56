"""Runs workflows: one that it is handed, or those that commands ask for."""

from __future__ import annotations

__all__ = ["DaqRunner", "LoadWorkflow"]

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from models.errors import TemporarilyUnavailable
from models.streaming.daq import DaqWorkflow
from models.streaming.messages import COMMAND_QUEUE, RUN_TOPIC, Message
from models.streaming.monitoring import AgentReport, AgentState, AgentStatus, ExecutionStatus
from models.streaming.names import DAQ_TYPE, agent_name
from simulator.daq.bus import DaqBus
from simulator.daq.commands import CommandDesk
from simulator.daq.control import Control
from simulator.daq.execution import DaqResult, Executor, PreparedRun
from simulator.daq.monitor import DaqMonitor
from simulator.daq.reporting import HEARTBEAT, Reporter

_log = logging.getLogger(__name__)
#: Seconds that a run has to come to its end when the runner does.
_PATIENCE = 60.0


class LoadWorkflow(Protocol):
    """Reads a workflow's configuration."""

    def __call__(self, workflow_name: str, config: str | None, params: Mapping[str, Any]) -> DaqWorkflow:
        """Return the workflow with the parameters in effect.

        Parameters
        ----------
        workflow_name : `str`
        config : `str` or `None`
            Name of its configuration; None for its default.
        params : mapping
            Parameters to replace, by their key.

        Raises
        ------
        models.errors.PromptProcessingError
            Raised if there is no such workflow, or a key is not known or its
            value wrong; the text names it.
        """


class DaqRunner:
    """Runs workflows, one at a time.

    Methods may be called from any thread.

    Parameters
    ----------
    bus : `simulator.daq.bus.DaqBus`
        Started and stopped by this.
    monitor : `simulator.daq.monitor.DaqMonitor`
    namespace : `str`
        Whose workflows it runs.
    user : `str`
        In whose name.
    agent_type : `str`, optional
        What it is to the monitor; a runner of one workflow has that
        workflow's name in the field.
    load : `LoadWorkflow`, optional
        With it, commands are followed.
    on_message : callable, optional
        Sees every message about a run, after it was handed to the bus.
    topic : `str`, optional
        Where those messages go.
    heartbeat : `float`, optional
        Seconds between signs of life.
    """

    def __init__(
        self,
        *,
        bus: DaqBus,
        monitor: DaqMonitor,
        namespace: str,
        user: str,
        agent_type: str = DAQ_TYPE,
        load: LoadWorkflow | None = None,
        on_message: Callable[[Message], None] | None = None,
        topic: str = RUN_TOPIC,
        heartbeat: float = HEARTBEAT,
    ) -> None:
        self._bus = bus
        self._monitor = monitor
        self._namespace = namespace
        self._user = user
        self._agent_type = agent_type
        self._changed = threading.Condition()
        self._name: str | None = None
        self._state = AgentState.STARTING
        self._current: tuple[PreparedRun, Control] | None = None
        self._reserved = False
        self._stop_all = threading.Event()
        self._worker: threading.Thread | None = None
        self._seen_bus = False
        self._reporter = Reporter(
            monitor=monitor, describe=self._describe, connected=lambda: bus.connected, interval=heartbeat
        )
        self._executor = Executor(
            bus=bus, monitor=monitor, reporter=self._reporter, user=user, topic=topic, on_message=on_message
        )
        self._desk: CommandDesk | None = None
        if load is not None:
            self._desk = CommandDesk(runner=self, bus=bus, monitor=monitor, load=load, topic=topic)

    @property
    def name(self) -> str:
        """By which it signs; with the process's id while the monitor gave none."""
        return self._name or agent_name(self._agent_type, self._user, f"p{os.getpid()}")

    @property
    def namespace(self) -> str:
        """Whose workflows it runs."""
        return self._namespace

    @property
    def execution_id(self) -> str | None:
        """The execution that is running, if one is."""
        current = self._current
        return current[0].identity.execution_id if current else None

    @property
    def busy(self) -> bool:
        """Whether a run is being prepared or running."""
        return self._reserved

    def start(self) -> None:
        """Connect and give signs of life, and follow commands if it is to."""
        if self._desk is not None:
            self._bus.subscribe(COMMAND_QUEUE, self._desk.receive)
        self._reporter.start()
        self._bus.start()
        if self._desk is not None:
            self._become(AgentState.READY)

    def run_once(self, workflow: DaqWorkflow) -> DaqResult:
        """Run a workflow; returns when it is over.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if another runs, or the monitor gives no numbers.
        models.errors.InvalidMessage
            Raised if the monitor refuses.
        """
        return self._perform(*self._begin(workflow))

    def run_in_background(self, workflow: DaqWorkflow) -> str:
        """Run a workflow on a thread; returns the execution's id.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if another runs, or the monitor gives no numbers.
        models.errors.InvalidMessage
            Raised if the monitor refuses.
        """
        run, control = self._begin(workflow)
        self._worker = threading.Thread(
            target=self._perform, args=(run, control), name="daq-run", daemon=True
        )
        self._worker.start()
        return run.identity.execution_id

    def stop_run(self) -> None:
        """End the run that is running, if one is."""
        current = self._current
        if current is not None:
            current[1].stop()

    def pause(self, reason: str) -> None:
        """Have data taking stand still before the next file."""
        current = self._current
        if current is not None:
            _log.info("Execution %s stands still: %s", self.execution_id, reason)
            current[1].pause(reason)

    def resume(self) -> None:
        """Have data taking go on."""
        current = self._current
        if current is not None:
            _log.info("Execution %s goes on.", self.execution_id)
            current[1].resume()

    def stop(self) -> None:
        """End the run that is running, begin no other, and let `wait` return."""
        self._stop_all.set()
        self.stop_run()

    def wait(self) -> None:
        """Wait until `stop` is called; commands are followed meanwhile."""
        self._stop_all.wait()

    def close(self) -> None:
        """Stop, report as exited and disconnect. Safe if never started."""
        self.stop()
        with self._changed:
            # One that is being prepared is registered already, and must be told to be over.
            if not self._changed.wait_for(lambda: not self._reserved, _PATIENCE):
                _log.error("%s does not come to its end.", self.execution_id or "What is being prepared")
        self._become(AgentState.EXITED)
        self._reporter.stop()
        unsent = self._bus.flush(2.0)
        if unsent:
            _log.error("%d messages were not sent: the bus was away.", unsent)
        self._bus.stop()

    def describe(self) -> str:
        """Say in a sentence what it is doing."""
        current = self._current
        if current is None:
            return f"{self._agent_type} of namespace {self._namespace}: no run"
        identity = current[0].identity
        return (
            f"{self._agent_type} of namespace {self._namespace}: run {identity.run_id} of execution "
            f"{identity.execution_id}{', standing still' if current[1].pause_reason is not None else ''}"
        )

    def _begin(self, workflow: DaqWorkflow) -> tuple[PreparedRun, Control]:
        with self._changed:
            if self._reserved:
                raise TemporarilyUnavailable(f"{self.name} is busy with {self.execution_id or 'another run'}")
            if self._stop_all.is_set():
                raise TemporarilyUnavailable(f"{self.name} is being stopped")
            self._reserved = True
        try:
            if self._name is None:
                self._take_name()
            run = self._executor.prepare(workflow, sender=self.name)
        except BaseException:
            self._release()
            raise
        control = Control()
        self._current = (run, control)
        # A stop that came while this was being prepared holds for it.
        if self._stop_all.is_set():
            control.stop()
        self._become(AgentState.PROCESSING)
        return run, control

    def _perform(self, run: PreparedRun, control: Control) -> DaqResult:
        try:
            return self._executor.perform(run, control)
        except Exception:
            # Whatever it was, the execution does not stay as if it ran.
            name = run.identity.execution_id
            _log.exception("Execution %s failed.", name, extra=run.identity.labels)
            self._reporter.end_execution(name, ExecutionStatus.FAILED, end_time=datetime.now(UTC))
            raise
        finally:
            self._current = None
            self._release()
            if not self._stop_all.is_set():
                self._become(AgentState.READY)

    def _release(self) -> None:
        with self._changed:
            self._reserved = False
            self._changed.notify_all()

    def _become(self, state: AgentState) -> None:
        self._state = state
        self._reporter.tell()

    def _take_name(self) -> None:
        """Have the monitor number this agent."""
        number = self._monitor.next_agent_id()
        with self._changed:
            if self._name is None:
                self._name = agent_name(self._agent_type, self._user, number)
                _log.info("This is %s.", self._name)

    def _describe(self) -> AgentReport | None:
        if self._name is None:
            if self._state is AgentState.EXITED:
                return None
            self._take_name()
        # Once each: both change under our hands.
        state, connected = self._state, self._bus.connected
        exited = state is AgentState.EXITED
        self._seen_bus = self._seen_bus or connected
        # Who waits for it to be ready may send commands then.
        if state is AgentState.READY and not self._seen_bus:
            state = AgentState.STARTING
        status = AgentStatus.EXITED if exited else AgentStatus.OK if connected else AgentStatus.WARNING
        return AgentReport(
            instance_name=self.name,
            agent_type=self._agent_type,
            status=status,
            description=self.describe(),
            mq_connected=connected,
            pid=os.getpid(),
            hostname=socket.gethostname(),
            operational_state=state,
            namespace=self._namespace,
        )
