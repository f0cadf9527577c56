"""Which datasets a local repo keeps between visits."""

from __future__ import annotations

__all__ = ["DatasetCache"]

import uuid
from collections import OrderedDict
from collections.abc import Mapping

from lsst.daf.butler import DatasetRef


class DatasetCache:
    """A least-recently-used list of datasets for every dataset type.

    It knows references only; whoever holds the datasets themselves drops what
    `release` returns.

    Parameters
    ----------
    default_size : `int`
        Datasets kept of each type.
    sizes : `dict` [`str`, `int`], optional
        Other sizes, by dataset type.
    """

    def __init__(self, default_size: int = 3, sizes: Mapping[str, int] | None = None) -> None:
        self._default_size = default_size
        self._sizes = dict(sizes or {})
        self._kept: dict[str, OrderedDict[uuid.UUID, DatasetRef]] = {}
        self._in_use: set[uuid.UUID] = set()

    def __contains__(self, ref: DatasetRef) -> bool:
        return ref.id in self._kept.get(ref.datasetType.nameAndComponent()[0], ())

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def use(self, ref: DatasetRef) -> None:
        """Note that the current visit needs a dataset; it stays until
        `release`, whatever the limits.
        """
        kept = self._kept.setdefault(ref.datasetType.nameAndComponent()[0], OrderedDict())
        kept[ref.id] = ref
        kept.move_to_end(ref.id)
        self._in_use.add(ref.id)

    def release(self) -> list[DatasetRef]:
        """End the current visit.

        Returns
        -------
        evicted : `list` [`lsst.daf.butler.DatasetRef`]
            Datasets over the limits, longest unused first.
        """
        self._in_use.clear()
        evicted = []
        for name, kept in self._kept.items():
            limit = self._sizes.get(name, self._default_size)
            while len(kept) > limit:
                evicted.append(kept.popitem(last=False)[1])
        return evicted

    def clear(self) -> None:
        """Forget everything: whoever holds the datasets lost them."""
        self._kept.clear()
        self._in_use.clear()

    def in_use(self, ref: DatasetRef) -> bool:
        """Say whether the current visit needs a dataset."""
        return ref.id in self._in_use
