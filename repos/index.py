"""An index of what can be preloaded from a central repo.

Discovery queries cost 10 to 40 ms a dataset type, for every visit; lookups in
memory cost microseconds. So each query is made once, for a neighbourhood of
what was asked (all validity ranges of a detector's calibrations, all templates
within a trixel of sky), and its result serves until it is `max_age` old.
"""

from __future__ import annotations

__all__ = ["CentralIndex", "FoundCalibration"]

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lsst.daf.butler import (
    Butler,
    CollectionType,
    DataIdValueError,
    DatasetAssociation,
    DatasetRef,
    DatasetType,
    MissingCollectionError,
    MissingDatasetTypeError,
    Timespan,
)
from lsst.sphgeom import DISJOINT, HtmPixelization, Region

#: Level of the HTM trixels by which spatial lookups are gathered: about 5
#: square degrees each, so that a camera's neighbourhood is a few of them.
TRIXEL_LEVEL = 5

#: The Butler's ways of saying that there is nothing to find.
_NOTHING_THERE = (DataIdValueError, MissingCollectionError, MissingDatasetTypeError)


@dataclass(frozen=True)
class FoundCalibration:
    """A calibration valid at some time, and where it is certified.

    Attributes
    ----------
    ref : `lsst.daf.butler.DatasetRef`
    collection : `str`
        The collection, of the searched chain, that it was found in.
    timespan : `lsst.daf.butler.Timespan`
        Validity range, TAI; unbounded for datasets that are not certified but
        lie in a run of the chain.
    """

    ref: DatasetRef
    collection: str
    timespan: Timespan


@dataclass
class _Entry:
    made: float
    found: list[Any]


