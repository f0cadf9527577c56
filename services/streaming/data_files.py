"""A run's files on their way into the catalogue."""

from __future__ import annotations

__all__ = ["CatalogueFiles"]

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from models.errors import InvalidMessage
from models.streaming.data_runs import Changes, DataFile, DataRun, FileState, FoundFile
from models.streaming.datasets import CatalogueFile, DatasetId
from services.streaming.catalogue import Catalogue
from services.streaming.data_intake import labels
from services.streaming.data_runs import RunStore, StfFolders

_log = logging.getLogger(__name__)

#: Seconds before a file that is not there is looked for again, at first and at
#: most.
_BACK_OFF = (0.2, 15.0)
#: Looks in vain after which that is said.
_SAID = 6
#: Bytes that are read in one go before somebody else has a turn.
_BYTES = 1 << 30

_ADLER32 = re.compile(r"(?:ad(?:ler32)?:)?([0-9a-f]{1,8})", re.IGNORECASE)


class CatalogueFiles:
    """Finds files that were announced, and has the catalogue take them.

    Parameters
    ----------
    store : `services.streaming.data_runs.RunStore`
    catalogue : `services.streaming.catalogue.Catalogue`
    folders : `services.streaming.data_runs.StfFolders`
    containers : callable
        Returns the directories in which a run's folder may be.
    now : callable
        Returns the present time, aware.
    batch : `int`
        Files that the catalogue is given at once.
    """

    def __init__(
        self,
        *,
        store: RunStore,
        catalogue: Catalogue,
        folders: StfFolders,
        containers: Callable[[DataRun], Sequence[str]],
        now: Callable[[], datetime],
        batch: int,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._folders = folders
        self._containers = containers
        self._now = now
        self._batch = batch

    def advance(self, run: DataRun) -> bool:
        """Have the catalogue take some files; say whether more may be taken
        now.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the catalogue is away.
        """
        files = self._due(run)
        looked, _ = self._take(run, files)
        return bool(files) and (len(files) == self._batch or looked < len(files))

    def last_look(self, run: DataRun) -> bool:
        """Look at all files that are waited for, due or not; say whether any
        was there.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the catalogue is away.
        """
        files = self._store.files(run.run_id, FileState.ANNOUNCED)
        parts = [files[start : start + self._batch] for start in range(0, len(files), self._batch)]
        return any(self._take(run, part)[1] for part in parts)

    def _take(self, run: DataRun, files: Sequence[DataFile]) -> tuple[int, int]:
        """Return how many files were looked at, and how many were there."""
        there: list[DataFile] = []
        found: dict[str, FoundFile] = {}
        waiting: list[DataFile] = []
        containers = self._containers(run) if files else []
        size = 0
        for file in files:
            error, facts = self._look(run, containers, file)
            if facts is None:
                waiting.append(self._wait(run, file, error))
            else:
                there.append(replace(file, size_bytes=facts.size_bytes, adler32=facts.adler32, error=None))
                found[file.filename] = facts
                size += facts.size_bytes
            if size > _BYTES:
                break
        if waiting:
            self._store.save(Changes(files=waiting))
        if there:
            self._add(run, there, found)
        return len(waiting) + len(there), len(there)

    def _due(self, run: DataRun) -> Sequence[DataFile]:
        now = self._now()
        files = self._store.files(run.run_id, FileState.ANNOUNCED, due=now, limit=self._batch)
        if files:
            return files
        due = self._store.next_due(run.run_id)
        if due is None or due <= now + timedelta(seconds=_BACK_OFF[1]):
            return []
        # Nobody waits that long: the clock was set back.
        return self._store.files(run.run_id, FileState.ANNOUNCED, limit=self._batch)

    def _look(self, run: DataRun, containers: Sequence[str], file: DataFile) -> tuple[str, FoundFile | None]:
        # Of a large file that is still being written only the size is looked at.
        size = self._folders.size(containers, run.dataset, file.filename)
        if size is None:
            return f"it is not in {run.dataset} of {' or '.join(containers) or 'any container'}", None
        if file.expected_size is not None and size != file.expected_size:
            return f"it has {size} bytes but was announced with {file.expected_size}", None
        facts = self._folders.inspect(containers, run.dataset, file.filename)
        if facts is None:
            return "it cannot be read, or changes while it is", None
        if file.expected_size is not None and facts.size_bytes != file.expected_size:
            return f"it has {facts.size_bytes} bytes but was announced with {file.expected_size}", None
        if not _same_checksum(file.expected_checksum, facts.adler32):
            return f"its Adler-32 is {facts.adler32} but announced was {file.expected_checksum}", None
        return "", facts

    def _wait(self, run: DataRun, file: DataFile, error: str) -> DataFile:
        first, longest = _BACK_OFF
        seconds = min(longest, first * 2 ** min(file.attempts, 10))
        if file.attempts + 1 == _SAID:
            _log.warning(
                "Run %s: %s is still waited for: %s.", run.run_id, file.filename, error, extra=labels(run)
            )
        due = self._now() + timedelta(seconds=seconds)
        return replace(file, attempts=file.attempts + 1, due=due, error=error)

    def _add(self, run: DataRun, files: list[DataFile], found: dict[str, FoundFile]) -> None:
        """Have files added; if one is refused, find out which."""
        try:
            self._catalogue.add_files(
                DatasetId(run.scope, run.dataset),
                [_for_catalogue(run, file, found[file.filename]) for file in files],
            )
        except InvalidMessage as error:
            if len(files) > 1:
                middle = len(files) // 2
                self._add(run, files[:middle], found)
                self._add(run, files[middle:], found)
                return
            self._refuse(run, files[0], str(error))
        else:
            self._store.save(Changes(files=[replace(f, state=FileState.CATALOGUED, due=None) for f in files]))

    def _refuse(self, run: DataRun, file: DataFile, error: str) -> None:
        closed = self._catalogue.is_open(DatasetId(run.scope, run.dataset)) is False
        state = FileState.LATE if closed else FileState.FAILED
        _log.error(
            "Run %s: the catalogue refuses %s: %s.", run.run_id, file.filename, error, extra=labels(run)
        )
        self._store.save(Changes(files=[replace(file, state=state, error=error)]))


def _for_catalogue(run: DataRun, file: DataFile, found: FoundFile) -> CatalogueFile:
    return CatalogueFile(
        name=file.filename,
        path=found.path,
        size_bytes=found.size_bytes,
        adler32=found.adler32,
        guid=file.guid,
        metadata={"run_number": int(run.run_id)},
    )


def _same_checksum(expected: str | None, adler32: str) -> bool:
    # Senders that use another kind of checksum cannot be checked.
    match = _ADLER32.fullmatch(expected.strip()) if expected else None
    return match is None or int(match[1], 16) == int(adler32, 16)
