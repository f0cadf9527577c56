"""The fan-out's instrument file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.instrument_routes import InstrumentRoute, Platform, load_instrument_routes
from models.errors import InvalidConfiguration

GOOD: dict[str, Any] = {
    "knative-urls": {
        "LATISS": "http://latiss.example.org/next-visit",
        "LSSTCam": ["http://a:8080", "https://b:8443/", "http://c/other/path"],
    },
    "redis-streams": {"LATISS": "instrument:latiss"},
    "detectors": {
        "LATISS": {0: True},
        "LSSTCam": {0: True, 94: True, 3: False, 12: True},
        "LSSTCam-TEST-3": {3: True, 4: False},
        "LSSTCam-TEST-17": {},
        "Other-TEST-3": {1: True},
    },
}


def load(tmp_path: Path, content: Any, *instruments: str, platform: Platform = Platform.KNATIVE) -> Any:
    path = tmp_path / "instruments.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return load_instrument_routes(path, instruments=instruments or ("LATISS", "LSSTCam"), platform=platform)


def test_one_url_or_a_list_with_the_services_path_unless_another_is_given(tmp_path: Path) -> None:
    routes = load(tmp_path, GOOD)
    assert routes["LATISS"] == InstrumentRoute(
        "LATISS", (0,), ("http://latiss.example.org/next-visit",), "instrument:latiss"
    )
    assert routes["LSSTCam"].urls == (
        "http://a:8080/next-visit",
        "https://b:8443/next-visit",
        "http://c/other/path",
    )
    assert routes["LSSTCam"].stream is None


def test_active_detectors_and_the_sets_of_test_queues(tmp_path: Path) -> None:
    route = load(tmp_path, GOOD)["LSSTCam"]
    assert route.active_detectors(1) == (0, 12, 94)
    assert route.active_detectors(3) == (3,)
    assert route.active_detectors(17) == ()
    assert route.all_detectors == (0, 3, 12, 94)
    assert load(tmp_path, GOOD)["LATISS"].active_detectors(3) == (0,)


def test_only_supported_instruments_are_looked_at(tmp_path: Path) -> None:
    assert list(load(tmp_path, GOOD, "LATISS")) == ["LATISS"]


def test_streams_where_keda_scales(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD, "LATISS", platform=Platform.KEDA)["LATISS"].stream == "instrument:latiss"
    with pytest.raises(InvalidConfiguration, match=r"instruments\.yaml: redis-streams\.LSSTCam is missing"):
        load(tmp_path, GOOD, platform=Platform.KEDA)


@pytest.mark.parametrize(
    ("platform", "empty"), [(Platform.KNATIVE, "redis-streams"), (Platform.KEDA, "knative-urls")]
)
def test_the_other_platforms_key_may_be_empty(tmp_path: Path, platform: Platform, empty: str) -> None:
    routes = load(tmp_path, {**GOOD, empty: None}, "LATISS", platform=platform)
    assert routes["LATISS"].detectors == (0,)


def test_every_missing_key_is_named_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        load(tmp_path, {"detectors": {"LATISS": {0: True}}})
    assert str(tmp_path / "instruments.yaml") in str(caught.value)
    assert "knative-urls.LATISS is missing" in str(caught.value)
    assert "detectors.LSSTCam is missing" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("detectors", None, "detectors"),
        ("detectors", {"LATISS": [0]}, "detectors.LATISS"),
        ("detectors", {"LATISS": {"R00_S00": True}}, "detectors.LATISS.R00_S00"),
        ("detectors", {"LATISS": {-1: True}}, "detectors.LATISS.-1"),
        ("detectors", {"LATISS": {0: "yes"}}, "detectors.LATISS.0"),
        ("knative-urls", {"LATISS": "latiss:8080"}, "knative-urls.LATISS"),
        ("knative-urls", {"LATISS": "http://"}, "knative-urls.LATISS"),
        ("knative-urls", {"LATISS": "http://a:99999/"}, "knative-urls.LATISS"),
        ("knative-urls", {"LATISS": []}, "knative-urls.LATISS"),
        ("knative-urls", {"LATISS": ["http://a", "http://a/"]}, "knative-urls.LATISS"),
        ("knative-urls", {"LATISS": 3}, "knative-urls.LATISS"),
        ("redis-streams", {"LATISS": ""}, "redis-streams.LATISS"),
        ("redis-streams", ["LATISS"], "redis-streams"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path: Path, key: str, value: Any, named: str) -> None:
    with pytest.raises(InvalidConfiguration, match=rf"instruments\.yaml: {named}"):
        load(tmp_path, {**GOOD, key: value})


@pytest.mark.parametrize("content", ["- a\n", "", "{", "\x00"])
def test_what_is_no_such_file(tmp_path: Path, content: str) -> None:
    with pytest.raises(InvalidConfiguration, match=r"INSTRUMENT_CONFIG_FILE .*instruments\.yaml"):
        load(tmp_path, content)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"nowhere\.yaml cannot be read"):
        load_instrument_routes(tmp_path / "nowhere.yaml", instruments=["A"], platform=Platform.KEDA)


def test_an_unknown_key_is_only_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load(tmp_path, {**GOOD, "knative-url": {}})
    assert "knative-url is not known" in caplog.text
