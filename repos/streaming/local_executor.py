"""Tasks executed here: a command for each file, some at a time.

Two kinds of threads: workers run payloads; the *keeper* looks for files of
datasets, and writes what became of jobs, many at once.
"""

from __future__ import annotations

__all__ = ["DatasetFiles", "LocalExecutor"]

import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from models.errors import InvalidMessage, PromptProcessingError, TemporarilyUnavailable
from models.streaming.datasets import CatalogueFile, DatasetId
from models.streaming.tasks import FINISHED, JobChanges, TaskSpec, TaskState
from repos.streaming.local_jobs import WAITING, LocalJob, LocalJobs, LocalTask
from repos.streaming.local_work import Work
from repos.streaming.local_workers import LocalWorkers
from repos.streaming.payloads import PayloadRunner

_log = logging.getLogger(__name__)

#: Jobs that are told of at once.
_PAGE = 1000
#: Seconds between two writes of what became of jobs.
_FLUSH = 0.1
#: Seconds between looks for the files of a dataset, while some came and at most.
POLL = (0.1, 1.0)
#: Seconds that threads have to end.
_PATIENCE = 5.0
#: Seconds before the database is asked again.
_BACK_OFF = 1.0
#: Seconds between looks for what is too old to be kept, while there was some
#: and otherwise.
_FORGET, _LATER = 10.0, 86_400.0


class DatasetFiles(Protocol):
    """What the executor asks of the catalogue; see
    `services.streaming.catalogue.Catalogue`.
    """

    def files(self, dataset: DatasetId, *, after: int = 0) -> Sequence[CatalogueFile]:
        """Return the files of a dataset, less the first `after`."""

    def is_open(self, dataset: DatasetId) -> bool | None:
        """Say whether a dataset is open; None if there is none."""


