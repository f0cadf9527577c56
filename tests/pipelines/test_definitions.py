"""Pipeline files as the service loads them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from astropy.time import Time, TimeDelta
from lsst.daf.butler import Timespan
from lsst.pipe.base import Pipeline, PipelineGraph

import pipelines
from models.errors import UnreadableImage
from pipelines.headers import exposure_cards, visit_midpoint
from pipelines.warm_up import warm_up
from tests.pipelines.synthetic import camera, tan_header

DIRECTORY = Path(pipelines.__file__).parent
ALL = sorted(str(p.relative_to(DIRECTORY)) for p in DIRECTORY.rglob("*.yaml"))


def load(name: str) -> PipelineGraph:
    pipeline = Pipeline.fromFile(str(DIRECTORY / name))
    pipeline.addConfigOverride("parameters", "apdb_config", "label:here")
    return pipeline.to_graph()


def test_these_pipelines_ship() -> None:
    assert ALL == [
        "ApPipe.yaml",
        "Isr.yaml",
        "Preprocessing.yaml",
        "SingleFrame.yaml",
        "calibrated/ApPipe.yaml",
        "calibrated/SingleFrame.yaml",
    ]


@pytest.mark.parametrize("name", ALL)
def test_every_pipeline_takes_apdb_config(name: str) -> None:
    graph = load(name)
    urls = [t.config.apdb_config_url for t in graph.tasks.values() if hasattr(t.config, "apdb_config_url")]
    assert set(urls) <= {"label:here"}
    assert len(urls) == {"ApPipe": 1, "Preprocessing": 1}.get(Path(name).stem, 0)


@pytest.mark.parametrize("directory", ["", "calibrated/"])
def test_alerts_need_what_preprocessing_makes(directory: str) -> None:
    needed = {name for name, _ in load(f"{directory}ApPipe.yaml").iter_overall_inputs()}
    warp = load("Preprocessing.yaml").tasks["warpTemplate"]
    made = {edge.parent_dataset_type_name for edge in warp.outputs.values()}
    assert "preloaded_template" in needed & made
    single = {name for name, _ in load(f"{directory}SingleFrame.yaml").iter_overall_inputs()}
    assert not {n for n in single if n.startswith("preloaded")}


def test_isr_alone_runs_without_a_flat() -> None:
    def minimum(name: str) -> int:
        return load(name).tasks["isr"].get_connections().flat.minimum

    assert minimum("Isr.yaml") == 0
    assert minimum("SingleFrame.yaml") == 1


def test_alerts_are_the_storage_class_that_the_service_publishes() -> None:
    node = load("ApPipe.yaml").tasks["makeAlerts"].outputs["alert_packets"]
    assert node.storage_class_name == "AlertPackets"


def data_id(**changes: object) -> SimpleNamespace:
    begin = Time("2026-09-23T02:00:00", scale="tai")
    values: dict[str, object] = {
        "id": 7,
        "physical_filter": "r_01",
        "exposure_time": 30.0,
        "timespan": Timespan(begin, begin + TimeDelta(30, format="sec")),
        "tracking_ra": 10.0,
        "tracking_dec": -20.0,
        "sky_angle": 30.0,
    } | changes
    return SimpleNamespace(records={"exposure": SimpleNamespace(**values)})


def test_cards_come_from_the_exposure_record() -> None:
    instrument = camera(64)
    cards = exposure_cards(data_id(), instrument, instrument.by_id[3], {}, keep_wcs=False)  # type: ignore[arg-type]
    assert cards["VISIT"] == 7
    assert cards["BAND"] == "r"
    assert cards["CRVAL1"] == 10.0
    assert cards["MJD-MID"] == pytest.approx(Time("2026-09-23T02:00:15", scale="tai").mjd, abs=1e-9)


def test_a_wcs_of_the_frame_is_kept_only_when_asked_for() -> None:
    instrument = camera(64)
    raw = {**tan_header(64), "PV1_1": 1.0, "OTHER": 3}
    kept = exposure_cards(data_id(), instrument, instrument.by_id[3], raw, keep_wcs=True)  # type: ignore[arg-type]
    assert kept["CRVAL1"] == raw["CRVAL1"]
    assert kept["PV1_1"] == 1.0
    assert "OTHER" not in kept
    other = exposure_cards(data_id(), instrument, instrument.by_id[3], raw, keep_wcs=False)  # type: ignore[arg-type]
    assert other["CRVAL1"] == 10.0


def test_missing_pointing_and_times_are_named() -> None:
    instrument = camera(64)
    with pytest.raises(UnreadableImage, match="no pointing or rotation"):
        exposure_cards(data_id(sky_angle=None), instrument, instrument.by_id[3], {}, keep_wcs=False)  # type: ignore[arg-type]
    with pytest.raises(UnreadableImage, match="no begin and end"):
        visit_midpoint(data_id(timespan=Timespan(None, None)).records["exposure"])


def test_warm_up_compiles_without_an_image() -> None:
    warm_up()
