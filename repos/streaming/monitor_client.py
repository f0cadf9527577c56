"""The monitor over HTTP: that of this project, or the one in the field."""

from __future__ import annotations

__all__ = ["MonitorClient"]

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import UUID

from pydantic import BaseModel, ValidationError

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.monitoring import (
    FINAL_STATUSES,
    AgentReport,
    Execution,
    ExecutionStatus,
    FileTally,
    FileUpdate,
    NewStfFile,
    Run,
    RunState,
    StfFile,
    StfStatus,
    SystemAgent,
)
from repos.streaming.monitor_http import Conflict, MonitorHttp, NotSupported

#: Files in one request, and messages in one answer.
_AT_ONCE = 1000
_MESSAGES = 10_000
#: Files in a page of which only their names are wanted.
_NAMES = 5000
#: So many times as many files as are changed are fetched at once, rather than
#: those one by one.
_FEW = 10

#: What can stand between two slashes of a URL.
_SEGMENT = re.compile(r"(?!\.{1,2}$)[^/\x00-\x1f\ud800-\udfff]+")

_Row = TypeVar("_Row", bound=BaseModel)


class MonitorClient:
    """A `services.streaming.monitor.Monitor` that asks one over HTTP.

    The monitor in the field takes files one by one, replaces their metadata
    as a whole and has no filter for runs; this one here takes lists. Which
    one it is shows when it is first sent a list.

    Parameters
    ----------
    http : `repos.streaming.monitor_http.MonitorHttp`
    """

    def __init__(self, http: MonitorHttp) -> None:
        self._http = http
        self._keys: dict[int, int] = {}
        self._takes_lists = True

    def close(self) -> None:
        """Let go of its connections."""
        self._http.close()

    def next_agent_id(self) -> int:
        """Return a number that no agent has."""
        answer = self._http.request("POST", "state/next-agent-id/", body={})
        try:
            return int(answer["agent_id"])
        except (KeyError, TypeError, ValueError) as error:
            raise TemporarilyUnavailable(f"the monitor gave no agent id: {answer!r:.200}") from error

    def report(self, report: AgentReport) -> None:
        """Take a sign of life."""
        body = report.model_dump(mode="json")
        if not report.metadata:
            del body["metadata"]
        self._http.request("POST", "systemagents/heartbeat/", body=body)

    def add_subscriber(self, name: str, description: str) -> None:
        """Note that an agent listens to a destination."""
        body = {"subscriber_name": name, "description": description, "is_active": True, "fraction": 1.0}
        try:
            self._http.request("POST", "subscribers/", body=body)
        except Conflict:
            return

    def open_run(
        self, run_number: int, *, start_time: datetime, run_conditions: Mapping[str, Any] | None = None
    ) -> Run:
        """Register a run, or return the one of this number."""
        body = {
            "run_number": run_number,
            "start_time": start_time.isoformat(),
            "run_conditions": dict(run_conditions or {}),
        }
        try:
            run = _read(Run, self._http.request("POST", "runs/", body=body))
        except Conflict:
            return _read(Run, self._http.get(f"runs/{self._key(run_number)}/"))
        self._keys[run_number] = run.run_id
        return run

    def close_run(self, run_number: int, *, end_time: datetime) -> None:
        """Note the end of a run.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if there is no run of this number.
        """
        self._http.request("PATCH", f"runs/{self._key(run_number)}/", body={"end_time": end_time.isoformat()})

    def register_files(self, run_number: int, files: Sequence[NewStfFile]) -> Sequence[StfFile]:
        """Register files of a run, in this order; those that are there
        already are returned as they are.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if there is no run of this number, or a file is refused;
            files before it were registered.
        """
        if not files:
            return []
        try:
            return self._register(run_number, files)
        except InvalidMessage:
            # The monitor's database may be another than when this was looked up.
            if self._keys.pop(run_number, None) is None:
                raise
        return self._register(run_number, files)

    def files(self, run_number: int, *, statuses: Collection[StfStatus] | None = None) -> Sequence[StfFile]:
        """Return files of a run, of some statuses or of all."""
        params = {"run_number": str(run_number)}
        asked: list[dict[str, str]] = [params]
        if statuses is not None:
            # One by one, as the field's monitor has it; in the order in which
            # a file gets them, so that none escapes by a change.
            asked = [{**params, "status": status.value} for status in StfStatus if status in statuses]
        found = {
            row.file_id: row
            for each in asked
            for row in _read_all(StfFile, self._http.get("stf-files/", each))
            if statuses is None or row.status in statuses
        }
        return sorted(found.values(), key=lambda row: row.stf_filename)

    def file_names(self, run_number: int) -> Iterator[str]:
        """Yield the names of the files of a run, asked for page by page."""
        seen: set[str] = set()
        total: int | None = None
        while total is None or len(seen) < total:
            params = {"run_number": str(run_number), "limit": str(_NAMES), "offset": str(len(seen))}
            count, rows = self._page(params)
            # Files that come meanwhile are before the others, which move on.
            total = count if total is None else total
            new = {str(row.get("stf_filename")) for row in rows if isinstance(row, dict)} - seen
            yield from new
            seen |= new
            if not new and len(seen) < total:
                # Its pages are none, or have no order.
                yield from {row.stf_filename for row in self.files(run_number)} - seen
                return

    def tally_files(self, run_number: int) -> Mapping[str, FileTally]:
        """Return how many files of each status a run has."""
        tally = {}
        for status in StfStatus:
            params = {"run_number": str(run_number), "limit": "1", "status": status.value}
            count, rows = self._page(params)
            if rows:
                tally[status.value] = FileTally(count=count, latest=_read(StfFile, rows[0]))
        return tally

    def update_files(self, run_number: int, updates: Sequence[FileUpdate]) -> None:
        """Change files of a run.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if one is not there or refused; ones before it were changed.
        """
        if self._takes_lists:
            try:
                for part in _parts([update.model_dump(mode="json") for update in updates]):
                    self._http.request("PATCH", "stf-files/", body=part)
            except NotSupported:
                self._takes_lists = False
            else:
                return
        present = self._present(run_number, updates)
        for update in updates:
            row = present.get(update.file_id)
            if row is None:
                raise InvalidMessage(f"file_id: run {run_number} has no file with the id {update.file_id}")
            late = row.status in FINAL_STATUSES and update.status not in FINAL_STATUSES
            after = row.model_copy(
                update={
                    "status": row.status if late else update.status,
                    "metadata": {**row.metadata, **update.metadata},
                }
            )
            if after != row:
                body = after.model_dump(mode="json", include={"status", "metadata"})
                self._http.request("PATCH", f"stf-files/{row.file_id}/", body=body)
                present[row.file_id] = after

    def execution(self, execution_id: str) -> Execution | None:
        """Return an execution; None if there is none of this id."""
        # Nothing has the id that no URL can have.
        path = quote(execution_id, safe="")
        row = self._http.find(f"workflow-executions/{path}/") if _SEGMENT.fullmatch(execution_id) else None
        return None if row is None else _read(Execution, row)

    def end_execution(self, execution_id: str, status: ExecutionStatus, *, end_time: datetime) -> None:
        """Note how an execution ended. One that failed stays failed.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if there is none of this id.
        """
        execution = self.execution(execution_id)
        if execution is None:
            raise InvalidMessage(f"execution_id: there is no execution {execution_id}")
        if execution.status == ExecutionStatus.FAILED or (
            execution.status == ExecutionStatus.TERMINATED and status is ExecutionStatus.COMPLETED
        ):
            return
        body = {"status": str(status), "end_time": end_time.isoformat()}
        path = quote(execution_id, safe="")
        self._http.request("PATCH", f"workflow-executions/{path}/", body=body)

    def executions(self, namespace: str, *, status: ExecutionStatus) -> Sequence[Execution]:
        """Return executions of a namespace that stand like this."""
        params = {"namespace": namespace, "status": str(status)}
        return _read_all(Execution, self._http.get("workflow-executions/", params))

    def agents(self, namespace: str) -> Sequence[SystemAgent]:
        """Return the agents of a namespace, also those that have ended."""
        # The field's monitor returns those of all namespaces.
        agents = _read_all(SystemAgent, self._http.get("systemagents/", {"namespace": namespace}))
        return [agent for agent in agents if agent.namespace == namespace]

    def run_state(self, run_number: int) -> RunState | None:
        """Return how a run stands; None if nobody told."""
        row = self._http.find(f"run-states/{run_number}/")
        return None if row is None else _read(RunState, row)

    def messages(self, execution_id: str) -> Sequence[Mapping[str, Any]]:
        """Return the bodies of the bus's messages about an execution, the
        oldest first; empty where the monitor records none.
        """
        rows = [row for row in self._messages(execution_id) if row.get("is_successful") is not False]
        if rows and str(rows[0].get("sent_at")) >= str(rows[-1].get("sent_at")):
            # The newest first, as here and in the field.
            rows.reverse()
        bodies = [row.get("message_content") for row in rows]
        return [body for body in bodies if isinstance(body, dict)]

    def _page(self, params: Mapping[str, str]) -> tuple[int, list[Any]]:
        """Return how many files there are, and those of a page."""
        page = self._http.get("stf-files/", params)
        if not isinstance(page, dict) or not isinstance(page.get("count"), int):
            raise TemporarilyUnavailable("the monitor: a page of files does not say how many there are")
        rows = page.get("results")
        if not isinstance(rows, list):
            raise TemporarilyUnavailable("the monitor: a page of files has no list of them")
        return page["count"], rows

    def _present(self, run_number: int, updates: Sequence[FileUpdate]) -> dict[UUID, StfFile]:
        """Return files that are to be changed, those of them that there are."""
        if self._page({"run_number": str(run_number), "limit": "1"})[0] <= _FEW * len(updates):
            return {row.file_id: row for row in self.files(run_number)}
        ids = dict.fromkeys(update.file_id for update in updates)
        found = (self._http.find(f"stf-files/{file_id}/") for file_id in ids)
        return {row.file_id: row for row in (_read(StfFile, one) for one in found if one is not None)}

    def _messages(self, execution_id: str) -> Iterator[dict[str, Any]]:
        seen: set[Any] = set()
        for offset in itertools.count(0, _MESSAGES):
            params = {"execution_id": execution_id, "limit": str(_MESSAGES), "offset": str(offset)}
            page = self._http.get("workflow-messages/", params)
            if not isinstance(page, list):
                raise TemporarilyUnavailable("the monitor: its messages are no list")
            # What has come since moves the others on; and the monitor in the
            # field gives all of them at once, whatever is asked for.
            rows = [row for row in page if isinstance(row, dict)]
            new = [row for row in rows if row.get("message_id") not in seen]
            yield from new
            seen.update(row.get("message_id") for row in rows)
            if len(page) != _MESSAGES or not new:
                return

    def _key(self, run_number: int) -> int:
        """Return the monitor's key of a run."""
        if run_number not in self._keys:
            rows = _read_all(Run, self._http.get("runs/", {"run_number": str(run_number)}))
            # All of them, where the monitor does not look for one.
            self._keys.update({row.run_number: row.run_id for row in rows})
        try:
            return self._keys[run_number]
        except KeyError:
            raise InvalidMessage(f"run_number: the monitor has no run {run_number}") from None

    def _register(self, run_number: int, files: Sequence[NewStfFile]) -> list[StfFile]:
        key = self._key(run_number)
        bodies = [{"run": key, **file.model_dump(mode="json")} for file in files]
        if self._takes_lists:
            try:
                parts = [self._http.request("POST", "stf-files/", body=part) for part in _parts(bodies)]
                return [row for part in parts for row in _read_all(StfFile, part)]
            except NotSupported:
                self._takes_lists = False
        known: dict[str, StfFile] | None = None
        rows = []
        for body in bodies:
            name = body["stf_filename"]
            if known is None or name not in known:
                try:
                    rows.append(_read(StfFile, self._http.request("POST", "stf-files/", body=body)))
                    continue
                except Conflict:
                    # Where one is there, others will be: look once.
                    if known is None:
                        known = {row.stf_filename: row for row in self.files(run_number)}
                    if name not in known:
                        known |= self._named(name)
            rows.append(known[name])
        return rows

    def _named(self, name: str) -> dict[str, StfFile]:
        rows = _read_all(StfFile, self._http.get("stf-files/", {"stf_filename": name}))
        found = {row.stf_filename: row for row in rows if row.stf_filename == name}
        if not found:
            raise TemporarilyUnavailable(f"the monitor has the file {name}, as it says, but does not show it")
        return found


def _parts(bodies: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(bodies)
    while part := list(itertools.islice(iterator, _AT_ONCE)):
        yield part


def _read(model: type[_Row], row: Any) -> _Row:
    try:
        return model.model_validate(row)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise TemporarilyUnavailable(f"the monitor's answer is no {model.__name__}: {faults}") from error


def _read_all(model: type[_Row], rows: Any) -> list[_Row]:
    if not isinstance(rows, list):
        raise TemporarilyUnavailable(f"the monitor's answer is no list of {model.__name__}")
    return [_read(model, row) for row in rows]
