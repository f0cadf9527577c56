"""Wiring of a slot, and its rehearsal."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import botocore.loaders
import pytest

from app.deployment import load_library
from app.initialising import initialise
from app.rehearsal import imaginary_visit, rehearse
from app.slot_application import Application
from app.slot_factory import SlotFactory
from app.slot_outlets import create_alert_sink, create_image_store
from config.instruments import find_instrument_file, load_instrument
from config.settings import load_service_settings
from models.errors import InvalidConfiguration
from models.events import OutboxMessage
from models.outcomes import Result
from models.pipelines import SelectedPipelines
from models.visits import FannedOutVisit
from repos.alert_files import AlertFileSink
from repos.alert_topic import AlertTopicSink
from repos.s3_client import load_service_description
from services.alerts import CopyingAlertSink
from services.slots.protocol import ProcessVisit
from tests.app.conftest import PIPELINES
from tests.repos.test_alert_topic import make_packets
from tests.services.world import Channel
from tests.visits import make_visit

DATE = "2026-03-01"
KAFKA = {"AP_KAFKA_SERVER": "k:1", "AP_KAFKA_TOPIC": "a"}


@pytest.fixture
def application(variables: dict[str, str]) -> Iterator[Application]:
    settings = load_service_settings(variables)
    factory = SlotFactory(settings, load_library(settings), "d0")
    made = factory.create_application()
    yield made
    made.close()


def request(variables: dict[str, str]) -> ProcessVisit:
    settings = load_service_settings(variables)
    visit = imaginary_visit(load_instrument(find_instrument_file("DemoCam")))
    pipelines = SelectedPipelines(
        settings.preprocessing_pipelines_config.pipelines, settings.main_pipelines_config.pipelines
    )
    return ProcessVisit(visit, pipelines, DATE)


def test_a_rehearsal_leaves_nothing_to_say(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        application.warm_up()
    assert [r.getMessage() for r in caplog.records if r.name.startswith(("app", "services"))] == []
    assert application.apdb_contains([1], 0) is False


def test_slots_import_nothing_for_servers() -> None:
    # What a slot imports itself, it has for itself alone.
    script = """if True:
        import sys, sqlalchemy
        import app.slot_factory, app.rehearsal
        from repos.raw_presence import RawPresence
        from repos.s3_client import create_s3_client
        app.rehearsal.import_readers()
        there = set(sys.modules)
        RawPresence("http://127.0.0.1:1")
        create_s3_client("http://127.0.0.1:1")
        sqlalchemy.create_engine("postgresql+psycopg2://a@127.0.0.1:1/b")
        from lsst.daf.butler.registry.databases.postgresql import PostgresqlDatabase
        from lsst.resources.s3 import S3ResourcePath
        print(sorted(set(sys.modules) - there))
        """
    ended = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_images_of_a_bucket_are_read_with_what_slots_share(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del variables["PP_IMAGE_DIRECTORY"]
    settings = load_service_settings(
        variables | {"IMAGE_BUCKET": "raws", "KAFKA_CLUSTER": "k:1", "S3_ENDPOINT_URL": "http://127.0.0.1:1"}
    )
    camera = load_instrument(find_instrument_file("DemoCam"))
    description = load_service_description()
    monkeypatch.setattr(botocore.loaders.JSONFileLoader, "load_file", None)
    create_image_store(settings, camera, s3_description=description).close()
    with pytest.raises(TypeError):
        create_image_store(settings, camera)


def test_visits_through_the_real_repositories(application: Application, variables: dict[str, str]) -> None:
    channel = Channel()
    outcome = application.process(request(variables), channel).outcome
    assert (outcome.result, outcome.title) == (Result.INTERRUPTED, "NotInitialised")
    initialise(load_service_settings(variables), [DATE])
    # There are no calibrations, so it is over before the exposure.
    outcome = application.process(request(variables), channel).outcome
    assert (outcome.result, outcome.title) == (Result.FAILED, "NoPipelineBuilt")
    assert "SingleFrame lacks" in outcome.detail and "refcat" in outcome.detail
    assert any("no bias for" in warning for warning in outcome.warnings)


def test_metrics_of_a_visit(variables: dict[str, str]) -> None:
    # One that needs nothing but an image, for which nobody waits.
    pipelines = f"- pipelines: [{PIPELINES / 'Isr.yaml'}]"
    variables |= {"SASQUATCH_URL": "http://sasquatch.example.org", "IMAGE_TIMEOUT": "0"}
    settings = load_service_settings({**variables, "MAIN_PIPELINES_CONFIG": pipelines})
    initialise(settings, [DATE])
    application = SlotFactory(settings, load_library(settings), "d0").create_application()
    visit = imaginary_visit(load_instrument(find_instrument_file("DemoCam"))).model_copy(
        update={"duration": 0.0}
    )
    selected = SelectedPipelines((), settings.main_pipelines_config.pipelines)
    finished = application.process(ProcessVisit(visit, selected, DATE), Channel())
    application.close()
    assert finished.outcome.title == "NoImageArrived"
    (bundle,) = finished.measurements
    assert bundle.dataset_type == "promptPreload_metrics"
    assert bundle.data_id["instrument"] == "DemoCam"
    assert len(bundle.values["prepButlerTimeMetric"]) == 4


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, AlertFileSink),
        ({"AP_KAFKA_SERVER": "k:1", "AP_KAFKA_TOPIC": "a"}, AlertTopicSink),
        (
            {"AP_KAFKA_SERVER": "k:1", "AP_KAFKA_TOPIC": "a", "PP_ALERT_DIRECTORY": "/alerts"},
            CopyingAlertSink,
        ),
    ],
)
def test_where_alerts_go(variables: dict[str, str], changes: dict[str, str], kind: type) -> None:
    settings = load_service_settings({**variables, **changes})
    assert type(create_alert_sink(settings)) is kind


def test_how_alerts_are_framed(variables: dict[str, str]) -> None:
    framing = {"PP_ALERT_SCHEMA_ID": "5", "PP_ALERT_FRAMING": "Confluent"}
    settings = load_service_settings({**variables, **KAFKA, **framing})
    sink = create_alert_sink(settings)
    messages: list[OutboxMessage] = []
    sink.send(make_packets(1), make_visit(), 7, messages.extend)
    (message,) = messages
    assert (message.topic, message.payload[:5]) == ("a", b"\0\0\0\0\5")


def test_a_repo_with_an_instrument_that_cannot_be_imported(variables: dict[str, str]) -> None:
    with sqlite3.connect(Path(variables["CENTRAL_REPO"]) / "gen3.sqlite3") as database:
        database.execute("UPDATE instrument SET class_name = 'nowhere.DemoCam'")
    database.close()
    settings = load_service_settings(variables)
    initialise(settings, [DATE])
    application = SlotFactory(settings, load_library(settings), "d0").create_application()
    outcome = application.process(request(variables), Channel()).outcome
    # As far as one whose instrument can be imported.
    assert (outcome.result, outcome.title) == (Result.FAILED, "NoPipelineBuilt")
    application.close()


def test_the_apdb_is_not_there(variables: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    settings = load_service_settings({**variables, "CONFIG_APDB": "/no/such/apdb.yaml"})
    application = SlotFactory(settings, load_library(settings), "d0").create_application()
    with caplog.at_level(logging.WARNING):
        application.warm_up()
    assert "Rehearsal of the APDB" in caplog.text
    assert application.apdb_contains([1], 0) is None
    application.close()


@pytest.mark.parametrize("variable", ["PP_IMAGE_DIRECTORY"])
def test_what_a_slot_cannot_do_without(variables: dict[str, str], variable: str) -> None:
    settings = load_service_settings(variables).model_copy(update={"image_directory": None})
    factory = SlotFactory(settings, load_library(settings), "d0")
    with pytest.raises(InvalidConfiguration, match=variable):
        factory.create_image_intake()
    factory.central.close()


def test_an_imaginary_visit_is_a_visit() -> None:
    camera = load_instrument(find_instrument_file("DemoCam"))
    visit = imaginary_visit(camera)
    assert FannedOutVisit.parse(visit.to_message()) == visit
    assert visit.has_footprint
    assert visit.detector in camera.by_id and visit.filters in camera.bands


def test_a_step_that_fails_does_not_end_the_rehearsal(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    def fail() -> None:
        raise RuntimeError("no connection")

    with caplog.at_level(logging.WARNING):
        rehearse([("one", fail), ("another", lambda: done.append("another"))])
    assert done == ["another"]
    assert caplog.messages == ["Rehearsal of one: RuntimeError: no connection"]
