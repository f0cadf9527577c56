"""Quanta of a pipeline for one visit and detector, made without a registry.

The Butler's quantum graph builders find out by queries which data ids belong
together. Where one visit and detector fix all dimensions there is nothing to
find out, and a quantum is a few dictionary entries. The rules that the
builders apply on the way (missing inputs, ``adjustQuantum``, tasks with no
work) are applied here in the same order.
"""

from __future__ import annotations

__all__ = ["PlannedQuantum", "plan_quanta", "quantum_id"]

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lsst.daf.butler import DataCoordinate, DatasetRef, DatasetType, NamedKeyDict, Quantum
from lsst.pipe.base import NoWorkFound
from lsst.pipe.base.connections import AdjustQuantumHelper
from lsst.pipe.base.pipeline_graph import TaskNode
from lsst.sphgeom import DISJOINT

from models.errors import NoPipelineBuilt
from repos.data_ids import VisitDataIds, output_ref
from repos.pipeline_graphs import LoadedPipeline, PipelinePart

_log = logging.getLogger(__name__)

#: Name space of quantum ids: they follow from run, task and data id.
_QUANTUM_NAMESPACE = uuid.UUID("8a6bd7a4-5d4b-4d4c-a06c-0f8f2a7a6f0e")


@dataclass(frozen=True)
class PlannedQuantum:
    """One task on one data id, ready to be executed."""

    task_node: TaskNode
    quantum: Quantum
    quantum_id: uuid.UUID


def plan_quanta(
    pipeline: LoadedPipeline,
    data_ids: VisitDataIds,
    available: Mapping[str, Sequence[DatasetRef]],
    run: str,
    init_inputs: Mapping[str, DatasetRef],
) -> list[PlannedQuantum]:
    """Make the quanta of a pipeline that fits memory.

    Parameters
    ----------
    pipeline : `repos.pipeline_graphs.LoadedPipeline`
        Resolved, and one that `fits_memory`.
    data_ids : `repos.data_ids.VisitDataIds`
    available : `dict` [`str`, `list` [`lsst.daf.butler.DatasetRef`]]
        Datasets that exist, by dataset type.
    run : `str`
        Output run.
    init_inputs : `dict` [`str`, `lsst.daf.butler.DatasetRef`]
        Init-outputs that exist in the run, by dataset type.

    Returns
    -------
    quanta : `list` [`PlannedQuantum`]
        In an order in which they can be executed; never empty.

    Raises
    ------
    models.errors.NoPipelineBuilt
        Raised if an input is missing, or there is no work for any task.
    """
    planner = _Planner(pipeline, data_ids, available, run, init_inputs)
    idle: set[str] = set()
    lacking: set[str] = set()
    for part in pipeline.parts:
        missing = planner.missing(part)
        if missing:
            idle |= part.tasks
            lacking |= missing
    if idle == set(pipeline.graph.tasks):
        raise NoPipelineBuilt(f"pipeline {pipeline.stem}: no {', '.join(sorted(lacking))} for this visit")
    quanta = [
        planned
        for label, task in pipeline.graph.tasks.items()
        if label not in idle and (planned := planner.plan(task)) is not None
    ]
    if not quanta:
        raise NoPipelineBuilt(f"pipeline {pipeline.stem}: no task has work to do (empty quantum graph)")
    return quanta


