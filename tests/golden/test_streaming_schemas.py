"""Messages of the streaming workflow: examples, schemas and models agree."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from benchmarks.streaming_schemas import EXAMPLES, SCHEMAS, any_message, faults, schema, validate
from models.streaming import names
from models.streaming.messages import (
    COMMANDS,
    EVENTS,
    EndRun,
    Message,
    PauseRun,
    ResumeRun,
    RunImminent,
    RunWorkflow,
    RunWorkflowFailed,
    StartRun,
    StatusRequest,
    StfGen,
    StfReady,
    StopWorkflow,
    naive_timestamp,
    read_message,
)
from models.streaming.names import dataset_name, stf_filename


def example(name: str) -> Any:
    return json.loads((EXAMPLES / f"{name}.json").read_text())


MESSAGES: list[dict[str, Any]] = [
    body for name in ("run_of_3_files", "run_of_2_periods", "commands") for body in example(name)
]
KINDS = {body["msg_type"]: body for body in MESSAGES}
_LABELS = [f"{number}-{body['msg_type']}" for number, body in enumerate(MESSAGES)]


def test_every_type_has_a_schema_and_an_example() -> None:
    types = {*EVENTS, *COMMANDS}
    assert set(KINDS) == types
    listed = {entry["$ref"].removesuffix(".schema.json") for entry in schema("message")["oneOf"]}
    assert listed == types
    files = {path.name.removesuffix(".schema.json") for path in SCHEMAS.glob("*.schema.json")}
    assert files == types | {"message", "stf_file"}


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.schema.json")), ids=lambda path: path.stem)
def test_schemas_are_schemas(path: Any) -> None:
    Draft202012Validator.check_schema(json.loads(path.read_text()))


@pytest.mark.parametrize("body", KINDS.values(), ids=KINDS)
def test_a_schema_needs_no_other_file(body: dict[str, Any]) -> None:
    # So that any validator can use it without being told where others are.
    alone = Draft202012Validator(schema(body["msg_type"]))
    assert alone.is_valid(body)
    assert not alone.is_valid({**body, "namespace": ""})
    any_of_them = Draft202012Validator(schema("message"))
    assert any_of_them.is_valid(body)
    assert not any_of_them.is_valid({**body, "namespace": ""})


def test_the_schema_of_any_message_has_the_others_in_it() -> None:
    renewed = any_message()
    assert schema("message") == renewed, "renew it: python -m benchmarks.streaming_schemas"


def test_what_several_schemas_define_is_the_same() -> None:
    seen: dict[str, Any] = {}
    for path in SCHEMAS.glob("*.schema.json"):
        content = json.loads(path.read_text())
        # Other validators know a schema by its id; the one that has the others
        # in it needs none.
        assert content.get("$id") == (None if path.name == "message.schema.json" else path.name)
        for name, definition in content.get("$defs", {}).items():
            assert definition == seen.setdefault(name, definition), f"{path.name}: {name}"


#: The fields of the protocol's tables, and their JSON types.
_OF_RUNS: dict[str, type] = {
    "msg_type": str,
    "namespace": str,
    "execution_id": str,
    "run_id": str,
    "timestamp": str,
    "simulation_tick": float,
    "sender": str,
}
_STATE: dict[str, type] = {"state": str, "substate": str}
_COMMAND: dict[str, type] = {"msg_type": str, "namespace": str, "timestamp": str}
_REQUIRED: dict[str, dict[str, type]] = {
    "run_imminent": {**_OF_RUNS, **_STATE, "dataset": str, "container": str},
    "start_run": {**_OF_RUNS, **_STATE},
    "stf_gen": {**_OF_RUNS, **_STATE, "filename": str, "sequence": int},
    "pause_run": {**_OF_RUNS, **_STATE, "reason": str},
    "resume_run": {**_OF_RUNS, **_STATE},
    "end_run": {**_OF_RUNS, "total_stf_files": int},
    "stf_ready": {"msg_type": str, "namespace": str, "sender": str, "req_id": int, "run_id": str},
    "run_workflow": {**_COMMAND, "workflow_name": str, "config": object, "realtime": bool, "params": dict},
    "stop_workflow": _COMMAND,
    "status_request": _COMMAND,
    "run_workflow_failed": {"msg_type": str, "namespace": str, "sender": str, "error": str},
}
_OPTIONAL: dict[str, set[str]] = {
    "stf_gen": {"size_bytes", "checksum"},
    "stf_ready": {"execution_id"},
    "run_workflow": {"sender", "duration", "source"},
    "stop_workflow": {"sender", "execution_id"},
    "status_request": {"sender"},
    "run_workflow_failed": {"timestamp", "execution_id"},
}


@pytest.mark.parametrize("kind", _REQUIRED)
def test_fields_are_those_of_the_protocol(kind: str) -> None:
    content, required = schema(kind), _REQUIRED[kind]
    assert set(content["required"]) == set(required)
    assert set(content["properties"]) == set(required) | _OPTIONAL.get(kind, set())
    assert set(_REQUIRED) == {*EVENTS, *COMMANDS}
    for name, type_ in required.items():
        values = {str: 7, int: 0.5, float: "1", bool: 1, dict: [], object: 1}
        assert faults({**KINDS[kind], name: values[type_]}), name


def test_messages_of_the_system_in_the_field_are_valid() -> None:
    # Its simulator sends neither size nor checksum; ours always does.
    files = [body for body in MESSAGES if body["msg_type"] == "stf_gen"]
    assert all({"size_bytes", "checksum"} <= set(body) for body in files)
    for body in files:
        validate({name: value for name, value in body.items() if name not in {"size_bytes", "checksum"}})


@pytest.mark.parametrize("body", MESSAGES, ids=_LABELS)
def test_examples_are_valid_and_of_one_type(body: dict[str, Any]) -> None:
    validate(body)
    # Exactly one of all types, so that no schema lets another's message pass.
    validate(body, "message")


@pytest.mark.parametrize("body", MESSAGES, ids=_LABELS)
def test_models_read_examples_and_write_them_back(body: dict[str, Any]) -> None:
    message = read_message(json.dumps(body))
    assert type(message) is {**EVENTS, **COMMANDS}[body["msg_type"]]
    assert message.model_extra == {}
    assert json.loads(message.to_text()) == body


@pytest.mark.parametrize("body", KINDS.values(), ids=KINDS)
def test_what_lacks_a_required_field_is_refused(body: dict[str, Any]) -> None:
    optional = set(body) - set(schema(body["msg_type"])["required"])
    for name in body:
        less = {key: value for key, value in body.items() if key != name}
        assert bool(faults(less)) is (name not in optional), name


@pytest.mark.parametrize("body", KINDS.values(), ids=KINDS)
@given(value=st.one_of(st.none(), st.booleans(), st.lists(st.integers(), max_size=1)))
def test_what_has_a_wrong_field_is_refused(body: dict[str, Any], value: object) -> None:
    for name in body:
        if name in {"realtime", "config"} or (name == "msg_type" and value is None):
            continue
        assert faults({**body, name: value}), name
    assert faults({**body, "other": value})


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("start_run", {"run_id": 102363}),
        ("start_run", {"run_id": "102363 "}),
        ("start_run", {"timestamp": "2026-03-14T09:26:58.589793Z"}),
        ("start_run", {"timestamp": "2026-03-14T09:26:58.589793+00:00"}),
        ("start_run", {"timestamp": "2026-03-14T09:26:58"}),
        ("start_run", {"simulation_tick": "13.1"}),
        ("start_run", {"simulation_tick": -0.1}),
        ("start_run", {"substate": "standby"}),
        ("start_run", {"sender": "alice"}),
        ("start_run", {"execution_id": "prompt_processing"}),
        ("stf_gen", {"filename": "swf.102363.1.stf"}),
        ("stf_gen", {"filename": "../swf.102363.000001.stf"}),
        ("stf_gen", {"filename": "swf.102363.000001.stf.part"}),
        ("stf_gen", {"sequence": 0}),
        ("stf_gen", {"sequence": 1.5}),
        ("stf_gen", {"checksum": "3AB75313"}),
        ("stf_gen", {"checksum": "ab75313"}),
        ("stf_gen", {"size_bytes": -1}),
        ("run_imminent", {"container": "data/stf"}),
        ("run_imminent", {"dataset": "102363"}),
        ("end_run", {"state": "run"}),
        ("end_run", {"total_files": 3}),
        ("end_run", {"total_stf_files": 3.5}),
        ("stf_ready", {"req_id": 2}),
        ("stf_ready", {"filename": "swf.102363.000001.stf"}),
        ("run_workflow", {"realtime": "yes"}),
        ("run_workflow", {"params": None}),
        ("run_workflow_failed", {"error": ""}),
    ],
)
def test_mutations_are_refused(kind: str, changes: dict[str, Any]) -> None:
    assert faults({**KINDS[kind], **changes})


def test_types_that_nobody_documents_have_no_schema() -> None:
    assert faults({"msg_type": "message"}) == ["no schema for a message of type 'message'"]
    assert faults({**KINDS["start_run"], "msg_type": "tf_gen"})
    assert faults(["start_run"])
    assert faults({})


def test_the_ticks_are_those_that_the_reference_lists() -> None:
    def ticks(name: str) -> list[float]:
        return [body["simulation_tick"] for body in example(name) if "simulation_tick" in body]

    assert ticks("run_of_3_files") == [5, 13.1, 14.2, 16.4, 18.6, 18.8]
    assert ticks("run_of_2_periods") == [5, 13.1, 14.2, 16.4, 16.6, 19.7, 20.8, 23.0, 23.2]


def test_the_content_of_a_file_is_its_message_before_it_was_sent() -> None:
    content = example("stf_file")
    validate(content, "stf_file")
    assert faults({**content, "sender": "daq_simulator-agent-alice-41"}, "stf_file")
    message = next(body for body in MESSAGES if body["msg_type"] == "stf_gen")
    assert {**content, **{name: message[name] for name in ("sender", "size_bytes", "checksum")}} == message
    text = json.dumps(content).encode()
    assert (message["size_bytes"], message["checksum"]) == (len(text), f"{zlib.adler32(text):08x}")


@given(
    run=st.integers(1, 10**18 - 1),
    sequence=st.integers(1, 10**8),
    tick=st.floats(0, 1e9),
    size=st.integers(0, 2**60),
    user=st.text("abcdefghijklmnopqrstuvwxyz0123456789_.-", min_size=1, max_size=30),
    workflow=st.sampled_from(["prompt_processing", "my-flow", "My flow", "flüsse"]),
    execution=st.booleans(),
)
def test_whatever_our_models_write_is_valid(
    *, run: int, sequence: int, tick: float, size: int, user: str, workflow: str, execution: bool
) -> None:
    run_id = str(run)
    execution_id = names.execution_id(workflow, user, sequence)
    common: dict[str, Any] = {
        "namespace": user,
        "execution_id": execution_id,
        "run_id": run_id,
        "timestamp": naive_timestamp(),
        "simulation_tick": tick,
        # A runner of one workflow is of that type.
        "sender": names.agent_name(workflow, user, sequence),
    }
    command = {"namespace": user, "timestamp": naive_timestamp()}
    physics = {"state": "run", "substate": "physics"}
    messages: list[Message] = [
        RunImminent(
            **common, state="beam", substate="not_ready", dataset=dataset_name(run_id), container="/tmp"
        ),
        StartRun(**common, **physics),
        StfGen(
            **common,
            **physics,
            filename=stf_filename(run_id, sequence),
            sequence=sequence,
            size_bytes=size,
            checksum=f"{size % 2**32:08x}",
        ),
        PauseRun(**common, state="run", substate="standby", reason="Brief standby period"),
        ResumeRun(**common, **physics),
        EndRun(**common, total_stf_files=sequence),
        StfReady(
            namespace=user,
            sender=common["sender"],
            run_id=run_id,
            execution_id=execution_id if execution else None,
        ),
        RunWorkflow(**command, workflow_name="prompt_processing", config=None, params={"stf_count": 3}),
        RunWorkflow(**command, workflow_name="prompt_processing", config="x", duration=0, source="mcp"),
        StopWorkflow(**command, execution_id=execution_id if execution else None),
        StatusRequest(**command),
        RunWorkflowFailed(**command, error="the workflow has no configuration", sender=common["sender"]),
        # While the monitor gives no numbers.
        RunWorkflowFailed(
            **command, error="no monitor", sender=names.agent_name("DAQ_Simulator", user, f"p{run}")
        ),
    ]
    for message in messages:
        validate(json.loads(message.to_text()))
