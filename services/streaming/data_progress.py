"""How a run gets on: dataset, files, stf_ready, end.

What the catalogue is told and what the monitor is told wait for each other no
more than they must: a monitor that is away leaves no dataset open.
"""

from __future__ import annotations

__all__ = ["CREATE", "DataLimits", "RunProgress"]

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from models.errors import InvalidMessage, PromptProcessingError
from models.streaming.data_runs import Changes, DataRun, FileState
from models.streaming.datasets import DatasetId
from services.streaming.catalogue import Catalogue
from services.streaming.data_closing import RunClosing
from services.streaming.data_failures import Failures
from services.streaming.data_files import CatalogueFiles
from services.streaming.data_intake import labels
from services.streaming.data_registration import MonitorFiles
from services.streaming.data_runs import RunStore
from services.streaming.monitor import Monitor
from services.streaming.slow_calls import LOOK, SlowCalls, StillBusy

_log = logging.getLogger(__name__)

#: What takes long, and may be under way for a run.
CREATE = "make"

_CATALOGUE, _MONITOR = "catalogue", "monitor"

_Step = Callable[[DataRun], tuple[DataRun, float | None]]


@dataclass(frozen=True)
class DataLimits:
    """How long the data agent waits, and how much it does at once.

    Attributes
    ----------
    lifetime : `float`
        Seconds for which a dataset is kept.
    deadline : `float`
        Seconds after a run's end until its dataset is closed without files
        that are not there.
    silence : `float`
        Seconds without a sign of life after which a run is over that belongs
        to no execution that runs.
    settling : `float`
        Seconds without a sign of life after which a run is over whose
        execution is over.
    courtesy : `float`
        Seconds for which a run's files wait for its run_imminent.
    batch : `int`
        Files that the catalogue is given at once.
    memory : `float`
        Seconds for which the files of finished runs are remembered.
    patience : `float`
        Seconds for which all wait for the catalogue when it is asked about one
        run, before others have their turn meanwhile.
    """

    lifetime: float = 7 * 86400.0
    deadline: float = 60.0
    silence: float = 3600.0
    settling: float = 30.0
    courtesy: float = 3.0
    batch: int = 500
    memory: float = 30 * 86400.0
    patience: float = 0.2


