"""What messages mean to the data agent.

Whatever the order in which a run's messages come, and however often, what is
known of the run in the end is the same.
"""

from __future__ import annotations

__all__ = ["DataIntake", "labels"]

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import PurePosixPath
from uuid import uuid4

from models.errors import InvalidMessage
from models.streaming.data_runs import Changes, DataFile, DataRun, FileState
from models.streaming.datasets import same_checksum
from models.streaming.messages import (
    EndRun,
    Message,
    PauseRun,
    ResumeRun,
    RunImminent,
    RunMessage,
    StartRun,
    StfGen,
    StfReady,
)
from models.streaming.names import dataset_name, parse_stf_filename
from services.streaming.data_runs import RunStore

_log = logging.getLogger(__name__)

_TAKEN = (FileState.CATALOGUED, FileState.REGISTERED)


def labels(run: DataRun) -> dict[str, str | None]:
    """Return what a log record about a run is found by."""
    return {"run_id": run.run_id, "execution_id": run.execution_id}


class DataIntake:
    """Applies messages to what is known of runs.

    Parameters
    ----------
    store : `services.streaming.data_runs.RunStore`
    scope : `str`
        Of datasets and files.
    now : callable
        Returns the present time, aware.
    is_taking : callable, optional
        Says of a run whether the catalogue may be putting files into its
        dataset just now.
    """

    def __init__(
        self,
        *,
        store: RunStore,
        scope: str,
        now: Callable[[], datetime],
        is_taking: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._store = store
        self._scope = scope
        self._now = now
        self._is_taking = is_taking

    def apply(self, messages: Sequence[Message], *, live: bool = True) -> None:
        """Apply messages, in order, all or none.

        Parameters
        ----------
        messages : sequence of `models.streaming.messages.Message`
        live : `bool`, optional
            Whether they came now, and are a sign that the run is alive.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if one cannot take effect.
        models.errors.TemporarilyUnavailable
            Raised if the database is away.
        """
        ours = [m for m in messages if isinstance(m, RunMessage | StfReady)]
        if not ours:
            return
        before = self._store.runs({message.run_id for message in ours})
        runs = dict(before)
        announced: dict[str, dict[str, DataFile]] = {}
        heard: set[str] = set()
        for message in ours:
            run = runs.get(message.run_id)
            if isinstance(message, StfReady):
                if run is not None:
                    runs[run.run_id] = replace(run, ready=True, ready_heard=True)
                    heard.add(run.run_id)
                continue
            if isinstance(message, StfGen):
                file = _file(message)
                files = announced.setdefault(message.run_id, {})
                files[file.filename] = _corrected(files.get(file.filename, file), file)
            run = self._learn(run, message, live=live)
            if run is not None:
                runs[run.run_id] = run
        new, corrected = self._files(runs, announced)
        changed = [run for run_id, run in runs.items() if run != before.get(run_id)]
        self._store.save(Changes(runs=changed, new_files=new, corrected=corrected, heard=heard))

    def _learn(self, run: DataRun | None, message: RunMessage, *, live: bool) -> DataRun | None:
        now = self._now()
        if run is None:
            if not isinstance(message, RunImminent | StartRun | StfGen | EndRun):
                return None
            # Where run_imminent was missed, its dataset has the usual name.
            run = DataRun(
                run_id=message.run_id,
                scope=self._scope,
                dataset=dataset_name(message.run_id),
                first_seen=now,
                last_sign=now,
            )
        if run.execution_id is None and message.execution_id is not None:
            run = replace(run, execution_id=message.execution_id)
        if live and run.finished is None:
            run = replace(run, last_sign=now)
        if isinstance(message, RunImminent):
            run = _check_execution(run, message)
            return run if run.announced else self._announce(run, message)
        if isinstance(message, EndRun):
            return self._end(run, message)
        if isinstance(message, PauseRun | ResumeRun):
            _log.info("Run %s: %s.", run.run_id, message.msg_type, extra=labels(run))
        return run

    def _announce(self, run: DataRun, message: RunImminent) -> DataRun:
        dataset = message.dataset_name
        if run.dataset_created and dataset != run.dataset:
            note = f"run_imminent came late and names the dataset {dataset}"
            if run.closed is None and not self._in_dataset(run) and not self._is_taking(run.run_id):
                note += f"; {run.dataset} stays empty"
                run = replace(run, dataset_created=False)
            else:
                note += f"; the files are in {run.dataset}"
                dataset = run.dataset
            _log.error("Run %s: %s.", run.run_id, note, extra=labels(run))
            run = replace(run, note=note)
        return replace(
            run,
            announced=True,
            dataset=dataset,
            container=message.container or run.container,
            run_conditions=message.run_conditions or {},
        )

    def _in_dataset(self, run: DataRun) -> int:
        counts = self._store.counts(run.run_id)
        return counts.get(FileState.CATALOGUED, 0) + counts.get(FileState.REGISTERED, 0)

    def _end(self, run: DataRun, message: EndRun) -> DataRun:
        if run.ended is None:
            _log.info("Run %s ended with %s files.", run.run_id, message.total_stf_files, extra=labels(run))
            return replace(run, ended=self._now(), total=message.total_stf_files)
        if message.total_stf_files is None or message.total_stf_files <= (run.total or -1):
            return run if run.closed else replace(run, end_assumed=False)
        if run.closed is None:
            return replace(run, end_assumed=False, total=message.total_stf_files)
        have = self._in_dataset(run)
        complete = have >= message.total_stf_files
        run = replace(run, total=message.total_stf_files, complete=complete)
        if complete:
            return run
        note = (
            f"end_run came after the dataset was closed: {have} of {message.total_stf_files} files are in it"
        )
        _log.error("Run %s: %s.", run.run_id, note, extra=labels(run))
        return replace(run, note=note)

    def _files(
        self, runs: dict[str, DataRun], announced: Mapping[str, Mapping[str, DataFile]]
    ) -> tuple[list[DataFile], list[DataFile]]:
        """Return files that are new, and those that are announced otherwise
        than before; runs are noted what went wrong.
        """
        new, corrected = [], []
        for run_id, files in announced.items():
            known = self._store.named(run_id, files)
            run = runs[run_id]
            for name, file in files.items():
                before = known.get(name)
                if before is None:
                    if run.closed is not None:
                        error = f"it came after the dataset {run.scope}:{run.dataset} was closed"
                        _log.error("Run %s: %s is lost to it: %s.", run_id, name, error, extra=labels(run))
                        run = replace(run, note=f"{name}: {error}")
                        new.append(replace(file, state=FileState.LATE, error=error))
                    else:
                        new.append(file)
                elif before.state is FileState.ANNOUNCED:
                    if (again := _corrected(before, file)) != before:
                        corrected.append(again)
                elif before.state in _TAKEN and (said := _contradiction(before, file)):
                    said = f"{name} is announced once more, {said}; what was registered stays"
                    if said not in (run.note or ""):
                        _log.error("Run %s: %s.", run_id, said, extra=labels(run))
                        run = run.noting(said)
            runs[run_id] = run
        return new, corrected


def _check_execution(run: DataRun, message: RunImminent) -> DataRun:
    """Say so if a run's number is given to another execution: somebody counts
    from the beginning.
    """
    if message.execution_id in (None, run.execution_id):
        return run
    state = "is closed" if run.closed else "is in hand"
    said = (
        f"run_imminent names the execution {message.execution_id}, but run {run.run_id} is that of "
        f"{run.execution_id}, and its dataset {run.scope}:{run.dataset} {state}: was the number given twice?"
    )
    if said in (run.note or ""):
        return run
    _log.error("Run %s: %s", run.run_id, said, extra=labels(run))
    return run.noting(said)


def _plain_name(message: StfGen) -> str:
    name = message.file
    if PurePosixPath(name).name != name or name.startswith("."):
        raise InvalidMessage(f"stf_gen: filename: {name!r} is no plain file name")
    return name


def _corrected(before: DataFile, again: DataFile) -> DataFile:
    """Return a file that is waited for as it was announced last."""
    size = before.expected_size if again.expected_size is None else again.expected_size
    checksum = before.expected_checksum if again.expected_checksum is None else again.expected_checksum
    if (size, checksum) == (before.expected_size, before.expected_checksum):
        return before
    return replace(before, expected_size=size, expected_checksum=checksum, attempts=0, due=None)


def _contradiction(there: DataFile, again: DataFile) -> str | None:
    """Say how an announcement differs from a file that was taken."""
    if again.expected_size is not None and again.expected_size != there.size_bytes:
        return f"with {again.expected_size} bytes instead of {there.size_bytes}"
    if there.adler32 is not None and not same_checksum(again.expected_checksum, there.adler32):
        return f"with the checksum {again.expected_checksum} instead of {there.adler32}"
    return None


def _file(message: StfGen) -> DataFile:
    name = _plain_name(message)
    parsed = parse_stf_filename(name)
    return DataFile(
        run_id=message.run_id,
        filename=name,
        guid=str(uuid4()),
        sequence=message.sequence if message.sequence is not None else parsed and parsed.sequence,
        machine_state=message.state,
        substate=message.substate,
        expected_size=message.size_bytes,
        expected_checksum=message.checksum,
    )
