"""A task is followed to its end, and with it the files of its run."""

from __future__ import annotations

__all__ = ["Followed", "Follower", "Progress"]

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from models.errors import InvalidMessage
from models.streaming.monitoring import FileUpdate, StfFile, StfStatus
from models.streaming.tasks import TERMINAL_TASKS, TaskState
from services.streaming.executor import Executor
from services.streaming.file_claims import Claimant, JobIndex, stem
from services.streaming.monitor import Monitor

_log = logging.getLogger(__name__)

#: Files that a task may still change.
_OPEN = frozenset({StfStatus.REGISTERED, StfStatus.PROCESSING})
#: Files that are changed at once, and seconds for which a look goes on.
_HANDFUL = 200
_SLICE = 1.0
#: Seconds between looks at files while no job has changed.
_ROWS = 2.0
#: Seconds between looks at all open files, and how many times longer than one
#: takes: others seldom change a file that we have claimed.
_ALL, _REST = 60.0, 20.0
#: Seconds for which files may still be missing at the monitor, and jobs still
#: be open, when their task has ended.
_LATE = 60.0


@dataclass
class Followed:
    """What is remembered of a task while it is followed; all of it can be
    found out again.

    Attributes
    ----------
    claimed : `dict` [`str`, `models.streaming.monitoring.StfFile`]
        Files that wait for their jobs, by what jobs call them, as the monitor
        had them last: of a long run, only new ones are asked for.
    changed : `set` [`str`]
        What jobs that have changed call their files.
    met : `set` [`str`]
        What jobs would call the files that the monitor is known to have.
    """

    run_number: int
    claimant: Claimant
    jobs: JobIndex = field(default_factory=JobIndex)
    claimed: dict[str, StfFile] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    met: set[str] = field(default_factory=set)
    all_due: float = float("-inf")
    cursor: object | None = None
    looked: float = float("-inf")
    ended: float | None = None
    dirty: bool = True
    revived: bool = False
    unfinished: bool = False
    in_hand: int = 0
    refused: dict[UUID, StfStatus] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """What a look brought.

    Attributes
    ----------
    state : `models.streaming.tasks.TaskState`
    processed, failed : `int`
        Files that got their last status now.
    totals : `tuple` [`int`, `int`] or `None`
        Files processed and failed, once the task has ended, and all files
        have their last status.
    more : `bool`
        Whether to look again at once.
    """

    state: TaskState
    processed: int = 0
    failed: int = 0
    totals: tuple[int, int] | None = None
    more: bool = False

    @property
    def complete(self) -> bool:
        """Whether nothing more happens."""
        return self.totals is not None


