"""The initializer: prepare a central repo for a deployment and its nights.

Init-outputs, configurations and package versions of every configured pipeline
are written once, here, and not by a thousand workers.
"""

from __future__ import annotations

__all__ = ["Initializer", "MissingDatasetTypes"]

import logging
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lsst.daf.butler import (
    Butler,
    CollectionType,
    DatasetNotFoundError,
    DatasetType,
    MissingCollectionError,
    MissingDatasetTypeError,
)
from lsst.daf.butler.registry import ConflictingDefinitionError, RegistryError
from sqlalchemy.exc import IntegrityError

from models.errors import InvalidConfiguration, NoPipelineBuilt
from repos.collections import defaults_collection, output_chain, output_run, preload_run
from repos.pipeline_graphs import LoadedPipeline, resolve_pipeline
from repos.service_datasets import service_dataset_types

_log = logging.getLogger(__name__)

#: Times a step is tried when another initializer was quicker.
_ATTEMPTS = 3


class MissingDatasetTypes(InvalidConfiguration):
    """Dataset types are not registered, and may not be without being asked."""


class Initializer:
    """Prepares output runs.

    Parameters
    ----------
    butler : `lsst.daf.butler.Butler`
        Writeable client of the central repo.
    instrument : `str`
    deployment_id : `str`
    register_dataset_types : `bool`
        Whether missing dataset types are registered.
    lock : context manager, optional
        Held while the repo is written; see `repos.central.sqlite_lock`.
    """

    def __init__(
        self,
        *,
        butler: Butler,
        instrument: str,
        deployment_id: str,
        register_dataset_types: bool,
        lock: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._butler = butler
        self._instrument = instrument
        self._deployment_id = deployment_id
        self._register = register_dataset_types
        self._lock = lock if lock is not None else nullcontext()

    def run(
        self,
        *,
        preprocessing: Iterable[LoadedPipeline],
        main: Iterable[LoadedPipeline],
        dates: Sequence[str],
    ) -> list[str]:
        """Prepare everything for some nights. Safe to repeat, and while
        another initializer does the same.

        Parameters
        ----------
        preprocessing, main : iterable of `repos.pipeline_graphs.LoadedPipeline`
        dates : `list` [`str`]
            TAI dates of the nights' output collections, YYYY-MM-DD.

        Returns
        -------
        runs : `list` [`str`]
            The output runs that are ready now.

        Raises
        ------
        MissingDatasetTypes
            Raised if dataset types are missing and may not be registered; the
            text names every one.
        models.errors.NoPipelineBuilt
            Raised if a pipeline does not fit the repo.
        """
        with self._lock:
            resolved_pre = [resolve_pipeline(p, self._butler) for p in preprocessing]
            resolved_main = [resolve_pipeline(p, self._butler) for p in main]
            self._ensure_dataset_types([*resolved_pre, *resolved_main])
            runs = []
            for date in dates:
                runs += self._prepare_night(date, resolved_pre, resolved_main)
        return runs

    def _prepare_night(
        self, date: str, preprocessing: Sequence[LoadedPipeline], main: Sequence[LoadedPipeline]
    ) -> list[str]:
        own = preload_run(self._instrument, date, self._deployment_id)
        self._butler.collections.register(own)
        runs = [own]
        for pipeline in (*preprocessing, *main):
            run = output_run(self._instrument, date, pipeline.stem, self._deployment_id)
            if run not in runs:
                self._retried(lambda p=pipeline, r=run: self._write_init_outputs(p, r))
                runs.append(run)
        self._retried(lambda: self._prepend(output_chain(self._instrument, date), runs))
        return runs

    def _write_init_outputs(self, pipeline: LoadedPipeline, run: str) -> None:
        # Tasks may read datasets of others when they are made.
        search = [run, defaults_collection(self._instrument)]
        butler = self._butler.clone(run=run, collections=search, inferDefaults=False)
        butler.collections.register(run)
        pipeline.graph.write_configs(butler)
        try:
            pipeline.graph.write_init_outputs(butler)
        except (DatasetNotFoundError, MissingCollectionError) as error:
            raise NoPipelineBuilt(f"pipeline {pipeline.path} cannot be initialised: {error}") from error
        # Last: workers take its presence for a finished initialisation.
        pipeline.graph.write_packages(butler)
        _log.info("Run %s is initialised.", run)

    def _prepend(self, chain: str, runs: Sequence[str]) -> None:
        """Put runs first in a chain, keeping what else it holds."""
        collections = self._butler.collections
        collections.register(chain, CollectionType.CHAINED)
        try:
            present = collections.get_info(chain).children
        except MissingCollectionError:
            present = ()
        if tuple(present[: len(runs)]) != tuple(runs):
            collections.redefine_chain(chain, [*runs, *(c for c in present if c not in runs)])

    def _ensure_dataset_types(self, pipelines: Iterable[LoadedPipeline]) -> None:
        needed: dict[str, DatasetType] = dict(service_dataset_types(self._butler.dimensions))
        for pipeline in pipelines:
            graph = pipeline.graph
            needed[graph.packages_dataset_type.name] = graph.packages_dataset_type
            for name in pipeline.products | set(graph.dataset_types):
                if graph.producer_of(name) is not None:
                    needed[name] = graph.dataset_types[name].dataset_type
        missing = {name: t for name, t in needed.items() if not self._is_registered(name)}
        if not missing:
            return
        if not self._register:
            raise MissingDatasetTypes(
                f"dataset types are not registered in the central repo: {', '.join(sorted(missing))}; "
                "register them with the Butler, or set REGISTER_DATASET_TYPES=1 to let the initializer do it"
            )
        for dataset_type in missing.values():
            self._butler.registry.registerDatasetType(dataset_type)
        _log.info("Registered dataset types: %s.", ", ".join(sorted(missing)))

    def _is_registered(self, name: str) -> bool:
        try:
            self._butler.get_dataset_type(name)
        except MissingDatasetTypeError:
            # Another client may have registered it since this one last looked.
            self._butler.registry.refresh()
            try:
                self._butler.get_dataset_type(name)
            except MissingDatasetTypeError:
                return False
        return True

    def _retried(self, step: Any) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                step()
                return
            except (ConflictingDefinitionError, IntegrityError, RegistryError):
                # Another initializer wrote the same in between; what it wrote
                # is found, and compared, in the next attempt.
                if attempt == _ATTEMPTS:
                    raise
                self._butler.registry.refresh()
