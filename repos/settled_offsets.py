"""Which records of a topic need not be read again."""

from __future__ import annotations

__all__ = ["SettledOffsets"]

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass
class _Partition:
    #: Offsets in hand.
    begun: set[int] = field(default_factory=set)
    #: Those that were read since the partition is ours.
    counted: set[int] = field(default_factory=set)
    #: Where reading goes on; None while the partition is not ours.
    following: int | None = None
    #: What the group knows.
    committed: int | None = None


class SettledOffsets:
    """Works out what may be committed of records settled in any order.

    May be used from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._partitions: dict[int, _Partition] = {}

    def start(self, partition: int, position: int | None) -> None:
        """Note where reading begins in a partition that is ours now."""
        with self._lock:
            state = self._partitions.setdefault(partition, _Partition())
            if state.following is None:
                state.following = position

    def begin(self, partition: int, offset: int) -> bool:
        """Note that a record was read.

        Returns
        -------
        new : `bool`
            False if it is in hand already; partitions that come back to us
            bring again what was not committed.
        """
        with self._lock:
            state = self._partitions.setdefault(partition, _Partition())
            is_new = offset not in state.begun
            state.begun.add(offset)
            state.counted.add(offset)
            state.following = offset + 1
            return is_new

    def settle(self, partition: int, offset: int) -> None:
        """Note that a record need not be read again."""
        with self._lock:
            state = self._partitions[partition]
            state.begun.discard(offset)
            state.counted.discard(offset)

    def keep(self, partitions: Iterable[int]) -> None:
        """Note which partitions are ours, and that others are not."""
        with self._lock:
            for partition in self._partitions.keys() - {*partitions}:
                state = self._partitions[partition]
                state.counted.clear()
                state.following = state.committed = None

    def to_commit(self) -> dict[int, int]:
        """Return the offsets to commit, by partition, where they are new."""
        with self._lock:
            found = {}
            for number, state in self._partitions.items():
                if state.following is None:
                    continue
                offset = min(state.counted, default=state.following)
                if offset != state.committed:
                    found[number] = offset
            return found

    def committed(self, offsets: Mapping[int, int]) -> None:
        """Note what was committed."""
        with self._lock:
            for partition, offset in offsets.items():
                self._partitions[partition].committed = offset
