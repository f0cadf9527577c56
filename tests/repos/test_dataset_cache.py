"""Least-recently-used datasets, by type."""

from __future__ import annotations

from collections import OrderedDict

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from lsst.daf.butler import DataCoordinate, DatasetRef, DatasetType, DimensionUniverse

from repos.dataset_cache import DatasetCache

UNIVERSE = DimensionUniverse()
SIZES = {"bias": 1, "flat": 4}
DEFAULT = 2


def make_ref(name: str, detector: int) -> DatasetRef:
    dataset_type = DatasetType(name, ("instrument", "detector"), "ArrowAstropy", universe=UNIVERSE)
    data_id = DataCoordinate.standardize(instrument="C", detector=detector, universe=UNIVERSE)
    return DatasetRef(dataset_type, data_id, run="r")


REFS = [make_ref(name, detector) for name in ("bias", "flat", "dark") for detector in range(8)]


class CacheMachine(RuleBasedStateMachine):
    """Visits use datasets and end; compared with a plain model."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = DatasetCache(DEFAULT, SIZES)
        self.model: dict[str, OrderedDict[DatasetRef, None]] = {}
        self.needed: set[DatasetRef] = set()

    @rule(ref=st.sampled_from(REFS))
    def use(self, ref: DatasetRef) -> None:
        self.cache.use(ref)
        kept = self.model.setdefault(ref.datasetType.name, OrderedDict())
        kept[ref] = None
        kept.move_to_end(ref)
        self.needed.add(ref)

    @rule(ref=st.sampled_from(REFS))
    def look(self, ref: DatasetRef) -> None:
        assert (ref in self.cache) == (ref in self.model.get(ref.datasetType.name, {}))
        assert self.cache.in_use(ref) == (ref in self.needed)

    @rule()
    def release(self) -> None:
        evicted = self.cache.release()
        expected = []
        for name, kept in self.model.items():
            while len(kept) > SIZES.get(name, DEFAULT):
                expected.append(kept.popitem(last=False)[0])
        assert sorted(evicted) == sorted(expected)
        self.needed.clear()

    @precondition(lambda self: not self.needed)
    @rule()
    def nothing_to_evict_between_visits(self) -> None:
        assert self.cache.release() == []

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.model.clear()
        self.needed.clear()

    @invariant()
    def nothing_needed_is_missing(self) -> None:
        assert all(ref in self.cache for ref in self.needed)

    @invariant()
    def sizes(self) -> None:
        assert len(self.cache) == sum(map(len, self.model.values()))
        if not self.needed:
            for name, kept in self.model.items():
                assert len(kept) <= SIZES.get(name, DEFAULT)


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_type_of_size_zero_is_not_kept() -> None:
    cache = DatasetCache(0)
    cache.use(REFS[0])
    assert REFS[0] in cache
    assert cache.release() == [REFS[0]]
    assert REFS[0] not in cache


def test_a_component_is_kept_with_the_whole() -> None:
    whole = make_ref("stars", 1)
    component = whole.makeComponentRef("columns")
    cache = DatasetCache(1)
    cache.use(component)
    assert whole in cache and component in cache
