"""The central repo: connections to it, and the little that is read from it
besides datasets.
"""

from __future__ import annotations

__all__ = ["CentralRepo", "check_central_repo", "open_butler", "sqlite_lock"]

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock
import sqlalchemy
from lsst.daf.butler import (
    Butler,
    ButlerConfig,
    DatasetRef,
    DatasetType,
    DimensionRecord,
    DimensionUniverse,
    EmptyQueryResultError,
    MissingCollectionError,
    MissingDatasetTypeError,
)
from lsst.resources import ResourcePath

from models.errors import InvalidConfiguration
from repos.central_files import CentralFiles
from repos.postgresql import refusal, use_installed_driver
from repos.registry_writer import RegistryWriter
from repos.retry import is_outage, retry_connections

#: Properties of `CentralRepo` that are opened when first used.
_CLIENTS = ("read_butler", "write_butler")


def open_butler(uri: str, *, writeable: bool = False) -> Butler:
    """Open a Butler repository.

    Parameters
    ----------
    uri : `str`
        Root, configuration file, or ``label:`` name of the repository index.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if there is no repository, its database refuses us, or the
        installed Butler cannot open its dimension universe or schema.
    """
    use_installed_driver()
    try:
        return Butler.from_config(uri, writeable=writeable)
    except Exception as error:  # the Butler raises many types here
        if (reason := refusal(error)) is not None:
            raise InvalidConfiguration(f"the registry of the repository {uri}: {reason}") from error
        if is_outage(error) and not isinstance(error, FileNotFoundError):
            raise
        raise InvalidConfiguration(
            f"the repository {uri} cannot be opened by the installed Butler: {type(error).__name__}: {error}"
        ) from error


def sqlite_lock(uri: str) -> AbstractContextManager[Any]:
    """Return a lock shared by all processes that write to a repo on SQLite.

    Repositories on a database server need none and get a context manager
    that does nothing.
    """
    config = ButlerConfig(Butler.get_repo_uri(uri, return_label=True))
    database = config["registry", "db"]
    root = config.configDir
    if not str(database).startswith("sqlite") or root is None or not root.isLocal:
        return nullcontext()
    return filelock.FileLock(Path(root.ospath) / ".prompt-processing.lock", thread_local=False)


class CentralRepo:
    """Long-lived connections to a central repo and its read replica.

    Each is opened when first used; a worker that hands its outputs to the
    writer service never opens the one that writes.

    Parameters
    ----------
    uri : `str`
        The repo that outputs go to.
    read_uri : `str`
        Its read replica, or the same.
    retry_delay : `float`
        Mean pause before the second try after a connection error, seconds.
    """

    def __init__(self, *, uri: str, read_uri: str | None = None, retry_delay: float = 30.0) -> None:
        self._uri = uri
        self._read_uri = read_uri or uri
        self._retry_delay = retry_delay
        self._initialised: set[str] = set()

    @cached_property
    def read_butler(self) -> Butler:
        """Client of the read replica."""
        return retry_connections(lambda: open_butler(self._read_uri), delay=self._retry_delay)

    @cached_property
    def write_butler(self) -> Butler:
        """Client that may write."""
        return retry_connections(lambda: open_butler(self._uri, writeable=True), delay=self._retry_delay)

    @property
    def universe(self) -> DimensionUniverse:
        """Dimension universe of the repo."""
        return self.read_butler.dimensions

    @cached_property
    def files(self) -> CentralFiles:
        """Where dataset files are written."""
        return CentralFiles(self._uri, self.universe, retry_delay=self._retry_delay)

    @cached_property
    def registry_writer(self) -> RegistryWriter:
        """Inserts outputs directly, without a writer service."""
        return RegistryWriter(self.write_butler, lock=sqlite_lock(self._uri), retry_delay=self._retry_delay)

    def instrument_records(self, instrument: str, detector: int) -> dict[str, list[DimensionRecord]]:
        """Return the records of an instrument, one of its detectors and all
        its filters.

        Raises
        ------
        models.errors.InvalidConfiguration
            Raised if the repo does not have the instrument or detector.
        """
        butler = self.read_butler
        found: dict[str, list[DimensionRecord]] = {}
        try:
            found["instrument"] = butler.query_dimension_records("instrument", instrument=instrument)
            found["detector"] = butler.query_dimension_records(
                "detector", instrument=instrument, detector=detector
            )
            found["physical_filter"] = butler.query_dimension_records(
                "physical_filter", instrument=instrument, explain=False
            )
        except EmptyQueryResultError as error:
            raise InvalidConfiguration(
                f"the central repo {self._read_uri} does not have instrument {instrument} detector {detector}"
            ) from error
        return found

    def dataset_type(self, name: str) -> DatasetType | None:
        """Return a dataset type, or None if the repo does not have it."""
        try:
            return self.read_butler.get_dataset_type(name)
        except MissingDatasetTypeError:
            return None

    def is_initialised(self, runs: Iterable[str]) -> bool:
        """Say whether the initializer has finished with output runs.

        It writes the ``packages`` dataset of a run last. Asked of the primary
        repo if the replica does not know yet; a positive answer is kept.
        """
        return all(self._is_run_initialised(run) for run in runs)

    def init_outputs(self, run: str, dataset_types: Iterable[str]) -> dict[str, DatasetRef]:
        """Find the init-outputs that the initializer wrote to a run."""
        found = {}
        for name in dataset_types:
            try:
                ref = self.read_butler.find_dataset(name, collections=run)
            except (MissingDatasetTypeError, MissingCollectionError):
                ref = None
            if ref is not None:
                found[name] = ref
        return found

    def artifact(self, ref: DatasetRef) -> ResourcePath:
        """Return where a dataset's file is."""
        return self.read_butler.getURI(ref)

    def rest(self) -> None:
        """Give back connections that are not in use; the next use opens them
        again. A thousand idle workers must not hold a server's connections.
        """
        for name in _CLIENTS:
            if name in self.__dict__:
                self.__dict__[name].registry.resetConnectionPool()

    def close(self) -> None:
        """Close the connections that were opened."""
        for name in _CLIENTS:
            butler = self.__dict__.pop(name, None)
            if butler is not None:
                butler.close()

    def _is_run_initialised(self, run: str) -> bool:
        if run not in self._initialised:
            butlers = [self.read_butler]
            if self._read_uri != self._uri:
                butlers.append(self.write_butler)
            if any(_has_packages(butler, run) for butler in butlers):
                self._initialised.add(run)
        return run in self._initialised


def _has_packages(butler: Butler, run: str) -> bool:
    try:
        return butler.find_dataset("packages", collections=run) is not None
    except (MissingCollectionError, MissingDatasetTypeError):
        return False


def check_central_repo(uri: str, instrument: str) -> list[str]:
    """Return what is wrong with a central repo for an instrument, if
    anything.
    """
    try:
        butler = open_butler(uri)
    except (InvalidConfiguration, sqlalchemy.exc.SQLAlchemyError) as error:
        return [str(error)]
    try:
        butler.query_dimension_records("instrument", instrument=instrument)
    except EmptyQueryResultError:
        return [
            f"the central repo {uri} does not have instrument {instrument}; use create-central or register it"
        ]
    finally:
        butler.close()
    return []
