"""supervisord's file for the agents of one directory and namespace.

The shipped file has logs and socket beside it, for those who start supervisord
by hand. Sets of agents that the testbed starts get files of their own.
"""

from __future__ import annotations

__all__ = ["agents_place", "find_supervisord_file", "read_supervisord_file", "write_supervisord_file"]

import configparser
import os
import tempfile
from pathlib import Path
from urllib.parse import quote

from config.settings import PROJECT
from models.errors import InvalidConfiguration

#: The file for supervisord, in the working directory or the project's.
_FILE = "agents.supervisord.conf"
#: Directory of what belongs to sets of agents.
_AGENTS = "agents"
#: What stands for the directory of the file, and where that keeps all it writes.
_HERE = "%(here)s"
_LOGS = f"{_HERE}/logs"
_SOCKET = "socket"
#: Bytes of a socket's path, of which supervisord needs some for a moment.
_LONGEST = 107 - len(".1234567")


def agents_place(directory: Path, namespace: str) -> Path:
    """Return where what belongs to a set of agents is: its file for
    supervisord, socket and logs.

    Parameters
    ----------
    directory : `pathlib.Path`
        The testbed's.
    namespace : `str`
    """
    # No percent sign: supervisord would expand what follows.
    name = quote(namespace, safe=" ,+@:~").replace("%", "=")
    return directory / _AGENTS / (f"=2E{name[1:]}" if name.startswith(".") else name)


def find_supervisord_file() -> Path:
    """Return the file for those who start supervisord by hand: that of the
    working directory, else the project's.
    """
    own = Path.cwd() / _FILE
    return own if own.is_file() else PROJECT / _FILE


def read_supervisord_file(file: Path) -> configparser.RawConfigParser:
    """Return what a file for supervisord says.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if it cannot be read.
    """
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    try:
        with file.open() as text:
            parser.read_file(text)
    except FileNotFoundError:
        raise InvalidConfiguration(f"{file}: there is no such file; supervisord cannot be started") from None
    except (OSError, ValueError, configparser.Error) as error:
        raise InvalidConfiguration(f"{file}: no configuration of supervisord: {error}") from error
    return parser


def write_supervisord_file(file: Path, place: Path) -> Path:
    """Write a file that differs from another by where logs and socket are;
    what is not in ``logs`` beside that stays where it is.

    Parameters
    ----------
    file : `pathlib.Path`
        The other; absolute.
    place : `pathlib.Path`
        Directory for all of it; made if it is not there.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if one cannot be read, or the other not be written.
    """
    parser = read_supervisord_file(file)
    target = place / _FILE
    if "%" in f"{place}{file.parent}":
        raise InvalidConfiguration(
            f"supervisord can have no directory with a % in its name, as in {place} or {file.parent}: "
            "choose another by --directory"
        )
    logs, here = str(place / "logs"), str(file.parent)
    try:
        (place / "logs").mkdir(parents=True, exist_ok=True)
        socket = str(_socket(target, place))
        for name in parser.sections():
            section = parser[name]
            for key, value in section.items():
                if key in ("file", "serverurl"):
                    value = value.replace(f"{_LOGS}/supervisor.sock", socket)
                section[key] = value.replace(_LOGS, logs).replace(_HERE, here)
        fresh = target.with_suffix(".new")
        with fresh.open("w") as text:
            text.write(f"; Made by `testbed run` from {file}.\n")
            parser.write(text)
        fresh.rename(target)
    except OSError as error:
        raise InvalidConfiguration(f"{target} cannot be written: {error}") from error
    return target


def _socket(target: Path, place: Path) -> Path:
    """Return a path for the socket that is short enough, the same each time."""
    socket = place / _SOCKET
    if len(os.fsencode(socket)) <= _LONGEST:
        return socket
    if target.exists():
        before = read_supervisord_file(target).get("unix_http_server", "file", fallback="")
        known = Path(before)
        if known.parent.is_dir():
            return known
    # One that nobody else can have made.
    return Path(tempfile.mkdtemp(prefix="testbed-")) / _SOCKET
