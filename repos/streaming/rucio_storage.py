"""How the content of files gets to a storage element that Rucio knows."""

from __future__ import annotations

__all__ = ["RucioStorage", "RucioUpload", "Xrootd", "XrootdCopy"]

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from rucio.client.client import Client
from rucio.client.uploadclient import UploadClient
from rucio.common import exception as rucio

from models.errors import InvalidConfiguration, InvalidMessage, TemporarilyUnavailable
from models.streaming.datasets import CatalogueFile, DatasetId

_log = logging.getLogger(__name__)

#: What `UploadClient` says of content that is at its place. Content gets its
#: final name only when it is complete.
_THERE = "File already exists"


class RucioStorage(Protocol):
    """Stores content and has Rucio know of it; once, however often it is asked."""

    def put(self, client: Client, dataset: DatasetId, file: CatalogueFile) -> None:
        """Store a file's content and register it as a replica.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it cannot be stored now.
        models.errors.InvalidMessage
            Raised if there is another file of this name.
        """


class RucioUpload:
    """Uploads with Rucio's own client; a `RucioStorage`.

    Parameters
    ----------
    rse : `str`
        The storage element.
    door, folder : `str`, optional
        Where files go; Rucio decides on its own if not both are given.
    """

    def __init__(self, *, rse: str, door: str | None = None, folder: str | None = None) -> None:
        self._rse = rse
        self._door = door
        self._folder = folder

    def put(self, client: Client, dataset: DatasetId, file: CatalogueFile) -> None:
        """Upload a file; finish what an earlier life began.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it cannot be stored now.
        models.errors.InvalidMessage
            Raised if there is another file of this name.
        """
        item: dict[str, Any] = {
            "path": str(file.path),
            "rse": self._rse,
            "did_scope": dataset.scope,
            "did_name": file.name,
            "guid": file.guid,
        }
        if self._door and self._folder:
            item["pfn"] = _pfn(self._door, self._folder, dataset, file)
        try:
            if not self._upload(client, item):
                self._finish(client, dataset, file)
            self._keep(client, dataset, file)
        except rucio.DataIdentifierNotFound as error:
            raise InvalidMessage(
                f"{file.name} was uploaded but not registered: Rucio does not register files of a "
                "deterministic storage element whose place is given; unset PP_XROOTD_DOOR"
            ) from error

    def _upload(self, client: Client, item: dict[str, Any]) -> bool:
        """Upload a file; say whether that was needed."""
        traces: list[dict[str, Any]] = []
        try:
            UploadClient(client, logger=_log).upload([item], traces_copy_out=traces)
        except rucio.NoFilesUploaded as error:
            reason = traces[-1].get("stateReason") if traces else None
            if reason == _THERE:
                return False
            name = item["did_name"]
            raise TemporarilyUnavailable(f"{name} is not uploaded: {reason or 'see the log'}") from error
        except rucio.InputValidationError as error:
            if Path(item["path"]).is_file():
                raise
            raise TemporarilyUnavailable(f"{item['path']} cannot be read any more") from error
        return True

    def _finish(self, client: Client, dataset: DatasetId, file: CatalogueFile) -> None:
        _compare(client.get_metadata(dataset.scope, file.name), dataset, file)
        replica = {
            "scope": dataset.scope,
            "name": file.name,
            "bytes": file.size_bytes,
            "adler32": file.adler32,
            "state": "A",
        }
        client.update_replicas_states(self._rse, files=[replica])

    def _keep(self, client: Client, dataset: DatasetId, file: CatalogueFile) -> None:
        """Make the rule by which a file is kept, if an earlier life did not
        come to that: Rucio's client makes it for files that are new.
        """
        if not any(True for _ in client.list_did_rules(dataset.scope, file.name)):
            did = {"scope": dataset.scope, "name": file.name}
            with suppress(rucio.DuplicateRule):
                client.add_replication_rule([did], copies=1, rse_expression=self._rse)


class Xrootd(Protocol):
    """What is used of XRootD's `FileSystem`; both answer a status first."""

    def mkdir(self, path: str, flags: Any) -> tuple[Any, Any]:
        """Make a directory."""

    def copy(self, source: str, target: str, *, force: bool) -> tuple[Any, Any]:
        """Copy a file."""


class XrootdCopy:
    """Copies with XRootD and registers the copy; a `RucioStorage`.

    Parameters
    ----------
    rse : `str`
        The storage element.
    door, folder : `str` or `None`
        URL of the door, and the directory behind it.
    files : `Xrootd`, optional
        Does it; by default XRootD's own bindings.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if a place is not given, or XRootD is not installed.
    """

    def __init__(
        self, *, rse: str, door: str | None, folder: str | None, files: Xrootd | None = None
    ) -> None:
        if not door or not folder:
            raise InvalidConfiguration("PP_XROOTD_DOOR, PP_XROOTD_FOLDER: -x needs both")
        self._rse = rse
        self._door = door
        self._folder = folder
        self._parents: Any = 0
        if files is None:
            try:
                from XRootD import client as xrootd
                from XRootD.client.flags import MkDirFlags
            except ImportError as error:
                raise InvalidConfiguration(
                    "-x needs XRootD's Python bindings (package xrootd), which are not installed"
                ) from error
            files, self._parents = xrootd.FileSystem(door), MkDirFlags.MAKEPATH
        self._files: Xrootd = files

    def put(self, client: Client, dataset: DatasetId, file: CatalogueFile) -> None:
        """Copy a file, over what an earlier life left, and register the copy.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it cannot be stored now.
        models.errors.InvalidMessage
            Raised if there is another file of this name, which stays.
        """
        with suppress(rucio.DataIdentifierNotFound):
            _compare(client.get_metadata(dataset.scope, file.name), dataset, file)
        _check(
            f"make the folder of {dataset.name}",
            self._files.mkdir(str(PurePosixPath(self._folder, dataset.name)), self._parents),
        )
        pfn = _pfn(self._door, self._folder, dataset, file)
        _check(f"copy {file.name}", self._files.copy(str(file.path), pfn, force=True))
        try:
            client.add_replica(self._rse, dataset.scope, file.name, file.size_bytes, file.adler32, pfn=pfn)
        except rucio.Duplicate:
            _log.info("%s:%s has its replica already.", dataset.scope, file.name)


def _pfn(door: str, folder: str, dataset: DatasetId, file: CatalogueFile) -> str:
    return f"{door}{PurePosixPath(folder, dataset.name, file.name)}"


def _compare(meta: Mapping[str, Any], dataset: DatasetId, file: CatalogueFile) -> None:
    if meta["bytes"] != file.size_bytes or int(meta["adler32"], 16) != int(file.adler32, 16):
        raise InvalidMessage(f"Rucio has another file {dataset.scope}:{file.name}")


def _check(what: str, answer: tuple[Any, Any]) -> None:
    status, _ = answer
    if not status.ok:
        raise TemporarilyUnavailable(f"XRootD cannot {what}: {' '.join(str(status.message).split())}")
