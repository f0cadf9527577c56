from __future__ import annotations

import json
from typing import Any

import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from hypothesis import example, given
from hypothesis import strategies as st

from app.web.events import read_visit
from models.errors import InvalidMessage
from models.visits import FannedOutVisit
from tests.visits import visit_message

STRUCTURED = {"content-type": "application/cloudevents+json"}
BINARY = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t"}

ATTRIBUTES = ["specversion", "id", "source", "type", "time", "data", "data_base64", "x"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("write", [to_structured_event, to_binary_event])
@pytest.mark.parametrize("as_text", [False, True])
def test_reads_what_the_library_writes(write: Any, as_text: bool) -> None:
    message = visit_message()
    data = json.dumps(message) if as_text else message
    sent = write(CloudEvent({"type": "com.example.kafka", "source": "topic", "id": "1"}, data))
    headers = {name.title(): value for name, value in sent.headers.items()}
    assert read_visit(headers, sent.body) == FannedOutVisit.parse(message)


def test_structured_event_with_repeated_attributes() -> None:
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": visit_message()}
    assert read_visit(STRUCTURED | BINARY, json.dumps(event).encode()).detector == 0


@given(st.binary(max_size=200))
def test_any_bytes_give_a_visit_or_an_invalid_message(body: bytes) -> None:
    for headers in (STRUCTURED, BINARY, {}):
        with pytest.raises(InvalidMessage):
            read_visit(headers, body)


@given(
    st.dictionaries(
        st.sampled_from(["specversion", "id", "source", "type", "time", "data", "x"]), json_values
    )
)
@example({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": "[" * 10_000})
def test_any_json_gives_a_visit_or_an_invalid_message(event: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        read_visit(STRUCTURED, json.dumps(event).encode())


@given(field=st.sampled_from(sorted(visit_message())), value=json_values)
@example(field="survey", value="\ud800")
@example(field="filters", value="r\0")
@example(field="salIndex", value=10**5000)
@example(field="cameraAngle", value=10**400)
def test_any_field_gives_a_sound_visit_or_is_named(field: str, value: Any) -> None:
    message = visit_message() | {field: value}
    error = ""
    try:
        # Written by hand: Python writes no integer of so many digits.
        digits = "9" * 5000 if value == 10**5000 else None
        text = json.dumps(message | ({field: "@"} if digits else {})).replace('"@"', digits or '"@"')
        visit = read_visit(BINARY, text.encode())
    except InvalidMessage as raised:
        error = str(raised)
        visit = None
    # Whatever is let in can be written again.
    if visit is not None:
        assert FannedOutVisit.parse(visit.model_dump_json()) == visit
    else:
        assert field in error or "JSON" in error


def test_a_visit_without_an_event_around_it_is_told_how() -> None:
    with pytest.raises(InvalidMessage, match=r"not a CloudEvent: .*application/cloudevents\+json.*ce-"):
        read_visit({"content-type": "application/json"}, b'{"groupId": "g"}')
