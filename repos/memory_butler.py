"""A Butler that keeps datasets in memory, for the length of one visit.

Tasks see the interface that they know (`lsst.daf.butler.LimitedButler`), but
nothing is written and nothing is looked up: a dataset costs a dictionary entry
instead of a file and rows in a registry.
"""

from __future__ import annotations

__all__ = ["MemoryButler", "StoredDataset", "Unreadable"]

import copy
import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lsst.daf.butler import (
    ButlerMetrics,
    DatasetProvenance,
    DatasetRef,
    DimensionUniverse,
    LimitedButler,
    Quantum,
    StorageClass,
    StorageClassDelegate,
)
from lsst.pipe.base import PipelineTask
from lsst.resources import ResourcePath
from pydantic import BaseModel

_log = logging.getLogger(__name__)


@dataclass
class StoredDataset:
    """A dataset in memory, as it was handed in.

    Attributes
    ----------
    ref : `lsst.daf.butler.DatasetRef`
    value : object
    provenance : `lsst.daf.butler.DatasetProvenance` or `None`
        What the executor knew of its making; None for inputs.
    """

    ref: DatasetRef
    value: Any
    provenance: DatasetProvenance | None = None


@dataclass(frozen=True)
class Unreadable:
    """Stands for a dataset that cannot be read here, until a task wants it.

    Attributes
    ----------
    error : `Exception`
        Why not.
    """

    error: Exception


class MemoryButler(LimitedButler):
    """Datasets of one visit in memory, behind the Butler's interface.

    Parameters
    ----------
    universe : `lsst.daf.butler.DimensionUniverse`
        Dimensions of the central repo.

    Notes
    -----
    A task may change what it gets, and what it has put already; datasets on
    disk do not mind. So `get` hands out copies, except of values that cannot
    be changed, and `put` keeps one if the task goes on after it.
    """

    def __init__(self, universe: DimensionUniverse) -> None:
        self._universe = universe
        self._inputs: dict[uuid.UUID, StoredDataset] = {}
        self._outputs: dict[uuid.UUID, StoredDataset] = {}
        self._copies_outputs = False
        self._metrics = ButlerMetrics()
        # The base class expects the attribute; everything that would use it
        # is overridden here.
        self._datastore = None

    @property
    def dimensions(self) -> DimensionUniverse:
        """Dimension universe of the datasets kept here."""
        return self._universe

    def isWriteable(self) -> bool:
        """Return `True`: tasks put their outputs here."""
        return True

    def add_input(self, ref: DatasetRef, value: Any) -> None:
        """Keep a dataset that tasks may read."""
        self._inputs[ref.id] = StoredDataset(ref, value)

    def add_output(self, ref: DatasetRef, value: Any) -> None:
        """Keep a dataset that the service made, as it is."""
        self._outputs[ref.id] = StoredDataset(ref, value)

    def for_quantum(self, quantum: Quantum) -> MemoryButler:
        """Return this Butler, ready for the next quantum."""
        # The usual way to run a quantum puts its outputs last, and nobody is
        # left to change them.
        task_class = quantum.taskClass
        self._copies_outputs = task_class is None or task_class.runQuantum is not PipelineTask.runQuantum
        return self

    def inputs(self) -> list[DatasetRef]:
        """Return what tasks may read and did not make."""
        return [dataset.ref for dataset in self._inputs.values()]

    def outputs(self) -> Iterator[StoredDataset]:
        """Iterate over what was put, in the order of putting."""
        yield from self._outputs.values()

    def peek(self, ref: DatasetRef) -> Any:
        """Return a dataset without copying it; the caller must not change it.

        Raises
        ------
        FileNotFoundError
            Raised if it is not here.
        """
        return self._stored(ref).value

    def clear(self) -> None:
        """Forget everything."""
        self._inputs.clear()
        self._outputs.clear()

    def get(
        self,
        ref: DatasetRef,
        /,
        *,
        parameters: dict[str, Any] | None = None,
        storageClass: StorageClass | str | None = None,
    ) -> Any:
        """Return a dataset, honouring components, parameters and conversion
        of storage classes as a datastore does.

        Raises
        ------
        FileNotFoundError
            Raised if it is not here.
        Exception
            Raised if it is here, but could not be read.
        """
        with self._metrics.instrument_get(_log, msg="Retrieved dataset"):
            stored = self._stored(ref)
            if isinstance(stored.value, Unreadable):
                raise stored.value.error
            if storageClass is not None:
                ref = ref.overrideStorageClass(storageClass)
            value = _Reader(stored.value, stored.ref.datasetType.storageClass, parameters or {}).read(ref)
            # A component or slice may still be a view of the whole.
            return value if _is_immutable(value) else copy.deepcopy(value)

    def put(self, obj: Any, ref: DatasetRef, /, *, provenance: DatasetProvenance | None = None) -> DatasetRef:
        """Keep an output of a task."""
        with self._metrics.instrument_put(_log, msg="Kept dataset"):
            value = ref.datasetType.storageClass.coerce_type(obj)
            if self._copies_outputs and value is obj and not _is_immutable(value):
                value = copy.deepcopy(value)
            if provenance is not None:
                # The executor goes on filling its provenance object while
                # later tasks of the quantum read more inputs.
                provenance = copy.deepcopy(provenance)
            self._outputs[ref.id] = StoredDataset(ref, value, provenance)
        return ref

    def stored_many(self, refs: Iterable[DatasetRef]) -> dict[DatasetRef, bool]:
        """Say which datasets are here."""
        return {ref: ref.id in self._outputs or ref.id in self._inputs for ref in refs}

    def pruneDatasets(
        self,
        refs: Iterable[DatasetRef],
        *,
        disassociate: bool = True,
        unstore: bool = False,
        tags: Iterable[str] = (),
        purge: bool = False,
    ) -> None:
        """Forget datasets."""
        for ref in refs:
            self._inputs.pop(ref.id, None)
            self._outputs.pop(ref.id, None)

    def markInputUnused(self, ref: DatasetRef) -> None:
        """Do nothing: unused inputs are forgotten with the visit."""

    def get_datastore_names(self) -> tuple[str, ...]:
        """Return the one name of this store."""
        return ("memory",)

    def get_datastore_roots(self) -> dict[str, ResourcePath | None]:
        """Return no root: there are no files."""
        return {"memory": None}

    def close(self) -> None:
        """Do nothing: the executor closes its Butler after every quantum,
        while these datasets live as long as the visit.
        """

    @property
    def _file_transfer_source(self) -> Any:
        raise NotImplementedError("datasets in memory have no files to transfer")

    def _stored(self, ref: DatasetRef) -> StoredDataset:
        stored = self._outputs.get(ref.id) or self._inputs.get(ref.id)
        if stored is None:
            raise FileNotFoundError(f"dataset {ref} is not in memory")
        return stored


