"""Who keeps what the data agent knows, and who looks at files for it."""

from __future__ import annotations

__all__ = ["RunStore", "StfFolders"]

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from models.streaming.data_runs import Changes, DataFile, DataRun, FileState, FoundFile


class RunStore(Protocol):
    """Keeps runs and files of one namespace, through the death of the agent.

    Every method raises `models.errors.TemporarilyUnavailable` while the
    database is away.
    """

    def runs(self, run_ids: Collection[str]) -> Mapping[str, DataRun]:
        """Return the runs of these that are known."""

    def unfinished(self) -> Sequence[DataRun]:
        """Return runs that are not finished, the oldest first."""

    def latest(self, limit: int) -> Sequence[DataRun]:
        """Return runs, the newest first."""

    def files(
        self, run_id: str, state: FileState, *, due: datetime | None = None, limit: int | None = None
    ) -> Sequence[DataFile]:
        """Return files of a run in order of their sequence; of a state, and
        if `due` is given only those to be looked at by then.
        """

    def known(self, run_id: str) -> Mapping[str, FileState]:
        """Return the names of all files of a run that are known."""

    def named(self, run_id: str, filenames: Collection[str]) -> Mapping[str, DataFile]:
        """Return the files of a run that are known, of these, by name."""

    def counts(self, run_id: str) -> Mapping[FileState, int]:
        """Return how many files of a run are in each state."""

    def in_hand(self) -> int:
        """Return how many files are on their way, of all runs that are not
        finished.
        """

    def next_due(self, run_id: str) -> datetime | None:
        """Return when the next announced file of a run is to be looked at;
        None if there is none that waits for a time.
        """

    def save(self, changes: Changes) -> None:
        """Store changes, all or none."""

    def forget(self, before: datetime) -> int:
        """Delete files of runs that finished before a time; return how many."""


class StfFolders(Protocol):
    """Looks at the files of runs."""

    def inspect(self, containers: Sequence[str], dataset: str, filename: str) -> FoundFile | None:
        """Return a file, from the first of the containers that has it; None
        if none has it, or it changes while it is read.
        """

    def size(self, containers: Sequence[str], dataset: str, filename: str) -> int | None:
        """Return the size of a file in bytes; None if no container has it."""

    def search(
        self, containers: Sequence[str], dataset: str, run_id: str, known: Collection[str]
    ) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """Return names of files of a run that are not known and do not change
        any more, in order, with what their content says if it is their
        message.
        """
