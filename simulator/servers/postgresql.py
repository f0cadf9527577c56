"""A PostgreSQL server."""

from __future__ import annotations

__all__ = ["PostgreSQLServer"]

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg2

from config.server_settings import ServerPlaces, server_environment
from simulator.servers.errors import ServerFailed, ServerUnavailable
from simulator.servers.packages import UnpackedPackages, library_path
from simulator.servers.process import HOST, Server, free_port

#: Versions that the project is tested with, the one to take first.
_VERSIONS = (17, 16, 15)
#: Where Debian has them.
_DEBIAN = "usr/lib/postgresql/{}/bin"
#: Who may run it when we are root, which it refuses.
_UNPRIVILEGED = ("postgres", "nobody")
#: Role that owns everything; it needs no password on this host.
_ROLE = "prompt"


class PostgreSQLServer(Server):
    """PostgreSQL, installed or unpacked.

    Parameters
    ----------
    places : `config.server_settings.ServerPlaces`
    directory : path-like, optional
        When we are root, the unprivileged user must be able to reach it.
    durable : `bool`, optional
        Whether commits are on disk before they are answered, as anywhere but
        in tests.
    max_connections : `int`, optional

    Raises
    ------
    simulator.servers.errors.ServerUnavailable
        Raised if it cannot be had.
    """

    def __init__(
        self,
        *,
        places: ServerPlaces,
        directory: str | Path | None = None,
        durable: bool = False,
        max_connections: int = 100,
    ) -> None:
        self._bin, self._tree = _find(places)
        super().__init__(
            name="postgresql",
            directory=directory,
            # Ends sessions, and itself in good order.
            stop_signal=signal.SIGINT,
            user=_unprivileged() if os.geteuid() == 0 else "",
        )
        self._port = free_port()
        self._durable = durable
        self._max_connections = max_connections
        self._make_reachable()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    def url(self, database: str = "postgres") -> str:
        """Return the SQLAlchemy URL of a database."""
        return f"postgresql://{_ROLE}@{HOST}:{self._port}/{database}"

    def create_database(self, name: str) -> str:
        """Make a database with the extension that Butler registries need.

        Parameters
        ----------
        name : `str`
            Lower case, of letters, digits and ``_``.

        Returns
        -------
        url : `str`
        """
        self._execute("postgres", f'CREATE DATABASE "{name}"')
        self._execute(name, "CREATE EXTENSION IF NOT EXISTS btree_gist")
        return self.url(name)

    def command(self) -> Sequence[str | Path]:
        """Return the command line of the process."""
        settings = {
            "listen_addresses": HOST,
            "port": self._port,
            "unix_socket_directories": "",
            "max_connections": self._max_connections,
            "fsync": "on" if self._durable else "off",
            "synchronous_commit": "on" if self._durable else "off",
            "full_page_writes": "on" if self._durable else "off",
            # Its just-in-time compiler takes longer than such queries do.
            "jit": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self._bin / "postgres", "-D", self._data, *options]

    def variables(self) -> Mapping[str, str]:
        """Return what the process's environment has beyond ours."""
        return {} if self._tree is None else {"LD_LIBRARY_PATH": library_path(self._tree)}

    def start(self) -> None:
        """Start it, with a new cluster the first time."""
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        super().start()

    def answers(self) -> bool:
        """Say whether it serves by now."""
        try:
            psycopg2.connect(self.url(), connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _execute(self, database: str, statement: str) -> None:
        connection = psycopg2.connect(self.url(database))
        try:
            # Databases cannot be made in a transaction.
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    def _make_reachable(self) -> None:
        """Let the user whom the server runs as reach data and programs."""
        if not self._user:
            return
        entry = pwd.getpwnam(self._user)
        shutil.chown(self.directory, entry.pw_uid, entry.pw_gid)
        if self._tree is not None and not _may_enter(self._user, self._bin):
            # Below root's home, for example.
            copy = self.directory / "programs"
            shutil.copytree(self._tree, copy, symlinks=True)
            self._bin, self._tree = copy / self._bin.relative_to(self._tree), copy

    def _initialise(self) -> None:
        done = subprocess.run(
            [
                *(self._bin / "initdb", "-D", self._data, "-U", _ROLE, "-A", "trust", "-E", "UTF8"),
                *("--no-locale", *(() if self._durable else ("--no-sync",))),
            ],
            user=self._user or None,
            env=server_environment(self.variables()),
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ServerFailed(f"a PostgreSQL cluster could not be made in {self._data}:\n{done.stderr}")


def _find(places: ServerPlaces) -> tuple[Path, Path | None]:
    initdb = places.which("initdb")
    installed = [Path("/", _DEBIAN.format(version)) for version in _VERSIONS] if places.use_installed else []
    for candidate in [*installed, *(() if initdb is None else (initdb.resolve().parent,))]:
        if (candidate / "initdb").exists() and (candidate / "postgres").exists():
            return candidate, None
    tree = UnpackedPackages(places.unpacked).get("postgresql", ["postgresql"])
    for version in _VERSIONS:
        if (tree / _DEBIAN.format(version) / "postgres").exists():
            return tree / _DEBIAN.format(version), tree
    raise ServerUnavailable(
        f"the distribution's PostgreSQL is none of {', '.join(map(str, _VERSIONS))}; "
        "install one of them and put its programs on the PATH"
    )


def _unprivileged() -> str:
    for name in _UNPRIVILEGED:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise ServerUnavailable(
        "PostgreSQL does not run as root, and there is neither a user "
        f"{' nor '.join(_UNPRIVILEGED)}; start as another user"
    )


def _may_enter(user: str, directory: Path) -> bool:
    """Say whether another user can reach the programs in a directory."""
    test = shutil.which("test") or "/usr/bin/test"
    done = subprocess.run([test, "-x", str(directory / "postgres")], user=user, check=False, cwd="/")
    return done.returncode == 0
