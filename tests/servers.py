"""Fixtures of real servers, started once a run, when first asked for.

Use names of your own in them (`unique_name`): the whole run shares each
server, and a server that a test stopped must be started again by it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from simulator.servers.activemq import ActiveMQServer
from simulator.servers.artemis import ArtemisServer
from simulator.servers.errors import ServerUnavailable
from simulator.servers.everything import ServerSet
from simulator.servers.kafka import KafkaServer
from simulator.servers.postgresql import PostgreSQLServer
from simulator.servers.redis import RedisServer
from simulator.servers.s3 import S3Server
from simulator.servers.schema_registry import SchemaRegistryServer

T = TypeVar("T")


def unique_name(prefix: str = "t") -> str:
    """Return a name that is good for a topic, database, bucket or stream."""
    return f"{prefix}{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def server_set() -> Iterator[ServerSet]:
    """All servers; each starts when it is first asked for."""
    with ServerSet() as servers:
        yield servers


def had_or_skipped(name: str, start: Callable[[], T]) -> T:
    """Start a server; where it cannot be had, skip, but never under CI."""
    try:
        return start()
    except ServerUnavailable as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no {name} here: {error}")


@pytest.fixture(scope="session")
def postgresql(server_set: ServerSet) -> PostgreSQLServer:
    """PostgreSQL: ``url(database)``, ``create_database(name)``."""
    return had_or_skipped("PostgreSQL", lambda: server_set.postgresql)


@pytest.fixture(scope="session")
def redis_server(server_set: ServerSet) -> RedisServer:
    """Redis: ``host_port``."""
    return had_or_skipped("Redis", lambda: server_set.redis)


@pytest.fixture(scope="session")
def kafka(server_set: ServerSet) -> KafkaServer:
    """Kafka: ``bootstrap``, ``sasl_bootstrap``, ``create_topic(name, partitions)``."""
    return had_or_skipped("Kafka", lambda: server_set.kafka)


@pytest.fixture(scope="session")
def activemq(server_set: ServerSet) -> ActiveMQServer:
    """ActiveMQ: ``environment``, ``port``, ``ssl_port``, ``ca_certs``, ``user``, ``password``."""
    return had_or_skipped("ActiveMQ", lambda: server_set.activemq)


@pytest.fixture(scope="session")
def artemis(server_set: ServerSet) -> ArtemisServer:
    """ActiveMQ Artemis: ``host``, ``port``; it lets everybody in."""
    return had_or_skipped("Artemis", lambda: server_set.artemis)


@pytest.fixture(scope="session")
def s3_server(server_set: ServerSet) -> S3Server:
    """S3 without its variables in the environment; see `s3`."""
    return had_or_skipped("S3 server", lambda: server_set.s3)


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """S3, with what clients need in the environment: ``create_bucket(name)``."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(scope="session")
def schema_registry(server_set: ServerSet) -> SchemaRegistryServer:
    """The double of a schema registry: ``url``, ``register(subject, schema)``."""
    return had_or_skipped("schema registry", lambda: server_set.schema_registry)
