"""An ActiveMQ broker that speaks STOMP."""

from __future__ import annotations

__all__ = ["ActiveMQServer"]

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from config.server_settings import ServerPlaces
from simulator.servers.certificates import Certificates, make_certificates
from simulator.servers.errors import ServerUnavailable
from simulator.servers.java import find_java
from simulator.servers.packages import UnpackedPackages
from simulator.servers.process import HOST, Server, free_port

#: A broker for tests: no compiler that pays only after minutes, one thread of
#: garbage collection.
_JVM = ("-Xmx256m", "-Xms64m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
#: What ``activemq.jar`` starts once it has found the jars by itself.
_MAIN = "org.apache.activemq.console.command.ShellCommand"
#: Where Debian's package has its jars; most of them are links.
_JARS = Path("usr/share/activemq/lib")


class ActiveMQServer(Server):
    """One broker with two STOMP listeners: plain, and over TLS.

    Messages and durable subscriptions are on disk: they are there again after
    `stop` or `kill` and `start`, all that were answered for. Clients need not show
    a certificate; one that they do show must be of the same authority.

    Parameters
    ----------
    places : `config.server_settings.ServerPlaces`
    directory : path-like, optional

    Raises
    ------
    simulator.servers.errors.ServerUnavailable
        Raised if it cannot be had.
    """

    user = "streaming"
    """Who may connect."""
    password = "secret"  # noqa: S105
    """Their password."""

    def __init__(self, *, places: ServerPlaces, directory: str | Path | None = None) -> None:
        self._jars = _find_jars(places)
        self._java = find_java(places)
        super().__init__(name="activemq", directory=directory)
        self._port, self._ssl_port = free_port(), free_port()

    @property
    def host(self) -> str:
        """The address it listens on; its certificate is for it."""
        return HOST

    @property
    def port(self) -> int:
        """Port of plain STOMP."""
        return self._port

    @property
    def ssl_port(self) -> int:
        """Port of STOMP over TLS."""
        return self._ssl_port

    @property
    def ca_certs(self) -> Path:
        """Certificate that clients trust, PEM; there from the first start on."""
        return self._certificates.ca

    @property
    def client_certificate(self) -> tuple[Path, Path]:
        """A client's certificate and key, PEM."""
        return self._certificates.client_certificate, self._certificates.client_key

    @property
    def environment(self) -> dict[str, str]:
        """Variables that point agents to the plain listener."""
        return {
            "ACTIVEMQ_HOST": self.host,
            "ACTIVEMQ_PORT": str(self.port),
            "ACTIVEMQ_USER": self.user,
            "ACTIVEMQ_PASSWORD": self.password,
        }

    def command(self) -> Sequence[str | Path]:
        """Return the command line of the process."""
        return [
            *(self._java.program, *_JVM, f"-Djava.io.tmpdir={self.directory}"),
            f"-Dlog4j.configuration={self._logging.as_uri()}",
            *("-cp", os.pathsep.join(map(str, self._jars))),
            *(
                _MAIN,
                "start",
                f"xbean:{self._settings.as_uri()}",
            ),
        ]

    def variables(self) -> Mapping[str, str]:
        """Return what the process's environment has beyond ours."""
        return self._java.variables

    def start(self) -> None:
        """Start it, with new certificates the first time."""
        certificates = self._certificates
        self._logging.write_text(_LOGGING)
        self._settings.write_text(
            _SETTINGS.format(
                data=self.directory / "data",
                user=self.user,
                password=self.password,
                plain=f"stomp://{HOST}:{self._port}",
                tls=f"stomp+ssl://{HOST}:{self._ssl_port}?transport.wantClientAuth=true",
                server_store=certificates.server_store.as_uri(),
                trust_store=certificates.trust_store.as_uri(),
                store_password=certificates.password,
            )
        )
        super().start()

    def answers(self) -> bool:
        """Say whether it serves by now."""
        frame = f"CONNECT\naccept-version:1.1\nhost:{HOST}\nlogin:{self.user}\npasscode:{self.password}\n\n\0"
        try:
            socket.create_connection((HOST, self._ssl_port), timeout=1.0).close()
            with socket.create_connection((HOST, self._port), timeout=1.0) as connection:
                connection.sendall(frame.encode())
                return connection.recv(64).startswith(b"CONNECTED")
        except OSError:
            return False

    @property
    def _settings(self) -> Path:
        return self.directory / "activemq.xml"

    @property
    def _logging(self) -> Path:
        return self.directory / "log4j.properties"

    @property
    def _certificates(self) -> Certificates:
        return make_certificates(self.directory / "certificates", host=HOST, password=self.password)


def _find_jars(places: ServerPlaces) -> list[Path]:
    root = Path("/")
    if not (places.use_installed and (root / _JARS).is_dir()):
        root = UnpackedPackages(places.unpacked).get("activemq", ["activemq"])
    jars = [found for link in sorted((root / _JARS).rglob("*.jar")) if (found := _target(link, root))]
    if not any(jar.name.startswith("activemq-broker") for jar in jars):
        raise ServerUnavailable(f"{root / _JARS} has no broker; remove {root} to have it unpacked again")
    return jars


def _target(link: Path, root: Path) -> Path | None:
    """Return the file that a link names in its tree, or on this machine: what
    was installed already was not unpacked. None for what nobody has.
    """
    if link.exists():
        return link
    named = Path(os.path.normpath(link.parent / os.readlink(link)))
    installed = "/" / named.relative_to(root)
    return installed if installed.exists() else None


# Without "always" messages are answered for before they are even handed to the
# operating system, so that a broker that is killed loses some.
_SETTINGS = """\
<beans xmlns="http://www.springframework.org/schema/beans"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans
  http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
  http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="localhost" useJmx="false"
      dataDirectory="{data}" schedulePeriodForDestinationPurge="0">
    <persistenceAdapter>
      <kahaDB directory="{data}/kahadb" journalMaxFileLength="8mb" preallocationStrategy="sparse_file"
        journalDiskSyncStrategy="always"/>
    </persistenceAdapter>
    <plugins>
      <simpleAuthenticationPlugin>
        <users><authenticationUser username="{user}" password="{password}" groups="users"/></users>
      </simpleAuthenticationPlugin>
    </plugins>
    <sslContext>
      <sslContext keyStore="{server_store}" keyStoreType="PKCS12" keyStorePassword="{store_password}"
        trustStore="{trust_store}" trustStoreType="PKCS12" trustStorePassword="{store_password}"/>
    </sslContext>
    <systemUsage>
      <systemUsage>
        <memoryUsage><memoryUsage limit="64mb"/></memoryUsage>
        <storeUsage><storeUsage limit="512mb"/></storeUsage>
        <tempUsage><tempUsage limit="64mb"/></tempUsage>
      </systemUsage>
    </systemUsage>
    <transportConnectors>
      <transportConnector name="stomp" uri="{plain}"/>
      <transportConnector name="stomp+ssl" uri="{tls}"/>
    </transportConnectors>
  </broker>
</beans>
"""

_LOGGING = """\
log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %c: %m%n
"""
