"""Files that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

__all__ = ["replace_file"]

import os
from collections.abc import Callable
from pathlib import Path


def replace_file(final: Path, write: Callable[[Path], object], *, durable: bool = False) -> None:
    """Write a file aside, then put it in place in one step.

    Parameters
    ----------
    final : `pathlib.Path`
        The file's place; missing directories are made.
    write : callable
        Writes the content to the path that it is given, in the same
        directory.
    durable : `bool`, optional
        Whether the file must survive a loss of power from then on.

    Raises
    ------
    OSError
        Raised if it cannot be written; what was there before is still there.
    """
    aside = final.with_name(f".{os.getpid()}.{final.name}")
    try:
        try:
            write(aside)
        except FileNotFoundError:
            final.parent.mkdir(parents=True, exist_ok=True)
            write(aside)
        if durable:
            _sync(aside)
        aside.replace(final)
    except BaseException:
        # Interruptions too: nobody would look for it.
        aside.unlink(missing_ok=True)
        raise
    if durable:
        # A rename is the directory's content.
        _sync(final.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
