"""Which worker a detector's visits go to, where there are several.

A worker that has had a detector before has its calibrations, reference
catalogues and templates at hand, so detectors keep going to the same one.
"""

from __future__ import annotations

__all__ = ["rank_workers"]

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence


def rank_workers(urls: Sequence[str], detectors: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """Rank workers for each detector, evenly.

    Rendezvous hashing (Thaler & Ravishankar 1998, IEEE/ACM Trans. Networking
    6, 1): each pair of worker and detector has a score that depends on nothing
    else. The first of a ranking is the detector's home: pairs are taken in
    the order of their scores, and no worker is home to more than its share,
    so that each needs as many slots as the next. The order of `urls` does not
    matter. One worker more or less moves few detectors besides its own.

    Parameters
    ----------
    urls : sequence of `str`
        The workers.
    detectors : iterable of `int`

    Returns
    -------
    ranking : `dict` [`int`, `tuple` [`str`, ...]]
        All workers, the home first, by detector.
    """
    wanted = sorted({*detectors})
    share = -(-len(wanted) // len(urls))
    pairs = sorted(((_score(url, n), n, url) for n in wanted for url in urls), reverse=True)
    homes: dict[int, str] = {}
    load: Counter[str] = Counter()
    for _, detector, url in pairs:
        if detector not in homes and load[url] < share:
            homes[detector] = url
            load[url] += 1
    ranking: dict[int, list[str]] = {detector: [homes[detector]] for detector in wanted}
    for _, detector, url in pairs:
        if url != homes[detector]:
            ranking[detector].append(url)
    return {detector: tuple(order) for detector, order in ranking.items()}


def _score(url: str, detector: int) -> bytes:
    # Not Python's own hash, which differs from process to process.
    return hashlib.blake2b(f"{detector} {url}".encode(), digest_size=8).digest()
