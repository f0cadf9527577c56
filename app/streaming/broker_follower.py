"""A run over a broker, as the monitor tells of it."""

from __future__ import annotations

__all__ = ["BrokerFollower"]

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.streaming.run_summary import Standing
from models.errors import TemporarilyUnavailable
from models.streaming.datasets import DatasetId
from models.streaming.messages import StopWorkflow, naive_timestamp
from models.streaming.monitoring import (
    FINAL_STATUSES,
    AgentStatus,
    ExecutionStatus,
    FileTally,
    StfFile,
    StfStatus,
)
from models.streaming.names import DEFAULT_SCOPE, dataset_name
from repos.streaming.monitor_overview import Overview
from services.streaming.catalogue import Catalogue
from services.streaming.monitor import Monitor

_Body = Mapping[str, Any]

#: Files of a run that are looked at one by one, for who had to do with them.
_SHORT = 10_000
#: Ends of an execution that may come before it has a run.
_ENDED_EARLY = (ExecutionStatus.FAILED, ExecutionStatus.TERMINATED)
#: Phase of a run that is over.
_OVER = "completed"


class BrokerFollower:
    """Knows how an execution stands; a `app.streaming.following.Follower`.

    Parameters
    ----------
    execution_id, namespace : `str`
    expected : `int` or `None`
        How many files there will be, if that is known.
    monitor : `services.streaming.monitor.Monitor`
    overview : `repos.streaming.monitor_overview.Overview`
    catalogue : `services.streaming.catalogue.Catalogue` or `None`
        None if it cannot be asked from here.
    command : callable
        Sends a command.
    """

    def __init__(
        self,
        *,
        execution_id: str,
        namespace: str,
        expected: int | None,
        monitor: Monitor,
        overview: Overview,
        catalogue: Catalogue | None,
        command: Callable[[StopWorkflow], None],
    ) -> None:
        self._execution_id = execution_id
        self._namespace = namespace
        self._expected = expected
        self._monitor = monitor
        self._overview = overview
        self._catalogue = catalogue
        self._command = command
        self._run: int | None = None
        self._dataset = ""
        self._announced = 0
        self._counted = False
        self._heard = False

    def stop(self) -> None:
        """Have the run ended; what there is will be processed."""
        self._command(
            StopWorkflow(
                namespace=self._namespace, execution_id=self._execution_id, timestamp=naive_timestamp()
            )
        )

    def look(self) -> Standing:
        """Return how the run stands now."""
        execution = self._monitor.execution(self._execution_id)
        status = str(execution.status) if execution else "unknown"
        standing = Standing(self._execution_id, status, total=self._expected, waiting_for="the run")
        if self._run is None:
            self._run = self._overview.run_number(self._execution_id)
        if self._run is None:
            return replace(standing, over=status in _ENDED_EARLY)
        running = status in (ExecutionStatus.RUNNING, ExecutionStatus.PENDING)
        if not running and not self._counted:
            self._count()
        row = self._overview.run(self._run)
        if row is None and not running and self._was_never_announced(self._run):
            return replace(standing, run_number=self._run, waiting_for="", over=True)
        files = self._monitor.tally_files(self._run) if row is not None else {}
        counts = Counter({status: tally.count for status, tally in files.items()})
        registered = counts.total()
        generated = self._announced if self._counted else max(registered, self._announced)
        dataset = self._dataset or dataset_name(str(self._run))
        task_id, task_state = _task(files)
        standing = replace(
            standing,
            run_number=self._run,
            generated=generated,
            total=generated if self._counted else self._expected if running else None,
            registered=registered,
            processed=counts[StfStatus.PROCESSED] + counts[StfStatus.DONE],
            failed=counts[StfStatus.FAILED],
            dataset=dataset,
            dataset_open=self._is_open(dataset),
            task_id=task_id,
            task_state=task_state,
        )
        waiting = self._waiting_for(standing, running=running, closed=bool(row and row.get("end_time")))
        return replace(standing, waiting_for=waiting, over=not waiting)

    def finish(self, standing: Standing) -> Standing:
        """Add to how a run stood in the end what takes longer to find out."""
        bodies = self._monitor.messages(self._execution_id)
        files = self._some_files(standing)
        senders = [str(body["sender"]) for body in bodies if body.get("sender")]
        workers = [str(file.metadata.get("panda_tracking_agent") or "") for file in files]
        dataset_files = None
        if self._catalogue is not None and standing.dataset_open is not None:
            dataset_files = len(self._catalogue.files(DatasetId(DEFAULT_SCOPE, standing.dataset)))
        return replace(
            standing,
            messages=Counter(str(body.get("msg_type")) for body in bodies),
            agents=tuple(dict.fromkeys(name for name in [*senders, *workers] if name)),
            dataset_files=dataset_files,
        )

    def _some_files(self, standing: Standing) -> Sequence[StfFile]:
        """Return all files of a short run, and examples of a long one."""
        if self._run is None or not standing.registered:
            return ()
        if standing.registered <= _SHORT:
            return self._monitor.files(self._run)
        return [tally.latest for tally in self._monitor.tally_files(self._run).values()]

    def trouble(self) -> str:
        """Say what keeps agents from their work, if anything does."""
        return "; ".join(
            f"{row.get('instance_name')}: {row.get('description')}"
            for row in self._overview.agents(self._namespace)
            if row.get("status") in (AgentStatus.WARNING, AgentStatus.ERROR)
        )

    def _count(self) -> None:
        """Find out how many files the run has; the monitor may not have heard
        of its end yet, or may not listen to the bus at all.
        """
        bodies = self._monitor.messages(self._execution_id)
        self._dataset = next((str(body["dataset"]) for body in bodies if body.get("dataset")), "")
        totals = [body.get("total_stf_files") for body in bodies if body.get("msg_type") == "end_run"]
        generated = {body.get("filename") for body in bodies if body.get("msg_type") == "stf_gen"}
        self._announced = max([len(generated), *(total for total in totals if isinstance(total, int))])
        self._counted = bool(totals)
        self._heard = bool(bodies)

    def _was_never_announced(self, run_number: int) -> bool:
        """Say whether a run was over before the bus heard of it: then nobody
        works on it, and nothing more will come.
        """
        if self._heard:
            return False
        state = self._monitor.run_state(run_number)
        return state is not None and state.phase == _OVER

    def _is_open(self, dataset: str) -> bool | None:
        if self._catalogue is None:
            return None
        try:
            return self._catalogue.is_open(DatasetId(DEFAULT_SCOPE, dataset))
        except TemporarilyUnavailable:
            return None

    def _waiting_for(self, standing: Standing, *, running: bool, closed: bool) -> str:
        if running:
            return "the end of the run"
        waiting = []
        # The data agent says last that the run is over.
        if standing.dataset_open or not closed:
            waiting.append(f"the closing of {standing.dataset}")
        left = standing.registered - standing.processed - standing.failed
        if left:
            waiting.append(f"{left} of {standing.registered} files that are not processed")
        return ", ".join(waiting)


def _task(files: Mapping[str, FileTally]) -> tuple[str | None, str | None]:
    ids = [task for tally in files.values() if (task := tally.latest.metadata.get("panda_task_id"))]
    if not ids:
        return None, None
    return str(ids[0]), "done" if FINAL_STATUSES.issuperset(files) else "running"
