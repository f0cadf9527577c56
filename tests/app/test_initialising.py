"""The initializer, as the service's settings have it."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
import yaml
from lsst.daf.butler import Butler

from app.deployment import deployment_id_of, load_library
from app.initialising import initialise, nights_to_prepare
from app.slot_factory import SlotFactory
from config.settings import load_service_settings
from models.errors import InvalidConfiguration, PipelineUnreadable
from repos.collections import output_chain

DATES = ["2026-03-01", "2026-03-02"]


def test_tonight_and_tomorrow(variables: dict[str, str]) -> None:
    settings = load_service_settings(variables)
    runs = initialise(settings, DATES)
    assert runs == [
        f"DemoCam/prompt/output-{day}/{stem}/d0"
        for day in DATES
        for stem in ("NoPipeline", "Preprocessing", "SingleFrame")
    ]
    with Butler.from_config(variables["CENTRAL_REPO"]) as butler:
        assert list(butler.collections.get_info(output_chain("DemoCam", DATES[0])).children) == runs[:3]
        assert butler.find_dataset("packages", collections=runs[2]) is not None
    # Again, with another deployment: what was there is kept, behind.
    other = settings.model_copy(update={"deployment_id": "d1"})
    newer = initialise(other, DATES[:1])
    assert initialise(other, DATES[:1]) == newer
    with Butler.from_config(variables["CENTRAL_REPO"]) as butler:
        children = butler.collections.get_info(output_chain("DemoCam", DATES[0])).children
        assert list(children) == [*newer, *runs[:3]]
    factory = SlotFactory(settings, load_library(settings), "d0")
    assert factory.central.is_initialised([r for r in runs if "NoPipeline" not in r])
    assert not factory.central.is_initialised(["DemoCam/prompt/output-2026-03-03/SingleFrame/d0"])
    factory.central.close()


def test_dataset_types_are_not_registered_silently(variables: dict[str, str]) -> None:
    settings = load_service_settings({**variables, "REGISTER_DATASET_TYPES": "0"})
    with pytest.raises(InvalidConfiguration, match="REGISTER_DATASET_TYPES=1") as caught:
        initialise(settings, DATES[:1])
    for name in ("prompt_provenance", "promptPreload_metrics", "regionTimeInfo", "preloaded_dia_objects"):
        assert name in str(caught.value)


def test_a_pipeline_that_cannot_be_loaded(variables: dict[str, str], tmp_path: Path) -> None:
    broken = tmp_path / "Broken.yaml"
    broken.write_text("description: nothing\ntasks: {isr: no.such.Task}\n")
    variables["MAIN_PIPELINES_CONFIG"] = yaml.safe_dump([{"pipelines": [str(broken)]}])
    with pytest.raises(PipelineUnreadable, match=r"Broken\.yaml cannot be loaded"):
        initialise(load_service_settings(variables), DATES[:1])


def test_no_central_repo(variables: dict[str, str], tmp_path: Path) -> None:
    variables["CENTRAL_REPO"] = str(tmp_path / "nowhere")
    with pytest.raises(InvalidConfiguration, match="nowhere"):
        initialise(load_service_settings(variables), DATES[:1])


def test_the_deployment_id(variables: dict[str, str]) -> None:
    del variables["PP_DEPLOYMENT_ID"]
    settings = load_service_settings(variables)
    computed = deployment_id_of(settings, load_library(settings))
    assert deployment_id_of(settings, load_library(settings)) == computed
    assert computed.replace("-", "").replace("_", "").isalnum()
    elsewhere = settings.model_copy(update={"config_apdb": "/another/apdb.yaml"})
    assert deployment_id_of(elsewhere, load_library(elsewhere)) != computed
    given = settings.model_copy(update={"deployment_id": "mine"})
    assert deployment_id_of(given, load_library(given)) == "mine"


def test_nights_to_prepare() -> None:
    today, tomorrow = map(date.fromisoformat, nights_to_prepare())
    assert tomorrow - today == timedelta(days=1)
