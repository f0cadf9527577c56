"""The Alert Production Database, as tasks use it: opened once a process."""

from __future__ import annotations

__all__ = ["open_apdb", "store_lock"]

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from filelock import FileLock
from lsst.dax.apdb import Apdb, ApdbConfig
from lsst.dax.apdb.sql import ApdbSqlConfig

from repos.postgresql import patient_url, use_installed_driver

#: Seconds to wait for another process to finish its transaction in SQLite. A
#: visit's store takes a tenth of a second; a hundred slots may stand in line.
_BUSY_TIMEOUT = 120.0


@lru_cache(maxsize=4)
def open_apdb(uri: str) -> Apdb:
    """Open an APDB.

    Cached because opening reads the schema and the database's metadata, 0.4 s
    that every visit would pay. Nothing that a visit does changes either. Call
    it in the process that uses it, after forking.

    Parameters
    ----------
    uri : `str`
        Path or URI of its configuration file, or ``label:<name>``.

    Returns
    -------
    apdb : `lsst.dax.apdb.Apdb`
        One that waits for locks, instead of failing at once, and keeps no
        connection open between uses: none can be stale, and a thousand slots
        at rest hold none.

    Raises
    ------
    ValueError
        Raised if no APDB is configured.
    """
    if not uri:
        raise ValueError("no APDB is configured: set CONFIG_APDB, the pipeline's parameter apdb_config")
    config = ApdbConfig.from_uri(uri)
    if isinstance(config, ApdbSqlConfig):
        _prepare(config)
    return Apdb.from_config(config)


def _prepare(config: ApdbSqlConfig) -> None:
    changes: dict[str, object] = {"connection_pool": False}
    if config.db_url.startswith("sqlite") and config.connection_config.connection_timeout is None:
        changes["connection_timeout"] = _BUSY_TIMEOUT
    use_installed_driver()
    config.db_url = patient_url(config.db_url)
    config.connection_config = config.connection_config.model_copy(update=changes)


@contextmanager
def store_lock(apdb: Apdb) -> Iterator[None]:
    """Let one process at a time write to an APDB in an SQLite file.

    SQLite gives up at once, whatever its time-out, when a transaction that
    has read cannot begin to write because of another; so writers queue at a
    lock file beside the database. Other databases need none.

    Parameters
    ----------
    apdb : `lsst.dax.apdb.Apdb`
    """
    path = _sqlite_path(apdb)
    if path is None:
        yield
        return
    with FileLock(f"{path}.lock", timeout=_BUSY_TIMEOUT):
        yield


def _sqlite_path(apdb: Apdb) -> str | None:
    """Return the file of an SQLite database, None for other databases.

    The URL is ``sqlite:///<path>``, or as the APDB stores it
    ``sqlite:///file%3A<path>?mode=rw&uri=true``.
    """
    config = apdb.getConfig()
    if not isinstance(config, ApdbSqlConfig) or not config.db_url.startswith("sqlite"):
        return None
    path = unquote(urlsplit(config.db_url).path).removeprefix("/").removeprefix("file:")
    return path or None
