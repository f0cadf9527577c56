"""An execution of a workflow, from its registration to its end."""

from __future__ import annotations

__all__ = ["DaqResult", "Executor", "PreparedRun"]

import inspect
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from models.streaming.daq import DaqWorkflow
from models.streaming.messages import RUN_TOPIC, Message
from models.streaming.monitoring import ExecutionStatus
from models.streaming.names import execution_id
from simulator.daq import process
from simulator.daq.bus import DaqBus
from simulator.daq.control import Control
from simulator.daq.monitor import DaqMonitor, NewExecution
from simulator.daq.process import RunIdentity
from simulator.daq.reporting import Reporter
from simulator.daq.simulation import Ending, RunSimulation

_log = logging.getLogger(__name__)

_STATUS = {
    Ending.COMPLETE: ExecutionStatus.COMPLETED,
    Ending.DURATION: ExecutionStatus.COMPLETED,
    Ending.STOPPED: ExecutionStatus.TERMINATED,
    Ending.FAILED: ExecutionStatus.FAILED,
}
#: Seconds between complaints that messages cannot be sent.
_COMPLAINT = 10.0
#: Seconds that a run which was stopped waits for its messages to be sent.
_PATIENCE = 5.0
#: Seconds between looks for a stop while messages are being sent.
_GLANCE = 0.5
#: Messages after which a run that does not follow the clock waits for the bus,
#: so that they do not pile up here.
_HANDFUL = 1000


@dataclass(frozen=True)
class PreparedRun:
    """A run that the monitor knows and that can begin."""

    workflow: DaqWorkflow
    identity: RunIdentity


@dataclass(frozen=True)
class DaqResult:
    """What became of a run.

    Attributes
    ----------
    execution_id, run_id, dataset : `str`
    folder : `pathlib.Path`
        Where its files are.
    stf_count : `int`
        How many files it has.
    status : `models.streaming.monitoring.ExecutionStatus`
    ending : `simulator.daq.simulation.Ending`
        Why it is over.
    error : `str` or `None`
        What went wrong.
    start_time, end_time : `datetime.datetime`
        UTC.
    duration : `float`
        Seconds, by the clock.
    simulated : `float`
        Simulated seconds.
    messages : mapping
        How many were sent, by type, in the order of the first of each.
    unsent : `int`
        How many messages the bus did not take.
    """

    execution_id: str
    run_id: str
    dataset: str
    folder: Path
    stf_count: int
    status: ExecutionStatus
    ending: Ending
    error: str | None
    start_time: datetime
    end_time: datetime
    duration: float
    simulated: float
    messages: Mapping[str, int]
    unsent: int = 0


