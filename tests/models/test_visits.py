"""Visits: the fields that are sent, and what is accepted on reading."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidMessage, UnusableVisit
from models.visits import (
    CoordinateSystem,
    Dome,
    FannedOutVisit,
    NextVisit,
    RotationSystem,
    SummitVisit,
    VisitKey,
)

#: A fanned-out visit as the field sends it.
MESSAGE: dict[str, Any] = {
    "salIndex": 2,
    "scriptSalIndex": 300,
    "groupId": "2025-04-01T03:00:00.123",
    "coordinateSystem": 2,
    "position": [134.5454, -65.3261],
    "startTime": 1743476437.5,
    "rotationSystem": 2,
    "cameraAngle": 135.0,
    "filters": "r_03",
    "dome": 2,
    "duration": 35.0,
    "nimages": 1,
    "instrument": "LSSTCam",
    "survey": "BLOCK-320",
    "totalCheckpoints": 1,
    "private_sndStamp": 1743476400.25,
    "detector": 94,
}
#: What the summit's message has besides.
TRANSPORT = {
    "private_efdStamp": 1743476363.25,
    "private_kafkaStamp": 1743476363.3,
    "private_identity": "ScriptQueue:2",
    "private_revCode": "c9aab3df",
    "private_origin": 3041,
    "private_seqNum": 1630,
    "private_rcvStamp": 1743476363.31,
}


def summit_message() -> dict[str, Any]:
    return {k: v for k, v in MESSAGE.items() if k != "detector"} | TRANSPORT


def with_field(name: str, value: Any) -> dict[str, Any]:
    return {**MESSAGE, name: value}


def test_exactly_these_fields_are_sent() -> None:
    assert FannedOutVisit.parse(MESSAGE).to_message() == MESSAGE
    fanned_out = SummitVisit.parse(summit_message()).fan_out(94)
    assert fanned_out.to_message() == MESSAGE
    assert list(fanned_out.to_message()) == list(MESSAGE)


def test_a_number_is_sent_as_a_number() -> None:
    sent = json.loads(json.dumps(FannedOutVisit.parse(MESSAGE).to_message()))
    assert {name: type(value) for name, value in sent.items()} == {
        name: type(value) for name, value in MESSAGE.items()
    }


@pytest.mark.parametrize("form", [lambda m: m, json.dumps, lambda m: json.dumps(m).encode()])
def test_an_object_or_text(form: Any) -> None:
    visit = FannedOutVisit.parse(form(MESSAGE))
    assert visit.coordinateSystem is CoordinateSystem.ICRS
    assert visit.rotationSystem is RotationSystem.SKY
    assert visit.dome is Dome.OPEN
    assert visit.key == VisitKey("LSSTCam", "2025-04-01T03:00:00.123", 94)


def test_unknown_fields_are_ignored_and_not_passed_on() -> None:
    assert FannedOutVisit.parse({**MESSAGE, **TRANSPORT, "new": [1]}).to_message() == MESSAGE


@pytest.mark.parametrize("name", TRANSPORT)
def test_what_the_transport_leaves_null_is_as_good_as_absent(name: str) -> None:
    visit = SummitVisit.parse({**summit_message(), name: None})
    assert getattr(visit, name) in (0, "")
    assert visit.fan_out(MESSAGE["detector"]).to_message() == MESSAGE


def test_the_summits_own_fields_may_be_absent() -> None:
    bare = {k: v for k, v in MESSAGE.items() if k != "detector"}
    visit = SummitVisit.parse(bare)
    assert visit.private_efdStamp == 0
    assert SummitVisit.parse(summit_message()).private_efdStamp == TRANSPORT["private_efdStamp"]


@pytest.mark.parametrize("name", MESSAGE)
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(InvalidMessage, match=f"^{name}: Field required$"):
        FannedOutVisit.parse({k: v for k, v in MESSAGE.items() if k != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("salIndex", "two"),
        ("salIndex", 1.5),
        ("salIndex", None),
        ("groupId", ""),
        ("groupId", 3),
        ("coordinateSystem", 0),
        ("coordinateSystem", 5),
        ("coordinateSystem", "ICRS"),
        ("rotationSystem", 7),
        ("dome", 0),
        ("position", [1.0]),
        ("position", [1.0, 2.0, 3.0]),
        ("position", 5.0),
        ("position", [1.0, 90.1]),
        ("position", [math.nan, 0.0]),
        ("position", [0.0, math.inf]),
        ("startTime", math.nan),
        ("cameraAngle", math.inf),
        ("cameraAngle", None),
        ("private_sndStamp", math.nan),
        ("private_sndStamp", "yesterday"),
        ("duration", -1.0),
        ("nimages", -1),
        ("nimages", 0.5),
        ("detector", -1),
        ("detector", "R22_S11"),
        ("instrument", None),
        ("survey", None),
        ("filters", ["r"]),
    ],
)
def test_a_wrong_field_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidMessage, match=f"^{name}"):
        FannedOutVisit.parse(with_field(name, value))


def test_every_wrong_field_is_named_at_once() -> None:
    broken = {**with_field("dome", 9), "nimages": -3}
    del broken["filters"]
    with pytest.raises(InvalidMessage) as caught:
        FannedOutVisit.parse(broken)
    assert all(name in str(caught.value) for name in ("dome", "nimages", "filters"))


@pytest.mark.parametrize("data", ["", "{", "nonsense", b"\xff\xfe\xfa", "[" * 100_000])
def test_what_is_not_json(data: str | bytes) -> None:
    with pytest.raises(InvalidMessage, match="not valid JSON"):
        FannedOutVisit.parse(data)


@pytest.mark.parametrize("data", ["[]", "3", "null", '"text"', "true"])
def test_what_is_not_an_object(data: str) -> None:
    with pytest.raises(InvalidMessage, match="must be a JSON object"):
        FannedOutVisit.parse(data)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(text: str) -> None:
    body = json.dumps(MESSAGE).replace("135.0", text)
    with pytest.raises(InvalidMessage, match="cameraAngle"):
        FannedOutVisit.parse(body)


def test_the_present_version_may_be_named() -> None:
    assert FannedOutVisit.parse(with_field("schemaVersion", 1)).to_message() == MESSAGE


@pytest.mark.parametrize("version", [2, 0, -1, "1", 1.0, True, None, [1]])
def test_other_versions_are_refused_by_name(version: Any) -> None:
    with pytest.raises(InvalidMessage, match="schemaVersion"):
        FannedOutVisit.parse(with_field("schemaVersion", version))


@pytest.mark.parametrize(
    ("ra", "expected"), [(-10.0, 350.0), (370.0, 10.0), (360.0, 0.0), (0.0, 0.0), (-1e-20, 0.0), (725.0, 5.0)]
)
def test_right_ascension_is_normalised(ra: float, expected: float) -> None:
    assert FannedOutVisit.parse(with_field("position", [ra, 5.0])).position == (expected, 5.0)


def test_other_coordinates_are_left_alone() -> None:
    body = {**MESSAGE, "coordinateSystem": 3, "position": [-10.0, 45.0]}
    assert FannedOutVisit.parse(body).position == (-10.0, 45.0)


@pytest.mark.parametrize("coordinates", CoordinateSystem)
@pytest.mark.parametrize("rotation", RotationSystem)
def test_what_can_be_processed(coordinates: CoordinateSystem, rotation: RotationSystem) -> None:
    body = {**MESSAGE, "coordinateSystem": int(coordinates), "rotationSystem": int(rotation)}
    visit = FannedOutVisit.parse(body)
    usable = coordinates.name in ("NONE", "ICRS") and rotation.name in ("NONE", "SKY")
    if usable:
        visit.check_usable()
    else:
        with pytest.raises(UnusableVisit, match=r"cannot be processed; use NONE"):
            visit.check_usable()
    assert visit.has_position == (coordinates is CoordinateSystem.ICRS)
    assert visit.has_footprint == (coordinates.name == "ICRS" and rotation.name == "SKY")


finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
visits = st.fixed_dictionaries(
    {
        "salIndex": st.integers(),
        "scriptSalIndex": st.integers(),
        "groupId": text.filter(bool),
        "coordinateSystem": st.sampled_from(CoordinateSystem).map(int),
        "position": st.tuples(finite, st.floats(-90, 90)).map(list),
        "startTime": finite,
        "rotationSystem": st.sampled_from(RotationSystem).map(int),
        "cameraAngle": finite,
        "filters": text,
        "dome": st.sampled_from(Dome).map(int),
        "duration": st.floats(0, allow_infinity=False),
        "nimages": st.integers(0),
        "instrument": text,
        "survey": text,
        "totalCheckpoints": st.integers(),
        "private_sndStamp": finite,
        "detector": st.integers(0, 2**31),
    }
)


@given(visits)
def test_visits_go_there_and_back(message: dict[str, Any]) -> None:
    visit = FannedOutVisit.parse(json.dumps(message))
    again = FannedOutVisit.parse(json.dumps(visit.to_message()))
    assert again == visit
    if message["coordinateSystem"] != CoordinateSystem.ICRS:
        assert visit.to_message() == message
    else:
        assert 0 <= visit.position[0] < 360


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*MESSAGE]) | st.text(), inner),
        max_leaves=10,
    )
)
def test_any_json_is_read_or_refused(data: Any) -> None:
    for model in (NextVisit, SummitVisit, FannedOutVisit):
        with pytest.raises(InvalidMessage):
            model.parse(json.dumps(data))


@given(st.sampled_from(list(MESSAGE)), st.none() | st.booleans() | st.integers() | st.floats() | st.text())
def test_any_value_of_a_field_is_read_or_refused_by_name(name: str, value: Any) -> None:
    try:
        visit = FannedOutVisit.parse(with_field(name, value))
    except InvalidMessage as error:
        named = str(error)
    else:
        named = name
        assert set(visit.to_message()) == set(MESSAGE)
    assert named.startswith(name)


@pytest.mark.parametrize("text", ["\udfff", "a\0b"])
@pytest.mark.parametrize("field", ["groupId", "filters", "instrument", "survey"])
def test_text_that_nothing_can_store_is_refused(field: str, text: str) -> None:
    with pytest.raises(InvalidMessage, match=field):
        FannedOutVisit.parse(with_field(field, text))
