"""An execution of a workflow, from the beginning of its run to its end."""

from __future__ import annotations

__all__ = ["DaqResult", "Executor"]

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from models.streaming.daq import DaqWorkflow
from models.streaming.messages import EndRun, Message, RunMessage, naive_timestamp
from models.streaming.monitoring import ExecutionStatus
from simulator.daq.bus import DaqBus
from simulator.daq.control import Control
from simulator.daq.identity import RunIdentity
from simulator.daq.journal import RunRecord
from simulator.daq.keeping import RunKeeper
from simulator.daq.progress import Ending, Progress
from simulator.daq.reporting import Reporter
from simulator.daq.simulation import RunSimulation

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
#: The folder of a run of which nothing can be understood.
_NOWHERE = Path()


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
        How many this process sent, by type, in the order of the first of each.
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
    """Lets runs happen.

    Parameters
    ----------
    bus : `simulator.daq.bus.DaqBus`
    reporter : `simulator.daq.reporting.Reporter`
        Tells the monitor how executions end.
    user : `str`
        In whose name.
    on_message : callable, optional
        Sees every message, after it was handed to the bus.
    """

    def __init__(
        self,
        *,
        bus: DaqBus,
        reporter: Reporter,
        user: str,
        on_message: Callable[[Message], None] | None = None,
    ) -> None:
        self._bus = bus
        self._reporter = reporter
        self._user = user
        self._on_message = on_message

    def perform(self, keeper: RunKeeper, workflow: DaqWorkflow, control: Control) -> DaqResult:
        """Let a run happen, or the rest of one that was interrupted; returns
        when it is over and the bus has its messages, or was given a while for
        them after a stop.

        Raises
        ------
        simulator.daq.progress.CannotGoOn
            Raised if it was interrupted and cannot be gone on with.
        """
        record = keeper.record
        identity, counts = record.identity, Counter[str]()

        def send(message: RunMessage, progress: Progress) -> None:
            keeper.tell(message, progress)
            counts[message.msg_type] += 1
            self._show(message)
            if not workflow.parameters.realtime and counts.total() % _HANDFUL == 0:
                self._flush(identity, control, patience=0.0)

        _log.info(
            "Execution %s: run %s %s.",
            identity.execution_id,
            identity.run_id,
            f"goes on after {record.progress.files} files" if record.progress.told else "begins",
            extra={**identity.labels, "workflow_name": workflow.name, "username": self._user},
        )
        simulation = RunSimulation(
            identity=identity,
            parameters=workflow.parameters,
            send=send,
            control=control,
            note=lambda progress: keeper.note(progress=progress),
            past=record.progress,
        )
        ending = simulation.run()
        return self._finish(
            keeper,
            ending,
            folder=simulation.folder,
            unsent=self._flush(identity, control),
            error=simulation.error,
            simulated=simulation.tick,
            messages=counts,
        )

    def give_up(self, keeper: RunKeeper, reason: str, *, ending: Ending = Ending.FAILED) -> None:
        """End a run that cannot be gone on with; all that there is of it by
        now stays.
        """
        record = keeper.record
        _log.error("Execution %s cannot be gone on with: %s", record.execution_id, reason)
        if record.progress.told and record.progress.ended is None:
            keeper.tell(_end_of(record), record.progress.model_copy(update={"ended": ending}))
        self.conclude(keeper, ending, error=reason)

    def conclude(
        self,
        keeper: RunKeeper,
        ending: Ending,
        *,
        error: str | None = None,
        folder: Path = _NOWHERE,
        control: Control | None = None,
    ) -> DaqResult:
        """End the execution of a run of which nothing is left to be told; with
        `control`, once the bus has its messages, as `perform` does.
        """
        record = keeper.record
        unsent = self._flush(record.identity, control) if control is not None else 0
        return self._finish(
            keeper,
            ending,
            folder=folder,
            unsent=unsent,
            error=error,
            simulated=record.progress.clock,
            messages={},
        )

    def _finish(
        self,
        keeper: RunKeeper,
        ending: Ending,
        *,
        folder: Path,
        unsent: int,
        error: str | None,
        simulated: float,
        messages: Mapping[str, int],
    ) -> DaqResult:
        record, status = keeper.record, _STATUS[ending]
        # Whatever the clock was set to meanwhile.
        end_time = max(datetime.now(UTC), record.start_time)
        if unsent:
            error = error or f"{unsent} messages were not sent: the bus was away"
        keeper.note(status=status, end_time=end_time)
        self._reporter.end_execution(
            record.execution_id,
            status,
            end_time=end_time,
            insist=record.registered,
            unannounced_run=record.unannounced_run,
        )
        run_id = record.run_id or ""
        result = DaqResult(
            execution_id=record.execution_id,
            run_id=run_id,
            dataset=record.identity.dataset if run_id else "",
            folder=folder,
            stf_count=record.progress.files,
            status=status,
            ending=ending,
            error=error,
            start_time=record.start_time,
            end_time=end_time,
            duration=(end_time - record.start_time).total_seconds(),
            simulated=simulated,
            messages=dict(messages),
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
            extra={"execution_id": record.execution_id, "run_id": run_id, "username": self._user},
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


def _end_of(record: RunRecord) -> EndRun:
    """Return the end of a run that nobody goes on with."""
    return EndRun(
        namespace=record.namespace,
        execution_id=record.execution_id,
        run_id=record.identity.run_id,
        timestamp=naive_timestamp(),
        simulation_tick=record.progress.clock,
        sender=record.sender,
        total_stf_files=record.progress.files,
    )
