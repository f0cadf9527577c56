"""What all agents are wired with: journal, outbox, broker, monitor, logs."""

from __future__ import annotations

__all__ = ["agent_key", "alone", "connect_monitor", "create_agent", "ending_signals", "run_agent"]

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from app.streaming.workplace import the_only_agent
from config.streaming.settings import StreamingSettings
from config.streaming.testbed import load_testbed_config
from config.user import user_name
from models.errors import InvalidConfiguration
from models.streaming.bus import STOMP
from models.streaming.messages import RUN_TOPIC
from repos.streaming.agent_outbox import AgentOutbox
from repos.streaming.database import StreamingEngine
from repos.streaming.journal import AgentJournal
from repos.streaming.monitor_client import MonitorClient
from repos.streaming.monitor_http import MonitorHttp
from repos.streaming.monitor_logs import HttpLogSink, MonitorLogHandler
from services.outbox import OutboxDrain
from services.streaming.agent import Agent, take_name
from services.streaming.agent_logic import AgentLogic
from services.streaming.bus import Bus, BusSender
from services.streaming.monitor import Monitor
from services.streaming.upkeep import Upkeep

_log = logging.getLogger(__name__)

#: Seconds within which an agent ends that is told to, less than supervisord
#: grants.
_ENDING = 7.0
#: Seconds for which the last lines of the log may be on their way to the
#: monitor.
_LAST_LINES = 1.0


def agent_key(role: str, namespace: str) -> str:
    """Return under what an agent keeps its journal and outbox."""
    return f"{role}.{namespace}"


@contextmanager
def alone(settings: StreamingSettings, role: str) -> Iterator[None]:
    """Be the only agent of a role that keeps what it knows in a directory.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if another is there already; the text says which process it is.
    models.errors.InvalidConfiguration
        Raised if the directory cannot be used, or the testbed's file is wrong.
    """
    if settings.streaming_database is not None:  # The broker lets in one of each.
        yield
        return
    namespace = load_testbed_config(settings=settings).namespace
    with the_only_agent(settings.testbed_directory, role, namespace):
        yield


def create_agent(
    *,
    engine: StreamingEngine,
    role: str,
    agent_type: str,
    namespace: str,
    bus: Bus,
    monitor: Monitor,
    logic: Callable[[str], AgentLogic],
    keep: timedelta | None,
    destination: str = RUN_TOPIC,
) -> Agent:
    """Return an agent, not started yet.

    Parameters
    ----------
    engine : `repos.streaming.database.StreamingEngine`
        Of its database.
    role : `str`
        Such as ``data``; with the namespace it names journal, outbox and
        durable subscription.
    agent_type, namespace : `str`
        As the monitor knows it.
    bus : `services.streaming.bus.Bus`
    monitor : `services.streaming.monitor.Monitor`
    logic : callable
        Makes what it does, given its name.
    keep : `datetime.timedelta` or `None`
        How long messages that were set aside are kept; None for ever.
    destination : `str`, optional
        What it listens to.

    Raises
    ------
    models.errors.TemporarilyUnavailable
        Raised if its database is away.
    """
    key = agent_key(role, namespace)
    journal = AgentJournal(engine, agent=key)
    name = take_name(agent_type=agent_type, user=user_name(), monitor=monitor, journal=journal)
    outbox = AgentOutbox(engine, agent=key, owner=f"{name}:{os.getpid()}")
    drain = OutboxDrain(store=outbox, senders={STOMP: BusSender(bus)})
    return Agent(
        name=name,
        agent_type=agent_type,
        namespace=namespace,
        destination=destination,
        subscription=f"{role}-{namespace}",
        bus=bus,
        journal=journal,
        logic=logic(name),
        monitor=monitor,
        drain=drain,
        upkeep=Upkeep(
            journal=journal, outbox=drain.counts, forget=[journal.forget, outbox.forget], keep=keep
        ),
    )


def connect_monitor(settings: StreamingSettings) -> MonitorClient:
    """Return the monitor that the settings name.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if they name none.
    """
    if settings.monitor_url is None:
        raise InvalidConfiguration("SWF_MONITOR_URL is empty; an agent needs the URL of a monitor")
    return MonitorClient(MonitorHttp(settings.monitor_url, token=settings.api_token.get_secret_value()))


def ending_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that end an agent: SIGTERM, SIGQUIT, SIGINT, and
    SIGHUP unless it was begun with ``nohup``.
    """
    always = signal.SIGTERM, signal.SIGQUIT, signal.SIGINT
    return always if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*always, signal.SIGHUP)


def run_agent(agent: Agent, settings: StreamingSettings) -> None:
    """Run an agent until one of the `ending_signals`; then end it cleanly: the
    monitor is told, and what waits is there at the next start. What it logs
    goes to the monitor too.
    """
    told = threading.Event()
    for number in ending_signals():
        signal.signal(number, lambda _number, _frame: told.set())
    logs = None
    if settings.logs_url is not None:
        sink = HttpLogSink(MonitorHttp(settings.logs_url, token=settings.api_token.get_secret_value()))
        logs = MonitorLogHandler(sink, instance_name=agent.name)
        logging.getLogger().addHandler(logs)
        logs.start()
    _log.info("%s starts.", agent.name)
    agent.start()
    told.wait()
    _log.info("%s ends.", agent.name)
    agent.stop(_ENDING)
    if logs is not None:
        logs.stop(_LAST_LINES)
