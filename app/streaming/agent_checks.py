"""What can be checked of the streaming workflow before data are taken."""

from __future__ import annotations

__all__ = ["agent_checks"]

import uuid
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from app.checks import Check, check_writable
from app.streaming.agent_parts import connect_monitor
from app.streaming.bus_factory import stomp_broker
from config.streaming.panda_environment import panda_environment
from config.streaming.payload_environment import payload_environment
from config.streaming.settings import StreamingSettings
from config.streaming.testbed import load_testbed_config
from repos.ledger_database import reading
from repos.ledger_schema import UnknownSchema
from repos.streaming.database import create_streaming_engine, embedded_file
from repos.streaming.panda_client import PandaClient
from repos.streaming.payloads import parse_payload
from repos.streaming.stomp_connection import StompConnection

#: Seconds that a broker may take to let us go.
_LEAVE = 5.0


def agent_checks(settings: StreamingSettings) -> list[Check]:
    """Return the checks of what the agents need, and the testbed.

    Parameters
    ----------
    settings : `config.streaming.settings.StreamingSettings`
        Brokers and monitors are looked at if they are named; without, all is
        in one process.
    """
    checks = [
        Check("configuration of the testbed", partial(_check_configuration, settings)),
        Check("directory of the testbed", partial(_check_directory, settings)),
        *_database_checks(settings),
    ]
    if settings.has_broker:
        name = f"message broker {settings.activemq_host}:{settings.activemq_port}"
        checks.append(Check(name, partial(_check_broker, settings)))
    if settings.has_monitor:
        checks.append(Check(f"monitor {settings.monitor_url}", partial(_check_monitor, settings)))
    if settings.catalogue == "rucio":
        checks.append(Check("Rucio", _check_rucio))
    if settings.executor == "panda":
        checks.append(Check("PanDA", _check_panda))
    else:
        checks.append(Check(f"payload {settings.payload}", partial(_check_payload, settings.payload)))
    return checks


def _check_configuration(settings: StreamingSettings) -> list[str]:
    load_testbed_config(settings=settings)
    return []


def _check_directory(settings: StreamingSettings) -> list[str]:
    fault = check_writable("PP_TESTBED_DIRECTORY", settings.testbed_directory)
    return [] if fault is None else [fault]


def _database_checks(settings: StreamingSettings) -> list[Check]:
    named = {
        "PP_STREAMING_DATABASE": settings.streaming_database,
        "PP_CATALOGUE_DATABASE": settings.catalogue_database if settings.catalogue == "embedded" else None,
        "PP_MONITOR_DATABASE": settings.monitor_database,
    }
    return [
        Check(f"database of {name}", partial(_check_database, url, name))
        for name, url in named.items()
        if url is not None
    ]


def _check_database(url: str, setting: str) -> list[str]:
    file = embedded_file(url, setting=setting)
    if file is not None and not file.exists():
        fault = check_writable(setting, file.absolute().parent)
        return [] if fault is None else [fault]
    # Whoever uses it makes or upgrades the tables.
    with suppress(UnknownSchema):
        engine = create_streaming_engine(url, setting=setting, read_only=True)
        try:
            with reading(engine):
                pass
        finally:
            engine.dispose()
    return []


def _check_broker(settings: StreamingSettings) -> list[str]:
    # A name of its own: that of an agent would have the agent thrown out.
    broker = stomp_broker(settings, client_id=f"check-{uuid.uuid4()}")
    connection = StompConnection(broker, lambda *_: None)
    connection.open()
    connection.leave(_LEAVE)
    return []


def _check_monitor(settings: StreamingSettings) -> list[str]:
    monitor = connect_monitor(settings)
    try:
        monitor.agents(load_testbed_config(settings=settings).namespace)
    finally:
        monitor.close()
    return []


def _check_rucio() -> list[str]:
    # Rucio's clients take a second to import, and read their configuration.
    from repos.streaming.rucio_configuration import require_rucio_configuration

    require_rucio_configuration()
    from repos.streaming.rucio_clients import RucioClients
    from repos.streaming.rucio_errors import rucio_errors

    with rucio_errors("asked who we are"), RucioClients().one() as client:
        client.whoami()
    return []


def _check_panda() -> list[str]:
    client = PandaClient(environment=panda_environment())
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    try:
        client.answer("tasks", since=now, request=None, limit=1)
    finally:
        client.close()
    return []


def _check_payload(payload: str) -> list[str]:
    parse_payload(payload, directory=Path.cwd(), search=payload_environment().get("PATH"))
    return []
