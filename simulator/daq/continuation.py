"""What becomes of a run whose process has died."""

from __future__ import annotations

__all__ = ["Continuation"]

import logging
from collections.abc import Callable

from pydantic import ValidationError

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.daq import DaqWorkflow
from simulator.daq.control import Control
from simulator.daq.execution import DaqResult, Executor
from simulator.daq.journal import DaqJournal, RunRecord
from simulator.daq.keeping import RunKeeper, Sender
from simulator.daq.monitor import DaqMonitor
from simulator.daq.progress import CannotGoOn, Ending
from simulator.daq.registration import Registrar
from simulator.daq.reporting import Reporter

_log = logging.getLogger(__name__)

#: Seconds before a monitor that was away is asked again.
_AGAIN = 5.0


class Continuation:
    """Goes on with runs, or ends them so that everybody hears of it.

    Parameters
    ----------
    executor : `simulator.daq.execution.Executor`
    registrar : `simulator.daq.registration.Registrar`
    reporter : `simulator.daq.reporting.Reporter`
    monitor : `simulator.daq.monitor.DaqMonitor`
    journal : `simulator.daq.journal.DaqJournal`
    sender : `simulator.daq.keeping.Sender`
    keep : callable
        Returns a keeper for a record.
    """

    def __init__(
        self,
        *,
        executor: Executor,
        registrar: Registrar,
        reporter: Reporter,
        monitor: DaqMonitor,
        journal: DaqJournal,
        sender: Sender,
        keep: Callable[[RunRecord], RunKeeper],
    ) -> None:
        self._executor = executor
        self._registrar = registrar
        self._reporter = reporter
        self._monitor = monitor
        self._journal = journal
        self._sender = sender
        self._keep = keep

    def take_up(self) -> tuple[RunKeeper, Control] | None:
        """Take up what the last process left: messages are sent, ends are
        told; a run that is to be gone on with is returned.

        Raises
        ------
        models.errors.PromptProcessingError
            Raised if the journal cannot be read.
        """
        self._sender.send_the_rest()
        interrupted = []
        for record in self._journal.runs():
            if record.status is None or record.end_time is None:
                interrupted.append(record)
            else:
                self._reporter.end_later(
                    record.execution_id,
                    record.status,
                    end_time=record.end_time,
                    unannounced_run=record.unannounced_run,
                )
        for record in interrupted[:-1]:
            self._executor.give_up(self._keep(record), "there was another after it")
        if not interrupted:
            return None
        record, control = interrupted[-1], Control()
        if record.paused is not None:
            _log.warning("Execution %s stands still, as it did: %s", record.execution_id, record.paused)
            control.pause(record.paused)
        if record.stopping:
            control.stop()
        return self._keep(record), control

    def go_on(self, keeper: RunKeeper, control: Control) -> DaqResult | None:
        """Let the rest of a run happen; returns when it is over.

        It is ended instead if its workflow is not understood, its files are
        away, or the monitor has its execution as ended; then None is returned.
        """
        try:
            workflow = DaqWorkflow.model_validate_json(keeper.record.workflow)
        except ValidationError as error:
            self._executor.give_up(keeper, f"its workflow is not understood: {error}")
            return None
        container = workflow.parameters.container
        try:
            if not self._is_registered(keeper, workflow, control):
                return self._executor.conclude(keeper, Ending.STOPPED, folder=container)
            folder = container / keeper.record.identity.dataset
            ended = keeper.record.progress.ended
            if ended is not None:
                return self._executor.conclude(keeper, ended, folder=folder, control=control)
            if self._is_over(keeper.record.execution_id):
                self._executor.give_up(keeper, "others have ended it", ending=Ending.STOPPED)
                return None
            return self._executor.perform(keeper, workflow, control)
        except (CannotGoOn, InvalidMessage) as error:
            self._executor.give_up(keeper, str(error))
            return None

    def _is_registered(self, keeper: RunKeeper, workflow: DaqWorkflow, control: Control) -> bool:
        """Register what is not; False if somebody did not want to wait for
        that.
        """
        complained = False
        while not keeper.record.progress.told:
            try:
                self._registrar.register(keeper, workflow)
                break
            except TemporarilyUnavailable as error:
                if not complained:
                    _log.warning("Execution %s waits: %s", keeper.record.execution_id, error)
                complained = True
            if control.wait(_AGAIN):
                return False
        return True

    def _is_over(self, execution_id: str) -> bool:
        try:
            return self._monitor.is_over(execution_id)
        except TemporarilyUnavailable as error:
            _log.warning("It is not known whether others have ended execution %s: %s", execution_id, error)
            return False
