"""Objects, alerts and the APDB."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import fastavro
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from lsst.alert.packet import Schema

from models.ids import unpack_source_id
from pipelines.apdb_access import open_apdb, store_lock
from pipelines.dia_tables import match_to_objects, summarise_objects
from pipelines.tasks.associate import AssociateTask
from pipelines.tasks.load_dia_catalogs import LoadDiaCatalogsTask
from pipelines.tasks.make_alerts import MakeAlertsTask
from repos.formatters import alert_file_bytes
from tests.pipelines.conftest import Reduced, make_task, region_time

FIRST, SECOND = 2026092300001, 2026092300002


def observe(reduced: Reduced, uri: str, visit: int, mjd: float, **options: bool):  # type: ignore[no-untyped-def]
    """Load, associate and alert one visit; return catalogues, tables, alerts."""
    catalogues = make_task(LoadDiaCatalogsTask, apdb_config_url=uri).run(
        region_time=region_time(reduced.observation)
    )
    difference = copy.deepcopy(reduced.difference)
    difference.header |= {"VISIT": visit, "MJD-MID": mjd}
    tables = make_task(AssociateTask, apdb_config_url=uri).run(
        detected=reduced.sources,
        science=reduced.science,
        difference=difference,
        known_objects=catalogues.dia_objects,
        history=catalogues.dia_sources,
    )
    alerts = (
        make_task(MakeAlertsTask, **options)
        .run(
            dia_source=tables.dia_source,
            dia_object=tables.dia_object,
            history=catalogues.dia_sources,
            forced_history=catalogues.dia_forced_sources,
            science=reduced.science,
            template=reduced.template,
            difference=difference,
        )
        .alert_packets
    )
    return catalogues, tables, alerts


def test_three_visits_of_one_field(reduced: Reduced, new_apdb: Callable[[], str]) -> None:
    uri = new_apdb()
    catalogues, first, alerts = observe(reduced, uri, FIRST, 60001.25)
    count = len(reduced.sources)
    assert count >= 5
    assert len(catalogues.dia_objects) == 0
    assert (
        len(first.dia_source) == len(first.dia_object) == len(first.dia_forced_source) == len(alerts) == count
    )
    assert (first.dia_source["diaObjectId"] == first.dia_source["diaSourceId"]).all()
    ids = [unpack_source_id(i) for i in first.dia_source["diaSourceId"].tolist()]
    assert ids == [(FIRST, 3, k) for k in range(count)]
    assert open_apdb(uri).containsVisitDetector(FIRST, 3)
    assert not open_apdb(uri).containsVisitDetector(SECOND, 3)

    catalogues, second, alerts = observe(reduced, uri, SECOND, 60002.25)
    assert len(catalogues.dia_objects) == len(catalogues.dia_sources) == count
    assert set(second.dia_source["diaObjectId"]) == set(first.dia_object["diaObjectId"])
    assert set(second.dia_source["diaSourceId"]).isdisjoint(first.dia_source["diaSourceId"])
    assert (second.dia_object["nDiaSources"] == 2).all()
    assert (second.dia_object["r_psfFluxNdata"] == 2).all()
    assert (second.dia_object["g_psfFluxNdata"] == 0).all()
    assert (second.dia_object["firstDiaSourceMjdTai"] == 60001.25).all()
    assert all(len(a["prvDiaSources"]) == len(a["prvDiaForcedSources"]) == 1 for a in alerts)

    catalogues, _, alerts = observe(reduced, uri, SECOND + 1, 60003.25)
    # One current version of each object, though three are stored.
    assert len(catalogues.dia_objects) == count
    assert (catalogues.dia_objects["nDiaSources"] == 2).all()
    assert all(len(a["prvDiaSources"]) == 2 for a in alerts)


def test_an_object_that_is_not_seen_is_measured_all_the_same(
    reduced: Reduced, new_apdb: Callable[[], str]
) -> None:
    uri = new_apdb()
    observe(reduced, uri, FIRST, 60001.25)
    faded = copy.deepcopy(reduced)
    faded.sources = reduced.sources[1:]
    _, tables, _ = observe(faded, uri, SECOND, 60002.25)
    assert len(tables.dia_forced_source) == len(reduced.sources)
    forced = tables.dia_forced_source.set_index("diaObjectId")
    expected = float(reduced.sources["psfFlux"][0])
    measured = float(forced.loc[min(forced.index), "psfFlux"])
    assert measured == pytest.approx(expected, rel=0.05)


def test_a_visit_without_sources_is_stored(reduced: Reduced, new_apdb: Callable[[], str]) -> None:
    nothing = copy.deepcopy(reduced)
    nothing.sources = reduced.sources[:0]
    _, tables, alerts = observe(nothing, new_apdb(), FIRST, 60001.25)
    assert len(tables.dia_source) == len(tables.dia_object) == len(alerts) == 0


def test_alerts_follow_the_schema(reduced: Reduced, new_apdb: Callable[[], str]) -> None:
    uri = new_apdb()
    observe(reduced, uri, FIRST, 60001.25)
    _, tables, alerts = observe(reduced, uri, SECOND, 60002.25)
    schema = Schema.from_file()
    assert all(schema.validate(packet) for packet in alerts)
    packets = list(fastavro.reader(io.BytesIO(alert_file_bytes(alerts))))
    assert [p["diaSourceId"] for p in packets] == tables.dia_source["diaSourceId"].tolist()
    row = tables.dia_source.iloc[0]
    source = packets[0]["diaSource"]
    assert source["psfFlux"] == pytest.approx(row["psfFlux"])
    assert source["band"] == "r"
    assert source["isNegative"] is bool(row["isNegative"])
    assert packets[0]["ssSource"] is None
    for name, image in (("cutoutScience", reduced.science), ("cutoutDifference", reduced.difference)):
        with fits.open(io.BytesIO(packets[0][name])) as hdus:
            hdus.verify("exception")
            assert hdus[0].shape == (31, 31)
            i, j = round(row["x"]), round(row["y"])
            assert hdus[0].data[15, 15] == image.image[j, i]
            x, y = image.wcs.wcs_world2pix(row["ra"], row["dec"], 0)
            cx, cy = WCS(hdus[0].header).wcs_world2pix(row["ra"], row["dec"], 0)
            assert (cx - 15 + i, cy - 15 + j) == (pytest.approx(x, abs=1e-5), pytest.approx(y, abs=1e-5))


def test_dipoles_are_flagged_and_alerts_of_them_optional(
    reduced: Reduced, new_apdb: Callable[[], str]
) -> None:
    flagged = copy.deepcopy(reduced)
    flagged.sources["isDipole"][0] = True
    _, tables, alerts = observe(flagged, new_apdb(), FIRST, 60001.25, alert_dipoles=False)
    assert tables.dia_source["isDipole"].tolist()[0]
    assert len(alerts) == len(tables.dia_source) - 1


def test_matching_is_one_to_one_and_across_zero_hours() -> None:
    arcsec = 1 / 3600
    sources = np.array([359.99999, 10.0, 10.0]), np.array([0.0, 5.0, 5.0 + 0.4 * arcsec])
    objects = np.array([0.00001, 10.0, 200.0]), np.array([0.0, 5.0 + 0.3 * arcsec, 5.0])
    assert match_to_objects(sources, objects, 1.0).tolist() == [0, -1, 1]
    assert match_to_objects(sources, (np.empty(0), np.empty(0)), 1.0).tolist() == [-1, -1, -1]


def test_summaries_of_a_light_curve() -> None:
    columns = ["diaObjectId", "ra", "dec", "band", "midpointMjdTai", "psfFlux", "psfFluxErr", "scienceFlux"]
    history = pd.DataFrame(
        [[7, 359.9999, 1.0, "r", 1.0, 10.0, 1.0, 5.0], [8, 3.0, 1.0, "r", 1.0, 9.0, 1.0, 5.0]],
        columns=columns,
    )
    sources = pd.DataFrame(
        [[7, 0.0001, 1.0, "r", 2.0, 20.0, 1.0, 7.0], [9, 4.0, 1.0, "g", 2.0, 3.0, 1.0, 7.0]], columns=columns
    )
    previous = pd.DataFrame(
        {"diaObjectId": [7, 8], "ra": [359.9999, 3.0], "dec": [1.0, 1.0], "u_psfFluxNdata": [4, 0]}
    )
    objects = summarise_objects(previous, history, sources, 2.0).set_index("diaObjectId")
    assert objects.index.tolist() == [7, 9]
    assert min(objects.loc[7, "ra"], 360 - objects.loc[7, "ra"]) == pytest.approx(0, abs=1e-9)
    assert objects.loc[7, "nDiaSources"] == 2
    assert objects.loc[7, "r_psfFluxMean"] == pytest.approx(15)
    assert objects.loc[7, "r_psfFluxSigma"] == pytest.approx(np.sqrt(50))
    assert objects.loc[7, "u_psfFluxNdata"] == 4
    assert objects.loc[9, "g_psfFluxNdata"] == 1
    assert objects.loc[9, "r_psfFluxNdata"] == 0


def test_an_apdb_that_is_not_configured_is_named() -> None:
    with pytest.raises(ValueError, match="CONFIG_APDB"):
        open_apdb("")


_WRITER = """
import sys
import pandas as pd
from astropy.time import Time
from lsst.dax.apdb import ApdbTables
from models.ids import pack_source_id
from pipelines.apdb_access import open_apdb, store_lock
from pipelines.dia_tables import conform, table_shape

