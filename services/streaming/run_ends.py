"""Whether a run is over whose ``end_run`` did not come."""

from __future__ import annotations

__all__ = ["RunEnds"]

from collections.abc import Callable
from datetime import datetime, timedelta

from models.streaming.data_runs import DataRun
from models.streaming.monitoring import AgentStatus, Execution, ExecutionStatus, SystemAgent
from models.streaming.names import DAQ_TYPE
from services.streaming.monitor import Monitor

_OVER = {ExecutionStatus.COMPLETED, ExecutionStatus.TERMINATED, ExecutionStatus.FAILED}
#: How long ago an execution began that may be marked as failed though nothing
#: was ever heard of its run: older ones are others' affair.
_RECENT = timedelta(hours=1.0)
#: Seconds without a sign of life after which an agent counts as gone: three of
#: the field's heartbeats, as at its monitor.
_SILENCE = timedelta(seconds=180.0)


class RunEnds:
    """Asks the monitor how runs stand.

    Parameters
    ----------
    monitor : `services.streaming.monitor.Monitor`
    namespace : `str`
    now : callable
        Returns the present time, aware.
    """

    def __init__(self, *, monitor: Monitor, namespace: str, now: Callable[[], datetime]) -> None:
        self._monitor = monitor
        self._namespace = namespace
        self._now = now

    def reason(self, run: DataRun, *, silent: bool) -> str | None:
        """Say why a run must be over; None if it may be going on.

        An execution whose data acquisition died with it would run for ever,
        so it is marked as failed.

        Parameters
        ----------
        run : `models.streaming.data_runs.DataRun`
        silent : `bool`
            Whether nothing was heard of it for so long that this is reason
            enough, if nobody says that it goes on.

        Raises
        ------
        models.errors.TemporarilyUnavailable, models.errors.InvalidMessage
            Raised if the monitor cannot be asked.
        """
        state = self._monitor.run_state(int(run.run_id))
        if state is not None and state.state == "ended":
            return "the monitor has the run as ended"
        execution = None if run.execution_id is None else self._monitor.execution(run.execution_id)
        if execution is not None and execution.status in _OVER:
            return f"execution {execution.execution_id} is {execution.status}"
        if execution is not None and execution.status == ExecutionStatus.RUNNING:
            return self._desertion(execution)
        return f"nothing was heard since {run.last_sign:%Y-%m-%d %H:%M:%S} UTC" if silent else None

    def unannounced(self, execution: Execution) -> str | None:
        """Say why an execution that runs must be over, though nobody told of
        its run; None if it may be going on. It is marked as failed.

        Raises
        ------
        models.errors.TemporarilyUnavailable, models.errors.InvalidMessage
            Raised if the monitor cannot be asked.
        """
        began = execution.start_time
        # A data acquisition that has only begun may not have been heard of.
        if began is None or not _SILENCE < self._now() - began < _RECENT:
            return None
        return self._desertion(execution)

    def _desertion(self, execution: Execution) -> str | None:
        daqs = [agent for agent in self._monitor.agents(self._namespace) if _takes_data(agent, execution)]
        gone = {agent.instance_name for agent in daqs if self._is_gone(agent)}
        if not gone:
            return None
        if len(gone) < len(daqs):
            # Others take data. Whose run is it?
            senders = {str(body.get("sender")) for body in self._monitor.messages(execution.execution_id)}
            gone &= senders
            if not gone or any(agent.instance_name in senders - gone for agent in daqs):
                return None
        self._monitor.end_execution(execution.execution_id, ExecutionStatus.FAILED, end_time=self._now())
        return f"execution {execution.execution_id} has lost its data acquisition, {', '.join(sorted(gone))}"

    def _is_gone(self, agent: SystemAgent) -> bool:
        heard = agent.last_heartbeat
        return agent.status == AgentStatus.EXITED or heard is None or self._now() - heard > _SILENCE


def _takes_data(agent: SystemAgent, execution: Execution) -> bool:
    # A runner of a single workflow has the workflow's name as its type.
    return agent.agent_type == DAQ_TYPE or execution.execution_id.startswith(f"{agent.agent_type}-")
