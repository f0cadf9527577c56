"""The REST resources, one by one."""

from __future__ import annotations

__all__ = ["resource_views"]

from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from app.streaming.rest import bodies, queries
from app.streaming.rest.batches import FileViews, LogViews
from app.streaming.rest.resources import Listing, RowViews, Views, integer_key
from repos.streaming.monitor_rows import Page
from repos.streaming.monitor_store import MonitorStore

#: Messages and lines of logs in a list that asks for no number of them;
#: messages of one execution or run; and files, of which agents in the field
#: look for theirs among all.
_MOST = 10_000
_MOST_OF_ONE = 100_000
_MOST_FILES = 100_000


def resource_views(store: MonitorStore, *, zone: ZoneInfo) -> list[Views]:
    """Return the views of all resources that are tables.

    Parameters
    ----------
    store : `repos.streaming.monitor_store.MonitorStore`
    zone : `zoneinfo.ZoneInfo`
        That of times without one.
    """
    every = queries.EveryQuery
    plain = [
        RowViews(
            "systemagents",
            store.agents,
            bodies.AgentBody,
            integer_key,
            Listing(queries.AgentQuery, store.agents.listed),
        ),
        RowViews(
            "workflow-messages",
            store.messages,
            bodies.MessageBody,
            UUID,
            Listing(queries.MessageQuery, _Messages(store)),
            hidden=("broker_id", "received_order"),
        ),
        RowViews("runs", store.runs, bodies.RunBody, integer_key, Listing(queries.RunQuery, _Runs(store))),
        RowViews(
            "subscribers",
            store.subscribers,
            bodies.SubscriberBody,
            integer_key,
            Listing(every, store.subscribers.page),
        ),
        RowViews(
            "workflow-definitions",
            store.definitions,
            bodies.DefinitionBody,
            integer_key,
            Listing(queries.DefinitionQuery, store.definitions.listed),
        ),
        RowViews(
            "workflow-executions",
            store.executions,
            bodies.ExecutionBody,
            str,
            Listing(queries.ExecutionQuery, store.executions.listed),
        ),
        RowViews(
            "run-states",
            store.run_states,
            bodies.RunStateBody,
            integer_key,
            Listing(every, store.run_states.page),
            hidden=("latest",),
        ),
        RowViews(
            "system-state-events",
            store.state_events,
            bodies.StateEventBody,
            integer_key,
            Listing(every, store.state_events.page, most=_MOST),
        ),
        RowViews(
            "namespaces", store.namespaces, bodies.NamespaceBody, str, Listing(every, store.namespaces.page)
        ),
    ]
    files = RowViews(
        "stf-files",
        store.files,
        bodies.StfFileBody,
        UUID,
        Listing(queries.FileQuery, store.files.listed, most=_MOST_FILES, enveloped=True),
    )
    logs = RowViews(
        "logs",
        store.logs,
        bodies.LogBody,
        integer_key,
        Listing(queries.LogQuery, store.logs.listed, most=_MOST),
        hidden=("execution_id",),
    )
    return [
        *(Views(spec, zone=zone) for spec in plain),
        FileViews(files, files=store.files, zone=zone),
        LogViews(logs, logs=store.logs, zone=zone),
    ]


class _Messages:
    """Messages that came last; more of them of an execution or a run."""

    def __init__(self, store: MonitorStore) -> None:
        self._messages = store.messages

    def __call__(self, *, limit: int | None = None, **wanted: Any) -> Page:
        if limit is None:
            limit = _MOST_OF_ONE if {"execution_id", "run_id"} & {*wanted} else _MOST
        return self._messages.listed(limit=limit, **wanted)


class _Runs:
    """Runs as they are in their table."""

    def __init__(self, store: MonitorStore) -> None:
        self._runs = store.runs

    def __call__(self, *, run_number: int | None = None, limit: int | None = None, offset: int = 0) -> Page:
        number = self._runs.table.c.run_number
        conditions = [] if run_number is None else [number == run_number]
        return self._runs.page(*conditions, limit=limit, offset=offset)