class Follower:
    """Looks at tasks.

    Parameters
    ----------
    executor : `services.streaming.executor.Executor`
    monitor : `services.streaming.monitor.Monitor`
    """

    def __init__(self, *, executor: Executor, monitor: Monitor) -> None:
        self._executor = executor
        self._monitor = monitor

    def look(self, followed: Followed) -> Progress:
        """See how a task and its jobs stand, and have the monitor know.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the executor or the monitor cannot be reached; what was
            done by then stands.
        """
        begun = time.monotonic()
        # Asked first: the jobs of a task that has ended are as they stay.
        state = self._executor.status(followed.claimant.task_id)
        changes = self._executor.jobs(followed.claimant.task_id, cursor=followed.cursor)
        followed.revived |= followed.jobs.add(changes.jobs)
        followed.cursor = changes.cursor
        followed.changed.update(stem(name) for job in changes.jobs for name in job.inputs)
        followed.dirty |= bool(changes.jobs)
        if changes.more:
            return Progress(state, more=True)
        ended = state in TERMINAL_TASKS
        if not (ended or followed.dirty or begun - followed.looked > _ROWS):
            return Progress(state)
        rows = self._open_files(followed, ended=ended)
        followed.met.update(stem(row.stf_filename) for row in rows)
        final = state if ended else None
        patient = followed.ended is None or begun - followed.ended < _LATE
        if ended and patient:
            # PanDA may be slower to tell of a job's end than of its task's.
            ready = [row for row in rows if not followed.jobs.is_open(row.stf_filename)]
        else:
            ready = rows
        updates = [u for row in ready if (u := followed.claimant.update(row, followed.jobs, final))]
        if not ended:
            # What the monitor refused once is tried again at the end.
            updates = [u for u in updates if followed.refused.get(u.file_id) is not u.status]
        # If this breaks off, nobody knows how files stand.
        all_due, followed.all_due = followed.all_due, float("-inf")
        done, changed = self._apply(followed, updates, begun)
        followed.all_due = all_due
        processed = sum(update.status is StfStatus.PROCESSED for update in changed)
        failed = sum(update.status is StfStatus.FAILED for update in changed)
        after = _after(rows, changed)
        waiting = sum(row.status is StfStatus.REGISTERED for row in after)
        followed.in_hand = len(_claim(followed, after)) + waiting
        followed.unfinished = done < len(updates)
        if followed.unfinished:
            return Progress(state, processed, failed, more=True)
        followed.dirty, followed.revived, followed.looked = False, False, begun
        followed.changed.clear()
        totals = self._sum_up(followed, patient=patient) if ended else None
        return Progress(state, processed, failed, totals=totals)

    def _open_files(self, followed: Followed, *, ended: bool) -> list[StfFile]:
        """Return the files of which something may be to be changed."""
        begun = time.monotonic()
        # What a look that took too long leaves over is known to the next.
        every = (ended and not followed.unfinished) or followed.revived or begun >= followed.all_due
        if every:
            statuses = {*_OPEN, StfStatus.FAILED} if followed.revived else _OPEN
            rows = [*self._monitor.files(followed.run_number, statuses=statuses)]
            took = time.monotonic() - begun
            followed.all_due = begun + max(_ALL, _REST * took)
            followed.claimed = {}
            return rows
        new = self._monitor.files(followed.run_number, statuses={StfStatus.REGISTERED})
        names = {stem(row.stf_filename) for row in new}
        asked = set(followed.claimed) if ended else followed.changed & followed.claimed.keys()
        return [*new, *(followed.claimed[name] for name in sorted(asked - names))]

    def _apply(
        self, followed: Followed, updates: Sequence[FileUpdate], begun: float
    ) -> tuple[int, list[FileUpdate]]:
        """Change files for some time; return how many were tried, and what was
        changed.
        """
        done = 0
        changed: list[FileUpdate] = []
        while done < len(updates) and (done == 0 or time.monotonic() - begun < _SLICE):
            handful = updates[done : done + _HANDFUL]
            try:
                self._monitor.update_files(followed.run_number, handful)
            except InvalidMessage:
                changed += [update for update in handful if self._apply_one(followed, update)]
            else:
                changed += handful
            done += len(handful)
        return done, changed

    def _apply_one(self, followed: Followed, update: FileUpdate) -> bool:
        try:
            self._monitor.update_files(followed.run_number, [update])
        except InvalidMessage as error:
            if followed.refused.get(update.file_id) is not update.status:
                followed.refused[update.file_id] = update.status
                what = followed.run_number, update.status.value, error
                _log.error("The monitor refuses that a file of run %d is %s: %s", *what)
            return False
        return True

    def _sum_up(self, followed: Followed, *, patient: bool) -> tuple[int, int] | None:
        """Count the files of a task that has ended; None while some that it
        had are not at the monitor.
        """
        if followed.ended is None:
            followed.ended = time.monotonic()
        missing = self._missing(followed)
        # The files of a run that has ended may be many: they are counted there.
        tally = self._monitor.tally_files(followed.run_number)
        counts = {status: tally[status.value].count if status.value in tally else 0 for status in StfStatus}
        # Such were registered while we looked, or the monitor refused the change.
        is_open = any(counts[status] for status in _OPEN)
        open_ = self._monitor.files(followed.run_number, statuses=_OPEN) if is_open else ()
        late = [row for row in open_ if followed.claimant.may_claim(row)]
        if (missing or late) and patient:
            followed.dirty = True
            return None
        for what, names in (
            ("are not registered at the monitor", missing),
            ("do not get a last status", [row.stf_filename for row in late]),
        ):
            if names:
                _log.error(
                    "Task %s of run %d has ended, but %d of its files %s, such as %s.",
                    *(followed.claimant.task_id, followed.run_number, len(names), what, names[0]),
                )
        return counts[StfStatus.PROCESSED] + counts[StfStatus.DONE], counts[StfStatus.FAILED]

    def _missing(self, followed: Followed) -> list[str]:
        """Return files that jobs read and that are not at the monitor."""
        missing = followed.jobs.without(followed.met)
        if missing:
            # Or nobody had to change them any more since we follow the task.
            names = self._monitor.file_names(followed.run_number)
            followed.met.update(missing & {stem(name) for name in names})
        return sorted(missing - followed.met)


def _after(rows: Iterable[StfFile], changed: Iterable[FileUpdate]) -> list[StfFile]:
    """Return files as they are after changes."""
    updates = {update.file_id: update for update in changed}
    after = []
    for row in rows:
        if (update := updates.get(row.file_id)) is not None:
            merged = {**row.metadata, **update.metadata}
            row = row.model_copy(update={"status": update.status, "metadata": merged})
        after.append(row)
    return after


def _claim(followed: Followed, rows: Iterable[StfFile]) -> dict[str, StfFile]:
    """Remember files that wait for their jobs, and none that does not."""
    for row in rows:
        if row.status is StfStatus.PROCESSING and followed.claimant.may_claim(row):
            followed.claimed[stem(row.stf_filename)] = row
        else:
            followed.claimed.pop(stem(row.stf_filename), None)
    return followed.claimed
