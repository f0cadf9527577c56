"""A run's files on their way into the catalogue and to the monitor."""

from __future__ import annotations

__all__ = ["CatalogueFiles", "MonitorFiles"]

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from models.errors import InvalidMessage
from models.streaming.data_runs import Changes, DataFile, DataRun, FileState, FoundFile
from models.streaming.datasets import CatalogueFile, DatasetId
from models.streaming.messages import StfReady
from models.streaming.monitoring import FINAL_STATUSES, NewStfFile, StfFile, StfStatus
from services.streaming.catalogue import Catalogue
from services.streaming.data_intake import labels
from services.streaming.data_runs import RunStore, StfFolders
from services.streaming.monitor import Monitor

_log = logging.getLogger(__name__)

#: Seconds before a file that is not there is looked for again, at first and at
#: most.
_BACK_OFF = (0.2, 15.0)
#: Looks in vain after which that is said.
_SAID = 6
#: Bytes that are read in one go before somebody else has a turn.
_BYTES = 1 << 30
#: Files that the monitor is told of at once.
_HANDFUL = 500

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
        if not files:
            return False
        there: list[DataFile] = []
        found: dict[str, FoundFile] = {}
        waiting: list[DataFile] = []
        containers = self._containers(run)
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
        return len(files) == self._batch or size > _BYTES

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


class MonitorFiles:
    """Has the monitor register what the catalogue has; then stf_ready can go.

    Parameters
    ----------
    store : `services.streaming.data_runs.RunStore`
    monitor : `services.streaming.monitor.Monitor`
    namespace : `str`
    name : `str`
        The agent's name.
    """

    def __init__(self, *, store: RunStore, monitor: Monitor, namespace: str, name: str) -> None:
        self._store = store
        self._monitor = monitor
        self._namespace = namespace
        self._name = name
        self.registered = 0

    def advance(self, run: DataRun) -> tuple[DataRun, bool]:
        """Have the monitor register some files.

        Returns
        -------
        run : `models.streaming.data_runs.DataRun`
            As it stands now.
        more : `bool`
            Whether there may be more.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the monitor is away.
        models.errors.InvalidMessage
            Raised if it refuses each of them.
        """
        files = self._store.files(run.run_id, FileState.CATALOGUED, limit=_HANDFUL)
        if not files:
            return run, False
        run, refused = self._register(run, files)
        if len(refused) == len(files):
            # It may be no file's fault.
            raise InvalidMessage(refused[files[0].filename])
        failed = []
        for file in files:
            if error := refused.get(file.filename):
                said = f"the monitor refuses it: {error}"
                _log.error("Run %s: %s: %s.", run.run_id, file.filename, said, extra=labels(run))
                failed.append(replace(file, state=FileState.FAILED, error=said))
        if failed:
            self._store.save(Changes(files=failed))
        return run, len(files) == _HANDFUL

    def _register(self, run: DataRun, files: Sequence[DataFile]) -> tuple[DataRun, dict[str, str]]:
        """Have files registered; return the run, and errors of refused files by name."""
        try:
            rows = self._monitor.register_files(int(run.run_id), [self._new(file) for file in files])
        except InvalidMessage as error:
            if len(files) == 1:
                return run, {files[0].filename: str(error)}
            middle = len(files) // 2
            run, refused = self._register(run, files[:middle])
            run, more = self._register(run, files[middle:])
            return run, refused | more
        done = [replace(file, state=FileState.REGISTERED, error=None) for file in files]
        send = self._ready(run, rows)
        run = replace(run, ready=True)
        self._store.save(Changes(runs=[run], files=done, send=send))
        self.registered += len(done)
        return run, {}

    def _new(self, file: DataFile) -> NewStfFile:
        return NewStfFile(
            stf_filename=file.filename,
            file_size_bytes=file.size_bytes,
            checksum=file.adler32,
            machine_state=file.machine_state or "unknown",
            metadata={
                "created_by": self._name,
                "substate": file.substate,
                "start": None,
                "end": None,
                "sequence": file.sequence,
            },
        )

    def _ready(self, run: DataRun, rows: Sequence[StfFile]) -> list[StfReady]:
        if run.ready:
            return []
        taken = any(row.status is StfStatus.PROCESSING or row.status in FINAL_STATUSES for row in rows)
        if taken and self._told_before(run):
            _log.warning("Run %s: its files are processed already.", run.run_id, extra=labels(run))
            return []
        return [
            StfReady(
                namespace=self._namespace,
                sender=self._name,
                run_id=run.run_id,
                execution_id=run.execution_id,
            )
        ]

    def _told_before(self, run: DataRun) -> bool:
        """Say whether a stf_ready went out of which our memory was lost.

        Files that are being processed do not tell: the processing agent finds
        them by itself as well, if we die before we can tell it.
        """
        bodies = self._monitor.messages(run.execution_id) if run.execution_id else []
        if not bodies:
            # Nobody knows. Whoever processes the files needs no telling.
            return True
        return any(
            body.get("msg_type") == "stf_ready" and str(body.get("run_id")) == run.run_id for body in bodies
        )


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