class Executor:
    """Registers executions and runs them.

    Parameters
    ----------
    bus : `simulator.daq.bus.DaqBus`
    monitor : `simulator.daq.monitor.DaqMonitor`
    reporter : `simulator.daq.reporting.Reporter`
        Tells the monitor how executions end.
    user : `str`
        In whose name.
    topic : `str`, optional
        Where messages go.
    on_message : callable, optional
        Sees every message, after it was handed to the bus.
    """

    def __init__(
        self,
        *,
        bus: DaqBus,
        monitor: DaqMonitor,
        reporter: Reporter,
        user: str,
        topic: str = RUN_TOPIC,
        on_message: Callable[[Message], None] | None = None,
    ) -> None:
        self._bus = bus
        self._monitor = monitor
        self._reporter = reporter
        self._user = user
        self._topic = topic
        self._on_message = on_message

    def prepare(self, workflow: DaqWorkflow, *, sender: str) -> PreparedRun:
        """Have an execution and a run registered.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the monitor is away: without it there are no numbers.
        models.errors.InvalidMessage
            Raised if the monitor refuses.
        """
        number = self._monitor.next_execution_number(workflow.name)
        values = workflow.parameter_values or workflow.parameters.model_dump(mode="json")
        definition = self._monitor.define_workflow(
            workflow.name,
            workflow.version,
            definition=inspect.getsource(process),
            parameter_values=values,
            created_by=self._user,
        )
        self._monitor.ensure_namespace(workflow.namespace, self._user)
        name = execution_id(workflow.name, self._user, number)
        begin = datetime.now(UTC)
        self._monitor.begin_execution(
            NewExecution(
                execution_id=name,
                workflow_definition=definition,
                namespace=workflow.namespace,
                executed_by=self._user,
                start_time=begin,
                parameter_values=values,
            )
        )
        try:
            run_number = self._monitor.next_run_number()
            self._monitor.begin_run(run_number, name, at=datetime.now(UTC))
        except Exception:
            self._reporter.end_execution(name, ExecutionStatus.FAILED, end_time=datetime.now(UTC))
            raise
        identity = RunIdentity(
            namespace=workflow.namespace, execution_id=name, run_id=str(run_number), sender=sender
        )
        return PreparedRun(workflow=workflow, identity=identity)

    def perform(self, run: PreparedRun, control: Control) -> DaqResult:
        """Let a run happen; returns when it is over and the bus has its
        messages, or was given a while for them after a stop.
        """
        identity, counts = run.identity, Counter[str]()

        def send(message: Message) -> None:
            self._bus.send(self._topic, message.to_text())
            counts[message.msg_type] += 1
            self._show(message)
            if not run.workflow.parameters.realtime and counts.total() % _HANDFUL == 0:
                self._flush(identity, control, patience=0.0)

        labels = {**identity.labels, "workflow_name": run.workflow.name, "username": self._user}
        _log.info("Execution %s: run %s begins.", identity.execution_id, identity.run_id, extra=labels)
        start_time, start = datetime.now(UTC), time.monotonic()
        simulation = RunSimulation(
            identity=identity, parameters=run.workflow.parameters, send=send, control=control
        )
        ending = simulation.run()
        unsent = self._flush(identity, control)
        error = simulation.error
        if unsent:
            error = error or f"{unsent} messages were not sent: the bus was away"
        status = _STATUS[ending]
        end_time = datetime.now(UTC)
        self._reporter.end_execution(identity.execution_id, status, end_time=end_time)
        result = DaqResult(
            execution_id=identity.execution_id,
            run_id=identity.run_id,
            dataset=identity.dataset,
            folder=simulation.folder,
            stf_count=simulation.files,
            status=status,
            ending=ending,
            error=error,
            start_time=start_time,
            end_time=end_time,
            duration=time.monotonic() - start,
            simulated=simulation.tick,
            messages=dict(counts),
            unsent=unsent,
        )
        _log.log(
            logging.ERROR if error else logging.INFO,
            "Execution %s: run %s is over (%s) with %d files, %s%s.",
            result.execution_id,
            result.run_id,
            ending,
            result.stf_count,
            status,
            f": {error}" if error else "",
            extra=labels,
        )
        return result

    def _show(self, message: Message) -> None:
        if self._on_message is not None:
            try:
                self._on_message(message)
            except Exception:
                # Nobody who looks on may end a run.
                _log.exception("An observer of messages failed.")

    def _flush(self, identity: RunIdentity, control: Control, *, patience: float = _PATIENCE) -> int:
        """Wait for the bus: for ever, or some seconds if the run is stopped."""
        complaint = time.monotonic() + _COMPLAINT
        while True:
            stopped = control.stopped
            unsent = self._bus.flush(patience if stopped else _GLANCE)
            if not unsent or stopped:
                return unsent
            if time.monotonic() >= complaint:
                complaint += _COMPLAINT
                state = "busy" if self._bus.connected else "away"
                _log.warning(
                    "Run %s: %d messages wait for the bus, which is %s.",
                    identity.run_id,
                    unsent,
                    state,
                    extra=identity.labels,
                )
