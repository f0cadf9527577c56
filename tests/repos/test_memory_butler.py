"""The Butler that keeps datasets in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.table import Table
from lsst.daf.butler import (
    DataCoordinate,
    DatasetProvenance,
    DatasetRef,
    DatasetType,
    DimensionUniverse,
    Quantum,
)
from lsst.pipe.base import PipelineTask, PipelineTaskConfig

from models.metrics import Metric
from repos.memory_butler import MemoryButler, Unreadable

UNIVERSE = DimensionUniverse()


def make_ref(name: str = "table", storage_class: str = "ArrowAstropy") -> DatasetRef:
    dataset_type = DatasetType(name, (), storage_class, universe=UNIVERSE)
    return DatasetRef(dataset_type, DataCoordinate.make_empty(UNIVERSE), run="r")


def make_table() -> Table:
    return Table({"a": np.arange(4), "b": np.arange(4.0)})


@pytest.fixture
def butler() -> MemoryButler:
    return MemoryButler(UNIVERSE)


def test_what_is_not_there(butler: MemoryButler) -> None:
    ref = make_ref()
    assert butler.stored_many([ref]) == {ref: False}
    with pytest.raises(FileNotFoundError, match="table"):
        butler.get(ref)
    with pytest.raises(FileNotFoundError):
        butler.peek(ref)


@pytest.mark.parametrize("as_input", [True, False])
def test_copies_are_handed_out(butler: MemoryButler, as_input: bool) -> None:
    ref, table = make_ref(), make_table()
    if as_input:
        butler.add_input(ref, table)
    else:
        butler.put(table, ref)
    assert butler.stored(ref)
    butler.get(ref)["a"][0] = 99
    butler.getDeferred(ref).get()["a"][0] = 99
    butler.get(ref, storageClass="ArrowNumpy")["a"][0] = 99
    butler.get(ref.makeComponentRef("columns")).append("c")
    butler.get(ref, parameters={"columns": ["a"]})["a"][0] = 99
    assert butler.get(ref)["a"][0] == 0
    assert butler.get(ref.makeComponentRef("columns")) == ["a", "b"]
    assert butler.peek(ref) is table


def test_what_cannot_be_changed_is_not_copied(butler: MemoryButler) -> None:
    metric, ref = Metric(metric="m", value=1.0), make_ref("metric", "StructuredDataDict")
    butler.add_input(ref, metric)
    assert butler.peek(ref) is metric
    number = make_ref("number", "int")
    butler.put(5, number)
    assert butler.get(number) == 5


class Careless(PipelineTask):
    """Has its own way to run a quantum."""

    ConfigClass = PipelineTaskConfig

    def runQuantum(self, butlerQC: Any, inputRefs: Any, outputRefs: Any) -> None:
        """Do nothing."""


@pytest.mark.parametrize(("task", "copied"), [(PipelineTask, False), (Careless, True)])
def test_outputs_are_copied_only_where_the_task_goes_on(
    butler: MemoryButler, task: type[PipelineTask], copied: bool
) -> None:
    ref, table = make_ref(), make_table()
    quantum = Quantum(taskClass=task, dataId=DataCoordinate.make_empty(UNIVERSE))
    assert butler.for_quantum(quantum) is butler
    butler.put(table, ref)
    assert (butler.peek(ref) is not table) == copied


def test_conversion_on_the_way_in(butler: MemoryButler) -> None:
    ref = make_ref("frame", "DataFrame")
    butler.put(make_table(), ref)
    assert type(butler.get(ref)).__name__ == "DataFrame"
    assert butler.get(ref, storageClass="ArrowAstropy").colnames == ["a", "b"]


def test_parameters_that_do_not_exist(butler: MemoryButler) -> None:
    ref = make_ref()
    butler.put(make_table(), ref)
    with pytest.raises(KeyError):
        butler.get(ref, parameters={"bbox": 1})


def test_provenance_is_that_of_the_moment(butler: MemoryButler) -> None:
    provenance, ref = DatasetProvenance(), make_ref()
    butler.put(make_table(), ref, provenance=provenance)
    provenance.add_input(make_ref("later"))
    (stored,) = butler.outputs()
    assert stored.provenance is not None and not stored.provenance.inputs


def test_inputs_outputs_and_forgetting(butler: MemoryButler) -> None:
    one, two, three = (make_ref(name, "int") for name in ("one", "two", "three"))
    butler.add_input(one, 1)
    butler.add_output(two, 2)
    butler.put(3, three)
    assert butler.inputs() == [one]
    assert [stored.ref for stored in butler.outputs()] == [two, three]
    butler.close()
    assert butler.stored(three)
    butler.markInputUnused(one)
    butler.pruneDatasets([three, one])
    assert butler.stored_many([one, two, three]) == {one: False, two: True, three: False}
    butler.clear()
    assert not butler.stored(two)


def test_what_cannot_be_read_fails_when_it_is_wanted(butler: MemoryButler) -> None:
    ref = make_ref()
    butler.add_input(ref, Unreadable(ModuleNotFoundError("No module named 'nowhere'")))
    assert butler.stored(ref)
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        butler.get(ref)


def test_the_interface_of_a_limited_butler(butler: MemoryButler) -> None:
    assert butler.isWriteable()
    assert butler.dimensions is UNIVERSE
    assert butler.get_datastore_names() == ("memory",)
    assert butler.get_datastore_roots() == {"memory": None}
    with butler.record_metrics() as metrics:
        butler.put(1, make_ref("n", "int"))
    assert metrics.n_put == 1
    with pytest.raises(NotImplementedError):
        _ = butler._file_transfer_source
