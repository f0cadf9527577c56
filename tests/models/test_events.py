"""Messages to the writer: the fields that are sent are fixed."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from pydantic import ValidationError

from models.events import PromptOutput

DATASET_ID = "019a0000-0000-7000-8000-000000000001"
MESSAGE = {
    "type": "pp-output",
    "dimension_records": [{"definition": "group", "record": {"instrument": "DemoCam", "name": "g1"}}],
    "datasets": [
        {
            "refs": {
                DATASET_ID: {
                    "dataset_type_name": "dia_source",
                    "run": "DemoCam/prompt/output-2025-04-01/ApPipe/abc",
                    "data_id": {"instrument": "DemoCam", "visit": 1, "detector": 0},
                }
            },
            "path": "a/b.parq",
            "formatter": "lsst.daf.butler.formatters.parquet.ParquetFormatter",
        }
    ],
}


def test_exactly_these_fields_are_sent() -> None:
    message = PromptOutput.model_validate(MESSAGE)
    assert json.loads(message.to_payload()) == MESSAGE
    assert message.to_message() == MESSAGE
    assert list(message.datasets[0].refs) == [UUID(DATASET_ID)]


def test_dataset_types_are_sent_only_when_set() -> None:
    message = PromptOutput.model_validate({**MESSAGE, "dataset_types": [{"name": "x"}]})
    assert json.loads(message.to_payload()) == {**MESSAGE, "dataset_types": [{"name": "x"}]}


def test_unknown_fields_are_ignored_on_reading() -> None:
    assert json.loads(PromptOutput.model_validate({**MESSAGE, "new": 1}).to_payload()) == MESSAGE


@pytest.mark.parametrize(
    "change", [{"type": "other"}, {"datasets": [{"refs": {"no-uuid": {}}, "path": "x"}]}]
)
def test_malformed_messages_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PromptOutput.model_validate({**MESSAGE, **change})