uri, detector, visits = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
apdb = open_apdb(uri)
for visit in range(1, visits + 1):
    ids = [pack_source_id(visit, detector, k) for k in range(20)]
    table = pd.DataFrame({"diaObjectId": ids, "diaSourceId": ids, "ra": 10.0 + detector, "dec": 1.0})
    table = table.assign(visit=visit, detector=detector, midpointMjdTai=60000.0 + visit, x=1.0, y=1.0)
    table = table.assign(timeProcessedMjdTai=60001.0, nDiaSources=1)
    with store_lock(apdb):
        apdb.store(
            Time(60000.0 + visit, format="mjd", scale="tai"),
            conform(table, table_shape(apdb, ApdbTables.DiaObject)).drop(columns="validityStartMjdTai"),
            conform(table, table_shape(apdb, ApdbTables.DiaSource)),
        )
    assert apdb.containsVisitDetector(visit, detector)
"""


def test_many_processes_store_at_once(new_apdb: Callable[[], str]) -> None:
    uri, writers, visits = new_apdb(), 3, 6

    def write(detector: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", _WRITER, uri, str(detector), str(visits)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(writers) as pool:
        results = list(pool.map(write, range(writers)))
    assert [r.returncode for r in results] == [0] * writers, results[0].stderr
    apdb = open_apdb(uri)
    assert all(apdb.containsVisitDetector(v, d) for v in range(1, visits + 1) for d in range(writers))


def test_readers_need_no_lock(new_apdb: Callable[[], str]) -> None:
    apdb = open_apdb(new_apdb())
    with store_lock(apdb):
        assert not apdb.containsVisitDetector(1, 1)
