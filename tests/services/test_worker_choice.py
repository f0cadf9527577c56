"""Which worker a detector's visits go to."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.worker_choice import rank_workers

urls = st.lists(
    st.integers(0, 99).map("http://worker-{}/next-visit".format), min_size=1, max_size=8, unique=True
)
detectors = st.sets(st.integers(0, 300))


@given(urls, detectors)
def test_each_detector_has_all_workers_in_an_order(workers: list[str], wanted: set[int]) -> None:
    ranking = rank_workers(workers, wanted)
    assert set(ranking) == wanted
    assert all(sorted(order) == sorted(workers) for order in ranking.values())


@given(urls, detectors)
def test_no_worker_is_home_to_more_than_its_share(workers: list[str], wanted: set[int]) -> None:
    homes = Counter(order[0] for order in rank_workers(workers, wanted).values())
    assert all(n <= -(-len(wanted) // len(workers)) for n in homes.values())


@given(urls, detectors, st.randoms())
def test_the_order_of_the_list_does_not_matter(workers: list[str], wanted: set[int], random: object) -> None:
    shuffled = [*workers]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert rank_workers(shuffled, wanted) == rank_workers(workers, wanted)


def test_the_choice_outlives_the_process() -> None:
    # Fixed: if this changes, every worker loses its warm caches once.
    ranking = rank_workers(["http://a/next-visit", "http://b/next-visit"], range(8))
    assert "".join(ranking[n][0][7] for n in range(8)) == "babaabab"


def test_few_detectors_move_when_a_worker_leaves() -> None:
    workers = [f"http://worker-{n}/next-visit" for n in range(5)]
    before = rank_workers(workers, range(189))
    after = rank_workers(workers[:-1], range(189))
    orphans = sum(order[0] == workers[-1] for order in before.values())
    moved = sum(before[n][0] != after[n][0] for n in range(189))
    # Four of five would stay only by luck if it were the remainder of a
    # division.
    assert orphans <= moved <= 1.6 * orphans
