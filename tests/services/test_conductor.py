"""The conductor: the order of things, and what each failure means."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import services
from models.errors import (
    Interrupted,
    InterruptSignal,
    NoPipelineBuilt,
    PipelineUnreadable,
    UnreadableImage,
)
from models.events import ALERT, BUTLER_WRITER
from models.inputs import InputKind
from models.outcomes import Result, VisitOutcome
from models.visits import RotationSystem
from services.slots.protocol import Stage
from tests.services.world import (
    DATE,
    IMAGE,
    METRICS,
    OBJECTS,
    PROVENANCE,
    REGION,
    Pipeline,
    StorageType,
    Task,
    World,
    away,
    found_image,
    need,
    nothing_came,
)

#: Outputs of preload, preprocessing included, and of the service itself.
PRELOAD = {"preloaded_dia_objects", "promptPreload_metrics", "regionTimeInfo", "prompt_provenance"}


@pytest.fixture
def world() -> World:
    return World()


def boom(error: BaseException | None = None) -> Any:
    """Return something that fails."""

    def fail() -> None:
        raise error or ValueError("boom")

    return fail


def outcome(world: World, **fields: Any) -> VisitOutcome:
    return world.process(**fields).outcome


# A visit that goes well.


def test_a_visit(world: World) -> None:
    finished = world.process()
    got = finished.outcome
    assert (got.result, got.title, got.detail, got.warnings) == (Result.PROCESSED, "", "", ())
    assert (got.pipeline, got.preprocessing_pipeline) == ("ApPipe", "Preprocessing")
    assert (got.exposures, got.alerts, got.alert_files) == ((100,), 3, ("/alerts/100.avro",))
    made = {"preliminary_visit_image", "dia_source", "alert_packets", "metrics"}
    assert world.exported_names == PRELOAD | made
    assert got.outputs == len(world.exported) == 8
    assert [m.topic for m in finished.outbox] == ["t"]
    assert world.records == ["group", "exposure"]
    assert world.workspace.closed == 1
    assert world.labelled == [100]
    assert world.channel.shields == 0


def test_the_order_of_things(world: World) -> None:
    world.process()
    steps = [s for s in world.steps if not s.startswith(("find", "after"))]
    assert steps == [
        "make context",
        "is initialised",
        "open workspace",
        "fetch",
        "put regionTimeInfo",
        "build Preprocessing",
        "task load",
        "put promptPreload_metrics",
        "wait",
        "ingest",
        "add_exposure",
        "wait",
        "ask APDB",
        "build ApPipe",
        "task calibrate",
        "task associate",
        "task alert",
        "task measure",
        "put prompt_provenance",
        "export",
    ]
    stages = list(dict.fromkeys(world.channel.stages))
    assert stages == [
        Stage.PREPARING,
        Stage.WAITING,
        Stage.INGESTING,
        Stage.EXECUTING,
        Stage.PUBLISHING,
        Stage.EXPORTING,
    ]
    assert world.channel.reported[Stage.EXECUTING] == (100,)


def test_alerts_do_not_wait_for_later_tasks(world: World) -> None:
    seen: list[Any] = []
    world.task("measure", lambda: seen.extend(world.sent))
    world.process()
    assert seen == [(100, 3)]


def test_own_datasets(world: World) -> None:
    world.process()
    assert world.own(REGION) == (f"NoPipeline/{DATE}", "footprint")
    run, seconds = world.own(METRICS)
    assert run == f"NoPipeline/{DATE}"
    assert set(seconds) == {"total", "search", "transfer", "preprocess"}
    assert seconds["total"] >= seconds["search"] + seconds["transfer"] + seconds["preprocess"] > 0
    run, facts = world.own(PROVENANCE)
    assert run == f"ApPipe/{DATE}"
    assert facts["pipelines"] == {"preprocessing": "Preprocessing", "main": "ApPipe"}
    assert facts["exposures"] == [100]
    assert facts["attempt"] == 2
    assert facts["visit"] == world.visit.to_message()
    assert set(facts["inputs"]) == {"bias", "refcat"}
    assert facts["outputs"]["dia_source"] == [f"dia_source@ApPipe/{DATE}/100"]


def test_timings(world: World) -> None:
    timings = outcome(world).timings
    assert timings.total is not None and timings.preload is not None and timings.main is not None
    assert timings.tasks == 0.25
    assert timings.waiting == 0.5
    assert 0 < timings.preload < timings.total
    assert timings.preload + timings.main + (timings.export or 0) <= timings.total
    assert timings.preload_done_unix is not None
    # Nobody was told when the image landed.
    assert timings.image_to_alert is None


def test_image_to_alert_counts_from_the_last_image(world: World) -> None:
    world.landed = time.time()
    to_alert = outcome(world).timings.image_to_alert
    assert to_alert is not None and 0 <= to_alert < 60


def test_only_what_the_pattern_says_is_exported(world: World) -> None:
    world.patterns = ["dia_.*", "alert"]
    world.task("associate", world.touch_apdb)
    world.pipeline.tasks.append(Task("sum", (StorageType("dia_total", "D", frozenset({"visit"})),)))
    assert outcome(world).outputs == 1
    assert world.exported_names == {"dia_source"}


def test_two_snaps_are_two_visits(world: World) -> None:
    world.images = [found_image(100), found_image(101)]
    got = outcome(world, nimages=2)
    assert got.result is Result.PROCESSED
    assert got.exposures == (100, 101)
    assert world.sent == [(100, 3), (101, 3)]
    assert got.alerts == 6
    assert world.channel.reported[Stage.EXECUTING] == (100, 101)
    assert world.records == ["group", "exposure", "exposure"]


def test_a_visit_without_preprocessing(world: World) -> None:
    world.preprocessing = []
    got = outcome(world)
    assert (got.result, got.preprocessing_pipeline) == (Result.PROCESSED, None)
    assert world.own(METRICS)[1]["preprocess"] >= 0


def test_no_alert_in_an_exposure(world: World) -> None:
    world.packets = []
    got = outcome(world)
    assert (got.result, got.alerts) == (Result.PROCESSED, 0)
    # Whoever waits is told that there is nothing.
    assert world.sent == [(100, 0)]
    assert Stage.PUBLISHING not in world.channel.stages


def test_an_alert_task_without_work(world: World) -> None:
    world.no_work = {"alert_packets"}
    got = outcome(world)
    assert (got.result, got.alerts, world.sent) == (Result.PROCESSED, 0, [])


# Before there is an image.


def test_not_initialised(world: World) -> None:
    world.initialised = False
    got = outcome(world)
    assert (got.result, got.title) == (Result.INTERRUPTED, "NotInitialised")
    assert f"ApPipe/{DATE}, Preprocessing/{DATE}" in got.detail
    assert "prompt-processing init" in got.detail
    assert world.exported == world.workspaces == []


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"coordinateSystem": 1}, {"refcat", "template_coadd"}),
        ({"rotationSystem": 1}, {"refcat", "template_coadd"}),
        ({"filters": ""}, {"flat", "template_coadd"}),
    ],
)
def test_what_cannot_be_there_is_not_looked_for(
    world: World, fields: dict[str, Any], missing: set[str]
) -> None:
    optional = {"required": False}
    world.pipeline.needs += (
        need("flat", filter_dependent=True, **optional),
        need("template_coadd", InputKind.TEMPLATE, **optional),
    )
    got = outcome(world, **fields)
    assert got.result is Result.PROCESSED
    assert set(world.workspace.fetched) == {"bias", "flat", "refcat", "template_coadd"} - missing
    assert {w.split()[1] for w in got.warnings} == missing
    has_region = any(s == "put regionTimeInfo" for s in world.steps)
    assert has_region == ("filters" in fields)


def test_missing_types_are_warnings(world: World) -> None:
    world.pipeline.needs += (need("flat", required=False), need("dark", required=False))
    got = outcome(world)
    assert got.result is Result.PROCESSED
    assert got.warnings == ("no dark for this visit: the central repo has none for it",)


def test_no_main_pipeline_has_its_inputs(world: World) -> None:
    world.pipeline.needs += (need("dark"),)
    got = outcome(world)
    assert (got.result, got.title) == (Result.FAILED, "NoPipelineBuilt")
    assert "ApPipe lacks dark" in got.detail
    # Known before the exposure, and before anything is fetched.
    assert "wait" not in world.steps
    assert world.workspaces == []


def test_the_next_pipeline_has_its_inputs(world: World) -> None:
    world.pipeline.needs += (need("dark"),)
    world.add(Pipeline("SingleFrame.yaml", [Task("isr", (IMAGE,))], (need("bias"),)))
    world.main.append("SingleFrame.yaml")
    got = outcome(world)
    assert (got.result, got.pipeline) == (Result.PROCESSED, "SingleFrame")


def test_regionTimeInfo_is_expected_only_with_a_footprint(world: World) -> None:
    world.pipeline.needs += (need("regionTimeInfo", InputKind.GROUP),)
    assert outcome(world).result is Result.PROCESSED
    other = World()
    other.pipeline.needs = world.pipeline.needs
    got = outcome(other, rotationSystem=1)
    assert (got.result, got.title) == (Result.FAILED, "NoPipelineBuilt")


def test_preprocessing_fails(world: World) -> None:
    world.task("load", boom(), "Preprocessing.yaml")
    got = outcome(world)
    assert (got.result, got.pipeline) == (Result.PROCESSED, "ApPipe")
    assert got.preprocessing_pipeline == "Preprocessing"
    assert got.warnings == ("preprocessing failed: task load of pipeline Preprocessing failed: boom",)


def test_preprocessing_fails_and_nothing_can_do_without(world: World) -> None:
    world.pipeline.needs += (need("preloaded_dia_objects", InputKind.GROUP),)
    world.task("load", boom(), "Preprocessing.yaml")
    got = outcome(world)
    assert (got.result, got.title) == (Result.FAILED, "NoPipelineBuilt")
    assert "ApPipe lacks preloaded_dia_objects" in got.detail
    assert "wait" not in world.steps
    # How preload went is told all the same.
    assert world.exported_names == PRELOAD - {"preloaded_dia_objects"}
    assert world.own(PROVENANCE)[0] == f"NoPipeline/{DATE}"


def test_preprocessing_that_cannot_be_built(world: World) -> None:
    pipeline = world.pipelines["Preprocessing.yaml"]
    assert isinstance(pipeline, Pipeline)
    pipeline.unbuildable = NoPipelineBuilt("no regionTimeInfo")
    got = outcome(world)
    assert (got.result, got.preprocessing_pipeline) == (Result.PROCESSED, None)
    assert got.warnings == ("preprocessing failed: no regionTimeInfo",)


def test_preprocessing_that_cannot_be_loaded(world: World) -> None:
    world.pipelines["Preprocessing.yaml"] = PipelineUnreadable("cannot be loaded")
    world.preprocessing.append("Other.yaml")
    world.add(Pipeline("Other.yaml", [Task("other", (OBJECTS,))]))
    got = outcome(world)
    assert got.result is Result.PROCESSED
    assert got.warnings == ("preprocessing failed: cannot be loaded",)
    assert world.ran == ["ApPipe"]


def test_the_middleware_fails_in_preprocessing(world: World) -> None:
    def fail(step: str) -> None:
        if step == "build Preprocessing":
            raise RuntimeError("graph")

    world.on_step = fail
    got = outcome(world)
    assert got.result is Result.PROCESSED
    assert got.warnings == ("preprocessing failed: graph",)


def test_the_central_repo_is_away_for_a_moment(world: World) -> None:
    trouble = {"find bias", "fetch", "make context", "is initialised"}

    def fail(step: str) -> None:
        if step in trouble:
            trouble.remove(step)
            raise ConnectionError("reset")

    world.on_step = fail
    assert outcome(world).result is Result.PROCESSED
    assert world.retries == 4


@pytest.mark.parametrize("step", ["make context", "is initialised", "find bias", "open workspace", "fetch"])
def test_the_central_repo_is_away(world: World, step: str) -> None:
    def fail(name: str) -> None:
        if name == step:
            raise ConnectionError("refused")

    world.on_step = fail
    got = outcome(world)
    assert (got.result, got.title) == (Result.INTERRUPTED, "TemporarilyUnavailable")
    assert "ConnectionError: refused" in got.detail
    assert world.exported == []
    assert all(w.closed for w in world.workspaces)


def test_something_unexpected(world: World) -> None:
    def fail(step: str) -> None:
        if step == "fetch":
            raise ZeroDivisionError("by zero")

    world.on_step = fail
    got = outcome(world)
    assert (got.result, got.title) == (Result.FAILED, "ProcessingError")
    assert got.detail == "ZeroDivisionError: by zero"
    assert world.workspace.closed == 1


# Which pipeline.


def test_a_file_that_cannot_be_loaded_is_not_passed_over(world: World) -> None:
    world.main = ["Broken.yaml", "ApPipe.yaml"]
    world.pipelines["Broken.yaml"] = PipelineUnreadable("pipeline Broken.yaml cannot be loaded")
    got = outcome(world)
    assert (got.result, got.title) == (Result.FAILED, "PipelineUnreadable")
    assert world.steps == ["make context"]


def test_a_broken_file_after_the_one_that_runs(world: World) -> None:
    world.main = ["ApPipe.yaml", "Broken.yaml", "SingleFrame.yaml"]
    world.pipelines["Broken.yaml"] = PipelineUnreadable("pipeline Broken.yaml cannot be loaded")
    assert outcome(world).pipeline == "ApPipe"


@pytest.mark.parametrize("how", ["does not fit the repo", "cannot be built"])
def test_the_next_pipeline_is_tried(world: World, how: str) -> None:
    if how == "cannot be built":
        world.pipeline.unbuildable = NoPipelineBuilt("no bias")
    else:
        world.pipelines["ApPipe.yaml"] = NoPipelineBuilt("storage classes differ")
    world.add(Pipeline("SingleFrame.yaml", [Task("isr", (IMAGE,))], (need("bias"),)))
    world.main.append("SingleFrame.yaml")
    got = outcome(world)
    assert (got.result, got.pipeline) == (Result.PROCESSED, "SingleFrame")
    assert world.own(PROVENANCE)[0] == f"SingleFrame/{DATE}"


def test_no_pipeline_fits(world: World) -> None:
    world.pipelines["ApPipe.yaml"] = NoPipelineBuilt("storage classes differ")
    got = outcome(world)
    assert (got.result, got.title, got.detail) == (
        Result.FAILED,
        "NoPipelineBuilt",
        "storage classes differ",
    )


def test_no_pipeline_can_be_built(world: World) -> None:
    world.pipeline.unbuildable = NoPipelineBuilt("empty quantum graph")
    got = outcome(world)
    assert (got.result, got.title, got.pipeline) == (Result.FAILED, "NoPipelineBuilt", None)
    assert world.exported_names == PRELOAD
    # Nothing was begun, so nothing need be asked.
    assert world.apdb_asked == 1


def test_once_begun_no_other_is_tried(world: World) -> None:
    world.task("calibrate", boom())
    world.add(Pipeline("SingleFrame.yaml", [Task("isr", (IMAGE,))], (need("bias"),)))
    world.main.append("SingleFrame.yaml")
    got = outcome(world)
    assert (got.result, got.title, got.pipeline) == (Result.FAILED, "TaskFailed", "ApPipe")
    assert world.ran == ["Preprocessing", "ApPipe"]


# Images.


def test_no_image(world: World) -> None:
    world.images = []
    world.no_image = nothing_came()
    got = outcome(world)
    assert (got.result, got.title, got.detail) == (
        Result.FAILED,
        "NoImageArrived",
        "no image arrived within 80 s",
    )
    assert got.timings.waiting == 0.5
    assert world.exported_names == PRELOAD
    assert world.ran == ["Preprocessing"]


def test_every_image_is_rejected(world: World) -> None:
    world.unreadable = {100: UnreadableImage("raw.fits is truncated")}
    got = outcome(world)
    assert (got.result, got.title) == (Result.FAILED, "ImagesUnusable")
    assert world.rejected == ["raw.fits is truncated"]
    assert world.exported_names == PRELOAD


@pytest.mark.parametrize(
    "error", [UnreadableImage("raw.fits is damaged"), FileNotFoundError("raw.fits is gone")]
)
def test_pixels_that_cannot_be_read(world: World, error: Exception) -> None:
    # It comes again, whole.
    world.images = [found_image(100), found_image(100)]
    world.unreadable_pixels = {100: error}
    got = outcome(world)
    assert (got.result, got.exposures) == (Result.PROCESSED, (100,))
    assert world.rejected == [str(error)]


@pytest.mark.parametrize("angle", [None, float("nan"), 32.0])
def test_an_image_that_is_turned(world: World, angle: float | None) -> None:
    world.sky_angles = {100: angle}
    got = outcome(world)
    assert (got.result, got.title) == (Result.FAILED, "ImagesUnusable")
    assert "exposure 100 has sky angle" in got.detail and "announced was 30.0" in got.detail
    assert world.ran == ["Preprocessing"]


def test_the_angle_does_not_matter_without_a_rotation(world: World) -> None:
    world.sky_angles = {100: None}
    got = outcome(world, rotationSystem=RotationSystem.NONE.value)
    assert got.result is Result.PROCESSED


def test_one_of_two_is_turned(world: World) -> None:
    world.images = [found_image(100), found_image(101)]
    world.sky_angles = {100: 211.0}
    got = outcome(world, nimages=2)
    assert (got.result, got.exposures) == (Result.PROCESSED, (101,))
    assert got.warnings == ("images dropped: exposure 100 has sky angle 211.0, announced was 30.0",)


def test_fewer_than_announced(world: World) -> None:
    world.image_warnings = ["only 1 of 2 images arrived; processing those"]
    got = outcome(world, nimages=2)
    assert (got.result, got.exposures) == (Result.PROCESSED, (100,))
    assert got.warnings == ("only 1 of 2 images arrived; processing those",)


# The APDB and alerts.


def test_the_apdb_holds_it_already(world: World) -> None:
    world.apdb_visits = {100}
    got = outcome(world)
    assert (got.result, got.title, got.pipeline) == (Result.NOT_RETRIABLE, "NotRetriable", None)
    assert world.ran == ["Preprocessing"]
    # What the earlier run read and wrote must not be replaced.
    assert world.exported == []
    assert world.workspace.closed == 1


def test_the_apdb_holds_one_of_two_snaps(world: World) -> None:
    world.apdb_visits = {101}
    world.images = [found_image(100), found_image(101)]
    assert outcome(world, nimages=2).result is Result.NOT_RETRIABLE
    assert world.ran == ["Preprocessing"]


def test_the_apdb_is_away_before_execution(world: World) -> None:
    world.apdb_away = away()
    got = outcome(world)
    assert (got.result, got.title) == (Result.INTERRUPTED, "TemporarilyUnavailable")
    assert world.ran == ["Preprocessing"]
    assert world.exported == []


@pytest.mark.parametrize("error", [ValueError("boom"), MemoryError("4 GiB"), SystemExit(3)])
def test_a_task_fails_before_the_apdb_is_touched(world: World, error: BaseException) -> None:
    world.task("associate", boom(error))
    got = outcome(world)
    assert (got.result, got.pipeline) == (Result.FAILED, "ApPipe")
    assert str(error) in got.detail
    assert world.exported_names == PRELOAD | {"preliminary_visit_image"}
    assert world.own(PROVENANCE)[0] == f"ApPipe/{DATE}"
    assert got.outputs == len(world.exported)
    assert world.sent == []


def test_a_task_fails_after_the_apdb_is_touched(world: World) -> None:
    world.task("alert", boom())
    got = outcome(world)
    assert (got.result, got.title) == (Result.NOT_RETRIABLE, "NotRetriable")
    assert "the APDB was changed" in got.detail and "boom" in got.detail
    assert world.exported_names == PRELOAD | {"preliminary_visit_image", "dia_source"}


@pytest.mark.parametrize("error", [away(), RuntimeError("a strange back end")])
def test_a_task_fails_and_the_apdb_is_away(world: World, error: Exception) -> None:
    def fail() -> None:
        world.apdb_away = error
        raise ValueError("boom")

    world.task("associate", fail)
    got = outcome(world)
    assert (got.result, got.title) == (Result.NOT_RETRIABLE, "NotRetriable")
    assert "cannot be determined" in got.detail and "boom" in got.detail
    assert "preliminary_visit_image" in world.exported_names


def test_a_task_fails_after_alerts_were_sent(world: World) -> None:
    # Whatever the APDB says.
    world.task("associate", lambda: None)
    world.task("measure", boom())
    got = outcome(world)
    assert (got.result, got.alerts) == (Result.NOT_RETRIABLE, 3)
    assert "alerts were sent" in got.detail and "boom" in got.detail
    assert "alert_packets" in world.exported_names


def test_a_task_fails_after_no_alerts_were_sent(world: World) -> None:
    world.packets = []
    world.task("associate", lambda: None)
    world.task("measure", boom())
    assert outcome(world).result is Result.FAILED


def test_alerts_cannot_be_sent(world: World) -> None:
    world.task("associate", lambda: None)
    world.sink_fails = OSError(28, "No space left on device")
    got = outcome(world)
    # How far the sending came cannot be told.
    assert (got.result, got.title) == (Result.NOT_RETRIABLE, "NotRetriable")
    assert "or may have been" in got.detail and "No space left" in got.detail
    # Not a failure of the task.
    assert "task" not in got.detail


class TestAlertsForABroker:
    """They leave at once, and the visit goes on."""

    @pytest.fixture(autouse=True)
    def _to_a_broker(self, world: World) -> None:
        world.alert_files = False
        world.task("associate", lambda: None)

    def test_they_leave_before_other_tasks_and_the_export(self, world: World) -> None:
        left: dict[str, int] = {}
        world.on_step = lambda step: left.setdefault(step, len(world.channel.messages))
        finished = world.process()
        got = finished.outcome
        assert (got.result, got.alerts, got.alert_files) == (Result.PROCESSED, 3, ())
        assert (left["task alert"], left["task measure"]) == (0, 3)
        assert [message.kind for message in world.channel.messages] == [ALERT] * 3
        # They are not sent again with the result.
        assert [message.kind for message in finished.outbox] == [BUTLER_WRITER]
        stages = world.channel.stages
        assert stages.index(Stage.PUBLISHING) < stages.index(Stage.EXPORTING)

    def test_an_outage_after_that_does_not_take_them_back(self, world: World) -> None:
        def fail(step: str) -> None:
            if step == "after measure":
                raise ConnectionError("reset")

        world.on_step = fail
        got = outcome(world)
        assert (got.result, got.alerts) == (Result.NOT_RETRIABLE, 3)
        assert "alerts were sent" in got.detail

    def test_a_visit_without_alerts_can_be_tried_again(self, world: World) -> None:
        world.packets = []

        def fail(step: str) -> None:
            if step == "after measure":
                raise ConnectionError("reset")

        world.on_step = fail
        got = outcome(world)
        assert (got.result, got.alerts) == (Result.INTERRUPTED, 0)
        assert (world.channel.messages, len(world.sent)) == ([], 1)
        assert Stage.PUBLISHING not in world.channel.stages

    def test_a_failed_visit_without_alerts_is_just_that(self, world: World) -> None:
        world.packets = []
        world.task("measure", boom())
        assert outcome(world).result is Result.FAILED

    def test_nothing_can_be_exported(self, world: World) -> None:
        world.export_fails = OSError(28, "No space left on device")
        finished = world.process()
        assert (finished.outcome.title, finished.outcome.alerts, finished.outbox) == ("ExportFailed", 3, ())

    def test_the_time_to_them_does_not_count_the_export(self, world: World) -> None:
        world.landed = time.time()
        handed_over: list[float] = []
        world.on_step = lambda step: handed_over.append(time.time()) if step == "task measure" else None
        to_alert = outcome(world).timings.image_to_alert
        assert to_alert is not None and 0 <= to_alert <= handed_over[0] - world.landed

    def test_without_alerts_there_is_no_time_to_them(self, world: World) -> None:
        world.landed, world.packets = time.time(), []
        assert outcome(world).timings.image_to_alert is None


# Metrics.


def test_metrics_go_with_the_answer(world: World) -> None:
    assert world.process().measurements == ("measured",)


def test_metrics_of_a_failed_visit(world: World) -> None:
    world.task("measure", boom())
    assert world.process().measurements == ("measured",)


def test_an_interrupted_visit_has_no_metrics(world: World) -> None:
    world.apdb_away = away()
    finished = world.process()
    assert (finished.outcome.result, finished.measurements) == (Result.INTERRUPTED, ())


def test_nothing_exported_no_metrics(world: World) -> None:
    world.export_fails = OSError(28, "No space left on device")
    assert world.process().measurements == ()


def test_no_metric_is_worth_a_visit(world: World) -> None:
    def collect(workspace: Any) -> Any:
        raise ValueError("no such file")

    world.measurements = collect
    finished = world.process()
    assert (finished.outcome.result, finished.measurements) == (Result.PROCESSED, ())


def test_the_second_snap_fails(world: World) -> None:
    world.images = [found_image(100), found_image(101)]
    calls: list[int] = []

    def second() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("boom")

    world.task("calibrate", second)
    world.task("associate", lambda: None)
    got = outcome(world, nimages=2)
    assert (got.result, got.alerts) == (Result.NOT_RETRIABLE, 3)


def test_an_outage_while_executing(world: World) -> None:
    def fail(step: str) -> None:
        if step == "after calibrate":
            raise ConnectionError("reset")

    world.on_step = fail
    got = outcome(world)
    # The APDB is untouched: it may be sent again, and nothing goes out.
    assert (got.result, got.title) == (Result.INTERRUPTED, "TemporarilyUnavailable")
    assert world.exported == []


# Export.


def test_export_fails_after_success(world: World) -> None:
    world.export_fails = OSError(28, "No space left on device")
    finished = world.process()
    got = finished.outcome
    assert (got.result, got.title, got.outputs) == (Result.NOT_RETRIABLE, "ExportFailed", 0)
    assert "processing succeeded" in got.detail and "No space left" in got.detail
    assert got.alerts == 3
    assert finished.outbox == ()
    assert world.workspace.closed == 1


def test_the_registry_fails_after_success(world: World) -> None:
    world.handover_fails = RuntimeError("database is locked")
    got = outcome(world)
    assert (got.result, got.title) == (Result.NOT_RETRIABLE, "ExportFailed")


def test_export_fails_after_failure(world: World) -> None:
    world.task("calibrate", boom())
    world.export_fails = OSError("disk")
    got = outcome(world)
    assert (got.result, got.title) == (Result.FAILED, "TaskFailed")
    assert got.warnings == ("partial outputs could not be exported: disk",)


def test_a_workspace_that_cannot_be_closed(world: World) -> None:
    world.close_fails = RuntimeError("local repo")
    assert outcome(world).result is Result.PROCESSED


# Interruption.


def interrupt(world: World, where: str) -> None:
    """Have the signal come at a step, as if it had happened there."""

    def happen(step: str) -> None:
        if step == where:
            world.channel.signal()

    world.on_step = happen


@pytest.mark.parametrize(
    "where",
    [
        "make context",
        "is initialised",
        "find bias",
        "open workspace",
        "fetch",
        "put regionTimeInfo",
        "build Preprocessing",
        "task load",
        "after load",
        "put promptPreload_metrics",
        "wait",
        "ingest",
        "add_exposure",
        "ask APDB",
        "build ApPipe",
        "task calibrate",
        "after calibrate",
        "task associate",
    ],
)
def test_interrupted_while_nothing_is_changed(world: World, where: str) -> None:
    interrupt(world, where)
    finished = world.process()
    got = finished.outcome
    assert (got.result, got.title) == (Result.INTERRUPTED, "Interrupted")
    assert got.detail == "processing was stopped by SIGTERM"
    assert (world.exported, world.sent, finished.outbox) == ([], [], ())
    assert all(w.closed == 1 for w in world.workspaces)
    assert Stage.EXPORTING not in world.channel.stages


@pytest.mark.parametrize("where", ["after associate", "task alert", "after alert"])
def test_interrupted_after_the_apdb_is_touched(world: World, where: str) -> None:
    interrupt(world, where)
    got = outcome(world)
    assert (got.result, got.title) == (Result.NOT_RETRIABLE, "NotRetriable")
    assert "stopped by SIGTERM" in got.detail
    assert "dia_source" in world.exported_names
    assert world.sent == []


def test_interrupted_when_the_apdb_is_away(world: World) -> None:
    def happen(step: str) -> None:
        if step == "task associate":
            world.apdb_away = away()
            world.channel.signal()

    world.on_step = happen
    got = outcome(world)
    assert got.result is Result.NOT_RETRIABLE
    assert "cannot be determined" in got.detail


@pytest.mark.parametrize("where", ["task measure", "after measure", "put prompt_provenance", "export"])
def test_interrupted_too_late(world: World, where: str) -> None:
    interrupt(world, where)
    got = outcome(world)
    # What leaves the house is better finished than explained.
    assert (got.result, got.alerts, got.outputs) == (Result.PROCESSED, 3, 8)
    assert world.channel.interrupted


def test_interrupted_while_a_failure_is_judged(world: World) -> None:
    world.task("associate", boom())

    def happen(step: str) -> None:
        if step == "ask APDB" and world.apdb_asked == 1:
            world.channel.signal()

    world.on_step = happen
    got = outcome(world)
    assert (got.result, got.title) == (Result.INTERRUPTED, "Interrupted")
    assert world.exported == []
    assert world.workspace.closed == 1


@pytest.mark.parametrize(
    ("pipeline", "label", "error"),
    [
        ("Preprocessing.yaml", "load", ValueError("what was that?")),
        ("Preprocessing.yaml", "load", None),
        ("ApPipe.yaml", "calibrate", None),
    ],
)
def test_a_task_that_swallows_the_signal(
    world: World, pipeline: str, label: str, error: Exception | None
) -> None:
    def swallow() -> None:
        try:
            world.channel.signal()
        except BaseException:
            if error is not None:
                raise error from None

    world.task(label, swallow, pipeline)
    got = outcome(world)
    assert (got.result, got.title) == (Result.INTERRUPTED, "Interrupted")
    assert world.exported == []


def test_an_interruption_that_is_an_error_already(world: World) -> None:
    def happen(step: str) -> None:
        if step == "build Preprocessing":
            raise Interrupted("stopped")

    world.on_step = happen
    got = outcome(world)
    assert (got.result, got.title) == (Result.INTERRUPTED, "Interrupted")
    assert "wait" not in world.steps


class _SignalAtLine:
    """Raises the signal at the n-th line that the services execute, as a
    signal handler might, unless the slot is shielded.
    """

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.left = number
        self.where = ""
        self._root = str(Path(next(iter(services.__path__))))

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(self._root):
            return None
        if event == "line" and self.world.channel.stages and code.co_name != "process":
            self.left -= 1
            if self.left == 0:
                self.where = f"{code.co_filename}:{frame.f_lineno}"
                self.world.channel.signal()
        return self


@pytest.mark.parametrize("fails", [None, "calibrate", "measure"])
def test_a_signal_may_come_anywhere(fails: str | None) -> None:
    number = 0
    results = set()
    while True:
        number += 1
        world = World()
        if fails is not None:
            world.task(fails, boom())
        tracer = _SignalAtLine(world, number)
        before = sys.gettrace()
        sys.settrace(tracer)
        try:
            finished = world.process()
        except InterruptSignal:  # pragma: no cover (the failure that this test is for)
            pytest.fail(f"the signal escaped from {tracer.where}")
        finally:
            sys.settrace(before)
        if tracer.left > 0:
            break
        got = finished.outcome
        results.add(got.result)
        changed = bool(world.apdb_visits) or bool(world.sent)
        if got.result is Result.INTERRUPTED:
            assert not changed and not world.exported and not finished.outbox, tracer.where
        if got.result is Result.NOT_RETRIABLE:
            assert changed and world.exported, tracer.where
        assert all(w.closed == 1 for w in world.workspaces), tracer.where
        assert world.channel.shields == 0, tracer.where
    assert number > 300
    assert Result.INTERRUPTED in results
    assert results >= ({Result.PROCESSED} if fails is None else set())
