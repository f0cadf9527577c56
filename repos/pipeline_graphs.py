"""Pipelines: loading, resolving, and what each needs from outside.

Loading imports the tasks and is done before a visit, in the template process;
resolving against a central repo is done once a slot.
"""

from __future__ import annotations

__all__ = ["LoadedPipeline", "PipelinePart", "load_pipeline", "resolve_pipeline"]

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from lsst.daf.butler import Butler, DatasetType, DimensionGroup
from lsst.pipe.base import Pipeline, PipelineGraph
from lsst.pipe.base.connections import PipelineTaskConnections
from lsst.pipe.base.connectionTypes import BaseInput
from lsst.pipe.base.pipeline_graph import DatasetTypeNode

from models.errors import NoPipelineBuilt, PipelineUnreadable
from models.inputs import InputKind, InputNeed
from repos.collections import pipeline_stem

#: Dimensions that one visit and detector fix; a pipeline whose tasks and
#: outputs use no others has exactly one quantum a task.
VISIT_DIMENSIONS = frozenset(
    {"instrument", "detector", "exposure", "visit", "group", "day_obs", "physical_filter", "band"}
)


@dataclass(frozen=True)
class PipelinePart:
    """Tasks that are connected with each other, and with no others.

    Attributes
    ----------
    tasks : `frozenset` [`str`]
        Their labels.
    constraints : `tuple` [`str`, ...]
        Dataset types without which there is no work for any of them.
    dimensions : `lsst.daf.butler.DimensionGroup`
        Dimensions of all tasks together.
    """

    tasks: frozenset[str]
    constraints: tuple[str, ...]
    dimensions: DimensionGroup


@dataclass(frozen=True)
class LoadedPipeline:
    """A pipeline, ready to make quanta from.

    Attributes
    ----------
    path : `str`
        File that it was loaded from.
    graph : `lsst.pipe.base.PipelineGraph`
        Resolved if it came through `resolve_pipeline`.
    """

    path: str
    graph: PipelineGraph

    @property
    def stem(self) -> str:
        """File stem, which names the output run."""
        return pipeline_stem(self.path)

    @cached_property
    def products(self) -> frozenset[str]:
        """Names of the dataset types that the pipeline makes."""
        names = self.graph.dataset_types
        return frozenset(name for name in names if self.graph.producer_of(name) is not None)

    @cached_property
    def init_inputs(self) -> frozenset[str]:
        """Names of the dataset types that tasks read when they are made."""
        return frozenset(
            edge.parent_dataset_type_name
            for task in self.graph.tasks.values()
            for edge in task.init.iter_all_inputs()
        )

    @cached_property
    def needs(self) -> tuple[InputNeed, ...]:
        """What the pipeline reads and does not make itself, for making its
        tasks included.
        """
        needs = {}
        for name, node in self.graph.iter_overall_inputs():
            if node is None:
                continue
            edges = self.graph.consuming_edges_of(name)
            connections = [
                connection
                for task in (self.graph.tasks[e.task_label] for e in edges if not e.is_init)
                for connection in _inputs_named(task.get_connections(), name)
            ]
            required = any(e.is_init for e in edges) or any(c.minimum > 0 for c in connections)
            needs[name] = InputNeed(
                dataset_type=name,
                kind=_kind(node.dataset_type),
                required=required,
                prerequisite=node.is_prerequisite,
                constrains=_constrains(node),
                filter_dependent=bool({"physical_filter", "band"} & set(node.dataset_type.dimensions.names)),
            )
        return tuple(needs.values())

    @cached_property
    def parts(self) -> tuple[PipelinePart, ...]:
        """The parts of the pipeline that have nothing to do with each other;
        the middleware builds the quanta of each for itself.
        """
        return tuple(
            PipelinePart(
                tasks=frozenset(graph.tasks),
                constraints=tuple(
                    name
                    for name, node in graph.iter_overall_inputs()
                    if node is not None and _constrains(node)
                ),
                dimensions=graph.universe.conform(
                    {name for task in graph.tasks.values() for name in task.dimensions.names}
                ),
            )
            for graph in self.graph.split_independent()
        )

    @cached_property
    def fits_memory(self) -> bool:
        """Whether the pipeline can run from memory: one quantum a task, and
        no task that asks a registry for its inputs.
        """
        return not self.obstacles

    @cached_property
    def obstacles(self) -> tuple[str, ...]:
        """Why the pipeline needs a full local repo; empty if it does not."""
        reasons = []
        for label, task in self.graph.tasks.items():
            foreign = set(task.dimensions.names) - VISIT_DIMENSIONS
            for edge in task.iter_all_outputs():
                dataset_type = self.graph.dataset_types[edge.parent_dataset_type_name].dataset_type
                foreign |= set(dataset_type.dimensions.names) - VISIT_DIMENSIONS
            if foreign:
                reasons.append(f"{label} has several quanta, by {', '.join(sorted(foreign))}")
            connections = task.get_connections()
            if set(connections.getSpatialBoundsConnections()) | set(
                connections.getTemporalBoundsConnections()
            ):
                reasons.append(f"{label} looks for inputs beyond its own region or time")
            for name in connections.prerequisiteInputs:
                if getattr(connections, name).lookupFunction is not None:
                    reasons.append(f"{label} looks up {name} itself")
            if type(connections).adjust_all_quanta is not PipelineTaskConnections.adjust_all_quanta:
                reasons.append(f"{label} adjusts all quanta at once")
        return tuple(reasons)


