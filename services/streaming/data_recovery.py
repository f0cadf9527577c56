"""What messages did not tell, learnt from folder, catalogue and monitor."""

from __future__ import annotations

__all__ = ["DataRecovery"]

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.data_runs import Changes, DataFile, DataRun, FileState
from models.streaming.datasets import CatalogueFile, DatasetId
from models.streaming.messages import Message, RunMessage, StfGen, StfReady, read_message
from models.streaming.monitoring import Execution, ExecutionStatus
from models.streaming.names import parse_stf_filename
from services.streaming.catalogue import Catalogue
from services.streaming.data_intake import DataIntake, labels
from services.streaming.data_runs import RunStore, StfFolders
from services.streaming.monitor import Monitor
from services.streaming.run_ends import RunEnds
from services.streaming.slow_calls import SlowCalls, StillBusy

_log = logging.getLogger(__name__)

#: Runs that are remembered when unknown executions are looked for, executions
#: that are asked about at once, and seconds for which an execution that is
#: over is looked at after a start.
_RUNS = 500
_EXECUTIONS = 20
_LOOK_BACK = 3600.0
#: What takes long, and may be under way for a run.
_COMPARE = "compare"
#: Seconds without a message after which the monitor is asked whether it has
#: some that did not come here.
_QUIET = 10.0


