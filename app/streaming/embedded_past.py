"""What a process that died left with the monitor of a testbed's directory."""

from __future__ import annotations

__all__ = ["settle_the_past"]

import logging
from datetime import UTC, datetime

from models.streaming.monitoring import AgentReport, AgentState, AgentStatus, ExecutionStatus
from repos.streaming.embedded_monitor import EmbeddedMonitor
from repos.streaming.monitor_store import MonitorStore

_log = logging.getLogger(__name__)


def settle_the_past(store: MonitorStore, *, namespace: str) -> None:
    """Note that executions have failed and agents have ended whose process
    died here.

    Parameters
    ----------
    store : `repos.streaming.monitor_store.MonitorStore`
        Of a directory that this process has to itself.
    namespace : `str`
    """
    monitor = EmbeddedMonitor(store)
    for execution in monitor.executions(namespace, status=ExecutionStatus.RUNNING):
        _log.error("Execution %s died with its process.", execution.execution_id)
        monitor.end_execution(execution.execution_id, ExecutionStatus.FAILED, end_time=datetime.now(UTC))
    for row in store.agents.alive(namespace):
        monitor.report(
            AgentReport(
                instance_name=row["instance_name"],
                agent_type=row["agent_type"],
                namespace=namespace,
                status=AgentStatus.EXITED,
                operational_state=AgentState.EXITED,
                description="Died with its process.",
            )
        )
