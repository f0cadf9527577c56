"""Messages to the writer: the fields that are sent are fixed."""

from __future__ import annotations

import json
import math
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidMessage
from models.events import BatchFile, BatchIngested, PromptOutput

DATASET_ID = "019a0000-0000-7000-8000-000000000001"
REF = {
    "dataset_type_name": "dia_source",
    "run": "DemoCam/prompt/output-2025-04-01/ApPipe/abc",
    "data_id": {"instrument": "DemoCam", "visit": 1, "detector": 0},
}
FILE = {
    "refs": {DATASET_ID: REF},
    "path": "a/b.parq",
    "formatter": "lsst.daf.butler.formatters.parquet.ParquetFormatter",
}
MESSAGE: dict[str, Any] = {
    "type": "pp-output",
    "dimension_records": [{"definition": "group", "record": {"instrument": "DemoCam", "name": "g1"}}],
    "datasets": [FILE],
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


def test_exactly_these_fields_are_sent() -> None:
    message = PromptOutput.parse(MESSAGE)
    assert json.loads(message.to_payload()) == MESSAGE
    assert message.to_message() == MESSAGE
    assert list(message.datasets[0].refs) == [UUID(DATASET_ID)]


def test_dataset_types_are_sent_only_when_set() -> None:
    message = PromptOutput.parse({**MESSAGE, "dataset_types": [{"name": "x"}]})
    assert json.loads(message.to_payload()) == {**MESSAGE, "dataset_types": [{"name": "x"}]}


def test_unknown_fields_are_ignored_on_reading() -> None:
    assert json.loads(PromptOutput.parse({**MESSAGE, "new": 1}).to_payload()) == MESSAGE
    file = {**FILE, "new": 1, "refs": {DATASET_ID: {**REF, "new": 1}}}
    assert PromptOutput.parse({**MESSAGE, "datasets": [file]}).to_message() == MESSAGE


def test_numbers_that_are_none_survive() -> None:
    records = [{"definition": "exposure", "record": {"sky_angle": math.nan, "tracking_ra": None}}]
    sent = json.loads(PromptOutput.parse({**MESSAGE, "dimension_records": records}).to_payload())
    assert math.isnan(sent["dimension_records"][0]["record"]["sky_angle"])
    assert sent["dimension_records"][0]["record"]["tracking_ra"] is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"type": "other"}, "type"),
        ({"type": None}, "type"),
        ({"schemaVersion": 2}, "schemaVersion 2"),
        ({"schemaVersion": "1"}, "schemaVersion '1'"),
        ({"datasets": [{**FILE, "refs": {"no-uuid": REF}}]}, "no-uuid"),
        ({"datasets": [{**FILE, "refs": {}}]}, "refs"),
        ({"datasets": [{**FILE, "refs": {DATASET_ID: {**REF, "run": ""}}}]}, "run"),
        ({"datasets": [{**FILE, "refs": {DATASET_ID: {**REF, "data_id": {"visit": []}}}}]}, "data_id"),
        ({"datasets": [{**FILE, "path": "/etc/passwd"}]}, "path"),
        ({"datasets": [{**FILE, "path": "a/../../b"}]}, "path"),
        ({"datasets": [{**FILE, "path": "s3://b/c"}]}, "path"),
        ({"datasets": [{**FILE, "path": ""}]}, "path"),
        ({"dimension_records": [{"definition": 1, "record": {}}]}, "definition"),
        ({"dimension_records": None}, "dimension_records"),
    ],
)
def test_malformed_messages_are_refused_by_name(change: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidMessage, match=named.replace("[", r"\[")):
        PromptOutput.parse({**MESSAGE, **change})


@pytest.mark.parametrize("field", ["type", "dimension_records", "datasets"])
def test_missing_fields_are_named(field: str) -> None:
    with pytest.raises(InvalidMessage, match=field):
        PromptOutput.parse({name: value for name, value in MESSAGE.items() if name != field})


@given(st.binary() | st.text() | JSON.map(json.dumps))
def test_whatever_comes_is_read_or_refused(payload: bytes | str) -> None:
    with pytest.raises(InvalidMessage):
        PromptOutput.parse(payload)


@given(st.sampled_from(["type", "dimension_records", "datasets", "dataset_types", "schemaVersion"]), JSON)
def test_a_wrong_field_is_refused_or_harmless(field: str, value: object) -> None:
    try:
        message = PromptOutput.parse(json.dumps({**MESSAGE, field: value}))
    except InvalidMessage:
        return
    assert PromptOutput.parse(message.to_payload()).to_payload() == message.to_payload()


def test_what_the_writer_says() -> None:
    batch = UUID(DATASET_ID)
    event = BatchIngested(batch_id=batch, batch_file="x.json")
    assert json.loads(event.model_dump_json()) == {
        "type": "batch-ingested",
        "batch_id": DATASET_ID,
        "origin": "prompt_processing",
        "batch_file": "x.json",
    }
    listing = BatchFile(batch_id=batch, datasets=(batch,))
    assert json.loads(listing.model_dump_json()) == {"batch_id": DATASET_ID, "datasets": [DATASET_ID]}
