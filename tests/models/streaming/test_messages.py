"""What is no message is refused before anybody tries to keep it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from models.errors import InvalidMessage
from models.streaming.messages import RunImminent, StfGen, read_message

RUN = {"namespace": "epic", "run_id": "102363"}
HUGE = 10**30


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        ("stf_gen", {"sequence": HUGE}, "sequence"),
        ("stf_gen", {"sequence": 1, "size_bytes": HUGE}, "size_bytes"),
        ("stf_gen", {"filename": "a\0b"}, "filename"),
        ("stf_gen", {"filename": "a\ud800b"}, "filename"),
        ("run_imminent", {"dataset": "a\0b"}, "dataset"),
        ("run_imminent", {"container": "/a\0b"}, "container"),
        ("run_imminent", {"run_conditions": {"beam": float("nan")}}, "NaN"),
        ("end_run", {"total_stf_files": HUGE}, "total_stf_files"),
    ],
)
def test_what_no_database_keeps_is_refused(kind: str, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidMessage, match=named):
        read_message(json.dumps({"msg_type": kind, **RUN, **fields}))


def test_text_of_no_consequence_is_made_storable() -> None:
    message = read_message(
        {"msg_type": "stf_gen", **RUN, "sequence": 1, "state": "r\ud800n", "execution_id": "a\0"}
    )
    assert isinstance(message, StfGen)
    assert (message.state, message.execution_id) == ("r?n", "a\ufffd")


def test_directories_may_be_longer_than_names() -> None:
    container = "/deep" * 100
    message = read_message({"msg_type": "run_imminent", **RUN, "container": container})
    assert isinstance(message, RunImminent) and message.container == container
