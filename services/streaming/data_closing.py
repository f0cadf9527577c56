"""The end of a run: its dataset is closed, complete or not."""

from __future__ import annotations

__all__ = ["RunClosing"]

import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime, timedelta

from models.streaming.data_runs import Changes, DataFile, DataRun, FileState
from models.streaming.datasets import DatasetId
from models.streaming.names import stf_filename
from services.streaming.catalogue import Catalogue
from services.streaming.data_intake import labels
from services.streaming.data_runs import RunStore

_log = logging.getLogger(__name__)

#: Names in a message for people.
_NAMES = 20


class RunClosing:
    """Closes datasets.

    Parameters
    ----------
    store : `services.streaming.data_runs.RunStore`
    catalogue : `services.streaming.catalogue.Catalogue`
    last_look : callable
        Looks at all files of a run that are waited for; says whether any was
        there.
    search : callable
        Looks in a run's folder for files that nobody announced; returns how
        many it found.
    now : callable
        Returns the present time, aware.
    deadline : `float`
        Seconds after a run's end until its dataset is closed without files
        that are not there.
    """

    def __init__(
        self,
        *,
        store: RunStore,
        catalogue: Catalogue,
        last_look: Callable[[DataRun], bool],
        search: Callable[[DataRun], int],
        now: Callable[[], datetime],
        deadline: float,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._last_look = last_look
        self._search = search
        self._now = now
        self._deadline = timedelta(seconds=deadline)

    def overdue(self, run: DataRun) -> bool:
        """Say whether the time for a run's files is over."""
        return run.ended is not None and self._now() >= run.ended + self._deadline

    def advance(self, run: DataRun) -> tuple[DataRun, float | None]:
        """Close a run's dataset if it is time.

        Returns
        -------
        run : `models.streaming.data_runs.DataRun`
            As it stands now.
        seconds : `float` or `None`
            When to look again; None: nothing depends on time.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the catalogue is away.
        """
        if run.ended is None:
            return run, None
        counts = self._store.counts(run.run_id)
        waiting = counts.get(FileState.ANNOUNCED, 0)
        have = counts.get(FileState.CATALOGUED, 0) + counts.get(FileState.REGISTERED, 0)
        if run.total is not None and have >= run.total and not waiting:
            return self._close(run, have), None
        counted = run.end_assumed and not waiting
        if not counted and not self.overdue(run):
            return run, (run.ended + self._deadline - self._now()).total_seconds()
        # Files may have come since they were looked for, and messages may have
        # been lost.
        if self._last_look(run) or self._search(run):
            return run, 0.0
        return self._close(run, have), None

    def give_up(self, run: DataRun, reason: str) -> DataRun:
        """Have done with a run whose dataset the catalogue refuses."""
        lost = [
            replace(file, state=FileState.FAILED, error=reason)
            for file in self._store.files(run.run_id, FileState.ANNOUNCED)
        ]
        note = f"the catalogue refuses its dataset: {reason}; {len(lost)} files are not in it"
        _log.error("Run %s is given up: %s.", run.run_id, note, extra=labels(run))
        run = replace(run, closed=self._now(), complete=False, note=note)
        self._store.save(Changes(runs=[run], files=lost))
        return run

    def _close(self, run: DataRun, have: int) -> DataRun:
        dataset = DatasetId(run.scope, run.dataset)
        self._catalogue.close_dataset(dataset)
        absent = [
            replace(file, state=FileState.MISSING)
            for file in self._store.files(run.run_id, FileState.ANNOUNCED)
        ]
        failed = self._store.files(run.run_id, FileState.FAILED)
        complete, note = self._judge(run, have, absent, failed)
        if complete:
            _log.info("Run %s: %s is closed with %d files.", run.run_id, dataset, have, extra=labels(run))
            if note:
                _log.warning("Run %s: %s.", run.run_id, note, extra=labels(run))
        else:
            _log.error(
                "Run %s: %s is closed with %d files: %s.", run.run_id, dataset, have, note, extra=labels(run)
            )
        run = replace(run, closed=self._now(), complete=complete, note=note or run.note)
        self._store.save(Changes(runs=[run], files=absent))
        return run

    def _judge(
        self, run: DataRun, have: int, absent: Collection[DataFile], failed: Collection[DataFile]
    ) -> tuple[bool | None, str | None]:
        faults = []
        if absent:
            faults.append(f"{len(absent)} announced and not found as announced ({_some(absent)})")
        if failed:
            faults.append(f"{len(failed)} refused ({_some(failed)})")
        if run.total is not None and have < run.total:
            silent = run.total - have - len(absent) - len(failed)
            if silent > 0:
                faults.append(f"{silent} never announced ({self._never_announced(run)})")
            faults.insert(0, f"{run.total - have} of {run.total} are missing")
        if faults:
            return False, "; ".join(faults)
        if run.total is None:
            how = "end_run never came" if run.end_assumed else "end_run named no number of files"
            return None, f"{how}; they were counted"
        return True, f"end_run told of {run.total} files only, {have} came" if have > run.total else None

    def _never_announced(self, run: DataRun) -> str:
        known = self._store.known(run.run_id)
        names = (stf_filename(run.run_id, number) for number in range(1, (run.total or 0) + 1))
        return _shortened(
            [
                name
                for _, name in zip(range(len(known) + _NAMES + 1), names, strict=False)
                if name not in known
            ]
        )


def _some(files: Collection[DataFile]) -> str:
    return _shortened([f"{file.filename}: {file.error}" if file.error else file.filename for file in files])


def _shortened(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_NAMES])
    return f"{shown}, ..." if len(names) > _NAMES else shown
