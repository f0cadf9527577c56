"""Quanta of a pipeline from a full local repo, found by the Butler's own
quantum graph builder.
"""

from __future__ import annotations

__all__ = ["build_quanta"]

from collections.abc import Mapping, Sequence
from typing import Any

from lsst.daf.butler import Butler, DatasetRef, Quantum
from lsst.pipe.base.all_dimensions_quantum_graph_builder import AllDimensionsQuantumGraphBuilder

from models.errors import NoPipelineBuilt
from repos.data_ids import output_ref
from repos.pipeline_graphs import LoadedPipeline
from repos.quanta import PlannedQuantum, quantum_id


def build_quanta(
    pipeline: LoadedPipeline,
    butler: Butler,
    *,
    where: str,
    bind: Mapping[str, Any],
    input_collections: Sequence[str],
    run: str,
    init_outputs: Mapping[str, DatasetRef],
) -> list[PlannedQuantum]:
    """Build the quanta of a pipeline.

    Parameters
    ----------
    pipeline : `repos.pipeline_graphs.LoadedPipeline`
        Resolved.
    butler : `lsst.daf.butler.Butler`
        Client of the local repo.
    where : `str`
        Constraint on data ids, in the Butler's expression language.
    bind : `dict` [`str`, value]
        Values of the identifiers in `where`.
    input_collections : `list` [`str`]
        Searched in this order.
    run : `str`
        Output run.
    init_outputs : `dict` [`str`, `lsst.daf.butler.DatasetRef`]
        Init-outputs that exist in the run, by dataset type.

    Returns
    -------
    quanta : `list` [`repos.quanta.PlannedQuantum`]
        In an order in which they can be executed; never empty.

    Raises
    ------
    models.errors.NoPipelineBuilt
        Raised if an input is missing, or there is no work for any task.
    """
    try:
        builder = AllDimensionsQuantumGraphBuilder(
            pipeline.graph,
            butler,
            where=where,
            bind=bind,
            input_collections=input_collections,
            output_run=run,
        )
        graph = builder.finish(attach_datastore_records=False).assemble()
    except Exception as error:  # the builder reports missing inputs in many types
        raise NoPipelineBuilt(
            f"pipeline {pipeline.stem}: no quantum graph: {type(error).__name__}: {error}"
        ) from error
    graph.build_execution_quanta()
    nodes = graph.quantum_only_xgraph.nodes
    order = {label: i for i, label in enumerate(pipeline.graph.tasks)}
    chosen = sorted(
        (nodes[node] for node in nodes),
        key=lambda n: (order[n["task_label"]], n["data_id"].required_values),
    )
    if not chosen:
        raise NoPipelineBuilt(f"pipeline {pipeline.stem}: no task has work to do (empty quantum graph)")
    return [
        PlannedQuantum(
            n["pipeline_node"],
            (quantum := _with_stable_ids(n["quantum"], init_outputs)),
            quantum_id(run, n["task_label"], quantum.dataId),
        )
        for n in chosen
    ]


def _with_stable_ids(quantum: Quantum, init_outputs: Mapping[str, DatasetRef]) -> Quantum:
    """Replace the builder's random ids by those that follow from data id and
    run.
    """
    run = next(ref.run for refs in quantum.outputs.values() for ref in refs)
    return Quantum(
        taskClass=quantum.taskClass,
        taskName=quantum.taskName,
        dataId=quantum.dataId,
        inputs={
            dataset_type: [_with_stable_id(ref) if ref.run == run else ref for ref in refs]
            for dataset_type, refs in quantum.inputs.items()
        },
        outputs={
            dataset_type: [_with_stable_id(ref) for ref in refs]
            for dataset_type, refs in quantum.outputs.items()
        },
        initInputs={
            dataset_type: _with_init_id(ref, init_outputs) for dataset_type, ref in quantum.initInputs.items()
        },
    )


def _with_stable_id(ref: DatasetRef) -> DatasetRef:
    # A component has the id of the whole.
    whole = ref.makeCompositeRef() if ref.isComponent() else ref
    return ref.replace(id=output_ref(whole.datasetType, whole.dataId, whole.run).id)


def _with_init_id(ref: DatasetRef, init_outputs: Mapping[str, DatasetRef]) -> DatasetRef:
    written = init_outputs.get(ref.datasetType.nameAndComponent()[0])
    return ref if written is None else ref.replace(id=written.id, run=written.run)
