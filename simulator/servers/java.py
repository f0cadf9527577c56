"""Java, and what comes from its registry."""

from __future__ import annotations

__all__ = ["Java", "find_java", "get_jars"]

import re
import shutil
import ssl
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from config.server_settings import ServerPlaces, server_environment
from simulator.servers.errors import ServerUnavailable
from simulator.servers.packages import UnpackedPackages, library_path, made_once, run_installer

#: The oldest Java that Kafka 4 runs on.
_OLDEST = 17
_VERSION = re.compile(r'version "(\d+)')
#: Password of the trust store that we make; it protects nothing.
_PASSWORD = "changeit"  # noqa: S105


@dataclass(frozen=True)
class Java:
    """A Java runtime.

    Attributes
    ----------
    program : `pathlib.Path`
    variables : `dict` [`str`, `str`]
        What its environment needs beyond ours.
    """

    program: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """Its installation."""
        return self.program.resolve().parent.parent


def find_java(places: ServerPlaces) -> Java:
    """Return the installed Java, if it is new enough, else an unpacked one.

    Raises
    ------
    simulator.servers.errors.ServerUnavailable
        Raised if there is none and none can be unpacked.
    """
    installed = places.which("java")
    if installed is not None and _version(installed) >= _OLDEST:
        return Java(installed)
    tree = UnpackedPackages(places.unpacked).get("java", ["openjdk-17-jre-headless"])
    found = sorted(tree.glob("usr/lib/jvm/*/bin/java"))
    if not found:
        raise ServerUnavailable(f"the unpacked Java in {tree} has no program; remove that directory")
    return Java(found[0], {"LD_LIBRARY_PATH": library_path(tree)})


def get_jars(places: ServerPlaces, java: Java, pom: Path, name: str) -> Path:
    """Return the directory of the jars that a ``pom.xml`` asks for.

    Parameters
    ----------
    places : `config.server_settings.ServerPlaces`
    java : `Java`
    pom : `pathlib.Path`
    name : `str`
        Of the directory, and of the server in messages.

    Raises
    ------
    simulator.servers.errors.ServerUnavailable
        Raised if they cannot be had.
    """
    return made_once(places.unpacked / name, lambda aside: _copy_jars(places, java, pom, aside, name))


def _copy_jars(places: ServerPlaces, java: Java, pom: Path, directory: Path, name: str) -> None:
    maven = places.which("mvn")
    options: list[str] = []
    if maven is None:
        tree = _unpack_maven(places.unpacked)
        maven = tree / "usr/share/maven/bin/mvn"
        options.append(f"-Dmaven.conf={tree}/etc/maven")
    variables = {**java.variables, "JAVA_HOME": str(java.home)}
    with tempfile.TemporaryDirectory() as aside:
        if not (java.home / "lib/security/cacerts").exists():
            store = Path(aside, "trusted.p12")
            store.write_bytes(_trust_store())
            variables["MAVEN_OPTS"] = (
                f"-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword={_PASSWORD}"
            )
        shutil.copyfile(pom, Path(aside, "pom.xml"))
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={directory}", "-DincludeScope=runtime"]
        command = [str(maven), "-q", "-B", *options, "-f", str(Path(aside, "pom.xml")), *goal]
        run_installer(command, name, variables=variables)


def _unpack_maven(root: Path) -> Path:
    # Not beside the jars, whose lock is held while this is asked for.
    return UnpackedPackages(root / "tools").get("maven", ["maven"])


def _trust_store() -> bytes:
    """Return the certificates that Python trusts, in Java's form."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12
    except ImportError as error:
        raise ServerUnavailable(
            "without certificates Java can fetch nothing; install Java and mvn"
        ) from error
    trusted = ssl.create_default_context().get_ca_certs(binary_form=True)
    certificates = []
    with warnings.catch_warnings():
        # Some that everybody trusts are older than today's rules.
        warnings.simplefilter("ignore")
        for number, der in enumerate(trusted):
            with suppress(ValueError):
                certificate = x509.load_der_x509_certificate(der)
                certificates.append(pkcs12.PKCS12Certificate(certificate, b"ca%d" % number))
    return pkcs12.serialize_java_truststore(certificates, BestAvailableEncryption(_PASSWORD.encode()))


def _version(program: Path) -> int:
    try:
        printed = subprocess.run(
            [program, "-version"], capture_output=True, text=True, check=False, env=server_environment({})
        ).stderr
    except OSError:
        return 0
    found = _VERSION.search(printed)
    return int(found[1]) if found else 0
