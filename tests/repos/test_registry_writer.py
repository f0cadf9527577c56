"""Outputs become known to the central registry."""

from __future__ import annotations

import json
import multiprocessing
import traceback
from collections.abc import Iterator
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.exc
from lsst.daf.butler import Butler, DatasetRef, DatasetType
from lsst.daf.butler.registry import ConflictingDefinitionError

from models.errors import InvalidConfiguration
from repos.central import CentralRepo
from repos.data_ids import output_ref
from repos.handover import DirectHandover, WriterHandover
from repos.memory_butler import StoredDataset
from repos.registry_writer import Outputs, RegistryWriter
from repos.writer_messages import MessageReader
from tests.repos.sketch_repo import INSTRUMENT, sketch_data_ids

RUN = "ProtoCam/prompt/output-2025-06-13/Test/d1"
TYPES = ("first_output", "second_output")


def dataset_types(butler: Butler) -> list[DatasetType]:
    return [
        DatasetType(
            name, ("instrument", "group", "detector"), "StructuredDataDict", universe=butler.dimensions
        )
        for name in TYPES
    ]


@pytest.fixture
def prepared(central_root: Path) -> Path:
    """A repo in which the dataset types are registered."""
    with Butler.from_config(str(central_root), writeable=True) as butler:
        butler.collections.register(RUN)
        for dataset_type in dataset_types(butler):
            butler.registry.registerDatasetType(dataset_type)
    return central_root


@pytest.fixture
def central(prepared: Path) -> Iterator[CentralRepo]:
    made = CentralRepo(uri=str(prepared), retry_delay=0.001)
    yield made
    made.close()


def make_outputs(central: CentralRepo, group: str, types: tuple[str, ...] = TYPES) -> Outputs:
    """Write the outputs of a group to their final place."""
    data_ids = sketch_data_ids(central, group)
    refs = [
        output_ref(t, data_ids.get(t.dimensions), RUN)
        for t in dataset_types(central.read_butler)
        if t.name in types
    ]
    records = [r for r in data_ids.records if r.definition.name == "group"]
    files = [central.files.write(StoredDataset(ref, {"group": group})) for ref in refs]
    return Outputs(records, files, [ref.datasetType for ref in refs])


def held(root: Path, name: str = TYPES[0]) -> list[DatasetRef]:
    """Return what a fresh client finds."""
    with Butler.from_config(str(root)) as fresh:
        refs = fresh.query_datasets(name, RUN, explain=False, limit=None)
        for ref in refs:
            assert fresh.get(ref) == {"group": ref.dataId["group"]}
    return refs


def test_a_fresh_butler_reads_them(central: CentralRepo, prepared: Path) -> None:
    outputs = make_outputs(central, "one")
    assert len(central.registry_writer.ingest([outputs])) == 2
    assert [r.id for r in held(prepared)] == [outputs.files[0].refs[0].id]


def test_a_batch(central: CentralRepo, prepared: Path) -> None:
    batch = [make_outputs(central, f"group-{i}") for i in range(4)]
    # A producer may repeat a message.
    assert len(central.registry_writer.ingest([*batch, batch[1], batch[1]])) == 8
    assert len(held(prepared)) == 4
    assert len(held(prepared, TYPES[1])) == 4


def test_what_is_there_already_is_skipped(central: CentralRepo, prepared: Path) -> None:
    first = make_outputs(central, "one", TYPES[:1])
    central.registry_writer.ingest([first])
    whole = make_outputs(central, "one")
    for _ in range(2):
        assert len(central.registry_writer.ingest([whole])) == 2
    assert len(held(prepared)) == len(held(prepared, TYPES[1])) == 1


def test_a_conflict(central: CentralRepo, prepared: Path) -> None:
    outputs = make_outputs(central, "one", TYPES[:1])
    (file,) = outputs.files
    (ref,) = file.refs
    other = DatasetRef(ref.datasetType, ref.dataId, run=ref.run)
    assert other.id != ref.id
    central.registry_writer.ingest([outputs])
    conflicting = Outputs(outputs.records, [type(file)(file.path, [other], formatter=file.formatter)])
    with pytest.raises(ConflictingDefinitionError):
        central.registry_writer.ingest([conflicting])
    assert [r.id for r in held(prepared)] == [ref.id]


def test_contradicting_records(central: CentralRepo) -> None:
    detector = central.instrument_records(INSTRUMENT, 1)["detector"][0]
    record = central.universe["detector"].RecordClass(**{**detector.toDict(), "purpose": "GUIDER"})
    with Butler.from_config(str(central.read_butler._config.configDir)) as before:
        known = before.query_dimension_records("detector", instrument=INSTRUMENT)
    # Records that are there stay as they are.
    central.registry_writer.ingest([Outputs([record], [])])
    with Butler.from_config(str(central.read_butler._config.configDir)) as after:
        assert after.query_dimension_records("detector", instrument=INSTRUMENT) == known


def test_nothing_to_do(central: CentralRepo) -> None:
    assert len(central.registry_writer.ingest([])) == 0


@pytest.fixture
def bare(central_root: Path) -> Iterator[CentralRepo]:
    """A repo in which the dataset types are not registered."""
    made = CentralRepo(uri=str(central_root), retry_delay=0.001)
    yield made
    made.close()