@dataclass
class _Reader:
    """Turns what was stored into what was asked for."""

    value: Any
    written: StorageClass
    parameters: Mapping[str, Any]

    def read(self, ref: DatasetRef) -> Any:
        wanted = ref.datasetType.storageClass
        component = ref.datasetType.component()
        value, parameters = self.value, dict(self.parameters)
        if component is not None:
            composite = self.written
            if component in composite.derivedComponents:
                composite.validateParameters(parameters)
                if parameters:
                    value = _delegate(composite).handleParameters(value, parameters)
                    parameters = {}
            elif component not in composite.allComponents():
                parent = ref.datasetType.parentStorageClass
                if parent is not None:
                    composite, value = parent, parent.coerce_type(value)
            value = _delegate(composite).getComponent(value, component)
            if value is None:
                return None
        if parameters:
            wanted.validateParameters(parameters)
            value = wanted.coerce_type(value)
            value = _delegate(wanted).handleParameters(value, parameters)
        return wanted.coerce_type(value)


def _delegate(storage_class: StorageClass) -> StorageClassDelegate:
    """Return what takes composites apart; attributes by name where the
    storage class names no delegate.
    """
    if storage_class.delegateClass is None:
        return StorageClassDelegate(storage_class)
    return storage_class.delegate()


def _is_immutable(value: Any) -> bool:
    if value is None or isinstance(value, str | bytes | int | float | bool | frozenset):
        return True
    return isinstance(value, BaseModel) and bool(value.model_config.get("frozen"))
