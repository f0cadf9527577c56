"""The two forms of a slot's local repo, and the choice between them."""

from __future__ import annotations

__all__ = ["LocalRepos", "remove_leftovers"]

import logging
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import filelock

from config.settings import LocalRepoForm
from repos.full_repo import LOCK_NAME, PREFIX, FullRepo
from repos.memory_repo import MemoryRepo
from repos.pipeline_graphs import LoadedPipeline
from repos.workspace import VisitContext, Workspace

_log = logging.getLogger(__name__)


#: Seconds for which a repo may be without a lock: it is just being made.
_UNLOCKED_AGE = 60.0


class LocalRepos:
    """Opens a workspace in the form that a visit's pipelines need.

    Parameters
    ----------
    memory : `repos.memory_repo.MemoryRepo`
    full : `repos.full_repo.FullRepo`
    form : `config.settings.LocalRepoForm`
    """

    def __init__(self, *, memory: MemoryRepo, full: FullRepo, form: LocalRepoForm) -> None:
        self._memory = memory
        self._full = full
        self._form = form

    def open(
        self, context: VisitContext, pipelines: Iterable[LoadedPipeline], *, one_exposure: bool
    ) -> Workspace:
        """Begin a visit.

        Parameters
        ----------
        context : `repos.workspace.VisitContext`
        pipelines : iterable of `repos.pipeline_graphs.LoadedPipeline`
            All that may run for this visit.
        one_exposure : `bool`
            Whether it is known that there will be just one.
        """
        form = self._form
        if form is LocalRepoForm.AUTO:
            fits = one_exposure and all(p.fits_memory for p in pipelines)
            form = LocalRepoForm.MEMORY if fits else LocalRepoForm.FULL
        _log.debug("Local repo for group %s detector %d: %s.", context.group, context.detector, form)
        return self._memory.open(context) if form is LocalRepoForm.MEMORY else self._full.open(context)

    @property
    def cached_bytes(self) -> int:
        """Size of the arrays that are kept in memory between visits."""
        return self._memory.cached_bytes

    def close(self) -> None:
        """Remove what is on disk."""
        self._memory.close()
        self._full.close()


def remove_leftovers(directory: Path) -> int:
    """Remove the local repos of slots that died.

    Returns
    -------
    removed : `int`
        How many there were.
    """
    removed = 0
    for root in directory.glob(f"{PREFIX}*"):
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
