"""The pipelines of a deployment, loaded once and resolved once a slot."""

from __future__ import annotations

__all__ = ["PipelineLibrary"]

from collections.abc import Iterable

from lsst.daf.butler import Butler

from models.errors import PipelineUnreadable
from repos.pipeline_graphs import LoadedPipeline, load_pipeline, resolve_pipeline


class PipelineLibrary:
    """Pipelines by the path that the configuration gives.

    Parameters
    ----------
    apdb_config : `str`
        Value of the parameter ``apdb_config`` that every pipeline gets.
    """

    def __init__(self, *, apdb_config: str) -> None:
        self._apdb_config = apdb_config
        self._loaded: dict[str, LoadedPipeline | PipelineUnreadable] = {}
        self._resolved: dict[str, LoadedPipeline] = {}

    def load(self, paths: Iterable[str]) -> None:
        """Load pipelines and import their tasks, ahead of the first visit.

        A file that cannot be loaded is reported when it is asked for, so that
        visits that do not need it are not held up.
        """
        for path in paths:
            if path not in self._loaded:
                try:
                    self._loaded[path] = load_pipeline(path, {"apdb_config": self._apdb_config})
                except PipelineUnreadable as error:
                    self._loaded[path] = error

    def loaded(self) -> list[LoadedPipeline]:
        """Return the pipelines that could be loaded, unresolved."""
        return [p for p in self._loaded.values() if isinstance(p, LoadedPipeline)]

    def faults(self) -> list[PipelineUnreadable]:
        """Return why the other pipelines could not be loaded."""
        return [p for p in self._loaded.values() if isinstance(p, PipelineUnreadable)]

    def get(self, path: str, butler: Butler) -> LoadedPipeline:
        """Return a pipeline, resolved against a repo.

        Raises
        ------
        models.errors.PipelineUnreadable
            Raised if the file cannot be loaded.
        models.errors.NoPipelineBuilt
            Raised if it does not fit the repo.
        """
        resolved = self._resolved.get(path)
        if resolved is None:
            self.load([path])
            loaded = self._loaded[path]
            if isinstance(loaded, PipelineUnreadable):
                raise loaded
            resolved = self._resolved[path] = resolve_pipeline(loaded, butler)
        return resolved
