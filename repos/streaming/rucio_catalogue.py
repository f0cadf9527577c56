"""Rucio as the catalogue of datasets, asked with its own clients.

Which server and who we are is in Rucio's own configuration (``rucio.cfg``,
``RUCIO_ACCOUNT``, ...).
"""

from __future__ import annotations

__all__ = ["UPLOADS", "RucioCatalogue"]

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rucio.client.client import Client
from rucio.common import exception as rucio

from models.errors import InvalidMessage
from models.streaming.datasets import CatalogueFile, DatasetId
from repos.streaming.rucio_clients import RucioClients, in_order
from repos.streaming.rucio_errors import rucio_errors
from repos.streaming.rucio_storage import RucioStorage

#: Files that are added at once.
UPLOADS = 4


class RucioCatalogue:
    """Knows datasets and their files; a `services.streaming.catalogue.Catalogue`.

    Parameters
    ----------
    storage : `repos.streaming.rucio_storage.RucioStorage`
        Takes the files' content.
    clients : `repos.streaming.rucio_clients.RucioClients`, optional
    uploads : `int`, optional
        Files that are added at once.
    """

    def __init__(
        self, storage: RucioStorage, *, clients: RucioClients | None = None, uploads: int = UPLOADS
    ) -> None:
        self._storage = storage
        self._clients = clients or RucioClients()
        self._uploads = uploads

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
        with rucio_errors(f"to make the dataset {dataset}"), self._clients.one() as client:
            try:
                client.add_dataset(dataset.scope, dataset.name, meta={"lifetime": seconds}, lifetime=seconds)
            except rucio.DataIdentifierAlreadyExists:
                client.set_metadata(dataset.scope, dataset.name, key="lifetime", value=seconds)
            # Datasets are open when they are made; one that was closed stays so.
            with suppress(rucio.RucioException):
                client.set_status(dataset.scope, dataset.name, open=True)

    def add_files(self, dataset: DatasetId, files: Sequence[CatalogueFile]) -> None:
        """Have files stored, register them once each, and attach them; some
        at once.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if Rucio or the storage cannot be reached, or fails; some
            files may have been added.
        models.errors.InvalidMessage
            Raised if a file is refused. Files before it were added, and maybe
            some behind it.
        """

        def add(file: CatalogueFile) -> None:
            with rucio_errors(f"to add {file.name} to {dataset}"), self._clients.one() as client:
                self._add(client, dataset, file)

        errors = [error for error in in_order(add, files, at_once=self._uploads) if error is not None]
        if errors:
            # A refusal says that all before it are in; any other failure does not.
            raise next((error for error in errors if not isinstance(error, InvalidMessage)), errors[0])

    def files(self, dataset: DatasetId, *, after: int = 0) -> list[CatalogueFile]:
        """Return the files of a dataset by name, less the first `after`. Where
        they are is not known.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if Rucio cannot be reached, or fails.
        """
        with rucio_errors(f"to list {dataset}"), self._clients.one() as client:
            try:
                rows = list(client.list_files(dataset.scope, dataset.name, long=True))
            except rucio.DataIdentifierNotFound:
                return []
        found = [
            CatalogueFile(
                name=row["name"],
                path=Path(row["name"]),
                size_bytes=row["bytes"],
                adler32=str(row["adler32"]).zfill(8) if row.get("adler32") else "",
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
        with rucio_errors(f"to close {dataset}"), self._clients.one() as client:
            try:
                client.set_status(dataset.scope, dataset.name, open=False)
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
        with rucio_errors(f"to look at {dataset}"), self._clients.one() as client:
            try:
                return bool(client.get_did(dataset.scope, dataset.name)["open"])
            except rucio.DataIdentifierNotFound:
                return None

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
