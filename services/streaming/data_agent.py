"""The data agent: files of runs go into datasets, and are told of.

All that it knows is in its database, by run; overlapping runs never mix.
"""

from __future__ import annotations

__all__ = ["AGENT_TYPE", "DataAgent"]

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from models.streaming.data_runs import DataRun
from models.streaming.messages import Message
from models.streaming.monitoring import AgentState
from models.streaming.names import DEFAULT_SCOPE
from services.streaming.agent_logic import AgentFacts
from services.streaming.catalogue import Catalogue
from services.streaming.data_closing import RunClosing
from services.streaming.data_files import CatalogueFiles
from services.streaming.data_intake import DataIntake
from services.streaming.data_progress import CREATE, DataLimits, RunProgress
from services.streaming.data_recovery import DataRecovery
from services.streaming.data_registration import MonitorFiles
from services.streaming.data_runs import RunStore, StfFolders
from services.streaming.monitor import Monitor
from services.streaming.slow_calls import SlowCalls

#: As the monitor has it.
AGENT_TYPE = "DATA"

#: Seconds of work after which messages and signals have their turn.
_SLICE = 1.0
#: Runs whose containers are looked into for a run that came unannounced.
_NEIGHBOURS = 20
#: Seconds between looks for what may be forgotten.
_TIDYING = 86400.0


class DataAgent:
    """Registers files of runs; a `services.streaming.agent.AgentLogic`.

    Parameters
    ----------
    name : `str`
        Signs what it sends.
    namespace : `str`
    store : `services.streaming.data_runs.RunStore`
    catalogue : `services.streaming.catalogue.Catalogue`
    monitor : `services.streaming.monitor.Monitor`
    folders : `services.streaming.data_runs.StfFolders`
    container : `str`
        Directory of the folders of runs that do not say where theirs is.
    scope : `str`, optional
        Of datasets and files.
    limits : `services.streaming.data_progress.DataLimits`, optional
    now : callable, optional
        Returns the present time, aware.
    """

    def __init__(
        self,
        *,
        name: str,
        namespace: str,
        store: RunStore,
        catalogue: Catalogue,
        monitor: Monitor,
        folders: StfFolders,
        container: str,
        scope: str = DEFAULT_SCOPE,
        limits: DataLimits = DataLimits(),  # noqa: B008 - it is frozen
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._container = container
        self._limits = limits
        self._now = now
        self._calls = calls = SlowCalls(patience=limits.patience)
        self._intake = DataIntake(store=store, scope=scope, now=now, is_taking=self._is_taking)
        self._recovery = DataRecovery(
            store=store,
            intake=self._intake,
            catalogue=catalogue,
            monitor=monitor,
            folders=folders,
            calls=calls,
            containers=self._containers,
            namespace=namespace,
            now=now,
            silence=limits.silence,
            settling=limits.settling,
        )
        self._to_monitor = MonitorFiles(store=store, monitor=monitor, namespace=namespace, name=name)
        to_catalogue = CatalogueFiles(
            store=store,
            catalogue=catalogue,
            folders=folders,
            calls=calls,
            containers=self._containers,
            now=now,
            batch=limits.batch,
        )
        self._progress = RunProgress(
            store=store,
            catalogue=catalogue,
            monitor=monitor,
            calls=calls,
            to_catalogue=to_catalogue,
            to_monitor=self._to_monitor,
            closing=RunClosing(
                store=store,
                catalogue=catalogue,
                calls=calls,
                last_look=to_catalogue.last_look,
                search=self._recovery.search,
                now=now,
                deadline=limits.deadline,
            ),
            now=now,
            limits=limits,
        )
        self._facts = AgentFacts(state=AgentState.STARTING, description="Data agent.")
        self._served: dict[str, int] = {}
        self._turn = 0
        self._asked: set[str] = set()
        self._tidied: datetime | None = None

    def receive(self, messages: Sequence[Message]) -> None:
        """Apply messages, in order, to what is known of runs.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if one cannot take effect.
        models.errors.TemporarilyUnavailable
            Raised if the database is away.
        """
        self._intake.apply(messages)

    def advance(self) -> float | None:
        """Do what is due for every run, the one that waited longest first.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database is away.
        """
        began = time.monotonic()
        runs = self._store.unfinished()
        self._served = {run.run_id: self._served.get(run.run_id, 0) for run in runs}
        dues: list[float | None] = []
        for run in sorted(runs, key=lambda run: self._served[run.run_id]):
            if dues and time.monotonic() - began > _SLICE:
                dues.append(0.0)
                break
            if self._ask_for_announcement(run):
                # What was said may be of any run: they are read anew.
                dues.append(0.0)
                break
            self._turn += 1
            self._served[run.run_id] = self._turn
            dues.append(self._progress.advance(run))
        self._facts = self._describe(self._store.unfinished())
        return min((due for due in dues if due is not None), default=None)

    def recover(self) -> None:
        """Look in folders, catalogue and monitor for what messages did not tell.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database is away.
        """
        self._recovery.recover()
        if self._tidied is None or self._now() - self._tidied > timedelta(seconds=_TIDYING):
            self._tidied = self._now()
            self._store.forget(self._now() - timedelta(seconds=self._limits.memory))

    def finish(self, timeout: float) -> None:
        """Have the catalogue answer what it was asked, and keep it.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the database is away.
        """
        self._calls.finish(timeout)
        self.advance()

    def facts(self) -> AgentFacts:
        """Say how it is doing."""
        return self._facts

    def _ask_for_announcement(self, run: DataRun) -> bool:
        """Ask once for the run_imminent of a run that came without; say
        whether it was asked for.
        """
        if run.announced or run.run_id in self._asked:
            return False
        self._asked.add(run.run_id)
        self._recovery.ask(run)
        return True

    def _is_taking(self, run_id: str) -> bool:
        what = self._calls.what(run_id)
        return what is not None and not what.startswith(CREATE)

    def _containers(self, run: DataRun) -> list[str]:
        if run.container is not None:
            return [run.container]
        others = [other.container for other in self._store.latest(_NEIGHBOURS) if other.container]
        return list(dict.fromkeys([self._container, *others]))

    def _describe(self, runs: Sequence[DataRun]) -> AgentFacts:
        names = ", ".join(run.run_id for run in runs[:5])
        return AgentFacts(
            state=AgentState.PROCESSING if runs else AgentState.READY,
            description=f"Data agent. In hand: run {names}." if runs else "Data agent.",
            current_stf_count=self._store.in_hand(),
            total_stf_processed=self._to_monitor.registered,
            trouble=self._progress.trouble,
        )
