"""The two forms of a slot's local repo, and the choice between them."""

from __future__ import annotations

__all__ = ["LocalRepos"]

import logging
from collections.abc import Iterable

from config.settings import LocalRepoForm
from repos.full_repo import FullRepo
from repos.memory_repo import MemoryRepo
from repos.pipeline_graphs import LoadedPipeline
from repos.workspace import VisitContext, Workspace

_log = logging.getLogger(__name__)


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