class DataRecovery:
    """Finds files, messages and ends of runs that were missed.

    Parameters
    ----------
    store, intake, catalogue, monitor, folders
        What it reads, and what it tells.
    calls : `services.streaming.slow_calls.SlowCalls`
        Has the catalogue asked.
    containers : callable
        Returns the directories in which a run's folder may be.
    namespace : `str`
    now : callable
        Returns the present time, aware.
    silence, settling : `float`
        See `services.streaming.data_progress.DataLimits`.
    """

    def __init__(
        self,
        *,
        store: RunStore,
        intake: DataIntake,
        catalogue: Catalogue,
        monitor: Monitor,
        folders: StfFolders,
        calls: SlowCalls,
        containers: Callable[[DataRun], Sequence[str]],
        namespace: str,
        now: Callable[[], datetime],
        silence: float,
        settling: float,
    ) -> None:
        self._store = store
        self._intake = intake
        self._catalogue = catalogue
        self._monitor = monitor
        self._folders = folders
        self._calls = calls
        self._containers = containers
        self._namespace = namespace
        self._ends = RunEnds(monitor=monitor, namespace=namespace, now=now)
        self._now = now
        self._silence = timedelta(seconds=silence)
        self._settling = timedelta(seconds=settling)
        self._started = now()
        self._compared: set[str] = set()
        self._comparing: set[str] = set()
        self._asked: dict[str, datetime] = {}
        self._looked_back = False
        self._past: set[str] = set()
        self._deaf = False

    def recover(self) -> None:
        """Look once at everything.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the agent's own database is away.
        """
        self._unknown_executions()
        runs = [run.run_id for run in self._store.unfinished() if run.closed is None]
        for run_id in self._comparing.difference(runs):
            self._calls.drop(f"{_COMPARE} {run_id}")
        self._comparing.intersection_update(runs)
        for run_id in runs:
            # What one brought may be of others, too.
            run = self._store.runs([run_id])[run_id]
            self.search(run)
            self._compare(run)
            silence = self._now() - max(run.last_sign, self._started)
            if silence > timedelta(seconds=_QUIET) and self._asked.get(run.run_id) != run.last_sign:
                self._asked[run.run_id] = run.last_sign
                self.ask(run)
            self._missing_end(run.run_id)

    def search(self, run: DataRun) -> int:
        """Look in a run's folder for files that nobody announced; return how
        many there are.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the agent's own database is away.
        """
        containers = self._containers(run)
        found = self._folders.search(containers, run.dataset, run.run_id, self._store.known(run.run_id))
        new = [self._found(run, name, content) for name, content in found]
        if new:
            _log.warning(
                "Run %s: %d files were found that no message told of.",
                run.run_id,
                len(new),
                extra=labels(run),
            )
            self._store.save(Changes(runs=[replace(run, last_sign=self._now())], new_files=new))
        return len(new)

    def ask(self, run: DataRun) -> None:
        """Ask the monitor for a run's messages that did not come.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if the agent's own database is away.
        """
        if run.execution_id is not None:
            self._apply(self._messages(run.execution_id))

    def _found(self, run: DataRun, name: str, content: Mapping[str, Any]) -> DataFile:
        parsed = parse_stf_filename(name)
        file = DataFile(
            run_id=run.run_id, filename=name, guid=str(uuid4()), sequence=parsed and parsed.sequence
        )
        try:
            message = read_message(content)
        except InvalidMessage:
            return file
        if not isinstance(message, StfGen) or message.run_id != run.run_id:
            return file
        return replace(file, machine_state=message.state, substate=message.substate)

    def _compare(self, run: DataRun) -> None:
        """Take over what the catalogue has and we do not know, once a start."""
        if run.run_id in self._compared or not run.dataset_created:
            return
        if self._calls.what(run.run_id) is not None:
            # Its answer may say less than this one.
            return
        dataset = DatasetId(run.scope, run.dataset)
        self._comparing.add(run.run_id)
        try:
            there = self._calls.ask(
                f"{_COMPARE} {run.run_id}", str(dataset), lambda: self._catalogue.files(dataset)
            )
        except StillBusy:
            return
        except (TemporarilyUnavailable, InvalidMessage) as error:
            _log.warning("Run %s: the catalogue cannot be compared: %s", run.run_id, error)
            return
        self._compared.add(run.run_id)
        self._comparing.discard(run.run_id)
        # Another run may have named the same dataset.
        there = [file for file in there if _is_of(run, file)]
        waiting = {file.filename: file for file in self._store.files(run.run_id, FileState.ANNOUNCED)}
        known = self._store.known(run.run_id)
        self._store.save(
            Changes(
                files=[_catalogued(waiting[file.name], file) for file in there if file.name in waiting],
                new_files=[
                    _catalogued(self._found(run, file.name, {}), file)
                    for file in there
                    if file.name not in known
                ],
            )
        )

    def _unknown_executions(self) -> None:
        known = {run.execution_id for run in self._store.latest(_RUNS)}
        try:
            running = self._monitor.executions(self._namespace, status=ExecutionStatus.RUNNING)
            over: list[Execution] = []
            if not self._looked_back:
                for status in (ExecutionStatus.COMPLETED, ExecutionStatus.TERMINATED):
                    over += filter(self._is_recent, self._monitor.executions(self._namespace, status=status))
        except (TemporarilyUnavailable, InvalidMessage) as error:
            _log.log(
                logging.DEBUG if self._deaf else logging.WARNING,
                "The monitor cannot be asked for executions: %s",
                error,
            )
            self._deaf = True
            return
        self._deaf = False
        left = [execution for execution in over if execution.execution_id not in self._past]
        # Whatever died while it ran seems to run for ever: the newest count.
        for execution in [*_newest(running, known), *(past := _newest(left, known))]:
            if messages := self._messages(execution.execution_id):
                self._apply(messages)
            elif execution.status == ExecutionStatus.RUNNING:
                self._unannounced(execution)
        self._past.update(execution.execution_id for execution in past)
        self._looked_back = len(past) < _EXECUTIONS

    def _unannounced(self, execution: Execution) -> None:
        try:
            reason = self._ends.unannounced(execution)
        except (TemporarilyUnavailable, InvalidMessage) as error:
            _log.warning("The monitor cannot be asked for %s: %s", execution.execution_id, error)
            return
        if reason is not None:
            _log.error("A run never came: %s.", reason, extra={"execution_id": execution.execution_id})

    def _is_recent(self, execution: Execution) -> bool:
        # An agent that starts for the first time does not take up old runs.
        end = execution.end_time or execution.start_time
        return end is not None and self._now() - end < timedelta(seconds=_LOOK_BACK)

    def _messages(self, execution_id: str) -> list[Message]:
        try:
            bodies = self._monitor.messages(execution_id)
        except (TemporarilyUnavailable, InvalidMessage) as error:
            _log.warning("The monitor cannot be asked for messages: %s", error)
            return []
        messages: list[Message] = []
        for body in bodies:
            try:
                message = read_message(body)
            except InvalidMessage:
                continue
            if message.namespace == self._namespace and isinstance(message, RunMessage | StfReady):
                messages.append(message)
        return messages

    def _apply(self, messages: list[Message]) -> None:
        try:
            self._intake.apply(messages, live=False)
        except InvalidMessage:
            for message in messages:
                try:
                    self._intake.apply([message], live=False)
                except InvalidMessage as error:
                    _log.warning("A message that the monitor has is of no use: %s", error)

    def _missing_end(self, run_id: str) -> None:
        run = self._store.runs([run_id])[run_id]
        quiet = self._now() - max(run.last_sign, self._started)
        if run.ended is not None or quiet < self._settling:
            return
        try:
            reason = self._ends.reason(run, silent=self._now() - run.last_sign >= self._silence)
        except (TemporarilyUnavailable, InvalidMessage) as error:
            _log.warning("Run %s: the monitor cannot be asked whether it ended: %s", run.run_id, error)
            return
        if reason is None:
            return
        self.ask(run)
        run = self._store.runs([run_id])[run_id]
        if run.ended is not None:
            return
        note = f"end_run never came ({reason})"
        _log.error("Run %s: %s; its files are counted.", run.run_id, note, extra=labels(run))
        self._store.save(Changes(runs=[replace(run, ended=self._now(), end_assumed=True, note=note)]))


def _newest(executions: Iterable[Execution], known: Collection[str | None]) -> list[Execution]:
    """Return some that are not known."""
    unknown = [execution for execution in executions if execution.execution_id not in known]
    unknown.sort(key=lambda execution: execution.start_time or datetime.max.replace(tzinfo=UTC), reverse=True)
    return unknown[:_EXECUTIONS]


def _is_of(run: DataRun, file: CatalogueFile) -> bool:
    number = file.metadata.get("run_number")
    if number is not None:
        return str(number) == str(int(run.run_id))
    parsed = parse_stf_filename(file.name)
    return parsed is None or parsed.run_id == run.run_id


def _catalogued(file: DataFile, there: CatalogueFile) -> DataFile:
    return replace(
        file,
        state=FileState.CATALOGUED,
        size_bytes=there.size_bytes,
        adler32=there.adler32 or None,
        guid=there.guid,
        due=None,
        error=None,
    )
