"""A run's files on their way from the catalogue to the monitor."""

from __future__ import annotations

__all__ = ["MonitorFiles"]

import logging
from collections.abc import Sequence
from dataclasses import replace

from models.errors import InvalidMessage
from models.streaming.data_runs import Changes, DataFile, DataRun, FileState
from models.streaming.messages import StfReady
from models.streaming.monitoring import FINAL_STATUSES, NewStfFile, StfFile, StfStatus
from services.streaming.data_intake import labels
from services.streaming.data_runs import RunStore
from services.streaming.monitor import Monitor

_log = logging.getLogger(__name__)

#: Files that the monitor is told of at once.
_HANDFUL = 500


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