class CentralIndex:
    """Answers, from memory where it can, which datasets of a central repo a
    visit needs.

    Parameters
    ----------
    butler : `lsst.daf.butler.Butler`
        The repo to search: the read replica where there is one.
    max_age : `float`
        Seconds for which an answer may be reused. Something that is not found
        is always looked for again.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self, butler: Butler, *, max_age: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._butler = butler
        self._max_age = max_age
        self._clock = clock
        self._trixels = HtmPixelization(TRIXEL_LEVEL)
        self._entries: dict[tuple[Any, ...], _Entry] = {}

    def calibrations(
        self, dataset_type: DatasetType, collection: str, data_id: Mapping[str, Any], valid_at: Timespan
    ) -> list[FoundCalibration]:
        """Find the calibrations of a data id that are valid at an instant.

        Parameters
        ----------
        dataset_type : `lsst.daf.butler.DatasetType`
        collection : `str`
            Calibration collection, or chain of them; the first member that
            has a valid calibration for a full data id wins.
        data_id : `dict`
            Values of dimensions; those that the dataset type does not have
            are ignored.
        valid_at : `lsst.daf.butler.Timespan`
            The instant.
        """
        dims = dataset_type.dimensions
        wanted = {k: v for k, v in data_id.items() if k in dims}
        key = ("calib", dataset_type.name, collection, *(sorted(wanted.items())))
        query = partial(self._query_calibs, dataset_type, collection, wanted)
        for fresh in (False, True):
            best: dict[Any, FoundCalibration] = {}
            for item in self._get(key, query, fresh=fresh).found:
                if item.timespan.overlaps(valid_at):
                    best.setdefault(item.ref.dataId, item)
            if best:
                return list(best.values())
        return []

    def overlapping(
        self, dataset_type: DatasetType, collections: str, region: Region, data_id: Mapping[str, Any]
    ) -> list[DatasetRef]:
        """Find the datasets with a region on the sky that overlaps another.

        Parameters
        ----------
        dataset_type : `lsst.daf.butler.DatasetType`
            A type with one spatial dimension.
        collections : `str`
            Run or chain; the first member with a dataset wins.
        region : `lsst.sphgeom.Region`
        data_id : `dict`
            Further constraints.

        Returns
        -------
        refs : `list` [`lsst.daf.butler.DatasetRef`]
            Expanded, in the order of their data ids.
        """
        dims = dataset_type.dimensions
        wanted = {k: v for k, v in data_id.items() if k in dims}
        trixels = [t for begin, end in self._trixels.envelope(region) for t in range(begin, end)]
        for fresh in (False, True):
            # Trixels are looked up at different times, and a dataset may have
            # been superseded in between: the latest look counts.
            latest: dict[Any, tuple[float, DatasetRef]] = {}
            for trixel in trixels:
                key = ("sky", dataset_type.name, collections, trixel, *(sorted(wanted.items())))
                query = partial(self._query_sky, dataset_type, collections, trixel, wanted)
                entry = self._get(key, query, fresh=fresh)
                for ref, where in entry.found:
                    known = latest.get(ref.dataId)
                    if (known is None or known[0] < entry.made) and not where.relate(region) & DISJOINT:
                        latest[ref.dataId] = (entry.made, ref)
            if latest:
                return sorted((ref for _, ref in latest.values()), key=lambda ref: ref.dataId)
        return []

    def by_data_id(
        self, dataset_type: DatasetType, collections: str | Sequence[str], data_id: Mapping[str, Any]
    ) -> list[DatasetRef]:
        """Find datasets by data id alone, first collection first."""
        dims = dataset_type.dimensions
        wanted = {k: v for k, v in data_id.items() if k in dims}
        key = ("id", dataset_type.name, str(collections), *(sorted(wanted.items())))
        query = partial(self._query, dataset_type, collections, wanted)
        for fresh in (False, True):
            found = self._get(key, query, fresh=fresh).found
            if found:
                return list(found)
        return []

    def refresh_oldest(self) -> None:
        """Forget what has not been renewed for long, so that an idle worker
        does not keep yesterday's sky in memory.
        """
        limit = self._clock() - 20 * self._max_age
        self._entries = {k: e for k, e in self._entries.items() if e.made > limit}

    def _get(self, key: tuple[Any, ...], query: Callable[[], list[Any]], *, fresh: bool) -> _Entry:
        entry = self._entries.get(key)
        now = self._clock()
        # What was read within the last second is fresh enough: an empty
        # answer is asked for again only once a visit.
        if entry is None or now - entry.made > (1.0 if fresh else self._max_age):
            try:
                found = query()
            except _NOTHING_THERE:
                found = []
            entry = self._entries[key] = _Entry(now, found)
        return entry

    def _query_calibs(
        self, dataset_type: DatasetType, collection: str, data_id: Mapping[str, Any]
    ) -> list[FoundCalibration]:
        fields = {dataset_type.name: {"dataset_id", "run", "collection", "timespan"}}
        order = self._butler.collections.query(collection, flatten_chains=True)
        with self._butler.query() as query:
            query = query.join_dataset_search(dataset_type, collection).where(data_id)
            rows = query.general(dataset_type.dimensions, dataset_fields=fields, find_first=False)
            found = []
            for row in DatasetAssociation.from_query_result(rows, dataset_type):
                timespan = row.timespan if row.timespan is not None else Timespan(None, None)
                found.append(FoundCalibration(row.ref, row.collection, timespan))
        # The first collection that has a calibration for an instant wins.
        found.sort(key=lambda f: order.index(f.collection) if f.collection in order else len(order))
        records = {ref.id: ref for ref in self._expand([f.ref for f in found])}
        return [FoundCalibration(records[f.ref.id], f.collection, f.timespan) for f in found]

    def _expand(self, refs: list[DatasetRef]) -> list[DatasetRef]:
        expand = self._butler.registry.expandDataId
        expanded: dict[Any, Any] = {}
        for ref in refs:
            if ref.dataId not in expanded:
                expanded[ref.dataId] = expand(ref.dataId)
        return [ref.expanded(expanded[ref.dataId]) for ref in refs]

    def _query_sky(
        self, dataset_type: DatasetType, collections: str, trixel: int, data_id: Mapping[str, Any]
    ) -> list[tuple[DatasetRef, Region]]:
        (family,) = dataset_type.dimensions.spatial
        element = family.choose(dataset_type.dimensions).name
        refs = self._butler.query_datasets(
            dataset_type.name,
            collections,
            where=f"{element}.region OVERLAPS trixel",
            bind={"trixel": self._trixels.pixel(trixel)},
            data_id=data_id,
            with_dimension_records=True,
            find_first=True,
            explain=False,
            limit=None,
        )
        return [(ref, ref.dataId.region) for ref in refs]

    def _query(
        self, dataset_type: DatasetType, collections: str | Sequence[str], data_id: Mapping[str, Any]
    ) -> list[DatasetRef]:
        searched = self._butler.collections.query(
            collections,
            flatten_chains=True,
            collection_types={CollectionType.RUN, CollectionType.TAGGED, CollectionType.CALIBRATION},
        )
        return self._butler.query_datasets(
            dataset_type.name,
            searched,
            data_id=data_id,
            with_dimension_records=True,
            find_first=True,
            explain=False,
            limit=None,
        )
