"""What becomes of a run whose process has died."""

from __future__ import annotations

__all__ = ["Continuation"]

import logging

from pydantic import ValidationError

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.daq import DaqWorkflow
from simulator.daq.control import Control
from simulator.daq.execution import DaqResult, Executor
from simulator.daq.keeping import RunKeeper
from simulator.daq.monitor import DaqMonitor
from simulator.daq.progress import CannotGoOn, Ending
from simulator.daq.registration import Registrar

_log = logging.getLogger(__name__)

#: Seconds before a monitor that was away is asked again.
_AGAIN = 5.0


class Continuation:
    """Goes on with runs, or ends them so that everybody hears of it.

    Parameters
    ----------
    executor : `simulator.daq.execution.Executor`
    registrar : `simulator.daq.registration.Registrar`
    monitor : `simulator.daq.monitor.DaqMonitor`
    """

    def __init__(self, *, executor: Executor, registrar: Registrar, monitor: DaqMonitor) -> None:
        self._executor = executor
        self._registrar = registrar
        self._monitor = monitor

    def go_on(self, keeper: RunKeeper, control: Control) -> DaqResult:
        """Let the rest of a run happen; returns when it is over.

        It is ended instead if its workflow is not understood, its files are
        away, or the monitor has its execution as ended.
        """
        try:
            workflow = DaqWorkflow.model_validate_json(keeper.record.workflow)
        except ValidationError as error:
            return self._executor.give_up(keeper, f"its workflow is not understood: {error}")
        container = workflow.parameters.container
        try:
            if not self._is_registered(keeper, workflow, control):
                return self._executor.conclude(keeper, Ending.STOPPED, folder=container)
            folder = container / keeper.record.identity.dataset
            ended = keeper.record.progress.ended
            if ended is not None:
                return self._executor.conclude(keeper, ended, folder=folder)
            if self._is_over(keeper.record.execution_id):
                raise CannotGoOn("others have ended it")
            return self._executor.perform(keeper, workflow, control)
        except (CannotGoOn, InvalidMessage) as error:
            return self._executor.give_up(keeper, str(error), folder=container)

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
