"""An ActiveMQ Artemis broker that speaks STOMP: what the field runs."""

from __future__ import annotations

__all__ = ["ArtemisServer"]

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from config.server_settings import ServerPlaces
from simulator.servers.java import find_java, get_jars
from simulator.servers.process import HOST, Server, free_port

#: A broker for tests: no compiler that pays only after minutes, one thread of
#: garbage collection.
_JVM = ("-Xmx256m", "-Xms64m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_MAIN = "org.apache.activemq.artemis.core.server.embedded.Main"


class ArtemisServer(Server):
    """One broker with a STOMP listener that lets everybody in.

    Messages and durable subscriptions are on disk: they are there again after
    `stop` or `kill` and `start`.

    Parameters
    ----------
    places : `config.server_settings.ServerPlaces`
    directory : path-like, optional

    Raises
    ------
    simulator.servers.errors.ServerUnavailable
        Raised if it cannot be had.
    """

    def __init__(self, *, places: ServerPlaces, directory: str | Path | None = None) -> None:
        self._java = find_java(places)
        pom = Path(__file__).with_name("artemis.pom.xml")
        self._jars = get_jars(places, self._java, pom, "artemis")
        super().__init__(name="artemis", directory=directory)
        self._port = free_port()

    @property
    def host(self) -> str:
        """The address it listens on."""
        return HOST

    @property
    def port(self) -> int:
        """Port of plain STOMP."""
        return self._port

    def command(self) -> Sequence[str | Path]:
        """Return the command line of the process."""
        options = [*_JVM, f"-Djava.io.tmpdir={self.directory}"]
        options.append(f"-Djava.util.logging.config.file={self._logging}")
        return [self._java.program, *options, "-cp", f"{self._jars}/*", _MAIN, self.directory]

    def variables(self) -> Mapping[str, str]:
        """Return what the process's environment has beyond ours."""
        return self._java.variables

    def start(self) -> None:
        """Start it."""
        settings = self.directory / "etc" / "broker.xml"
        settings.parent.mkdir(exist_ok=True)
        self._logging.write_text("handlers=java.util.logging.ConsoleHandler\n.level=WARNING\n")
        settings.write_text(_SETTINGS.format(host=HOST, port=self._port))
        super().start()

    @property
    def _logging(self) -> Path:
        return self.directory / "logging.properties"

    def answers(self) -> bool:
        """Say whether it serves by now."""
        try:
            with socket.create_connection((HOST, self._port), timeout=1.0) as connection:
                connection.sendall(f"CONNECT\naccept-version:1.1\nhost:{HOST}\n\n\0".encode())
                return connection.recv(64).startswith(b"CONNECTED")
        except OSError:
            return False


# The prefixes are those of the field: topics are multicast, queues anycast.
_SETTINGS = """\
<configuration xmlns="urn:activemq">
  <core xmlns="urn:activemq:core">
    <name>localhost</name>
    <security-enabled>false</security-enabled>
    <journal-type>NIO</journal-type>
    <journal-file-size>1M</journal-file-size>
    <journal-min-files>2</journal-min-files>
    <acceptors>
      <acceptor name="stomp">tcp://{host}:{port}?protocols=STOMP;anycastPrefix=/queue/;multicastPrefix=/topic/</acceptor>
    </acceptors>
  </core>
</configuration>
"""
