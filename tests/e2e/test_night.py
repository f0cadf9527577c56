"""A small night, end to end, with Gunicorn and over real HTTP."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import pytest
from lsst.daf.butler import Butler

from app.demo.service_process import ServiceProcess
from benchmarks.scene import PROJECT, SMALL_CAM, Answered, Scene, by_survey
from config.instruments import load_instrument
from models.visits import CoordinateSystem, RotationSystem
from simulator.plan import Plan, PlannedVisit
from simulator.schedule import plan_simulated

pytestmark = pytest.mark.slow

_FAULTS = PROJECT / "benchmarks" / "faults"
#: Given, because the two scenes below differ in paths that are part of it.
_DEPLOYMENT = "e2e"
_PIPELINES = PROJECT / "pipelines"
_CHOICE = {"plain": _PIPELINES / "Isr.yaml"}
_VARIABLES = {
    "MAIN_PIPELINES_CONFIG": by_survey(_CHOICE, default=_PIPELINES / "ApPipe.yaml"),
    "PP_DEPLOYMENT_ID": _DEPLOYMENT,
    "IMAGE_TIMEOUT": "1",
    "WORKER_GRACE_PERIOD": "5",
}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_simulated(
        seed=3,
        visits=9,
        detectors=1,
        transients=4,
        instrument=load_instrument(SMALL_CAM),
        start=time.time(),
    )


@pytest.fixture(scope="module")
def scene(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("night") / "scene", plan, variables=_VARIABLES)


@pytest.fixture(scope="module")
def service(scene: Scene) -> Iterator[ServiceProcess]:
    """A service that knows a pipeline more than the initializer did."""
    pipelines = {**_CHOICE, "unprepared": _FAULTS / "none.yaml"}
    main = by_survey(pipelines, default=_PIPELINES / "ApPipe.yaml")
    with scene.service(MAIN_PIPELINES_CONFIG=main) as running:
        yield running


@pytest.fixture(scope="module")
def night(scene: Scene, service: ServiceProcess) -> list[Answered]:
    """The answers to two ordinary visits."""
    return [scene.observe(service, planned, 0) for planned in scene.plan.visits[:2]]


def _rows(scene: Scene, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(scene.place.state / "ledger.sqlite3")) as database:
        return database.execute(sql).fetchall()


@dataclass(frozen=True)
class _Ids:
    """All ids that a visit has made."""

    datasets: dict[tuple[str, str], str]
    sources: list[int]
    objects: list[int]
    alerts: list[int]


def _ids(scene: Scene, planned: PlannedVisit) -> _Ids:
    exposure = planned.frames[0].exposure_id
    datasets: dict[tuple[str, str], str] = {}
    packets: list[dict[str, Any]] = []
    with Butler.from_config(str(scene.place.central)) as butler:
        for ref in butler.query_all_datasets(
            f"{planned.visit.instrument}/prompt/*", find_first=False, limit=None
        ):
            if {exposure, planned.visit.groupId} & set(ref.dataId.mapping.values()):
                datasets[ref.datasetType.name, str(ref.dataId)] = str(ref.id)
                if ref.datasetType.name == "alert_packets":
                    packets = butler.get(ref).packets
    with closing(sqlite3.connect(scene.place.apdb.with_suffix(".db"))) as apdb:
        sources = apdb.execute(
            'SELECT "diaSourceId", "diaObjectId" FROM "DiaSource" WHERE visit = ? ORDER BY 1', (exposure,)
        ).fetchall()
    return _Ids(
        datasets=datasets,
        sources=[source for source, _ in sources],
        objects=[found for _, found in sources],
        alerts=[packet["diaSourceId"] for packet in packets],
    )


def test_visits_are_processed(night: list[Answered]) -> None:
    for answer in night:
        assert answer.status == 200, answer.body
        assert answer.body["status"] == "processed"
        assert answer.body["pipeline"] == "ApPipe"
        assert answer.body["preprocessing_pipeline"] == "Preprocessing"
        assert answer.body["outputs"] > 20
        assert answer.body["alerts"] >= 2
        assert answer.body["timings"]["image_to_alert"] > 0


def test_every_output_is_readable_with_a_fresh_butler(scene: Scene, night: list[Answered]) -> None:
    with Butler.from_config(str(scene.place.central)) as butler:
        refs = [
            ref
            for ref in butler.query_all_datasets("SmallCam/prompt/*", find_first=False, limit=None)
            if "detector" in ref.datasetType.dimensions
        ]
        assert len(refs) == sum(answer.body["outputs"] for answer in night)
        for ref in refs:
            assert ref.run.endswith(f"/{_DEPLOYMENT}")
            assert butler.get(ref) is not None
        assert {"regionTimeInfo", "promptPreload_metrics", "prompt_provenance"} < {
            ref.datasetType.name for ref in refs
        }


def test_alerts_are_in_files(night: list[Answered]) -> None:
    for answer in night:
        (file,) = answer.body["alert_files"]
        with Path(file).open("rb") as stream:
            alerts = list(fastavro.reader(stream))
        assert len(alerts) == answer.body["alerts"]
        assert len({alert["diaSourceId"] for alert in alerts}) == len(alerts)
        assert all(alert["cutoutDifference"] for alert in alerts)


def test_ledger_knows_the_night(scene: Scene, service: ServiceProcess, night: list[Answered]) -> None:
    reports = {v["group"]: v for v in scene.get(service, "/api/visits").json()["visits"]}
    for answer in night:
        report = reports[answer.body["group"]]
        assert report["state"] == "processed"
        assert report["attempts"] == 1
        assert report["deployment_id"] == _DEPLOYMENT
        assert report["outputs"] == answer.body["outputs"]


def test_duplicate_is_not_run_again(scene: Scene, service: ServiceProcess, night: list[Answered]) -> None:
    rows = _rows(scene, "SELECT * FROM visits")
    again = scene.send(service, scene.announce(scene.plan.visits[0], 0))
    assert again.status == 200
    assert again.body["status"] == "already-processed"
    assert again.body["outputs"] == night[0].body["outputs"]
    assert _rows(scene, "SELECT * FROM visits") == rows


def test_wrong_instrument_is_refused(scene: Scene, service: ServiceProcess) -> None:
    rows = _rows(scene, "SELECT count(*) FROM visits")
    answer = scene.send(service, scene.announce(scene.plan.visits[2], 0, instrument="OtherCam"))
    assert answer.status == 422
    assert "OtherCam" in answer.body["detail"]
    assert _rows(scene, "SELECT count(*) FROM visits") == rows


def test_deployment_without_output_runs_names_the_initializer(scene: Scene, service: ServiceProcess) -> None:
    answer = scene.observe(service, scene.plan.visits[2], 0, survey="unprepared")
    assert answer.status == 503
    assert answer.retry_after is not None
    assert "prompt-processing init" in answer.body["detail"]


def test_no_image_is_a_failure(scene: Scene, service: ServiceProcess) -> None:
    answer = scene.send(service, scene.announce(scene.plan.visits[3], 0, duration=0.5))
    assert answer.status == 500
    assert answer.body["title"] == "failed"
    assert answer.body["reason"] == "NoImageArrived"


def test_failed_visit_may_come_again(scene: Scene, service: ServiceProcess) -> None:
    planned = scene.plan.visits[4]
    content = scene.content(scene.frame(planned, 0))
    scene.deliver(planned, 0, content[: len(content) // 2])
    answer = scene.send(service, scene.announce(planned, 0, duration=0.5))
    assert answer.status == 500, answer.body
    assert answer.body["title"] == "failed"
    assert answer.body["reason"] == "ImagesUnusable"
    good = scene.observe(service, planned, 0)
    assert good.status == 200, good.body
    assert good.body["status"] == "processed"


def test_truncated_image_then_a_whole_one(scene: Scene, service: ServiceProcess) -> None:
    planned = scene.plan.visits[5]
    content = scene.content(scene.frame(planned, 0))
    scene.deliver(planned, 0, content[: len(content) // 2])
    answers: list[Answered] = []
    visit = scene.announce(planned, 0, duration=10.0)
    thread = threading.Thread(target=lambda: answers.append(scene.send(service, visit)))
    thread.start()
    _wait_for_stage(scene, service, "waiting")
    scene.deliver(planned, 0)
    thread.join()
    assert answers[0].status == 200, answers[0].body


def test_visit_without_a_place_on_the_sky(scene: Scene, service: ServiceProcess) -> None:
    fields = {"coordinateSystem": CoordinateSystem.NONE, "rotationSystem": RotationSystem.NONE}
    answer = scene.observe(service, scene.plan.visits[6], 0, survey="plain", **fields)
    assert answer.status == 200, answer.body
    assert answer.body["pipeline"] == "Isr"


def test_same_visit_has_the_same_ids_elsewhere(
    scene: Scene, night: list[Answered], plan: Plan, tmp_path: Path
) -> None:
    other = Scene(tmp_path / "other", plan, variables=_VARIABLES)
    with other.service() as service:
        assert other.observe(service, plan.visits[0], 0).status == 200
    here, there = _ids(scene, plan.visits[0]), _ids(other, plan.visits[0])
    assert here.sources
    assert here.alerts
    assert len(here.datasets) == night[0].body["outputs"]
    assert here == there


def test_service_that_is_told_to_stop_says_so(scene: Scene, service: ServiceProcess) -> None:
    """Ends the service; keep it last."""
    answers: list[Answered] = []
    visit = scene.announce(scene.plan.visits[7], 0, duration=100.0)
    thread = threading.Thread(target=lambda: answers.append(scene.send(service, visit)))
    thread.start()
    _wait_for_stage(scene, service, "waiting")
    os.kill(service.pid, signal.SIGTERM)
    thread.join(120.0)
    service.stop()
    assert answers[0].status == 503, answers[0].body
    assert answers[0].retry_after is not None
    assert "shutting down" in answers[0].body["detail"]
    assert list(scene.place.local.iterdir()) == []
    assert _rows(scene, "SELECT count(*) FROM visits WHERE state = 'interrupted'") != [(0,)]


def _wait_for_stage(scene: Scene, service: ServiceProcess, stage: str) -> None:
    deadline = time.monotonic() + 120.0
    while time.monotonic() < deadline:
        slots = scene.get(service, "/ready").json().get("slots", [])
        if any(slot["stage"] == stage for slot in slots):
            return
        time.sleep(0.05)
    pytest.fail(f"no slot reached the stage {stage}")
