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
from services.streaming.data_files import LAST_LOOK
from services.streaming.data_intake import labels
from services.streaming.data_runs import RunStore
from services.streaming.slow_calls import SlowCalls

_log = logging.getLogger(__name__)

#: What takes long, and may be under way for a run.
_CLOSE = "close the dataset"
#: Names in a message for people.
_NAMES = 20


class RunClosing:
    """Closes datasets.

    Parameters
    ----------
    store : `services.streaming.data_runs.RunStore`
    catalogue : `services.streaming.catalogue.Catalogue`
    calls : `services.streaming.slow_calls.SlowCalls`
        Has datasets closed.
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
        calls: SlowCalls,
        last_look: Callable[[DataRun], bool],
        search: Callable[[DataRun], int],
        now: Callable[[], datetime],
        deadline: float,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._calls = calls
        self._last_look = last_look
        self._search = search
        self._now = now
        self._deadline = timedelta(seconds=deadline)

    def overdue(self, run: DataRun) -> bool:
        """Say whether the time for a run's files is over."""
        return run.ended is not None and self._now() >= run.ended + self._deadline

    def is_under_way(self, run: DataRun) -> bool:
        """Say whether it is about to be closed, or its files are looked at for
        the last time.
        """
        return self._calls.what(run.run_id) in (LAST_LOOK, _CLOSE)

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
        services.streaming.slow_calls.StillBusy
            Raised while it is at it.
        """
        if run.ended is None:
            return run, None
        if self._calls.what(run.run_id) == _CLOSE:
            return self._close(run), None
        counts = self._store.counts(run.run_id)
        waiting = counts.get(FileState.ANNOUNCED, 0)
        have = counts.get(FileState.CATALOGUED, 0) + counts.get(FileState.REGISTERED, 0)
        if run.total is not None and have >= run.total and not waiting:
            return self._close(run), None
        counted = run.end_assumed and not waiting
        if not counted and not self.overdue(run):
            return run, (run.ended + self._deadline - self._now()).total_seconds()
        # Files may have come since they were looked for, and messages may have
        # been lost.
        if self._last_look(run) or self._search(run):
            return run, 0.0
        return self._close(run), None

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

    def _close(self, run: DataRun) -> DataRun:
        dataset = DatasetId(run.scope, run.dataset)
        announced = self._store.files(run.run_id, FileState.ANNOUNCED)

        def close() -> set[str]:
            self._catalogue.close_dataset(dataset)
            return {file.filename for file in announced}

        waited_for = self._calls.ask(run.run_id, _CLOSE, close)
        absent = [replace(file, state=FileState.MISSING) for file in announced if file.filename in waited_for]
        late = [
            replace(file, state=FileState.LATE, error=f"it came when {dataset} was being closed")
            for file in announced
            if file.filename not in waited_for
        ]
        counts = self._store.counts(run.run_id)
        have = counts.get(FileState.CATALOGUED, 0) + counts.get(FileState.REGISTERED, 0)
        failed = self._store.files(run.run_id, FileState.FAILED)
        complete, note = self._judge(run, have, absent, failed)
        if late:
            said = f"{len(late)} files are lost to it ({_some(late)})"
            note = f"{note}; {said}" if note else said
        if complete:
            _log.info("Run %s: %s is closed with %d files.", run.run_id, dataset, have, extra=labels(run))
            if note:
                _log.warning("Run %s: %s.", run.run_id, note, extra=labels(run))
        else:
            _log.error(
                "Run %s: %s is closed with %d files: %s.", run.run_id, dataset, have, note, extra=labels(run)
            )
        if run.note and not run.end_assumed:
            note = f"{run.note}; {note}" if note else run.note
        run = replace(run, closed=self._now(), complete=complete, note=note or run.note)
        self._store.save(Changes(runs=[run], files=[*absent, *late]))
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
