"""The writer's end of a repo: what goes in, what is a message's own fault."""

from __future__ import annotations

import copy
import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.exc
from hypothesis import given
from hypothesis import strategies as st
from lsst.daf.butler import Butler, CollectionType

from models.errors import InvalidConfiguration, InvalidMessage, TemporarilyUnavailable
from repos.central import CentralRepo
from repos.writer_registry import WriterRegistry
from tests.repos.test_registry_writer import RUN, TYPES, dataset_types, held, make_outputs


@pytest.fixture
def prepared(central_root: Path) -> Path:
    """A repo in which the dataset types are registered."""
    with Butler.from_config(str(central_root), writeable=True) as butler:
        butler.collections.register(RUN)
        butler.collections.register("calibrations", CollectionType.CALIBRATION)
        for dataset_type in dataset_types(butler):
            butler.registry.registerDatasetType(dataset_type)
    return central_root


@pytest.fixture
def central(prepared: Path) -> Iterator[CentralRepo]:
    made = CentralRepo(uri=str(prepared), retry_delay=0.001)
    yield made
    made.close()


@pytest.fixture
def registry(prepared: Path) -> WriterRegistry:
    return WriterRegistry(str(prepared))


def message_of(central: CentralRepo, group: str) -> dict[str, Any]:
    """Return the message of a group whose files are in place."""
    message: dict[str, Any] = json.loads(make_outputs(central, group).to_message())
    return message


