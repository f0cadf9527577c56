"""A task that is executed here, as far as it is known to be."""

from __future__ import annotations

__all__ = ["Work"]

from collections import Counter
from dataclasses import dataclass, field

from models.streaming.tasks import FINISHED, TaskState
from repos.streaming.local_jobs import FAILED, LocalJob, LocalTask


@dataclass
class Work:
    """A task in hand.

    Attributes
    ----------
    task : `repos.streaming.local_jobs.LocalTask`
    files : `int`
        Files of its dataset that have jobs.
    change : `int`
        Number of the last change of a job.
    whole : `bool`
        Whether no more files will come.
    missed : `bool`
        Whether there is no dataset.
    due, pause : `float`
        When to look for files, and how long the last wait was.
    """

    task: LocalTask
    files: int = 0
    change: int = 0
    whole: bool = False
    missed: bool = False
    due: float = 0.0
    pause: float = 0.0
    _statuses: dict[int, str] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    def knows(self, job: LocalJob) -> bool:
        """Say whether a job was noted."""
        return job.id in self._statuses

    def note(self, job: LocalJob) -> None:
        """Note a job as it is in the database: a task ends when that is written."""
        if (last := self._statuses.get(job.id)) is not None:
            self._counts[last] -= 1
        self._statuses[job.id] = job.status
        self._counts[job.status] += 1

    def next_change(self) -> int:
        """Return the number of a change that is made now."""
        self.change += 1
        return self.change

    @property
    def is_busy(self) -> bool:
        """Whether jobs of it are not known to have ended."""
        return self._counts[FINISHED] + self._counts[FAILED] < len(self._statuses)

    def state(self) -> TaskState | None:
        """How it ended; None while it has not."""
        if not self.whole or self.is_busy:
            return None
        if not self._counts[FAILED]:
            return TaskState.DONE
        return TaskState.FINISHED if self._counts[FINISHED] else TaskState.FAILED
