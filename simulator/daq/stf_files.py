"""The files of a run, on disk."""

from __future__ import annotations

__all__ = ["StfFolder", "as_announced_by", "stf_content"]

import json
import logging
import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from models.errors import PromptProcessingError
from models.streaming.messages import RunMessage
from models.streaming.names import parse_stf_filename
from simulator.daq.progress import CannotGoOn

_log = logging.getLogger(__name__)

#: Where files of an earlier run of the same number go, in the run's folder.
_EARLIER = ".earlier"


class FolderUnusable(PromptProcessingError):
    """Files cannot be written where they are to be."""


class WrittenFile(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    size_bytes : `int`
    checksum : `str`
        Adler-32, eight hexadecimal digits.
    """

    size_bytes: int
    checksum: str


class StfFolder:
    """A run's folder. Files that are in it before the run begins are of an
    earlier run of its number; they are moved aside, as others would take them
    for this run's.

    Parameters
    ----------
    path : `pathlib.Path`
        Made if it is not there.
    there : `bool`, optional
        Whether it must be there: a run is gone on with that began in it.

    Raises
    ------
    FolderUnusable
        Raised if it cannot be made, or such files cannot be moved.
    simulator.daq.progress.CannotGoOn
        Raised if it must be there and is not.
    """

    def __init__(self, path: Path, *, there: bool = False) -> None:
        self._path = path
        if there and not path.is_dir():
            raise CannotGoOn(f"folder {path} with the run's files is not there")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FolderUnusable(f"folder {path} for the run's files cannot be made: {error}") from error
        if not there:
            self._clear()

    def write(self, name: str, content: bytes) -> WrittenFile:
        """Write a file; it is there whole or not at all.

        Raises
        ------
        FolderUnusable
            Raised if it cannot be written; the text names the folder.
        """
        temporary = self._path / f".{name}.part"
        try:
            temporary.write_bytes(content)
            temporary.rename(self._path / name)
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary)
            raise FolderUnusable(f"folder {self._path}: {name} cannot be written: {error}") from error
        return WrittenFile(len(content), f"{zlib.adler32(content):08x}")

    def _clear(self) -> None:
        aside = self._path / _EARLIER
        try:
            old = [file for file in self._path.iterdir() if parse_stf_filename(file.name)]
            if not old:
                return
            aside.mkdir(exist_ok=True)
            for file in old:
                file.replace(aside / file.name)
        except OSError as error:
            raise FolderUnusable(
                f"folder {self._path}: files of an earlier run of this number cannot be moved aside: {error}"
            ) from error
        _log.warning(
            "Folder %s has files of an earlier run of this number, which are moved to %s: %d. Does the "
            "monitor count from the beginning?",
            self._path,
            aside,
            len(old),
        )

    def read(self, name: str) -> bytes | None:
        """Return what a file holds; None if it is not there."""
        try:
            return (self._path / name).read_bytes()
        except OSError:
            return None


def stf_content(message: RunMessage) -> bytes:
    """Return what the file of a message holds."""
    return json.dumps({k: v for k, v in message.to_body().items() if k != "sender"}).encode()


def as_announced_by(message: RunMessage, content: bytes) -> RunMessage:
    """Return a file's message, such that a content that is there stays what it
    is: others may have read it.
    """
    try:
        again = message.model_copy(update={"timestamp": str(json.loads(content)["timestamp"])})
    except (ValueError, KeyError, TypeError):
        again = message
    if stf_content(again) == content:
        return again
    _log.error(
        "A file of run %s is not what it should be: %r; it is replaced.", message.run_id, content[:200]
    )
    return message
