"""Directories that go with the process that made them, whatever way it goes."""

from __future__ import annotations

__all__ = ["LOCK_NAME", "PREFIX", "ScratchDirectory", "remove_leftovers"]

import contextlib
import shutil
import tempfile
import time
from pathlib import Path

import filelock

#: Prefix of scratch directories, by which left-overs are known.
PREFIX = "pp-local-"
#: File in one that its living owner keeps locked.
LOCK_NAME = ".in-use"
#: Seconds for which a directory may be without a lock: it is just being made.
_UNLOCKED_AGE = 60.0


class ScratchDirectory:
    """A directory of this process's own, made when first needed.

    Parameters
    ----------
    parent : `pathlib.Path`
        Where it is made.
    """

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._path: Path | None = None
        self._lock: filelock.BaseFileLock | None = None

    @property
    def path(self) -> Path:
        """The directory; a new one if the last was removed."""
        while self._path is None or self._lock is None:
            self._path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._parent))
            lock = filelock.FileLock(self._path / LOCK_NAME)
            # Until it is locked, another process may take it for a left-over.
            with contextlib.suppress(filelock.Timeout, FileNotFoundError):
                lock.acquire(blocking=False)
                self._lock = lock
        return self._path

    def remove(self) -> None:
        """Remove it, if it was made."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path = None


def remove_leftovers(parent: Path) -> int:
    """Remove the scratch directories of processes that died.

    Returns
    -------
    removed : `int`
        How many there were.
    """
    removed = 0
    for root in parent.glob(f"{PREFIX}*"):
        if not (root / LOCK_NAME).exists() and _age(root) < _UNLOCKED_AGE:
            continue
        lock = filelock.FileLock(root / LOCK_NAME)
        try:
            lock.acquire(blocking=False)
        except (filelock.Timeout, OSError):
            continue
        try:
            shutil.rmtree(root, ignore_errors=True)
        finally:
            lock.release()
        removed += 1
    return removed


def _age(path: Path) -> float:
    """Return the seconds since a directory was last changed."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
