"""What the processing agent needs of what executes tasks."""

from __future__ import annotations

__all__ = ["Executor"]

from typing import Protocol

from models.streaming.tasks import JobChanges, TaskSpec, TaskState


class Executor(Protocol):
    """Executes tasks: local processes, or PanDA.

    Every method but `close` raises `models.errors.TemporarilyUnavailable`
    while it cannot be reached or answers with a failure of its own; nothing
    may then be assumed about what was asked.
    """

    def start(self) -> None:
        """Take up tasks that an earlier process left; asked twice it has one
        effect.
        """

    def submit(self, task: TaskSpec) -> str:
        """Have a task executed, once, however often this is called with its
        name, also by other processes.

        Returns
        -------
        task_id : `str`
            Of the new task, or of the one that there is of this name.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if the task is refused for good.
        """

    def status(self, task_id: str) -> TaskState:
        """Return how a task stands."""

    def jobs(self, task_id: str, *, cursor: object | None = None) -> JobChanges:
        """Return jobs of a task, a bounded number at once.

        Parameters
        ----------
        task_id : `str`
        cursor : `object`, optional
            What the last answer said. Jobs that were final then, and have not
            changed, are left out.
        """

    def close(self) -> None:
        """Let go of everything; tasks may be taken up by the next process."""