def load_pipeline(path: str, parameters: Mapping[str, str]) -> LoadedPipeline:
    """Load a pipeline file and import its tasks.

    Parameters
    ----------
    path : `str`
        Pipeline YAML file.
    parameters : `dict` [`str`, `str`]
        Values given to the pipeline's ``parameters`` (``apdb_config``).

    Raises
    ------
    models.errors.PipelineUnreadable
        Raised if the file cannot be loaded; the text names it.
    """
    try:
        pipeline = Pipeline.fromFile(path)
        for name, value in parameters.items():
            pipeline.addConfigOverride("parameters", name, value)
        graph = pipeline.to_graph()
    except Exception as error:  # user code: tasks are imported and configured here
        raise PipelineUnreadable(
            f"pipeline {path} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return LoadedPipeline(path, graph)


def resolve_pipeline(pipeline: LoadedPipeline, butler: Butler) -> LoadedPipeline:
    """Resolve a pipeline's dataset types against a repo.

    Raises
    ------
    models.errors.NoPipelineBuilt
        Raised if its dataset types do not fit those of the repo.
    """
    graph = pipeline.graph.copy()
    try:
        graph.resolve(butler.registry)
    except Exception as error:
        raise NoPipelineBuilt(
            f"pipeline {pipeline.path} does not fit the repository: {type(error).__name__}: {error}"
        ) from error
    return LoadedPipeline(pipeline.path, graph)


def _inputs_named(connections: PipelineTaskConnections, dataset_type_name: str) -> list[BaseInput]:
    """Return the input connections that read a dataset type or a component
    of it.
    """
    found = []
    for name in (*connections.inputs, *connections.prerequisiteInputs):
        connection = getattr(connections, name)
        if DatasetType.splitDatasetTypeName(connection.name)[0] == dataset_type_name:
            found.append(connection)
    return found


def _constrains(node: DatasetTypeNode) -> bool:
    """Say whether a pipeline's graph is empty without a dataset type."""
    return node.is_initial_query_constraint and not node.is_prerequisite and bool(node.dimensions)


def _kind(dataset_type: DatasetType) -> InputKind:
    dims = dataset_type.dimensions
    if dataset_type.isCalibration():
        return InputKind.CALIBRATION
    if {"exposure", "visit"} & set(dims.names):
        return InputKind.VISIT
    if "group" in dims:
        return InputKind.GROUP
    if dims.skypix:
        return InputKind.REFCAT
    if {"tract", "patch"} & set(dims.names):
        return InputKind.TEMPLATE
    if "skymap" in dims:
        return InputKind.SKYMAP
    return InputKind.OTHER
