"""Delivers raw images into a directory."""

from __future__ import annotations

__all__ = ["DirectoryDelivery", "StagedFile"]

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StagedFile:
    """A file that is complete, but does not have its name yet.

    Attributes
    ----------
    aside, final : `pathlib.Path`
        Where it is, and where it belongs; the same file system.
    """

    aside: Path
    final: Path

    def release(self) -> float:
        """Give the file its final name.

        Returns
        -------
        time : `float`
            UTC unix time at which it had it.
        """
        os.replace(self.aside, self.final)
        return time.time()

    def discard(self) -> None:
        """Remove the file, unless it was released."""
        self.aside.unlink(missing_ok=True)


class DirectoryDelivery:
    """Writes raw images under a directory, for whoever watches it.

    A reader sees a file whole or not at all: it is written under a hidden
    name beside its place, synced to disk, and renamed when the shutter closes.

    Parameters
    ----------
    image_dir : path-like
        Created if need be.
    """

    def __init__(self, *, image_dir: str | Path) -> None:
        self._image_dir = Path(image_dir)
        self._image_dir.mkdir(parents=True, exist_ok=True)

    def stage(self, key: str, content: bytes) -> StagedFile:
        """Write a file aside.

        Parameters
        ----------
        key : `str`
            Where it belongs, relative to the directory.
        content : `bytes`

        Returns
        -------
        staged : `StagedFile`
        """
        final = self._image_dir / key
        final.parent.mkdir(parents=True, exist_ok=True)
        aside = final.with_name(f".{final.name}.{os.getpid()}.tmp")
        with aside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        return StagedFile(aside=aside, final=final)
