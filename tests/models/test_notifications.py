"""Notifications of an object store."""

from __future__ import annotations

import json
import logging
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.notifications import CreatedObject, read_notification, same_bucket


def record(key: Any = "a/b.fits", event: Any = "ObjectCreated:Put", **stored: Any) -> dict[str, Any]:
    return {
        "eventVersion": "2.2",
        "eventName": event,
        "eventTime": "2026-11-21T02:47:26.177Z",
        "s3": {"bucket": {"name": "raws", "arn": "x"}, "object": {"key": key, "size": 5, **stored}},
    }


def read(*records: Any) -> list[CreatedObject]:
    return list(read_notification(json.dumps({"Records": records}).encode()))


def test_everything_that_is_told() -> None:
    [created] = read(record(eTag="abc", sequencer="17"))
    assert (created.bucket, created.key) == ("raws", "a/b.fits")
    assert created.time == pytest.approx(1795229246.177)
    assert created.version == ("abc", "17", "2026-11-21T02:47:26.177Z")


def test_only_what_the_contract_promises() -> None:
    bare = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "raws"}, "object": {"key": "k"}}}
    assert read(bare) == [CreatedObject(bucket="raws", key="k", time=None, version=("", "", ""))]


@pytest.mark.parametrize(
    "event",
    ["ObjectCreated:Put", "ObjectCreated:CompleteMultipartUpload", "ObjectCreated", "s3:ObjectCreated:Copy"],
)
def test_events_that_bring_an_object(event: str) -> None:
    assert len(read(record(event=event))) == 1


@pytest.mark.parametrize("event", ["ObjectRemoved:Delete", "s3:TestEvent", "", "xObjectCreated:Put"])
def test_other_events(event: str, caplog: pytest.LogCaptureFixture) -> None:
    assert read(record(event=event), record("b")) != []
    assert [created.key for created in read(record(event=event), record("b"))] == ["b"]
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        {},
        "text",
        7,
        record(key=None),
        record(key=""),
        record(key=5),
        record(key="a\0b"),
        record(key="a\ud800b"),
        record(event=None),
        {"eventName": "ObjectCreated:Put"},
        {"eventName": "ObjectCreated:Put", "s3": {"object": {"key": "k"}}},
        {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": 3}, "object": {"key": "k"}}},
    ],
    ids=repr,
)
def test_malformed_records_are_skipped_one_by_one(bad: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert [created.key for created in read(record("a"), bad, record("b"))] == ["a", "b"]
    assert "malformed record" in caplog.text


@pytest.mark.parametrize(
    "message",
    [None, b"", b"\xff\xfe", b"[1]", b"null", b"{}", b'{"Records": 3}', b"[" * 100_000, b"1" * 5000],
)
def test_malformed_messages(message: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    assert list(read_notification(message)) == []
    assert "Skipped a message" in caplog.text
    assert len(caplog.text) < 2000


def test_set_up_of_notifications_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    test = b'{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "raws"}'
    assert list(read_notification(test)) == []
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize("time", [None, "yesterday", 17, [], "9999999-01-01"])
def test_time_that_makes_no_sense(time: Any) -> None:
    assert read({**record(), "eventTime": time})[0].time is None


def test_time_without_a_zone_is_utc() -> None:
    assert read({**record(), "eventTime": "1970-01-01T00:00:01"})[0].time == 1.0


@given(st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_key_comes_back_whole(key: str) -> None:
    [created] = read(record(key))
    assert created.key == key
    [encoded] = read(record(quote_plus(key)))
    assert (encoded.decoded_key or encoded.key) == key


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["Records", "s3"]), inner)
        ),
    )
)
def test_any_json_is_survived(content: Any) -> None:
    assert list(read_notification(json.dumps(content).encode())) == []
    assert [c.key for c in read(content, record("b"))] == ["b"]


@given(st.binary())
def test_any_bytes_are_survived(message: bytes) -> None:
    assert list(read_notification(message)) == []


@pytest.mark.parametrize(
    ("sent", "wanted", "same"),
    [
        ("raws", "raws", True),
        ("raws", "tenant:raws", True),
        ("tenant:raws", "tenant:raws", True),
        ("tenant/raws", "tenant:raws", True),
        (":raws", "raws", True),
        ("other:raws", "tenant:raws", False),
        ("other:raws", "raws", False),
        ("raw", "raws", False),
        ("tenant", "tenant:raws", False),
        ("", "raws", False),
    ],
)
def test_bucket_with_and_without_tenant(sent: str, wanted: str, same: bool) -> None:
    assert same_bucket(sent, wanted) is same
