"""The monitor, as the data acquisition asks it over HTTP.

Of the field's monitor or of this project's.
"""

from __future__ import annotations

__all__ = ["RestDaqMonitor"]

from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import stamina

from models.errors import InvalidMessage, TemporarilyUnavailable
from models.streaming.monitoring import AgentReport, AgentState, AgentStatus, ExecutionStatus
from models.streaming.names import DAQ_TYPE
from simulator.daq.monitor import NewExecution

#: Seconds that an answer may take.
_TIMEOUT = 5.0
#: Answers after which the same may succeed.
_PASSING = frozenset({404, 408, 429, 500, 502, 503, 504})
#: Answers to who has no token, or a wrong one.
_NOT_LET_IN = frozenset({401, 403})
#: Times that something is asked, and seconds between the first two.
_ATTEMPTS = 4
_DELAY = 0.5
#: Statuses of executions that have ended.
_OVER = frozenset({ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.TERMINATED})
#: Counters that a run's state begins with.
_COUNTERS = (
    "active_worker_count",
    "target_worker_count",
    "stf_samples_received",
    "slices_created",
    "slices_queued",
    "slices_processing",
    "slices_completed",
    "slices_failed",
)


class _PassingTrouble(Exception):
    """No answer, or one after which the same may succeed."""


class RestDaqMonitor:
    """A `simulator.daq.monitor.DaqMonitor` over HTTP.

    Parameters
    ----------
    url : `str`
        Of the monitor, without ``/api``.
    token : `str`, optional
        Of those who write.
    attempts : `int`, optional
        Times that something is asked.
    delay : `float`, optional
        Seconds between the first two; each further pause is twice as long.
    client : `httpx.Client`, optional
        To be used instead of one of its own.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        attempts: int = _ATTEMPTS,
        delay: float = _DELAY,
        client: httpx.Client | None = None,
    ) -> None:
        self._api = f"{url.rstrip('/')}/api"
        self._headers = {"Authorization": f"Token {token}"} if token else {}
        self._attempts = attempts
        self._delay = delay
        self._client = client or httpx.Client(timeout=_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def next_agent_id(self) -> int:
        """Return a number that no agent has."""
        return self._number("next-agent-id", "agent_id")

    def next_execution_number(self, workflow_name: str) -> int:
        """Return a number that no execution has."""
        return self._number("next-workflow-execution-id", "sequence", {"workflow_name": workflow_name})

    def next_run_number(self) -> int:
        """Return a number that no run has."""
        return self._number("next-run-number", "run_number")

    def define_workflow(
        self, name: str, version: str, *, definition: str, parameter_values: dict[str, Any], created_by: str
    ) -> int:
        """Return the key of a workflow's definition."""
        wanted = {"workflow_name": name, "version": version}
        known = self._definition(wanted)
        if known is None:
            # Refused, if another was faster: then it is there as well.
            refusal = self._create(
                "workflow-definitions",
                {
                    **wanted,
                    "workflow_type": "simulation",
                    "definition": definition,
                    "parameter_values": parameter_values,
                    "created_by": created_by,
                    "created_at": datetime.now(UTC).isoformat(),
                },
            )
            known = self._definition(wanted)
            if known is None:
                raise InvalidMessage(
                    f"the monitor has no definition of workflow {name} {version}, and takes none: {refusal}"
                )
        return known

    def ensure_namespace(self, name: str, owner: str) -> None:
        """Register a namespace if it is not."""
        self._ask("POST", "namespaces/ensure", {"name": name, "owner": owner})

    def begin_execution(self, execution: NewExecution) -> None:
        """Register an execution that runs."""
        refusal = self._create(
            "workflow-executions",
            {
                "execution_id": execution.execution_id,
                "workflow_definition": execution.workflow_definition,
                "namespace": execution.namespace,
                "status": ExecutionStatus.RUNNING,
                "executed_by": execution.executed_by,
                "start_time": execution.start_time.isoformat(),
                "parameter_values": execution.parameter_values,
            },
        )
        if refusal is None:
            return
        # It is there if the answer to an earlier attempt was lost.
        row = self._get(f"workflow-executions/{quote(execution.execution_id, safe='')}")
        if row is None or _time(row.get("start_time")) != execution.start_time:
            raise InvalidMessage(f"execution {execution.execution_id}: {refusal}")

    def is_over(self, execution_id: str) -> bool:
        """Say whether an execution has ended, whoever ended it."""
        row = self._ask("GET", f"workflow-executions/{quote(execution_id, safe='')}", attempts=2)
        return isinstance(row, Mapping) and row.get("status") in _OVER

    def begin_run(self, run_number: int, execution_id: str, *, at: datetime) -> None:
        """Register that a run is imminent."""
        refusal = self._create(
            "run-states",
            {
                "run_number": run_number,
                "phase": "initializing",
                "state": "imminent",
                "substate": "preparing",
                **dict.fromkeys(_COUNTERS, 0),
                "state_changed_at": at.isoformat(),
                "metadata": {
                    "execution_id": execution_id,
                    "stf_sampling_rate": None,
                    "slices_per_sample": None,
                },
            },
        )
        if refusal is not None and self._get(f"run-states/{run_number}") is None:
            raise InvalidMessage(f"run {run_number}: {refusal}")

    def end_execution(self, execution_id: str, status: ExecutionStatus, *, end_time: datetime) -> None:
        """Note how an execution ended. One that failed stays failed."""
        path = f"workflow-executions/{quote(execution_id, safe='')}"
        if status is not ExecutionStatus.FAILED:
            row = self._get(path)
            if row is not None and row.get("status") == ExecutionStatus.FAILED:
                return
        # Whoever tells this tells it again.
        self._ask("PATCH", path, {"status": status, "end_time": end_time.isoformat()}, attempts=2)

    def end_run(self, run_number: int, *, at: datetime) -> None:
        """Note that a run is over which was imminent, and of which the bus
        says nothing.
        """
        path = f"run-states/{run_number}"
        if self._get(path) is not None:
            ended = {"phase": "completed", "state": "ended", "substate": None}
            self._ask("PATCH", path, {**ended, "state_changed_at": at.isoformat()}, attempts=2)

    def report(self, report: AgentReport) -> None:
        """Take a sign of life; the next one comes anyhow, so it is sent once."""
        self._ask("POST", "systemagents/heartbeat", report.model_dump(mode="json"), attempts=1)

    def is_served(self, namespace: str, *, besides: str) -> bool:
        """Say whether an agent other than `besides` runs workflows of a
        namespace. The monitor notes which agents fell silent.
        """
        agents = self._ask("GET", "systemagents")
        if not isinstance(agents, list):
            raise TemporarilyUnavailable(f"{self._api}/systemagents/ answers with no list")
        return any(
            isinstance(agent, Mapping)
            and agent.get("agent_type") == DAQ_TYPE
            and agent.get("namespace") == namespace
            and agent.get("instance_name") != besides
            and agent.get("status") != AgentStatus.EXITED
            and agent.get("operational_state") != AgentState.EXITED
            for agent in agents
        )

    def _number(self, what: str, label: str, body: Mapping[str, Any] | None = None) -> int:
        answer = self._ask("POST", f"state/{what}", body or {})
        try:
            return int(answer[label])
        except (KeyError, TypeError, ValueError) as error:
            raise TemporarilyUnavailable(f"{self._api}/state/{what}/ gives no {label}: {answer!r}") from error

    def _definition(self, wanted: Mapping[str, str]) -> int | None:
        rows = self._ask("GET", "workflow-definitions", params=wanted)
        for row in rows if isinstance(rows, list) else ():
            # Filters that a monitor does not know are no filters.
            if all(row.get(key) == value for key, value in wanted.items()):
                return int(row["id"])
        return None

    def _create(self, path: str, body: Mapping[str, Any]) -> str | None:
        """Make something; return why it was refused, None if it was not."""
        try:
            self._ask("POST", path, body)
        except InvalidMessage as error:
            return str(error)
        return None

    def _get(self, path: str) -> Mapping[str, Any] | None:
        try:
            answer = self._ask("GET", path, missing_is_an_answer=True)
        except InvalidMessage:
            return None
        return answer if isinstance(answer, Mapping) else None

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        attempts: int | None = None,
        missing_is_an_answer: bool = False,
    ) -> Any:
        passing = _PASSING - {404} if missing_is_an_answer else _PASSING
        try:
            for attempt in stamina.retry_context(
                on=_PassingTrouble,
                attempts=attempts or self._attempts,
                timeout=None,
                wait_initial=self._delay,
                wait_jitter=self._delay / 2,
                wait_exp_base=2,
            ):
                with attempt:
                    return self._ask_once(method, f"{self._api}/{path}/", body, params, passing)
        except _PassingTrouble as error:
            raise TemporarilyUnavailable(str(error)) from error
        raise AssertionError("stamina ran no attempt")

    def _ask_once(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None,
        params: Mapping[str, str] | None,
        passing: frozenset[int],
    ) -> Any:
        try:
            response = self._client.request(method, url, json=body, params=params, headers=self._headers)
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise _PassingTrouble(f"the monitor {url} does not answer: {reason}") from error
        if response.status_code in passing:
            raise _PassingTrouble(f"the monitor {url} answers {response.status_code}: {response.text[:200]}")
        if response.status_code in _NOT_LET_IN:
            # Nothing is wrong with what is asked; but it is no use to ask again soon.
            raise TemporarilyUnavailable(
                f"the monitor {url} refuses our token (SWF_API_TOKEN): {response.status_code} "
                f"{response.text[:200]}"
            )
        if not response.is_success:
            raise InvalidMessage(f"the monitor {url} answers {response.status_code}: {response.text[:500]}")
        try:
            return response.json() if response.content else None
        except ValueError as error:
            raise _PassingTrouble(f"the monitor {url} does not answer in JSON") from error


def _time(value: object) -> datetime | None:
    """Return a time of an answer; None if it is none or has no zone."""
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return time if time.tzinfo is not None else None
