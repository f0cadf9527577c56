"""Rucio as the catalogue of datasets, asked with its own clients.

Which server and who we are is in Rucio's own configuration (``rucio.cfg``,
``RUCIO_ACCOUNT``, ...).
"""

from __future__ import annotations

__all__ = ["RucioCatalogue"]

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from rucio.client.client import Client
from rucio.common import exception as rucio

from models.errors import InvalidMessage
from models.streaming.datasets import CatalogueFile, DatasetId
from repos.streaming.rucio_errors import rucio_errors
from repos.streaming.rucio_storage import RucioStorage

_log = logging.getLogger(__name__)

#: Seconds that a request may take.
_TIMEOUT = 60


class RucioCatalogue:
    """Knows datasets and their files; a `services.streaming.catalogue.Catalogue`.

    Parameters
    ----------
    storage : `repos.streaming.rucio_storage.RucioStorage`
        Takes the files' content.
    connect : callable, optional
        Makes Rucio's client, when it is first needed: a server that is away
        at the start is asked again later.
    """

    def __init__(
        self,
        storage: RucioStorage,
        *,
        connect: Callable[[], Client] = lambda: Client(timeout=_TIMEOUT, logger=_log),
    ) -> None:
        self._storage = storage
        self._connect = connect
        self._connected: Client | None = None

    def create_dataset(self, dataset: DatasetId, *, lifetime: float) -> None:
        """Make a dataset, open, if it is not there; else it lives anew.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if Rucio cannot be reached, or fails.
        models.errors.InvalidMessage
            Raised if it refuses.
        """
        seconds = int(lifetime)
        with rucio_errors(f"to make the dataset {dataset}"):
            client = self._client()
            try:
                client.add_dataset(dataset.scope, dataset.name, meta={"lifetime": seconds}, lifetime=seconds)
            except rucio.DataIdentifierAlreadyExists:
                client.set_metadata(dataset.scope, dataset.name, key="lifetime", value=seconds)
            # Datasets are open when they are made; one that was closed stays so.
            with suppress(rucio.RucioException):
                client.set_status(dataset.scope, dataset.name, open=True)

    def add_files(self, dataset: DatasetId, files: Sequence[CatalogueFile]) -> None:
        """Have files stored, register them once each, and attach them.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if Rucio or the storage cannot be reached, or fails; some
            files may have been added.
        models.errors.InvalidMessage
            Raised if a file is refused. Files before it were added.
        """
        for file in files:
            with rucio_errors(f"to add {file.name} to {dataset}"):
                self._add(self._client(), dataset, file)

    def files(self, dataset: DatasetId, *, after: int = 0) -> list[CatalogueFile]:
        """Return the files of a dataset by name, less the first `after`. Where
        they are is not known.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if Rucio cannot be reached, or fails.
        """
        with rucio_errors(f"to list {dataset}"):
            try:
                rows = list(self._client().list_files(dataset.scope, dataset.name, long=True))
            except rucio.DataIdentifierNotFound:
                return []
        found = [
            CatalogueFile(
                name=row["name"],
                path=Path(row["name"]),
                size_bytes=row["bytes"],
                adler32=str(row["adler32"]).zfill(8),
                guid=row.get("guid") or "",
            )
            for row in rows
        ]
        return sorted(found, key=lambda file: file.name)[after:]

    def close_dataset(self, dataset: DatasetId) -> None:
        """Have a dataset accept no more files.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if Rucio cannot be reached, or fails.
        models.errors.InvalidMessage
            Raised if there is no such dataset.
        """
        with rucio_errors(f"to close {dataset}"):
            try:
                self._client().set_status(dataset.scope, dataset.name, open=False)
            except (rucio.UnsupportedOperation, rucio.UnsupportedStatus):
                # What is closed cannot be closed.
                if self.is_open(dataset):
                    raise
            except rucio.DataIdentifierNotFound as error:
                raise InvalidMessage(f"Rucio has no dataset {dataset}") from error

    def is_open(self, dataset: DatasetId) -> bool | None:
        """Say whether a dataset is open; None if there is none.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if Rucio cannot be reached, or fails.
        """
        with rucio_errors(f"to look at {dataset}"):
            try:
                return bool(self._client().get_did(dataset.scope, dataset.name)["open"])
            except rucio.DataIdentifierNotFound:
                return None

    def _client(self) -> Client:
        if self._connected is None:
            self._connected = self._connect()
        return self._connected

    def _add(self, client: Client, dataset: DatasetId, file: CatalogueFile) -> None:
        self._storage.put(client, dataset, file)
        for key, value in (*file.metadata.items(), ("guid", file.guid)):
            client.set_metadata(dataset.scope, file.name, key=key, value=value)
        did = {"scope": dataset.scope, "name": file.name}
        try:
            with suppress(rucio.FileAlreadyExists):
                client.add_files_to_dataset(dataset.scope, dataset.name, files=[did], rse=None)
        except rucio.UnsupportedOperation:
            # A dataset that is closed refuses even what is in it.
            parents = client.list_parent_dids(dataset.scope, file.name)
            if dataset not in [DatasetId(parent["scope"], parent["name"]) for parent in parents]:
                raise
