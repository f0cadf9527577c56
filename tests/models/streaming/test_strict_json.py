"""Tests of strict JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.streaming.strict_json import read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


@given(VALUES)
def test_what_is_json_is_read(value: object) -> None:
    assert read_json(json.dumps(value)) == value
    assert read_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", '{"a": -1e999}', "[1,]", "'a'", "9" * 5000])
def test_what_is_not_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the library's own for most)
        read_json(text)


@pytest.mark.parametrize("depth", [101, 900, 200_000])
def test_what_is_too_deep_is_refused(depth: int) -> None:
    for text in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        with pytest.raises(ValueError, match="deep"):
            read_json(text)


def test_what_is_deep_is_read() -> None:
    assert read_json("[" * 100 + "]" * 100) is not None