def as_bytes(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()


def put(registry: WriterRegistry, *messages: dict[str, Any]) -> list[uuid.UUID]:
    """Ingest messages together."""
    return registry.ingest([registry.read(as_bytes(message)) for message in messages])


def change(message: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Change what is at a dotted path; ``*`` is the first of a mapping."""
    changed = copy.deepcopy(message)
    *parents, last = path.split(".")
    at: Any = changed
    for name in parents:
        at = at[int(name)] if isinstance(at, list) else at[next(iter(at)) if name == "*" else name]
    if value is ...:
        del at[last]
    elif last == "*":
        key = next(iter(at))
        at[value] = at.pop(key)
    else:
        at[last] = value
    return changed


def test_messages_go_in_once(central: CentralRepo, registry: WriterRegistry, prepared: Path) -> None:
    one, two = message_of(central, "one"), message_of(central, "two")
    assert len(put(registry, one, two, one)) == 4
    assert len(put(registry, two)) == 2
    assert len(held(prepared)) == len(held(prepared, TYPES[1])) == 2


def test_in_any_order(central: CentralRepo, registry: WriterRegistry, prepared: Path) -> None:
    messages = [message_of(central, str(n)) for n in range(4)]
    put(registry, *messages[2:], messages[0])
    put(registry, messages[1], messages[3])
    assert len(held(prepared)) == 4


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("type", "pp-input", "type"),
        ("schemaVersion", 3, "schemaVersion 3"),
        ("datasets.0.formatter", "no.such.Formatter", "no.such.Formatter"),
        ("datasets.0.formatter", "os.path.join", "os.path.join"),
        ("datasets.0.formatter", "pathlib.Path", "pathlib.Path"),
        ("datasets.0.refs.*.dataset_type_name", "no_such_type", "no_such_type"),
        ("datasets.0.refs.*.data_id.detector", ..., "detector"),
        ("datasets.0.refs.*.data_id.detector", "three", "detector"),
        ("datasets.0.refs.*", "not-an-id", "not-an-id"),
        ("dimension_records.0.definition", "no_such_dimension", "no_such_dimension"),
        ("dimension_records.0.record", {}, "group"),
        ("dimension_records.0.record.name", 5, "group"),
        ("dataset_types", [{"name": "x"}], "dataset_types"),
    ],
)
def test_what_cannot_be_read(
    central: CentralRepo, registry: WriterRegistry, path: str, value: Any, named: str
) -> None:
    message = message_of(central, "one")
    if path.startswith(("schemaVersion", "dataset_types")):
        changed = {**message, path: value}
    else:
        changed = change(message, path, value)
    with pytest.raises(InvalidMessage, match=named):
        registry.read(as_bytes(changed))
    # The next message is none the worse.
    assert len(put(registry, message)) == 2


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("datasets.0.refs.*", "019a0000-0000-7000-8000-000000000009"),
        ("datasets.0.refs.*.data_id.detector", 200),
        ("datasets.0.refs.*.data_id.group", "no such group"),
        ("datasets.0.refs.*.data_id.instrument", "NoCam"),
        ("datasets.0.refs.*.data_id.detector", 2**70),
        ("datasets.0.refs.*.run", "calibrations"),
        ("dimension_records.0.record.instrument", "NoCam"),
        ("dimension_records.0.record.name", "with \x00"),
    ],
)
def test_what_contradicts_the_repo(
    central: CentralRepo, registry: WriterRegistry, prepared: Path, path: str, value: Any
) -> None:
    first, second = message_of(central, "one"), message_of(central, "two")
    put(registry, first)
    changed = change(first, path, value)
    if path.endswith("record.name"):
        changed = change(message_of(central, "three"), path, value)
    with pytest.raises(InvalidMessage):
        put(registry, second, changed)
    # Nothing of the batch went in.
    assert len(held(prepared)) == 1
    put(registry, second)
    assert len(held(prepared)) == 2


def test_messages_that_contradict_each_other(
    central: CentralRepo, registry: WriterRegistry, prepared: Path
) -> None:
    message = message_of(central, "one")
    other_id = change(message, "datasets.0.refs.*", str(uuid.uuid4()))
    with pytest.raises(InvalidMessage):
        put(registry, message, other_id)
    other_run = change(message, "datasets.0.refs.*.run", f"{RUN}-2")
    with pytest.raises(InvalidMessage, match="one id for two datasets"):
        put(registry, message, other_run)
    assert held(prepared) == []


def test_a_dataset_type_that_comes_later(central_root: Path) -> None:
    central = CentralRepo(uri=str(central_root), retry_delay=0.001)
    registry = WriterRegistry(str(central_root))
    message = message_of(central, "one")
    with pytest.raises(InvalidMessage, match=r"first_output.*init"):
        registry.read(as_bytes(message))
    with Butler.from_config(str(central_root), writeable=True) as other:
        for dataset_type in dataset_types(other):
            other.registry.registerDatasetType(dataset_type)
    assert len(put(registry, message)) == 2
    central.close()


def test_dataset_types_are_registered_only_where_that_is_allowed(central_root: Path) -> None:
    central = CentralRepo(uri=str(central_root), retry_delay=0.001)
    payload = make_outputs(central, "one").to_message(with_dataset_types=True)
    strict = WriterRegistry(str(central_root))
    with pytest.raises(InvalidMessage, match="first_output"):
        strict.ingest([strict.read(payload)])
    lenient = WriterRegistry(str(central_root), register_dataset_types=True)
    assert len(lenient.ingest([lenient.read(payload)])) == 2
    central.close()


def test_files_are_not_looked_for(central: CentralRepo, registry: WriterRegistry, prepared: Path) -> None:
    message = message_of(central, "one")
    for file in message["datasets"]:
        (prepared / file["path"]).unlink()
    assert len(put(registry, message)) == 2


def test_no_such_repo(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="nowhere"):
        WriterRegistry(str(tmp_path / "nowhere")).open()


def _fault(cause: Exception, kind: type[sqlalchemy.exc.DBAPIError]) -> Exception:
    return kind("INSERT", {}, cause)


class _Denied(Exception):
    """What PostgreSQL's driver raises; its code says that the server did."""

    pgcode = "42501"


@pytest.mark.parametrize(
    "error",
    [
        _fault(sqlite3.OperationalError("server closed the connection"), sqlalchemy.exc.OperationalError),
        _fault(_Denied("permission denied"), sqlalchemy.exc.ProgrammingError),
        OSError("stale file handle"),
        MemoryError(),
    ],
)
def test_what_is_no_fault_of_the_messages(
    central: CentralRepo, registry: WriterRegistry, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    message = message_of(central, "one")
    outputs = registry.read(as_bytes(message))

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(registry._opened[1], "_insert", fail)
    with pytest.raises(TemporarilyUnavailable):
        registry.ingest([outputs])


@pytest.mark.parametrize(
    "error",
    [
        _fault(sqlite3.IntegrityError("unique"), sqlalchemy.exc.IntegrityError),
        _fault(sqlite3.ProgrammingError("can't adapt type"), sqlalchemy.exc.ProgrammingError),
        ValueError("a string cannot hold NUL"),
    ],
)
def test_what_is_a_fault_of_the_messages(
    central: CentralRepo, registry: WriterRegistry, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    outputs = registry.read(as_bytes(message_of(central, "one")))

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(registry._opened[1], "_insert", fail)
    with pytest.raises(InvalidMessage):
        registry.ingest([outputs])


@pytest.fixture(scope="module")
def example(built_central: Path) -> dict[str, Any]:
    """A message about a repo that nobody writes to."""
    return {
        "type": "pp-output",
        "dimension_records": [
            {"definition": "group", "record": {"instrument": "ProtoCam", "name": "g"}},
        ],
        "datasets": [
            {
                "refs": {
                    str(uuid.uuid4()): {
                        "dataset_type_name": "raw",
                        "run": "r",
                        "data_id": {"instrument": "ProtoCam", "exposure": 1, "detector": 1},
                    }
                },
                "path": "a/b.fits",
                "formatter": "lsst.daf.butler.formatters.json.JsonFormatter",
            }
        ],
    }


@pytest.fixture(scope="module")
def reader(built_central: Path) -> Callable[[bytes], Any]:
    from repos.writer_messages import MessageReader

    butler = Butler.from_config(str(built_central))
    return MessageReader(butler.dimensions, butler.get_dataset_type).read


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=8,
)
PLACES = [
    "type",
    "dimension_records",
    "dimension_records.0",
    "dimension_records.0.definition",
    "dimension_records.0.record",
    "dimension_records.0.record.name",
    "dimension_records.0.record.instrument",
    "datasets",
    "datasets.0",
    "datasets.0.refs",
    "datasets.0.refs.*.dataset_type_name",
    "datasets.0.refs.*.run",
    "datasets.0.refs.*.data_id",
    "datasets.0.refs.*.data_id.exposure",
    "datasets.0.path",
    "datasets.0.formatter",
]


@given(place=st.sampled_from(PLACES), value=JSON)
def test_whatever_is_wrong_is_said(
    reader: Callable[[bytes], Any], example: dict[str, Any], place: str, value: Any
) -> None:
    parents, _, last = place.rpartition(".")
    changed = change(example, parents, [value]) if last.isdigit() else change(example, place, value)
    try:
        outputs = reader(as_bytes(changed))
    except InvalidMessage:
        return
    assert json.loads(outputs.to_message())["type"] == "pp-output"
