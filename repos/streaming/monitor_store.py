"""What the monitor keeps, resource by resource."""

from __future__ import annotations

__all__ = ["MonitorStore"]

from dataclasses import dataclass

import sqlalchemy as sa

from repos.streaming.monitor_agents import AgentStore, SubscriberStore
from repos.streaming.monitor_executions import DefinitionStore, ExecutionStore, NamespaceStore, NumberStore
from repos.streaming.monitor_files import FileStore
from repos.streaming.monitor_log_store import LogStore
from repos.streaming.monitor_messages import MessageStore
from repos.streaming.monitor_runs import RunStateStore, RunStore, StateEventStore


@dataclass(frozen=True)
class MonitorStore:
    """The monitor's resources in one database."""

    numbers: NumberStore
    namespaces: NamespaceStore
    definitions: DefinitionStore
    executions: ExecutionStore
    runs: RunStore
    run_states: RunStateStore
    state_events: StateEventStore
    files: FileStore
    messages: MessageStore
    logs: LogStore
    agents: AgentStore
    subscribers: SubscriberStore

    @classmethod
    def on(cls, engine: sa.Engine) -> MonitorStore:
        """Return those in a database.

        Parameters
        ----------
        engine : `sqlalchemy.Engine`
            See `repos.streaming.database`.
        """
        return cls(
            numbers=NumberStore(engine),
            namespaces=NamespaceStore(engine),
            definitions=DefinitionStore(engine),
            executions=ExecutionStore(engine),
            runs=RunStore(engine),
            run_states=RunStateStore(engine),
            state_events=StateEventStore(engine),
            files=FileStore(engine),
            messages=MessageStore(engine),
            logs=LogStore(engine),
            agents=AgentStore(engine),
            subscribers=SubscriberStore(engine),
        )
