"""A Kafka broker: Apache Kafka 4 without ZooKeeper (KRaft)."""

from __future__ import annotations

__all__ = ["KafkaServer"]

import base64
import socket
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from config.server_settings import ServerPlaces, server_environment
from simulator.io.kafka_topics import create_topic, has_broker
from simulator.servers.certificates import Certificates, make_certificates
from simulator.servers.errors import ServerFailed
from simulator.servers.java import find_java, get_jars
from simulator.servers.process import HOST, Server, free_port

#: A broker for tests: no compiler that pays only after minutes, one thread of
#: garbage collection.
_JVM = ("-Xmx400m", "-Xms128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


class KafkaServer(Server):
    """One broker that is its own controller, with three listeners.

    One listener takes everybody, the others want SCRAM-SHA-512, one of them
    over TLS.

    Parameters
    ----------
    places : `config.server_settings.ServerPlaces`
    directory : path-like, optional

    Raises
    ------
    simulator.servers.errors.ServerUnavailable
        Raised if it cannot be had.
    """

    username = "worker"
    """Who may use the SCRAM listeners."""
    password = "secret"  # noqa: S105
    """Their password."""

    def __init__(self, *, places: ServerPlaces, directory: str | Path | None = None) -> None:
        self._java = find_java(places)
        pom = Path(__file__).with_name("kafka.pom.xml")
        self._jars = get_jars(places, self._java, pom, "kafka")
        super().__init__(name="kafka", directory=directory)
        self._port, self._sasl_port, self._controller_port = free_port(), free_port(), free_port()
        self._tls_port = free_port()

    @property
    def bootstrap(self) -> str:
        """The listener for everybody, ``host:port``."""
        return f"{HOST}:{self._port}"

    @property
    def sasl_bootstrap(self) -> str:
        """The listener that wants a user and a password."""
        return f"{HOST}:{self._sasl_port}"

    @property
    def tls_bootstrap(self) -> str:
        """The listener that wants the same over TLS."""
        return f"{HOST}:{self._tls_port}"

    @property
    def authority(self) -> Path:
        """Certificate of who signed this broker's, PEM."""
        return self._certificates().ca

    def create_topic(self, name: str, partitions: int = 1, **settings: str) -> str:
        """Make a topic; see `simulator.io.kafka_topics.create_topic`."""
        return create_topic(self.bootstrap, name, partitions=partitions, settings=settings)

    def command(self) -> Sequence[str | Path]:
        """Return the command line of the process."""
        return [*self._java_command(*_JVM), "kafka.Kafka", self._properties]

    def variables(self) -> Mapping[str, str]:
        """Return what the process's environment has beyond ours."""
        return self._java.variables

    def start(self) -> None:
        """Start it, with a new log directory the first time."""
        if not (self._data / "meta.properties").exists():
            self._format()
        super().start()

    def answers(self) -> bool:
        """Say whether it serves by now."""
        try:
            socket.create_connection((HOST, self._sasl_port), timeout=1.0).close()
        except OSError:
            return False
        return has_broker(self.bootstrap)

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @property
    def _properties(self) -> Path:
        return self.directory / "server.properties"

    def _certificates(self) -> Certificates:
        return make_certificates(self.directory, host=HOST, password=self.password)

    def _java_command(self, *options: str) -> list[str | Path]:
        logging = self.directory / "log4j2.yaml"
        logging.write_text(_LOGGING)
        settings = [f"-Djava.io.tmpdir={self.directory}", f"-Dlog4j2.configurationFile={logging}"]
        return [self._java.program, *options, *settings, "-cp", f"{self._jars}/*"]

    def _format(self) -> None:
        listeners = (
            f"PLAINTEXT://{self.bootstrap},SASL_PLAINTEXT://{self.sasl_bootstrap},"
            f"SASL_SSL://{self.tls_bootstrap}"
        )
        certificates = self._certificates()
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{HOST}:{self._controller_port}",
            "listeners": f"{listeners},CONTROLLER://{HOST}:{self._controller_port}",
            "advertised.listeners": listeners,
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT"
            ),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config": scram,
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
            "ssl.keystore.type": "PKCS12",
            "ssl.keystore.location": str(certificates.server_store),
            "ssl.keystore.password": certificates.password,
            "log.dirs": str(self._data),
            # One broker has one replica of everything.
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            # Tests do not wait for more members of a group to come.
            "group.initial.rebalance.delay.ms": "0",
            # Messages may be as old as a test wants: none expires by itself.
            "log.retention.ms": "-1",
            # A missing topic is a fault that is tested.
            "auto.create.topics.enable": "false",
        }
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        user = f"SCRAM-SHA-512=[name={self.username},password={self.password}]"
        done = subprocess.run(
            [
                *(*self._java_command(*_JVM), "kafka.tools.StorageTool", "format"),
                # In one word: one id in 64 begins with a dash.
                *(f"--cluster-id={identity}", "-c", self._properties, "--add-scram", user),
            ],
            env=server_environment(self.variables()),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ServerFailed(
                f"Kafka's directory {self._data} could not be made:\n{done.stdout}{done.stderr}"
            )


_LOGGING = """\
Configuration:
  status: WARN
  Appenders:
    Console:
      name: out
      PatternLayout: {pattern: "%d %p %c: %m%n"}
  Loggers:
    Root: {level: WARN, AppenderRef: {ref: out}}
"""
