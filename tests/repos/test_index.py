"""Lookups that the index answers from memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.time import Time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lsst.daf.butler import Butler, CollectionType, DatasetType, Timespan
from lsst.sphgeom import DISJOINT, ConvexPolygon, LonLat, UnitVector3d
from sketch.model import Image, polygon

from repos.index import CentralIndex
from tests.repos.sketch_repo import DEC, DETECTOR, INSTRUMENT, RA, SKYMAP, recertify

CALIB = f"{INSTRUMENT}/calib"
TEMPLATES = f"{INSTRUMENT}/templates"
DATA_ID = {"instrument": INSTRUMENT, "detector": DETECTOR, "physical_filter": "g_6", "band": "g"}
MAX_AGE = 100.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def butler(central_root: Path) -> Iterator[Butler]:
    with Butler.from_config(str(central_root), writeable=True) as made:
        yield made


@pytest.fixture
def reader(central_root: Path) -> Iterator[Butler]:
    """Another client, as the index has."""
    with Butler.from_config(str(central_root)) as made:
        yield made


@pytest.fixture
def index(reader: Butler, clock: Clock) -> CentralIndex:
    return CentralIndex(reader, max_age=MAX_AGE, clock=clock)


def instant(date: str) -> Timespan:
    return Timespan.fromInstant(Time(date, scale="tai"))


def image(value: float) -> Image:
    return Image(np.full((4, 4), value, "f4"))


def square(ra: float, dec: float, half: float) -> ConvexPolygon:
    return polygon(ra, dec, 0.0, [(-half, -half), (half, -half), (half, half), (-half, half)])


def add_tract(butler: Butler, tract: int, ra: float, dec: float) -> None:
    """Add a tract of 16 patches with templates."""
    corners = [(-0.4, -0.4), (0.4, -0.4), (0.4, 0.4), (-0.4, 0.4)]
    butler.registry.insertDimensionData(
        "tract", {"skymap": SKYMAP, "id": tract, "region": polygon(ra, dec, 0.0, corners)}
    )
    for patch in range(16):
        x, y = (patch % 4 - 2) * 0.2, (patch // 4 - 2) * 0.2
        around = [(x, y), (x + 0.21, y), (x + 0.21, y + 0.21), (x, y + 0.21)]
        butler.registry.insertDimensionData(
            "patch",
            {
                "skymap": SKYMAP,
                "tract": tract,
                "id": patch,
                "cell_x": patch % 4,
                "cell_y": patch // 4,
                "region": polygon(ra, dec, 0.0, around),
            },
        )
    put_templates(butler, tract, f"{TEMPLATES}/t1")


def put_templates(butler: Butler, tract: int, run: str) -> None:
    """Put templates of all patches of a tract."""
    butler.collections.register(run)
    with butler.transaction():
        for patch in range(16):
            data_id = {"skymap": SKYMAP, "tract": tract, "patch": patch, "band": "g"}
            butler.put(image(1.0), "template_coadd", data_id, run=run)


@pytest.mark.parametrize(
    ("date", "run"),
    [
        ("2024-06-01", "runOld"),
        ("2025-01-01T00:00:00", "run"),
        ("2024-12-31T23:59:59", "runOld"),
        ("2023-12-31", None),
        ("2026-01-01T00:00:00", None),
    ],
)
def test_validity(index: CentralIndex, reader: Butler, date: str, run: str | None) -> None:
    found = index.calibrations(reader.get_dataset_type("bias"), CALIB, DATA_ID, instant(date))
    assert [f.ref.run for f in found] == ([] if run is None else [f"{CALIB}/{run}"])
    for one in found:
        assert one.timespan.overlaps(instant(date))
        assert one.ref.dataId["detector"] == DETECTOR and one.ref.dataId.hasRecords()


def test_filters(index: CentralIndex, reader: Butler) -> None:
    flat = reader.get_dataset_type("flat")
    (found,) = index.calibrations(flat, CALIB, DATA_ID, instant("2025-06-01"))
    assert found.ref.dataId["physical_filter"] == "g_6"
    without = {"instrument": INSTRUMENT, "detector": DETECTOR}
    every = index.calibrations(flat, CALIB, without, instant("2025-06-01"))
    assert {f.ref.dataId["physical_filter"] for f in every} == {"g_6", "r_57", "i_39"}


def test_a_later_certification_is_seen_after_a_while(
    index: CentralIndex, butler: Butler, reader: Butler, clock: Clock
) -> None:
    bias = reader.get_dataset_type("bias")
    when = instant("2025-06-01")
    old = index.calibrations(bias, CALIB, DATA_ID, when)
    day = Timespan(Time("2025-06-01", scale="tai"), Time("2025-06-02", scale="tai"))
    butler.registry.decertify(f"{CALIB}/gen", "bias", day, dataIds=[old[0].ref.dataId])
    new = recertify(butler, "bias", image(101.0), day, "newer")
    clock.now = MAX_AGE - 1.0
    assert index.calibrations(bias, CALIB, DATA_ID, when) == old
    clock.now = MAX_AGE + 1.0
    (found,) = index.calibrations(bias, CALIB, DATA_ID, when)
    assert found.ref.id == new.id


def test_what_was_missing_is_looked_for_again(
    index: CentralIndex, butler: Butler, reader: Butler, clock: Clock
) -> None:
    bias = reader.get_dataset_type("bias")
    when = instant("2030-01-01")
    assert index.calibrations(bias, CALIB, DATA_ID, when) == []
    recertify(butler, "bias", image(1.0), Timespan(Time("2029-01-01", scale="tai"), None), "future")
    clock.now = 2.0
    assert len(index.calibrations(bias, CALIB, DATA_ID, when)) == 1
    data_id = {"instrument": INSTRUMENT}
    assert index.by_data_id(reader.get_dataset_type("weights"), "later", data_id) == []
    butler.collections.register("later")
    butler.put({"w": 1}, "weights", instrument=INSTRUMENT, run="later")
    clock.now = 4.0
    assert len(index.by_data_id(reader.get_dataset_type("weights"), "later", data_id)) == 1
    template = reader.get_dataset_type("template_coadd")
    here = square(RA, DEC, 0.1)
    values = {"skymap": SKYMAP, "band": "r"}
    assert index.overlapping(template, TEMPLATES, here, values) == []
    butler.put(image(1.0), "template_coadd", skymap=SKYMAP, tract=0, patch=5, band="r", run=f"{TEMPLATES}/t1")
    clock.now = 6.0
    assert [r.dataId["patch"] for r in index.overlapping(template, TEMPLATES, here, values)] == [5]


@pytest.mark.parametrize("first", ["run-a", "run-b"])
def test_the_first_of_a_chain_wins(index: CentralIndex, butler: Butler, reader: Butler, first: str) -> None:
    second = {"run-a": "run-b", "run-b": "run-a"}[first]
    timespan = Timespan(Time("2025-05-01", scale="tai"), None)
    for run in ("run-a", "run-b"):
        butler.collections.register(run)
        ref = butler.put(image(3.0), "bias", instrument=INSTRUMENT, detector=DETECTOR, run=run)
        butler.collections.register(f"certified-{run}", CollectionType.CALIBRATION)
        butler.registry.certify(f"certified-{run}", [ref], timespan)
        butler.put({"from": run}, "weights", instrument=INSTRUMENT, run=run)
    order = [f"certified-{first}", f"certified-{second}", f"{CALIB}/gen"]
    butler.collections.redefine_chain(CALIB, order)
    butler.collections.register("chain", CollectionType.CHAINED)
    butler.collections.redefine_chain("chain", [first, second])
    bias = reader.get_dataset_type("bias")
    (found,) = index.calibrations(bias, CALIB, DATA_ID, instant("2025-06-01"))
    assert (found.ref.run, found.collection) == (first, f"certified-{first}")
    # Where the first has nothing valid, the others are asked.
    (found,) = index.calibrations(bias, CALIB, DATA_ID, instant("2025-02-01"))
    assert found.ref.run == f"{CALIB}/run"
    (ref,) = index.by_data_id(reader.get_dataset_type("weights"), "chain", DATA_ID)
    assert ref.run == first


def test_a_dataset_in_a_run_of_the_chain_is_always_valid(
    index: CentralIndex, butler: Butler, reader: Butler
) -> None:
    butler.collections.register("plain")
    ref = butler.put(image(3.0), "bias", instrument=INSTRUMENT, detector=9, run="plain")
    butler.collections.prepend_chain(CALIB, "plain")
    data_id = {"instrument": INSTRUMENT, "detector": 9}
    (found,) = index.calibrations(reader.get_dataset_type("bias"), CALIB, data_id, instant("1999-01-01"))
    assert found.ref.id == ref.id
    assert found.timespan == Timespan(None, None)


def test_a_superseded_template_is_not_given_twice(
    index: CentralIndex, butler: Butler, reader: Butler, clock: Clock
) -> None:
    template = reader.get_dataset_type("template_coadd")
    values = {"skymap": SKYMAP, "band": "g"}
    # Right ascension 0 is an edge of the trixels that the index looks up.
    add_tract(butler, 1, 0.0, 10.0)
    west, everywhere = square(0.2, 10.0, 0.02), square(0.0, 10.0, 0.3)
    old = index.overlapping(template, TEMPLATES, west, values)
    put_templates(butler, 1, "newer")
    butler.collections.prepend_chain(TEMPLATES, "newer")
    clock.now = MAX_AGE / 2
    refs = index.overlapping(template, TEMPLATES, everywhere, values)
    patches = [ref.dataId["patch"] for ref in refs]
    assert patches == list(range(16))
    # Some trixels were looked up before, some after.
    assert {ref.run for ref in refs} == {"newer", *(ref.run for ref in old)}
    clock.now = 2 * MAX_AGE
    refs = index.overlapping(template, TEMPLATES, everywhere, values)
    assert {ref.run for ref in refs} == {"newer"}


def test_nothing_there(index: CentralIndex, reader: Butler) -> None:
    bias, weights = (reader.get_dataset_type(n) for n in ("bias", "weights"))
    template = reader.get_dataset_type("template_coadd")
    unknown = DatasetType("unknown", ("instrument",), "StructuredDataDict", universe=reader.dimensions)
    assert index.calibrations(bias, "nowhere", DATA_ID, instant("2025-06-01")) == []
    assert index.by_data_id(weights, "nowhere", DATA_ID) == []
    assert index.by_data_id(unknown, f"{INSTRUMENT}/defaults", DATA_ID) == []
    assert index.by_data_id(weights, f"{INSTRUMENT}/defaults", {"instrument": "Other"}) == []
    assert index.overlapping(template, "nowhere", square(RA, DEC, 0.1), {"band": "g"}) == []
    assert index.overlapping(template, TEMPLATES, square(RA, DEC, 0.1), {"skymap": "other"}) == []


def test_old_answers_are_dropped(
    index: CentralIndex, butler: Butler, reader: Butler, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = reader.get_dataset_type("weights")
    asked: list[Any] = []
    query = reader.query_datasets
    monkeypatch.setattr(reader, "query_datasets", lambda *a, **k: asked.append(a) or query(*a, **k))
    for _ in range(2):
        assert index.by_data_id(weights, f"{INSTRUMENT}/defaults", DATA_ID)
    assert len(asked) == 1
    clock.now = 30 * MAX_AGE
    index.refresh_oldest()
    clock.now = 0.0
    assert index.by_data_id(weights, f"{INSTRUMENT}/defaults", DATA_ID)
    assert len(asked) == 2


@pytest.fixture(scope="module")
def wide(built_central: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Butler]:
    """A repo with templates around right ascension 0 too, and at the pole."""
    root = Path(shutil.copytree(built_central, tmp_path_factory.mktemp("wide") / "central"))
    with Butler.from_config(str(root), writeable=True) as butler:
        add_tract(butler, 1, 0.0, 10.0)
        add_tract(butler, 2, 120.0, 89.5)
        yield butler


@pytest.fixture(scope="module")
def wide_index(wide: Butler) -> CentralIndex:
    return CentralIndex(wide, max_age=1e9)


@pytest.fixture(scope="module")
def regions(wide: Butler) -> dict[tuple[int, int], ConvexPolygon]:
    refs = wide.query_datasets("template_coadd", TEMPLATES, with_dimension_records=True, limit=None)
    return {(r.dataId["tract"], r.dataId["patch"]): r.dataId.patch.region for r in refs}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    field=st.sampled_from([(RA, DEC), (0.0, 10.0), (120.0, 89.5)]),
    x=st.floats(-0.9, 0.9),
    y=st.floats(-0.9, 0.9),
    half=st.floats(1e-4, 0.5),
    angle=st.floats(0.0, 360.0),
)
def test_every_overlapping_template_is_found(
    wide: Butler,
    wide_index: CentralIndex,
    regions: dict[tuple[int, int], ConvexPolygon],
    field: tuple[float, float],
    x: float,
    y: float,
    half: float,
    angle: float,
) -> None:
    corners = [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]
    region = polygon(*field, angle, corners)
    found = wide_index.overlapping(
        wide.get_dataset_type("template_coadd"), TEMPLATES, region, {"skymap": SKYMAP, "band": "g"}
    )
    expected = {key for key, where in regions.items() if not where.relate(region) & DISJOINT}
    assert {(r.dataId["tract"], r.dataId["patch"]) for r in found} == expected
    assert len(found) == len(expected)


def test_shards_are_those_of_the_butler(wide: Butler, wide_index: CentralIndex) -> None:
    region = square(RA, DEC, 0.3)
    found = wide_index.overlapping(wide.get_dataset_type("refcat"), "refcats", region, {})
    expected = wide.query_datasets(
        "refcat", "refcats", where="htm7.region OVERLAPS here", bind={"here": region}, limit=None
    )
    assert [r.dataId["htm7"] for r in found] == sorted(r.dataId["htm7"] for r in expected)


def test_a_point_at_a_corner_of_four_patches(wide: Butler, wide_index: CentralIndex) -> None:
    middle = ConvexPolygon.convexHull(
        [UnitVector3d(LonLat.fromDegrees(ra, 10.0 + d)) for ra, d in ((359.9999, 0), (0.0001, 0), (0, 1e-4))]
    )
    found = wide_index.overlapping(
        wide.get_dataset_type("template_coadd"), TEMPLATES, middle, {"skymap": SKYMAP, "band": "g"}
    )
    assert {5, 6, 9, 10} <= {r.dataId["patch"] for r in found}
