"""A run's files on their way into the catalogue."""

from __future__ import annotations

__all__ = ["ADD", "LAST_LOOK", "CatalogueFiles"]

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from models.errors import InvalidMessage
from models.streaming.data_runs import Changes, DataFile, DataRun, FileState, FoundFile
from models.streaming.datasets import CatalogueFile, DatasetId, same_checksum
from services.streaming.catalogue import Catalogue
from services.streaming.data_intake import labels
from services.streaming.data_runs import RunStore, StfFolders
from services.streaming.slow_calls import SlowCalls

_log = logging.getLogger(__name__)

#: What takes long, and may be under way for a run.
ADD, LAST_LOOK = "add files", "last look"
#: Seconds before a file that is not there is looked for again, at first and at
#: most.
_BACK_OFF = (0.2, 15.0)
#: Looks in vain after which that is said.
_SAID = 6
#: Bytes that are read in one go before somebody else has a turn.
_BYTES = 1 << 30


@dataclass
class _Taken:
    """What became of files that the catalogue was to take.

    Attributes
    ----------
    looked : `int`
        Files that were looked at.
    waiting : `list`
        Files that are not there, or not as announced, and why.
    added : `list`
    refused : `list`
        Files with the reason, and whether their dataset is closed.
    trouble : `Exception` or `None`
        What ended it early.
    """

    looked: int = 0
    waiting: list[tuple[DataFile, str]] = field(default_factory=list)
    added: list[DataFile] = field(default_factory=list)
    refused: list[tuple[DataFile, str, bool]] = field(default_factory=list)
    trouble: Exception | None = None

    @property
    def found(self) -> int:
        """How many were there."""
        return self.looked - len(self.waiting)


class CatalogueFiles:
    """Finds files that were announced, and has the catalogue take them.

    Parameters
    ----------
    store : `services.streaming.data_runs.RunStore`
    catalogue : `services.streaming.catalogue.Catalogue`
    folders : `services.streaming.data_runs.StfFolders`
    calls : `services.streaming.slow_calls.SlowCalls`
        Has files looked at and given to the catalogue.
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
        calls: SlowCalls,
        containers: Callable[[DataRun], Sequence[str]],
        now: Callable[[], datetime],
        batch: int,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._folders = folders
        self._calls = calls
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
        services.streaming.slow_calls.StillBusy
            Raised while it has them.
        """
        files = self._due(run)
        if not files and self._calls.what(run.run_id) != ADD:
            return False
        containers = self._containers(run)
        taken = self._calls.ask(run.run_id, ADD, lambda: self._take(run, containers, files))
        self._keep(run, taken)
        # Not only what was left of these: others were announced while the
        # catalogue had them.
        return bool(self._due(run))

    def last_look(self, run: DataRun) -> bool:
        """Look at all files that are waited for, due or not; say whether any
        was there.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the catalogue is away.
        services.streaming.slow_calls.StillBusy
            Raised while it is at it.
        """
        files = self._store.files(run.run_id, FileState.ANNOUNCED)
        if not files and self._calls.what(run.run_id) != LAST_LOOK:
            return False
        containers = self._containers(run)
        parts = [files[start : start + self._batch] for start in range(0, len(files), self._batch)]

        def look() -> list[_Taken]:
            taken: list[_Taken] = []
            for part in parts:
                taken.append(self._take(run, containers, part))
                if taken[-1].found:
                    break
            return taken

        found = 0
        for taken in self._calls.ask(run.run_id, LAST_LOOK, look):
            self._keep(run, taken)
            found += taken.found
        return found > 0

    def _take(self, run: DataRun, containers: Sequence[str], files: Sequence[DataFile]) -> _Taken:
        """Look at files, and have the catalogue take those that are there;
        nothing of it is kept yet.
        """
        taken = _Taken()
        there: list[DataFile] = []
        found: dict[str, FoundFile] = {}
        size = 0
        for file in files:
            error, facts = self._look(run, containers, file)
            taken.looked += 1
            if facts is None:
                taken.waiting.append((file, error))
            else:
                there.append(replace(file, size_bytes=facts.size_bytes, adler32=facts.adler32, error=None))
                found[file.filename] = facts
                size += facts.size_bytes
            if size > _BYTES:
                break
        try:
            if there:
                self._add(run, there, found, taken)
        except Exception as error:
            # What was done by then is kept.
            taken.trouble = error
        return taken

    def _keep(self, run: DataRun, taken: _Taken) -> None:
        """Keep what became of files."""
        refused = []
        for file, error, closed in taken.refused:
            _log.error(
                "Run %s: the catalogue refuses %s: %s.", run.run_id, file.filename, error, extra=labels(run)
            )
            state = FileState.LATE if closed else FileState.FAILED
            refused.append(replace(file, state=state, error=error))
        waiting = [self._wait(run, file, error) for file, error in taken.waiting]
        added = [replace(file, state=FileState.CATALOGUED, due=None) for file in taken.added]
        if changed := [*waiting, *added, *refused]:
            self._store.save(Changes(files=changed))
        if taken.trouble is not None:
            raise taken.trouble

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
        if not same_checksum(file.expected_checksum, facts.adler32):
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

    def _add(self, run: DataRun, files: list[DataFile], found: dict[str, FoundFile], taken: _Taken) -> None:
        """Have files added; if one is refused, find out which."""
        dataset = DatasetId(run.scope, run.dataset)
        try:
            self._catalogue.add_files(
                dataset, [_for_catalogue(run, file, found[file.filename]) for file in files]
            )
        except InvalidMessage as error:
            if len(files) > 1:
                middle = len(files) // 2
                self._add(run, files[:middle], found, taken)
                self._add(run, files[middle:], found, taken)
                return
            taken.refused.append((files[0], str(error), self._catalogue.is_open(dataset) is False))
        else:
            taken.added += files


def _for_catalogue(run: DataRun, file: DataFile, found: FoundFile) -> CatalogueFile:
    return CatalogueFile(
        name=file.filename,
        path=found.path,
        size_bytes=found.size_bytes,
        adler32=found.adler32,
        guid=file.guid,
        metadata={"run_number": int(run.run_id)},
    )
