"""What a testbed in one process leaves while it runs, so that the next one in
its directory knows what died with it.
"""

from __future__ import annotations

__all__ = ["Traces"]

import logging
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ValidationError

from models.errors import TemporarilyUnavailable
from models.streaming.monitoring import AgentState, AgentStatus, ExecutionStatus
from repos.streaming.embedded_monitor import EmbeddedMonitor
from repos.streaming.monitor_store import MonitorStore

_log = logging.getLogger(__name__)

_FILE = "testbed.run"


class _Present(BaseModel):
    """Who is there, and what runs."""

    namespace: str = ""
    agents: tuple[str, ...] = ()
    execution_id: str | None = None


class Traces:
    """Names of what is in a monitor's database because of this process.

    Others may have that database, too, so what is not named here is left
    alone.

    Parameters
    ----------
    directory : `pathlib.Path`
        Which this process has to itself.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE
        self._present = _Present()
        self._noting = threading.Lock()

    def note(
        self,
        *,
        namespace: str | None = None,
        agents: Iterable[str] | None = None,
        execution_id: str | None = None,
    ) -> None:
        """Note what will be there in a moment.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it cannot be written.
        """
        new = {"namespace": namespace, "agents": agents and tuple(agents), "execution_id": execution_id}
        # The data acquisition has a thread that gives signs of life.
        with self._noting:
            self._present = self._present.model_copy(
                update={name: value for name, value in new.items() if value is not None}
            )
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                # Whole whenever the process dies.
                fresh = self._path.with_suffix(".new")
                fresh.write_text(self._present.model_dump_json())
                fresh.replace(self._path)
            except OSError as error:
                raise TemporarilyUnavailable(f"{self._path} cannot be written: {error}") from error

    @property
    def execution_id(self) -> str | None:
        """The execution that runs, or died with its process; None without one."""
        left = self._left()
        return left.execution_id if left else None

    @property
    def agents(self) -> tuple[str, ...]:
        """Names of the agents that are there, or died with their process."""
        left = self._left()
        return left.agents if left else ()

    @property
    def namespace(self) -> str | None:
        """Whose messages these are, or were; None if nobody knows."""
        left = self._left()
        return left.namespace if left else None

    def settle(self, store: MonitorStore) -> None:
        """Note with the monitor that an execution has failed, and agents have
        ended, whose process died here.

        Parameters
        ----------
        store : `repos.streaming.monitor_store.MonitorStore`
        """
        if (left := self._left()) is None:
            return
        monitor = EmbeddedMonitor(store)
        execution = monitor.execution(left.execution_id) if left.execution_id else None
        if execution is not None and execution.status == ExecutionStatus.RUNNING:
            _log.error("Execution %s died with its process.", execution.execution_id)
            monitor.end_execution(execution.execution_id, ExecutionStatus.FAILED, end_time=datetime.now(UTC))
        for row in store.agents.alive(left.namespace):
            if row["instance_name"] in left.agents:
                store.agents.heartbeat(
                    {
                        "instance_name": row["instance_name"],
                        "status": AgentStatus.EXITED,
                        "operational_state": AgentState.EXITED,
                        "mq_connected": False,
                        "description": "Died with its process.",
                    }
                )
        self._path.unlink(missing_ok=True)

    def _left(self) -> _Present | None:
        try:
            return _Present.model_validate_json(self._path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            _log.warning("What an earlier testbed left cannot be read from %s: %s", self._path, error)
            return None