class RunProgress:
    """Does what is due for a run, as far as catalogue and monitor let it.

    Parameters
    ----------
    store : `services.streaming.data_runs.RunStore`
    catalogue : `services.streaming.catalogue.Catalogue`
    monitor : `services.streaming.monitor.Monitor`
    calls : `services.streaming.slow_calls.SlowCalls`
        Has the catalogue asked; one call at a time for each run.
    to_catalogue, to_monitor, closing
        Do the parts of it.
    now : callable
        Returns the present time, aware.
    limits : `DataLimits`
    """

    def __init__(
        self,
        *,
        store: RunStore,
        catalogue: Catalogue,
        monitor: Monitor,
        calls: SlowCalls,
        to_catalogue: CatalogueFiles,
        to_monitor: MonitorFiles,
        closing: RunClosing,
        now: Callable[[], datetime],
        limits: DataLimits,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._monitor = monitor
        self._calls = calls
        self._to_catalogue = to_catalogue
        self._to_monitor = to_monitor
        self._closing = closing
        self._now = now
        self._limits = limits
        self._failures = Failures(is_asking=calls.is_busy)

    @property
    def trouble(self) -> str | None:
        """What the catalogue or the monitor said last that failed."""
        return self._failures.trouble

    def advance(self, run: DataRun) -> float | None:
        """Do what is due for a run; return the seconds until more is, None if
        that depends on messages alone.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the agent's own database is away.
        """
        patience = (run.first_seen - self._now()).total_seconds() + self._limits.courtesy
        # More than all of it: the clock was set back.
        if not run.announced and 0 < patience <= self._limits.courtesy:
            return patience
        dues: list[float | None] = []
        for part, step, give_up in (
            (_CATALOGUE, self._with_catalogue, self._closing.give_up),
            (_MONITOR, self._with_monitor, self._unknown_to_monitor),
        ):
            run, due = self._guarded(run, part, step, give_up)
            dues.append(due)
        return min((due for due in dues if due is not None), default=None)

    def _guarded(
        self, run: DataRun, part: str, step: _Step, give_up: Callable[[DataRun, str], DataRun]
    ) -> tuple[DataRun, float | None]:
        asked = part == _CATALOGUE and self._calls.what(run.run_id) is not None
        if not asked and (wait := self._failures.wait(run.run_id, part, self._now())) > 0:
            return run, wait
        try:
            run, seconds = step(run)
        except StillBusy:
            return self._store.runs([run.run_id])[run.run_id], LOOK
        except Exception as error:
            # The step may have stored something before it failed.
            run = self._store.runs([run.run_id])[run.run_id]
            refused = isinstance(error, InvalidMessage)
            if refused and self._closing.overdue(run):
                given_up = give_up(run, str(error))
                if given_up is not run:
                    self._failures.over(run.run_id, part)
                    return given_up, 0.0
            kind, foreseen = type(error).__name__, isinstance(error, PromptProcessingError)
            said = str(error) if foreseen else f"{kind}: {error}"
            if self._failures.add(run.run_id, part, said, self._now(), refused=refused, kind=kind):
                _log.error(
                    "Run %s: the %s fails: %s",
                    run.run_id,
                    part,
                    said,
                    extra=labels(run),
                    exc_info=None if foreseen else error,
                )
            return run, self._failures.wait(run.run_id, part, self._now())
        if self._failures.over(run.run_id, part):
            _log.info("Run %s: the %s works again.", run.run_id, part, extra=labels(run))
            # Others waited for this.
            return run, 0.0
        return run, seconds

    def _with_catalogue(self, run: DataRun) -> tuple[DataRun, float | None]:
        if run.closed is not None:
            return run, None
        if self._calls.is_busy(run.run_id):
            raise StillBusy
        if not run.dataset_created:
            dataset, lifetime = DatasetId(run.scope, run.dataset), self._limits.lifetime
            # Its name, too: it may be another one by the time that there is an answer.
            self._calls.ask(
                run.run_id,
                f"{CREATE} {dataset}",
                lambda: self._catalogue.create_dataset(dataset, lifetime=lifetime),
            )
            run = replace(run, dataset_created=True)
            self._store.save(Changes(runs=[run]))
        if not self._closing.is_under_way(run) and self._to_catalogue.advance(run):
            return run, 0.0
        run, seconds = self._closing.advance(run)
        if run.closed is None and (due := self._store.next_due(run.run_id)) is not None:
            again = max(0.0, (due - self._now()).total_seconds())
            seconds = again if seconds is None else min(seconds, again)
        return run, seconds

    def _with_monitor(self, run: DataRun) -> tuple[DataRun, float | None]:
        if not run.run_opened:
            self._monitor.open_run(
                int(run.run_id), start_time=run.first_seen, run_conditions=run.run_conditions
            )
            run = replace(run, run_opened=True)
            self._store.save(Changes(runs=[run]))
        run, more = self._to_monitor.advance(run)
        if more:
            return run, 0.0
        if run.closed is not None:
            self._monitor.close_run(int(run.run_id), end_time=run.ended or run.closed)
            run = replace(run, finished=self._now())
            self._store.save(Changes(runs=[run]))
        return run, None

    def _unknown_to_monitor(self, run: DataRun, reason: str) -> DataRun:
        if run.closed is None:
            return run
        said = f"the monitor refuses the run: {reason}"
        _log.error("Run %s: %s.", run.run_id, said, extra=labels(run))
        lost = [
            replace(file, state=FileState.FAILED, error=said)
            for file in self._store.files(run.run_id, FileState.CATALOGUED)
        ]
        run = replace(run.noting(said), finished=self._now())
        self._store.save(Changes(runs=[run], files=lost))
        return run
