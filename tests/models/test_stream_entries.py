"""Visits as entries of a Redis stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidMessage
from models.stream_entries import from_stream_entry, to_stream_entry
from models.visits import FannedOutVisit
from tests.models.test_visits import MESSAGE, visits

VISIT = FannedOutVisit.parse(MESSAGE)
ENTRY = to_stream_entry(VISIT)


def test_an_entry_is_flat_text_with_exactly_the_fields_of_the_message() -> None:
    assert list(ENTRY) == list(MESSAGE)
    assert all(isinstance(value, str) for value in ENTRY.values())
    assert ENTRY["position"] == "[134.5454, -65.3261]"
    assert ENTRY["dome"] == "2"
    assert ENTRY["private_sndStamp"] == "1743476400.25"
    assert ENTRY["survey"] == "BLOCK-320"


def test_text_or_bytes_as_clients_return_them() -> None:
    assert from_stream_entry(ENTRY) == VISIT
    assert from_stream_entry({k.encode(): v.encode() for k, v in ENTRY.items()}) == VISIT


@given(visits)
def test_entries_go_there_and_back(message: dict[str, Any]) -> None:
    visit = FannedOutVisit.parse(message)
    assert from_stream_entry(to_stream_entry(visit)) == visit


def test_text_that_looks_like_a_number_stays_text() -> None:
    visit = FannedOutVisit.parse({**MESSAGE, "groupId": "20250401", "survey": "1e5", "filters": "[1]"})
    assert from_stream_entry(to_stream_entry(visit)) == visit


def test_unknown_fields_are_ignored_whatever_they_hold() -> None:
    assert from_stream_entry({**ENTRY, "new": "not JSON"}) == VISIT
    assert (
        from_stream_entry({**{k.encode(): v.encode() for k, v in ENTRY.items()}, b"\xff": b"\xff"}) == VISIT
    )


@pytest.mark.parametrize("name", ENTRY)
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(InvalidMessage, match=f"^{name}: Field required$"):
        from_stream_entry({k: v for k, v in ENTRY.items() if k != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("detector", "R22_S11"),
        ("detector", ""),
        ("nimages", "1.5"),
        ("position", "134.5, -65.3"),
        ("position", "[134.5]"),
        ("cameraAngle", "nan"),
        ("cameraAngle", "NaN"),
        ("startTime", "{"),
        ("groupId", ""),
        ("schemaVersion", "3"),
        ("schemaVersion", "two"),
    ],
)
def test_a_wrong_field_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidMessage, match=f"^{name}"):
        from_stream_entry({**ENTRY, name: value})


def test_bytes_that_are_no_text_are_refused_by_name() -> None:
    with pytest.raises(InvalidMessage, match=r"^groupId"):
        from_stream_entry({**{k.encode(): v.encode() for k, v in ENTRY.items()}, b"groupId": b"\xff\xfe"})


def test_the_present_version_may_be_named() -> None:
    assert from_stream_entry({**ENTRY, "schemaVersion": "1"}) == VISIT


@given(st.dictionaries(st.sampled_from(list(ENTRY)) | st.text(), st.text()))
def test_any_entry_is_read_or_refused(entry: dict[str, str]) -> None:
    try:
        visit = from_stream_entry(entry)
    except InvalidMessage:
        return
    assert json.dumps(visit.to_message())
