"""Wiring of a slot, and its rehearsal."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from app.initialising import initialise
from app.rehearsal import imaginary_visit, rehearse
from app.slot_factory import Application, SlotFactory, load_library
from config.instruments import find_instrument_file, load_instrument
from config.settings import load_service_settings
from models.errors import InvalidConfiguration
from models.outcomes import Result
from models.pipelines import SelectedPipelines
from models.visits import FannedOutVisit
from services.slots.protocol import ProcessVisit
from tests.services.world import Channel

DATE = "2026-03-01"


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
