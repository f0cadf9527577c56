"""Pipelines configurations: what is read, and every fault named."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from config.pipelines_config import (
    AngleRange,
    CoordinateType,
    PipelinesConfig,
    expand_variables,
    parse_pipelines_config,
)
from models.errors import InvalidConfiguration

ENV = {"PIPE_DIR": "/pipe", "MAPS": "/maps"}


def parse(value: Any) -> PipelinesConfig:
    return parse_pipelines_config(value, env=ENV, name="MAIN")


def fault(value: Any) -> str:
    with pytest.raises(InvalidConfiguration) as caught:
        parse(value)
    assert str(caught.value).startswith("MAIN: ")
    return str(caught.value)


def test_every_key_is_read() -> None:
    config = parse(
        """
- survey: deep
  ra: {min: 350, max: 10}
  dec: {min: -30, max: 5.5}
  binary-map: ${MAPS}/plane.fits
  coord-type: Boresight
  pipelines:
    - ${PIPE_DIR}/ApPipe.yaml
    - ${PIPE_DIR}/Isr.yaml#isr
- pipelines: [/x/Other.yaml]
"""
    )
    first, second = config.entries
    assert first.model_dump() == {
        "survey": "deep",
        "ra": {"min": 350, "max": 10},
        "dec": {"min": -30, "max": 5.5},
        "binary_map": "/maps/plane.fits",
        "coord_type": CoordinateType.BORESIGHT,
        "pipelines": ("/pipe/ApPipe.yaml", "/pipe/Isr.yaml#isr"),
    }
    assert second.survey is None
    assert second.coord_type is CoordinateType.DETECTOR
    assert not second.needs_position
    assert config.pipelines == ("/pipe/ApPipe.yaml", "/pipe/Isr.yaml#isr", "/x/Other.yaml")
    assert config.maps == ("/maps/plane.fits",)


@pytest.mark.parametrize("text", ["null", "None", "'None'", "[]", "~"])
def test_run_nothing(text: str) -> None:
    assert parse(f"- pipelines: {text}").entries[0].pipelines == ()


@pytest.mark.parametrize("text", ["detector", "DETECTOR", "Detector"])
def test_the_case_of_coord_type_does_not_matter(text: str) -> None:
    entry = parse([{"pipelines": None, "coord-type": text}]).entries[0]
    assert entry.coord_type is CoordinateType.DETECTOR


def test_an_empty_survey_is_kept() -> None:
    assert parse([{"pipelines": None, "survey": ""}]).entries[0].survey == ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "non-empty YAML list"),
        ("[]", "non-empty YAML list"),
        ("{}", "non-empty YAML list"),
        ("pipelines: [a.yaml]", "non-empty YAML list"),
        ("text", "non-empty YAML list"),
        (None, "non-empty YAML list"),
        ("- [", "is not YAML"),
        ("- a", "entry 1: must be a mapping"),
        ("- {}", "entry 1: pipelines: Field required"),
        ("- pipelines: a.yaml", "entry 1: pipelines: give a list of paths"),
        ("- pipelines: {}", "entry 1: pipelines"),
        ("- pipelines: [null]", "entry 1: pipelines.0"),
        ("- pipelines: ['']", "entry 1: pipelines.0"),
        (
            "- {pipelines: null, filter: r}",
            "filter: is not a known key; there are pipelines, survey, ra, dec",
        ),
        ("- {pipelines: null, binary_map_: r}", "binary_map_: is not a known key"),
        ("- {pipelines: null, survey: 3}", "survey"),
        ("- {pipelines: null, ra: {min: 3}}", "ra.max: Field required"),
        ("- {pipelines: null, ra: {min: 3, max: 4, step: 1}}", "ra.step"),
        ("- {pipelines: null, ra: {min: 3, max: .nan}}", "ra.max"),
        ("- {pipelines: null, ra: {min: 3, max: 1000}}", "ra.max"),
        ("- {pipelines: null, ra: [3, 4]}", "ra"),
        ("- {pipelines: null, dec: {min: 4, max: 3}}", "dec min 4.0 must be less than max 3.0"),
        ("- {pipelines: null, dec: {min: 4, max: 4}}", "must be less"),
        ("- {pipelines: null, dec: {min: -91, max: 4}}", "within"),
        ("- {pipelines: null, coord-type: centre}", "coord-type"),
        ("- {pipelines: null, binary-map: ''}", "binary-map"),
        ("- {pipelines: null, binary-map: [a]}", "binary-map"),
        ("- {pipelines: null, binary-map: '${NOWHERE}/a'}", "uses ${NOWHERE}, which is not set"),
        ("- pipelines: ['${A}/${B}/${PIPE_DIR}']", "uses ${A}, ${B}, which is not set"),
        ("- pipelines: [a/X.yaml, b/X.yaml]", "two pipelines are named X"),
        ("- pipelines: [a/X.yaml, a/X.yaml]", "two pipelines are named X"),
        ("- pipelines: [a/X.yaml]\n- pipelines: [b/X.yaml]", "a/X.yaml and b/X.yaml"),
        ("- pipelines: [a/NoPipeline.yaml]", "no pipeline may be named NoPipeline"),
        ("/nowhere/main.yaml", "the file /nowhere/main.yaml cannot be read"),
    ],
)
def test_faults(value: Any, expected: str) -> None:
    assert expected in fault(value)


def test_every_fault_is_named_at_once() -> None:
    text = fault("- pipelines: x\n- {pipelines: null, a: 1, b: 2}\n- {}")
    assert all(part in text for part in ("entry 1", "entry 2: a", "entry 2: b", "entry 3"))


def test_one_pipeline_may_be_used_often() -> None:
    config = parse("- {survey: a, pipelines: [p/X.yaml, p/Y.yaml]}\n- pipelines: [p/X.yaml]")
    assert config.pipelines == ("p/X.yaml", "p/Y.yaml")


def test_a_path_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "main.yml").write_text("- pipelines: ['${PIPE_DIR}/a.yaml']")
    assert parse(f" {tmp_path}/main.yml\n").pipelines == ("/pipe/a.yaml",)


def test_text_that_ends_like_a_path_is_text() -> None:
    assert "give a list of paths" in fault("- pipelines: a.yaml")


def test_expansion() -> None:
    assert expand_variables("${PIPE_DIR}/$HOME/${MAPS}", ENV) == "/pipe/$HOME//maps"


angles = st.floats(0, 360, exclude_max=True)


@given(angles, angles, angles)
def test_right_ascension_wraps(low: float, high: float, ra: float) -> None:
    """Going east from min, one comes to ra before max."""
    distances = [(ra - low) % 360, (high - low) % 360]
    assume(math.isclose(*distances, abs_tol=1e-9) is False)
    assume(all(1e-9 < d < 360 - 1e-9 for d in distances))
    assert AngleRange(min=low, max=high).contains_wrapped(ra) == (distances[0] < distances[1])


@given(angles, angles)
def test_ends_are_included(low: float, high: float) -> None:
    box = AngleRange(min=low, max=high)
    assert box.contains_wrapped(low)
    assert box.contains_wrapped(high)


@given(angles)
def test_the_whole_circle(ra: float) -> None:
    for low, high in ((0, 360), (-180, 180), (-360, 0)):
        assert AngleRange(min=low, max=high).contains_wrapped(ra)


@pytest.mark.parametrize(
    ("low", "high", "inside", "outside"),
    [
        (350, 10, [350, 355, 0, 10, 359.999], [10.001, 180, 349.999]),
        (-10, 10, [350, 0, 10], [11, 349]),
        (300, 360, [300, 359, 0], [1, 299]),
        (0, 10, [0, 5, 10], [359, 11]),
        (7, 7, [7], [6.999, 7.001, 187]),
    ],
)
def test_boxes(low: float, high: float, inside: list[float], outside: list[float]) -> None:
    box = AngleRange(min=low, max=high)
    assert [ra for ra in (*inside, *outside) if box.contains_wrapped(ra)] == inside


keys = st.sampled_from(["pipelines", "survey", "ra", "dec", "binary-map", "coord-type", "other"])
values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["min", "max", "x"]) | st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.lists(st.dictionaries(keys, values), max_size=3))
def test_any_yaml_is_read_or_refused(data: list[dict[str, Any]]) -> None:
    for value in (data, yaml.safe_dump(data)):
        try:
            config = parse(value)
        except InvalidConfiguration:
            continue
        assert len(config.entries) == len(data)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    # Text made at random never holds a whole entry.
    assert fault(text)