class LocalExecutor:
    """Executes tasks in processes of its own; a
    `services.streaming.executor.Executor`.

    Parameters
    ----------
    jobs : `repos.streaming.local_jobs.LocalJobs`
    catalogue : `DatasetFiles`
    runner : `repos.streaming.payloads.PayloadRunner`
    workers : `int`
        Payloads that run at once.
    attempts : `int`
        How often a file is tried.
    poll : `tuple` [`float`, `float`], optional
        Seconds between looks for a dataset's files, while some came and at
        most.
    keep : `datetime.timedelta` or `None`, optional
        For how long jobs of a task that has ended, and what its failures
        left, are kept; None: for ever.
    """

    def __init__(
        self,
        *,
        jobs: LocalJobs,
        catalogue: DatasetFiles,
        runner: PayloadRunner,
        workers: int,
        attempts: int,
        poll: tuple[float, float] = POLL,
        keep: timedelta | None = None,
    ) -> None:
        self._jobs = jobs
        self._catalogue = catalogue
        self._runner = runner
        self._workers = LocalWorkers(runner=runner, workers=workers, attempts=attempts)
        self._poll = poll
        self._keep_for = keep
        self._forget_next = float("-inf")
        self._works: dict[int, Work] = {}
        self._new: queue.SimpleQueue[LocalTask] = queue.SimpleQueue()
        self._unsaved: dict[int, LocalJob] = {}
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._starting = threading.Lock()
        self._submitting = threading.Lock()
        self._started = False
        self._keeper = threading.Thread(target=self._keep, name="local executor", daemon=True)

    def start(self) -> None:
        """Kill payloads that an earlier process left, and take up its tasks.

        Raises
        ------
        models.errors.InvalidConfiguration
            Raised if the directory cannot be used, or another process uses it.
        models.errors.TemporarilyUnavailable
            Raised if the database cannot be reached.
        """
        # Tasks are submitted from several threads.
        with self._starting:
            if self._started:
                return
            self._runner.open()
            tasks = self._jobs.open_tasks()
            self._started = True
            for task in tasks:
                self._new.put(task)
            self._keeper.start()
            self._workers.start()

    def submit(self, task: TaskSpec) -> str:
        """Have a task executed, once; see `services.streaming.executor`."""
        self.start()
        if not task.until_closed and self._catalogue.is_open(task.input) is None:
            # Nobody would make it.
            raise InvalidMessage(f"the catalogue has no dataset {task.input}")
        with self._submitting:
            if not self._jobs.has_task(task.name):
                # What is there would be taken for what its own payloads did.
                self._runner.set_aside(task.output)
            kept = self._jobs.add_task(task)
        self._new.put(kept)
        self._wake.set()
        return str(kept.id)

    def status(self, task_id: str) -> TaskState:
        """Return how a task stands."""
        state = self._jobs.state(int(task_id))
        if state is None:
            raise TemporarilyUnavailable(f"the local executor has no task {task_id}")
        return state

    def jobs(self, task_id: str, *, cursor: object | None = None) -> JobChanges:
        """Return jobs of a task that changed, a page at once."""
        after = cursor if isinstance(cursor, int) else 0
        found = self._jobs.changes(int(task_id), after=after, limit=_PAGE)
        last = found[-1][0] if found else after
        return JobChanges(tuple(job for _, job in found), last, more=len(found) == _PAGE)

    def close(self) -> None:
        """Kill what runs, to be run again at the next start."""
        self._stop.set()
        self._wake.set()
        self._workers.stop()
        deadline = time.monotonic() + _PATIENCE
        self._workers.join(deadline)
        if self._keeper.is_alive():
            # The catalogue may be slow; what is not written is found out again.
            self._keeper.join(max(0.1, deadline - time.monotonic()))
        self._runner.close()

    def _keep(self) -> None:
        while not self._stop.is_set():
            pause = _BACK_OFF
            try:
                pause = self._look()
            except PromptProcessingError as error:
                _log.warning("The local executor waits: %s", error)
            except Exception:
                # Without this thread no task would ever end.
                _log.exception("The local executor fails.")
            self._wake.wait(pause)
            self._wake.clear()
        try:
            self._save()
        except PromptProcessingError as error:
            _log.warning("What became of the last payloads is not kept, they run again: %s", error)

    def _look(self) -> float:
        """Do what is due; return seconds until more is."""
        while not self._new.empty():
            task = self._new.get()
            if task.id not in self._works:
                self._take_up(task)
        self._save()
        now = time.monotonic()
        self._workers.try_again(now)
        for work in list(self._works.values()):
            if not work.whole and work.due <= now:
                self._look_for_files(work)
            if (state := work.state()) is not None and not self._unsaved:
                self._jobs.end_task(work.task.id, state)
                self._runner.tidy(work.task)
                del self._works[work.task.id]
        if now >= self._forget_next:
            self._forget_next = now + (_FORGET if self._forget() else _LATER)
        if any(work.is_busy for work in self._works.values()):
            return _FLUSH
        waits = [work.due - now for work in self._works.values()]
        return min([max(0.01, wait) for wait in waits], default=self._poll[1])

    def _forget(self) -> bool:
        """Remove what is too old, some at once; say whether there was any."""
        if self._keep_for is None:
            return False
        tasks = self._jobs.forget(datetime.now(UTC) - self._keep_for)
        for task in tasks:
            self._runner.forget(task)
        return bool(tasks)

    def _take_up(self, task: LocalTask) -> None:
        """Go on with a task where it was left."""
        try:
            if self._jobs.state(task.id) is not TaskState.RUNNING:
                return
            jobs = self._jobs.jobs(task.id)
            work = Work(task, files=len(jobs), change=self._jobs.last_change(task.id))
        except Exception:
            self._new.put(task)
            raise
        self._works[task.id] = work
        for job in jobs:
            self._add(work, job)

    def _add(self, work: Work, job: LocalJob) -> None:
        work.note(job)
        if job.final:
            return
        if self._runner.has_succeeded(work.task, job):
            done = replace(job, status=FINISHED, attempts=job.attempts + 1, error=None)
            self._workers.tell(replace(done, ended=datetime.now(UTC)))
        else:
            self._workers.hand_out(work.task, replace(job, status=WAITING))

    def _look_for_files(self, work: Work) -> None:
        """Make jobs for files that are new in the dataset."""
        dataset = work.task.spec.input
        quickest, longest = self._poll
        try:
            # Asked first: of a dataset that is closed, all files are there.
            is_open = self._catalogue.is_open(dataset)
            files = self._catalogue.files(dataset, after=work.files) if is_open is not None else ()
        except PromptProcessingError as error:
            # Whatever is wrong with one dataset, there are others.
            _log.warning("Files of %s cannot be looked for now: %s", dataset, error)
            work.due = time.monotonic() + max(_BACK_OFF, longest)
            return
        if is_open is None and not work.missed:
            _log.warning("Task %d waits: the catalogue has no dataset %s.", work.task.id, dataset)
        work.missed = is_open is None
        if files:
            first = work.change + 1
            # Used up even if it fails: it may have been written all the same.
            work.change += len(files)
            for job in self._jobs.add_jobs(work.task.id, files, change=first):
                if not work.knows(job):
                    self._add(work, job)
            work.files += len(files)
        work.pause = quickest if files else min(longest, max(quickest, work.pause * 2))
        work.due = time.monotonic() + work.pause
        static = not work.task.spec.until_closed and is_open is not None
        # Files attached between the two questions are among those we have.
        work.whole = static or is_open is False

    def _save(self) -> None:
        """Write what became of jobs, each in its last state."""
        self._unsaved.update((job.id, job) for job in self._workers.told())
        if not self._unsaved:
            return
        self._jobs.save([(self._works[job.task].next_change(), job) for job in self._unsaved.values()])
        for job in self._unsaved.values():
            self._works[job.task].note(job)
        self._unsaved.clear()
