"""Threads that run payloads, one file after another."""

from __future__ import annotations

__all__ = ["LocalWorkers"]

import logging
import queue
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

from models.errors import TemporarilyUnavailable
from models.streaming.tasks import FINISHED
from repos.streaming.local_jobs import FAILED, RUNNING, WAITING, LocalJob, LocalTask
from repos.streaming.payload_process import PayloadStopped
from repos.streaming.payloads import PayloadRunner

_log = logging.getLogger(__name__)

#: Seconds before a full disk is tried again.
_BACK_OFF = 1.0
#: Seconds before a file that failed is tried again, times how often it did.
_RETRY = 1.0


class LocalWorkers:
    """Runs payloads, and says what became of jobs.

    Parameters
    ----------
    runner : `repos.streaming.payloads.PayloadRunner`
    workers : `int`
        Payloads that run at once.
    attempts : `int`
        How often a file is tried.
    """

    def __init__(self, *, runner: PayloadRunner, workers: int, attempts: int) -> None:
        self._runner = runner
        self._attempts = attempts
        self._waiting: queue.SimpleQueue[tuple[LocalTask, LocalJob] | None] = queue.SimpleQueue()
        self._changed: queue.SimpleQueue[LocalJob] = queue.SimpleQueue()
        self._failed: queue.SimpleQueue[tuple[float, LocalTask, LocalJob]] = queue.SimpleQueue()
        self._again: list[tuple[float, LocalTask, LocalJob]] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"payload {number}", daemon=True)
            for number in range(workers)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def hand_out(self, task: LocalTask, job: LocalJob) -> None:
        """Have a payload run on a file when its turn comes."""
        self._waiting.put((task, job))

    def tell(self, job: LocalJob) -> None:
        """Have something kept that became of a job."""
        self._changed.put(job)

    def told(self) -> list[LocalJob]:
        """Return what became of jobs since this was asked last, in order."""
        jobs = []
        while not self._changed.empty():
            jobs.append(self._changed.get())
        return jobs

    def try_again(self, now: float) -> None:
        """Hand out again what failed long enough ago."""
        while not self._failed.empty():
            self._again.append(self._failed.get())
        for _, task, job in (item for item in self._again if item[0] <= now):
            self.hand_out(task, job)
        self._again = [item for item in self._again if item[0] > now]

    def stop(self) -> None:
        """Kill what runs, and begin nothing any more."""
        self._stop.set()
        self._runner.stop()
        for _ in self._threads:
            self._waiting.put(None)

    def join(self, deadline: float) -> None:
        """Wait until they have ended, or a time of the monotonic clock has come."""
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.1, deadline - time.monotonic()))

    def _work(self) -> None:
        while not self._stop.is_set() and (item := self._waiting.get()) is not None:
            task, job = item
            job = replace(job, status=RUNNING, started=datetime.now(UTC))
            self._changed.put(job)
            try:
                error = self._runner.run(task, job)
            except PayloadStopped:
                return
            except TemporarilyUnavailable as trouble:
                # It says nothing about the file.
                _log.error("Payloads cannot be run now: %s", trouble)
                self._failed.put((time.monotonic() + _BACK_OFF, *item))
                self._stop.wait(_BACK_OFF)
                continue
            except Exception as unexpected:
                # A worker that ended would be missed by all tasks to come.
                _log.exception("Job %d on %s fails.", job.id, job.filename, extra=_labels(task))
                error = f"{type(unexpected).__name__}: {unexpected}"
            self._judge(task, replace(job, attempts=job.attempts + 1, ended=datetime.now(UTC), error=error))

    def _judge(self, task: LocalTask, job: LocalJob) -> None:
        """Decide what becomes of a job whose payload has ended."""
        if job.error is None:
            self._changed.put(replace(job, status=FINISHED))
        elif job.attempts < self._attempts:
            _log.warning(
                "%s of task %d failed, attempt %d of %d: %s",
                *(job.filename, task.id, job.attempts, self._attempts, job.error),
                extra=_labels(task),
            )
            again = replace(job, status=WAITING)
            # In this order: the next attempt has the last word.
            self._changed.put(again)
            self._failed.put((time.monotonic() + _RETRY * job.attempts, task, again))
        else:
            said = "%s of task %d failed: %s"
            _log.error(said, job.filename, task.id, job.error, extra=_labels(task))
            self._changed.put(replace(job, status=FAILED))


def _labels(task: LocalTask) -> dict[str, str | None]:
    """Return what a line of the log about a task is found by."""
    return {"run_id": task.spec.run_id, "execution_id": task.spec.execution_id}
