"""Compare what we and the yardstick write for the same exposure."""

from __future__ import annotations

__all__ = ["differences"]

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from lsst.daf.butler import Butler, DatasetRef

from benchmarks.workload import DEPLOYMENT, DETECTOR, NIGHT, OurSide, Yardstick, make_repo
from models.outcomes import Result

#: Datasets that the service adds to those of the tasks.
_OWN = frozenset({"regionTimeInfo", "promptPreload_metrics", "prompt_provenance"})
#: Datasets that say how long something took or what was logged.
_OF_THE_RUN = ("_metadata", "_log")
#: Fields of records that the yardstick makes up; no header has them.
_MADE_UP = frozenset({"obs_id", "name", "azimuth", "zenith_angle"})

_Key = tuple[str, str, str]


def differences(scratch: Path, *, form: str) -> tuple[int, list[str]]:
    """Process an exposure on both sides, in two copies of one central repo.

    Parameters
    ----------
    scratch : `pathlib.Path`
        Directory to work in; made if need be.
    form : `str`
        Form of our local repo.

    Returns
    -------
    count : `int`
        Datasets that were compared.
    differences : `list` [`str`]
        In words; empty if both sides agree.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    theirs, ours = scratch / "yardstick", scratch / "ours"
    make_repo(theirs)
    with Butler.from_config(str(theirs), writeable=True) as butler:
        # A deployment's initializer does this; the yardstick expects it.
        for stem in ("ApPipe", "NoPipeline"):
            butler.collections.register(f"ProtoCam/prompt/output-{NIGHT}/{stem}/{DEPLOYMENT}")
    shutil.copytree(theirs, ours)
    exposure = int(time.time() % 1e7) * 1000
    Yardstick(theirs, scratch).visit(exposure)
    side = OurSide(ours, scratch, direct=True, form=form)
    try:
        _, finished = side.visit(exposure)
    finally:
        side.close()
    if finished.outcome.result is not Result.PROCESSED:
        return 0, [f"our side did not process the visit: {finished.outcome.detail}"]
    return _compare(theirs, ours, exposure)


def _compare(theirs: Path, ours: Path, exposure: int) -> tuple[int, list[str]]:
    found = []
    with Butler.from_config(str(theirs)) as their_butler, Butler.from_config(str(ours)) as our_butler:
        expected, got = _outputs(their_butler, exposure), _outputs(our_butler, exposure)
        found += [f"only the yardstick has {key}" for key in sorted(expected.keys() - got.keys())]
        found += [f"only we have {key}" for key in sorted(got.keys() - expected.keys())]
        for key in sorted(expected.keys() & got.keys()):
            values = their_butler.get(expected[key]), our_butler.get(got[key])
            if not key[0].endswith(_OF_THE_RUN) and not _same(*values):
                found.append(f"contents of {key} differ")
        for element in ("group", "exposure", "visit", "visit_detector_region", "visit_definition"):
            if _records(their_butler, element, exposure) != _records(our_butler, element, exposure):
                found.append(f"records of {element} differ")
    return len(expected), found


def _outputs(butler: Butler, exposure: int) -> dict[_Key, DatasetRef]:
    found = {}
    for ref in butler.query_all_datasets("ProtoCam/prompt/*", find_first=False, limit=None):
        if ref.datasetType.name in _OWN or "detector" not in ref.datasetType.dimensions:
            continue
        if {exposure, str(exposure)} & set(ref.dataId.mapping.values()):
            found[ref.datasetType.name, str(ref.dataId), ref.run] = ref
    return found


def _records(butler: Butler, element: str, exposure: int) -> list[Any]:
    where: dict[str, Any] = {"instrument": "ProtoCam"}
    if element == "group":
        where["group"] = str(exposure)
    else:
        where["exposure" if element in ("exposure", "visit_definition") else "visit"] = exposure
    if element == "visit_detector_region":
        where["detector"] = DETECTOR
    records = butler.query_dimension_records(element, explain=False, limit=None, **where)
    return [{k: v for k, v in record.toDict().items() if k not in _MADE_UP} for record in records]


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if hasattr(a, "colnames"):
        return a.colnames == b.colnames and all(np.array_equal(a[n], b[n]) for n in a.colnames)
    return bool(a == b)
