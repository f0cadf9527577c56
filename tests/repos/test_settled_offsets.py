"""What may be committed of records that are settled in any order."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from repos.settled_offsets import SettledOffsets


def test_nothing_beyond_what_is_in_hand() -> None:
    offsets = SettledOffsets()
    assert all(offsets.begin(0, n) for n in (5, 6, 7))
    offsets.settle(0, 6)
    assert offsets.to_commit() == {0: 5}
    offsets.settle(0, 5)
    assert offsets.to_commit() == {0: 7}
    offsets.settle(0, 7)
    assert offsets.to_commit() == {0: 8}


def test_the_place_where_reading_begins_is_committed_too() -> None:
    offsets = SettledOffsets()
    offsets.start(2, 41)
    assert offsets.to_commit() == {2: 41}
    offsets.committed({2: 41})
    assert offsets.to_commit() == {}
    offsets.begin(2, 41)
    assert offsets.to_commit() == {}


def test_a_start_that_is_told_late_changes_nothing() -> None:
    offsets = SettledOffsets()
    offsets.begin(0, 5)
    offsets.start(0, 9)
    assert offsets.to_commit() == {0: 5}


def test_what_is_not_ours_is_not_committed() -> None:
    offsets = SettledOffsets()
    offsets.begin(0, 5)
    offsets.begin(1, 8)
    offsets.keep([1])
    offsets.settle(0, 5)
    assert offsets.to_commit() == {1: 8}


def test_what_comes_back_is_not_handled_twice_at_once() -> None:
    offsets = SettledOffsets()
    offsets.begin(0, 5)
    offsets.keep([])
    assert not offsets.begin(0, 5)
    assert offsets.begin(0, 6)
    offsets.settle(0, 6)
    assert offsets.to_commit() == {0: 5}
    offsets.settle(0, 5)
    assert offsets.to_commit() == {0: 7}


def test_old_work_does_not_turn_back_what_others_committed() -> None:
    offsets = SettledOffsets()
    offsets.begin(0, 5)
    offsets.keep([])
    offsets.start(0, 100)
    assert offsets.to_commit() == {0: 100}


@given(st.integers(1, 30), st.randoms(use_true_random=False))
def test_whatever_the_order_nothing_unsettled_is_passed(count: int, order: random.Random) -> None:
    offsets = SettledOffsets()
    offsets.start(0, 0)
    for n in range(count):
        offsets.begin(0, n)
    left = [*range(count)]
    order.shuffle(left)
    while left:
        offsets.settle(0, left.pop())
        offsets.committed(found := offsets.to_commit())
        assert found.get(0, 0) <= min(left, default=count)
    offsets.begin(0, count)
    offsets.settle(0, count)
    assert offsets.to_commit() == {0: count + 1}
