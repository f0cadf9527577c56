"""The whole set of servers, each started when it is first asked for."""

from __future__ import annotations

__all__ = ["ServerSet"]

from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from config.server_settings import ServerPlaces, server_places
from simulator.servers.activemq import ActiveMQServer
from simulator.servers.artemis import ArtemisServer
from simulator.servers.kafka import KafkaServer
from simulator.servers.postgresql import PostgreSQLServer
from simulator.servers.process import Server
from simulator.servers.redis import RedisServer
from simulator.servers.s3 import S3Server
from simulator.servers.schema_registry import SchemaRegistryServer


class ServerSet:
    """Servers that start when they are first asked for; a context manager.

    Parameters
    ----------
    places : `config.server_settings.ServerPlaces`, optional
        Where they come from; as the environment says, if left out.
    durable : `bool`, optional
        Whether PostgreSQL and Redis wait for the disk; ActiveMQ always does.
    max_connections : `int`, optional
        Of PostgreSQL.
    """

    def __init__(
        self, *, places: ServerPlaces | None = None, durable: bool = False, max_connections: int = 100
    ) -> None:
        self._places = places or server_places(Path(__file__).resolve().parents[2])
        self._durable = durable
        self._max_connections = max_connections
        self._started: list[Server] = []

    @cached_property
    def postgresql(self) -> PostgreSQLServer:
        """PostgreSQL."""
        server = PostgreSQLServer(
            places=self._places, durable=self._durable, max_connections=self._max_connections
        )
        self._start(server)
        return server

    @cached_property
    def redis(self) -> RedisServer:
        """Redis."""
        server = RedisServer(places=self._places, durable=self._durable)
        self._start(server)
        return server

    @cached_property
    def kafka(self) -> KafkaServer:
        """Kafka."""
        server = KafkaServer(places=self._places)
        self._start(server)
        return server

    @cached_property
    def activemq(self) -> ActiveMQServer:
        """ActiveMQ; not among those of `environment`, which are the visits'."""
        server = ActiveMQServer(places=self._places)
        self._start(server)
        return server

    @cached_property
    def artemis(self) -> ArtemisServer:
        """ActiveMQ Artemis; see `activemq`."""
        server = ArtemisServer(places=self._places)
        self._start(server)
        return server

    @cached_property
    def s3(self) -> S3Server:
        """S3."""
        server = S3Server(places=self._places)
        self._start(server)
        return server

    @cached_property
    def schema_registry(self) -> SchemaRegistryServer:
        """The schema registry."""
        server = SchemaRegistryServer(places=self._places)
        self._start(server)
        return server

    def environment(self) -> dict[str, str]:
        """Start all servers; return variables that point the service, its
        writer and its fan-out to them.

        Databases ``central``, ``apdb`` and ``ledger``, buckets ``central``
        and ``images`` and the usual topics are made.
        """
        for database in ("central", "apdb", "ledger"):
            self.postgresql.create_database(database)
        for bucket in ("central", "images"):
            self.s3.create_bucket(bucket)
        topics = {
            "NEXT_VISIT_TOPIC": "next-visit",
            "BUCKET_TOPIC": "rubin-prompt-processing",
            "BUTLER_WRITER_KAFKA_TOPIC": "butler-writer",
            "KAFKA_TOPIC": "butler-writer",
            "KAFKA_OUTPUT_TOPIC": "butler-writer-output",
            "AP_KAFKA_TOPIC": "alerts",
        }
        # When an alert arrived is the broker's to say, not its sender's.
        self.kafka.create_topic(topics["AP_KAFKA_TOPIC"], message_timestamp_type="LogAppendTime")
        for topic in set(topics.values()):
            self.kafka.create_topic(topic)
        clusters = ("KAFKA_CLUSTER", "BUTLER_WRITER_KAFKA_CLUSTER", "AP_KAFKA_SERVER")
        redis = dict.fromkeys(("REDIS_HOST", "REDIS_STREAM_HOST"), self.redis.host_port)
        return {
            **self.s3.environment,
            "IMAGE_BUCKET": "images",
            **dict.fromkeys(clusters, self.kafka.bootstrap),
            **topics,
            "KAFKA_SCHEMA_REGISTRY_URL": self.schema_registry.url,
            **redis,
            "PP_LEDGER_URL": self.postgresql.url("ledger"),
        }

    def close(self) -> None:
        """Stop what was started and remove its data."""
        while self._started:
            self._started.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self, server: Server) -> None:
        self._started.append(server)
        try:
            server.start()
        except BaseException:
            self._started.remove(server)
            server.close()
            raise