class _Planner:
    def __init__(
        self,
        pipeline: LoadedPipeline,
        data_ids: VisitDataIds,
        available: Mapping[str, Sequence[DatasetRef]],
        run: str,
        init_inputs: Mapping[str, DatasetRef],
    ) -> None:
        self._graph = pipeline.graph
        self._data_ids = data_ids
        # What another pipeline made under the same name is not seen.
        self._available = {k: refs for k, refs in available.items() if k not in pipeline.products}
        self._run = run
        self._init_inputs = init_inputs

    def missing(self, part: PipelinePart) -> set[str]:
        """Return the dataset types without which part of the pipeline has no
        work, and of which this visit has none.
        """
        known = [name for name in part.dimensions.names if self._data_ids.knows(name)]
        data_id = self._data_ids.get(part.dimensions.universe.conform(known))
        return {name for name in part.constraints if not self._matching(name, data_id)}

    def plan(self, task: TaskNode) -> PlannedQuantum | None:
        if not self._data_ids.covers(task.dimensions):
            raise NoPipelineBuilt(
                f"task {task.label} needs {', '.join(task.dimensions.names)}, of which this visit knows only "
                f"{', '.join(self._data_ids.values)}"
            )
        data_id = self._data_ids.get(task.dimensions)
        inputs: NamedKeyDict[DatasetType, list[DatasetRef]] = NamedKeyDict()
        for edge in task.iter_all_inputs():
            dataset_type = self._graph.dataset_types[edge.parent_dataset_type_name].dataset_type
            inputs[edge.adapt_dataset_type(dataset_type)] = [
                edge.adapt_dataset_ref(ref)
                for ref in sorted(self._matching(edge.parent_dataset_type_name, data_id))
            ]
        outputs: NamedKeyDict[DatasetType, list[DatasetRef]] = NamedKeyDict()
        for edge in task.iter_all_outputs():
            dataset_type = self._graph.dataset_types[edge.parent_dataset_type_name].dataset_type
            ref = output_ref(dataset_type, self._data_ids.get(dataset_type.dimensions), self._run)
            outputs[edge.adapt_dataset_type(dataset_type)] = [edge.adapt_dataset_ref(ref)]
        helper = AdjustQuantumHelper(inputs.freeze(), outputs.freeze())
        try:
            helper.adjust_in_place(task.get_connections(), task.label, data_id)
        except NoWorkFound as error:
            # Its outputs are not predicted, so tasks that need them have no
            # work either, while others go on.
            _log.info("No work for task %s: %s", task.label, error)
            return None
        except FileNotFoundError as error:
            raise NoPipelineBuilt(f"task {task.label}: {error}") from error
        for dataset_type, refs in helper.outputs.items():
            node = self._graph.dataset_types[dataset_type.nameAndComponent()[0]]
            self._available[node.name] = [node.generalize_ref(ref) for ref in refs]
        quantum = Quantum(
            taskClass=task.task_class,
            taskName=task.task_class_name,
            dataId=data_id,
            inputs=helper.inputs,
            outputs=helper.outputs,
            initInputs=self._init_inputs_of(task),
        )
        return PlannedQuantum(task, quantum, quantum_id(self._run, task.label, data_id))

    def _matching(self, dataset_type: str, data_id: DataCoordinate) -> list[DatasetRef]:
        """Return the datasets of a type that belong to a data id."""
        return [
            ref
            for ref in self._available.get(dataset_type, ())
            if self._data_ids.agrees(ref.dataId) and _may_overlap(ref.dataId, data_id)
        ]

    def _init_inputs_of(self, task: TaskNode) -> dict[DatasetType, DatasetRef]:
        found, missing = {}, []
        for edge in task.init.iter_all_inputs():
            name = edge.parent_dataset_type_name
            ref = self._init_inputs.get(name) or next(iter(self._available.get(name, ())), None)
            if ref is None:
                missing.append(name)
                continue
            adapted = edge.adapt_dataset_ref(ref)
            found[adapted.datasetType] = adapted
        if missing:
            raise NoPipelineBuilt(
                f"task {task.label} needs {', '.join(sorted(missing))} when it is made, not to be found in "
                f"{self._run}; run `prompt-processing init`"
            )
        return found


def quantum_id(run: str, label: str, data_id: DataCoordinate) -> uuid.UUID:
    """Return the id of a quantum, which follows from run, task and data id."""
    values = ",".join(map(str, data_id.required_values))
    return uuid.uuid5(_QUANTUM_NAMESPACE, f"{run}/{label}/{values}")


def _may_overlap(a: DataCoordinate, b: DataCoordinate) -> bool:
    """Apply the spatial join of the middleware's builders: data ids that both
    have a region belong together if the regions overlap.
    """
    if a.region is None or b.region is None:
        return True
    return not a.region.relate(b.region) & DISJOINT
