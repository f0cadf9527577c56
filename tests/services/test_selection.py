"""Selection of pipelines: which entry a visit matches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.pipelines_config import parse_pipelines_config
from models.errors import InvalidConfiguration, NoPipelineApplies
from models.pipelines import SelectedPipelines
from models.visits import CoordinateSystem, FannedOutVisit, RotationSystem
from services.selection import PipelineSelector
from tests.repos.test_ledger import make_visit


class NorthernMap:
    """A map of the northern sky."""

    def contains(self, ra: float, dec: float) -> bool:
        return dec > 0


class Selecting:
    """A selector whose detectors lie 10 degrees north and east of the boresight."""

    def __init__(self, main: Any, preprocessing: Any = ({"pipelines": None},)) -> None:
        self.loaded: list[str] = []
        self.asked = 0
        self.selector = PipelineSelector(
            main=parse_pipelines_config(list(main), env={}),
            preprocessing=parse_pipelines_config(list(preprocessing), env={}),
            detector_center=self.center,
            load_map=self.load,
        )

    def center(self, visit: FannedOutVisit) -> tuple[float, float]:
        self.asked += 1
        ra, dec = visit.position
        return (ra + 10) % 360, dec + 10

    def load(self, path: str) -> Any:
        self.loaded.append(path)
        return NorthernMap()

    def matches(self, visit: FannedOutVisit) -> bool:
        try:
            return self.selector.select(visit).main == ("x.yaml",)
        except NoPipelineApplies:
            return False


def entry(**keys: Any) -> dict[str, Any]:
    return {"pipelines": ["x.yaml"], **{key.replace("_", "-"): value for key, value in keys.items()}}


def visit(**changes: Any) -> FannedOutVisit:
    return make_visit().model_copy(update=changes)


NO_POSITION = {"coordinateSystem": CoordinateSystem.NONE, "position": (0.0, 0.0)}
NO_ROTATION = {"rotationSystem": RotationSystem.NONE}


def test_the_first_match_wins() -> None:
    selecting = Selecting(
        [
            {"pipelines": ["shallow.yaml"], "survey": "shallow"},
            {"pipelines": ["deep.yaml", "isr.yaml"], "survey": "deep"},
            {"pipelines": ["any.yaml"]},
        ],
        [{"pipelines": ["before.yaml"], "survey": "deep"}],
    )
    assert selecting.selector.select(visit()) == SelectedPipelines(
        preprocessing=("before.yaml",), main=("deep.yaml", "isr.yaml")
    )
    assert selecting.selector.select(visit(survey="other")) == SelectedPipelines(
        preprocessing=(), main=("any.yaml",)
    )
    assert selecting.asked == 0


def test_nothing_matches() -> None:
    with pytest.raises(NoPipelineApplies, match="no entry of MAIN_PIPELINES_CONFIG matches"):
        Selecting([entry(survey="other")]).selector.select(visit())


def test_run_nothing_is_an_answer() -> None:
    selecting = Selecting([{"pipelines": None, "survey": "deep"}, entry()])
    with pytest.raises(NoPipelineApplies, match="run nothing"):
        selecting.selector.select(visit())
    assert selecting.matches(visit(survey=""))


def test_an_empty_survey_matches_only_an_empty_one() -> None:
    selecting = Selecting([entry(survey="")])
    assert selecting.matches(visit(survey=""))
    assert not selecting.matches(visit(survey="deep"))


@pytest.mark.parametrize(
    ("keys", "boresight", "detector"),
    [
        ({"ra": {"min": 0, "max": 5}}, (355.0, 0.0), (5.0, 10.0)),
        ({"ra": {"min": 350, "max": 2}}, (340.0, 0.0), (350.0, 10.0)),
        ({"dec": {"min": 5, "max": 15}}, (0.0, -5.0), (10.0, 5.0)),
        ({"binary-map": "m.fits"}, (0.0, -5.0), (10.0, 5.0)),
    ],
)
def test_the_detector_counts_unless_the_boresight_is_asked_for(
    keys: dict[str, Any], boresight: tuple[float, float], detector: tuple[float, float]
) -> None:
    assert Selecting([entry(**keys)]).matches(visit(position=boresight))
    assert not Selecting([entry(coord_type="boresight", **keys)]).matches(visit(position=boresight))
    assert Selecting([entry(coord_type="BORESIGHT", **keys)]).matches(visit(position=detector))


ALL_SKY = [{"ra": {"min": 0, "max": 360}}, {"dec": {"min": -90, "max": 90}}, {"binary-map": "m.fits"}]


@pytest.mark.parametrize("keys", ALL_SKY)
def test_without_its_coordinate_an_entry_never_matches(keys: dict[str, Any]) -> None:
    boresight, detector = (Selecting([entry(coord_type=kind, **keys)]) for kind in ("boresight", "detector"))
    north = {"position": (10.0, 20.0)}
    assert boresight.matches(visit(**north))
    assert detector.matches(visit(**north))
    assert not boresight.matches(visit(**NO_POSITION))
    assert not detector.matches(visit(**NO_POSITION))
    # The camera's rotation is needed for a detector's place only.
    assert boresight.matches(visit(**north, **NO_ROTATION))
    assert not detector.matches(visit(**north, **NO_ROTATION))
    assert detector.asked == 1


def test_an_unknown_detector_has_no_place() -> None:
    selector = PipelineSelector(
        main=parse_pipelines_config([entry(**ALL_SKY[0])], env={}),
        preprocessing=parse_pipelines_config([{"pipelines": None}], env={}),
        detector_center=lambda _: None,
    )
    with pytest.raises(NoPipelineApplies):
        selector.select(visit())


def test_an_entry_without_position_matches_any() -> None:
    selecting = Selecting([entry(coord_type="boresight")])
    assert selecting.matches(visit(**NO_POSITION, **NO_ROTATION))


def test_each_map_is_read_once_at_start() -> None:
    selecting = Selecting(
        [entry(binary_map="a.fits"), entry(binary_map="a.fits", survey="x")],
        [entry(binary_map="b.fits"), entry(binary_map="a.fits")],
    )
    assert selecting.loaded == ["a.fits", "b.fits"]
    for _ in range(3):
        selecting.matches(visit())
    assert selecting.loaded == ["a.fits", "b.fits"]


def test_a_broken_map_stops_the_start() -> None:
    configs = [parse_pipelines_config([entry(binary_map="/nowhere.fits")], env={})] * 2
    with pytest.raises(InvalidConfiguration, match=r"/nowhere\.fits"):
        PipelineSelector(main=configs[0], preprocessing=configs[1], detector_center=lambda _: None)


@given(
    ra=st.floats(0, 360, exclude_max=True),
    dec=st.floats(-90, 90),
    dec_ends=st.tuples(st.floats(-90, 90), st.floats(-90, 90)).filter(lambda e: e[0] < e[1]),
    survey=st.sampled_from(["", "deep", "wide"]),
    wanted=st.sampled_from(["", "deep", None]),
)
def test_all_conditions_must_hold(
    ra: float, dec: float, dec_ends: tuple[float, float], survey: str, wanted: str | None
) -> None:
    keys: dict[str, Any] = {"dec": {"min": dec_ends[0], "max": dec_ends[1]}, "binary-map": "north"}
    if wanted is not None:
        keys["survey"] = wanted
    expected = (wanted is None or wanted == survey) and dec_ends[0] <= dec <= dec_ends[1] and dec > 0
    selecting = Selecting([entry(coord_type="boresight", **keys)])
    assert selecting.matches(visit(position=(ra, dec), survey=survey)) == expected