def test_dataset_types_are_not_registered_in_silence(bare: CentralRepo, central_root: Path) -> None:
    outputs = make_outputs(bare, "one")
    with pytest.raises(InvalidConfiguration, match="first_output, second_output"):
        bare.registry_writer.ingest([outputs])
    assert bare.dataset_type("first_output") is None
    # Not even the dimension records went in.
    assert not bare.read_butler.query_dimension_records("group", instrument=INSTRUMENT, explain=False)


def test_dataset_types_that_are_defined_may_be_registered(bare: CentralRepo, central_root: Path) -> None:
    writer = RegistryWriter(bare.write_butler, register_dataset_types=True)
    outputs = make_outputs(bare, "one")
    with pytest.raises(InvalidConfiguration):
        writer.ingest([Outputs(outputs.records, outputs.files)])
    assert len(writer.ingest([outputs])) == 2
    assert len(held(central_root)) == 1


def test_dataset_types_that_another_client_registered(bare: CentralRepo, central_root: Path) -> None:
    outputs = make_outputs(bare, "one")
    assert bare.write_butler.isWriteable()
    with Butler.from_config(str(central_root), writeable=True) as other:
        for dataset_type in dataset_types(other):
            other.registry.registerDatasetType(dataset_type)
    assert len(bare.registry_writer.ingest([outputs])) == 2


def test_connection_trouble_is_tried_twice(central: CentralRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    registry = central.write_butler._registry
    insert = registry.insertDimensionData

    def fail_once(*args: Any, **kwargs: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise sqlalchemy.exc.OperationalError("insert", {}, Exception("server closed the connection"))
        insert(*args, **kwargs)

    monkeypatch.setattr(registry, "insertDimensionData", fail_once)
    assert len(central.registry_writer.ingest([make_outputs(central, "one")])) == 2
    assert len(calls) == 2


def test_the_message(central: CentralRepo, prepared: Path) -> None:
    outputs = make_outputs(central, "one")
    message = json.loads(outputs.to_message())
    assert set(message) == {"type", "dimension_records", "datasets"}
    assert message["type"] == "pp-output"
    (record,) = message["dimension_records"]
    assert record["definition"] == "group"
    assert set(record) == {"definition", "record"}
    for simple in message["datasets"]:
        assert set(simple) == {"refs", "path", "formatter"}
        assert not Path(simple["path"]).is_absolute()
        assert (prepared / simple["path"]).exists()
        for ref in simple["refs"].values():
            assert set(ref) == {"dataset_type_name", "run", "data_id"}
    parsed = MessageReader(central.universe, central.read_butler.get_dataset_type).read(json.dumps(message))
    assert [f.refs for f in parsed.files] == [f.refs for f in outputs.files]
    assert len(central.registry_writer.ingest([parsed])) == 2
    assert len(held(prepared)) == 1


def test_a_message_that_defines_its_dataset_types(bare: CentralRepo) -> None:
    message = make_outputs(bare, "one").to_message(with_dataset_types=True)
    assert {t["name"] for t in json.loads(message)["dataset_types"]} == set(TYPES)
    parsed = MessageReader(bare.universe, bare.read_butler.get_dataset_type).read(message)
    assert {t.name for t in parsed.dataset_types} == set(TYPES)
    writer = RegistryWriter(bare.write_butler, register_dataset_types=True)
    assert len(writer.ingest([parsed])) == 2


def test_handovers(central: CentralRepo, prepared: Path) -> None:
    outputs = make_outputs(central, "one")
    for with_types in (False, True):
        (sent,) = WriterHandover(topic="outputs", with_dataset_types=with_types).hand_over(outputs)
        assert (sent.kind, sent.topic, sent.key) == ("butler-writer", "outputs", None)
        assert ("dataset_types" in json.loads(sent.payload)) == with_types
    assert held(prepared) == []
    assert DirectHandover(central.registry_writer).hand_over(outputs) == ()
    assert len(held(prepared)) == 1


VISITS = 5
SLOTS = 8


def export_visits(root: str, slot: int, faults: Queue[str]) -> None:
    """Do what a slot does at the end of each of its visits."""
    try:
        central = CentralRepo(uri=root, retry_delay=0.0)
        for visit in range(VISITS):
            central.registry_writer.ingest([make_outputs(central, f"{slot}-{visit}")])
            assert central.is_initialised([]) and central.dataset_type(TYPES[0]) is not None
            central.read_butler.query_datasets(TYPES[0], RUN, explain=False)
        central.close()
    except BaseException:
        faults.put(traceback.format_exc())
        raise


def test_slots_that_export_at_once(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No second tries: the database may not be locked even once.
    monkeypatch.setattr("repos.registry_writer.retry_connections", lambda action, **_: action())
    context = multiprocessing.get_context("fork")
    faults: Queue[str] = context.Queue()
    slots = [
        context.Process(target=export_visits, args=(str(prepared), slot, faults)) for slot in range(SLOTS)
    ]
    for slot in slots:
        slot.start()
    for slot in slots:
        slot.join(120)
    assert [s.exitcode for s in slots] == [0] * SLOTS, faults.get(timeout=1)
    groups = {ref.dataId["group"] for ref in held(prepared)}
    assert groups == {f"{slot}-{visit}" for slot in range(SLOTS) for visit in range(VISITS)}
