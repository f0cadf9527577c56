"""An execution and its run get to be known to the monitor."""

from __future__ import annotations

__all__ = ["Registrar"]

import inspect
from datetime import UTC, datetime

from models.streaming.daq import DaqWorkflow
from models.streaming.names import execution_id
from simulator.daq import process
from simulator.daq.journal import RunRecord
from simulator.daq.keeping import RunKeeper
from simulator.daq.monitor import DaqMonitor, NewExecution


class Registrar:
    """Registers executions and runs.

    Methods raise `models.errors.TemporarilyUnavailable` if the monitor is
    away, for without it there are no numbers, and
    `models.errors.InvalidMessage` if it refuses.

    Parameters
    ----------
    monitor : `simulator.daq.monitor.DaqMonitor`
    user : `str`
        In whose name.
    """

    def __init__(self, *, monitor: DaqMonitor, user: str) -> None:
        self._monitor = monitor
        self._user = user

    def new_execution(self, workflow: DaqWorkflow, *, sender: str) -> RunRecord:
        """Return a record with a number that no execution has; nothing is
        registered yet.
        """
        number = self._monitor.next_execution_number(workflow.name)
        return RunRecord(
            execution_id=execution_id(workflow.name, self._user, number),
            namespace=workflow.namespace,
            sender=sender,
            workflow=workflow.model_dump_json(),
            start_time=datetime.now(UTC),
        )

    def register(self, keeper: RunKeeper, workflow: DaqWorkflow) -> None:
        """Register an execution and a run for it, or what of that is missing."""
        record = keeper.record
        if not record.registered:
            self._register_execution(record, workflow)
            keeper.note(registered=True)
        if record.run_id is None:
            keeper.note(run_id=str(self._monitor.next_run_number()))
        if not record.progress.told:
            run = keeper.record.identity
            self._monitor.begin_run(int(run.run_id), run.execution_id, at=datetime.now(UTC))

    def _register_execution(self, record: RunRecord, workflow: DaqWorkflow) -> None:
        values = workflow.parameter_values or workflow.parameters.model_dump(mode="json")
        definition = self._monitor.define_workflow(
            workflow.name,
            workflow.version,
            definition=inspect.getsource(process),
            parameter_values=values,
            created_by=self._user,
        )
        self._monitor.ensure_namespace(workflow.namespace, self._user)
        self._monitor.begin_execution(
            NewExecution(
                execution_id=record.execution_id,
                workflow_definition=definition,
                namespace=workflow.namespace,
                executed_by=self._user,
                start_time=record.start_time,
                parameter_values=values,
            )
        )
