"""Preload: which datasets a visit needs, and which pipelines can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import NoPipelineBuilt
from models.inputs import InputKind, InputNeed
from services.preload import Preloader, PreloadPlan
from tests.services.world import Pipeline, StorageType, Task, need
from tests.visits import make_visit

DATA_ID = {"instrument": "Fake-Cam", "detector": 0, "physical_filter": "r", "band": "r"}
ALL = {
    "bias": InputKind.CALIBRATION,
    "refcat": InputKind.REFCAT,
    "template": InputKind.TEMPLATE,
    "skyMap": InputKind.SKYMAP,
    "pretrained": InputKind.OTHER,
    "regionTimeInfo": InputKind.GROUP,
    "raw": InputKind.VISIT,
}


class Source:
    """A central repo that has everything but some types."""

    def __init__(self, *lacking: str) -> None:
        self.lacking = lacking
        self.asked: dict[str, tuple[Any, ...]] = {}

    def find(
        self, need: InputNeed, data_id: Mapping[str, Any], *, valid_at: float, region: Any
    ) -> Sequence[str]:
        assert need.dataset_type not in self.asked, "asked twice"
        self.asked[need.dataset_type] = (data_id, valid_at, region)
        return [] if need.dataset_type in self.lacking else [f"{need.dataset_type} 1"]


def pipeline(stem: str, *needs: InputNeed, makes: Sequence[str] = ()) -> Pipeline:
    return Pipeline(f"/some/where/{stem}.yaml", [Task("task", tuple(map(StorageType, makes)))], needs)


def plan(
    source: Source, *pipelines: Pipeline, data_id: Any = None, region: Any = "r", **visit: Any
) -> PreloadPlan:
    return Preloader(source=source).plan(
        make_visit(**visit), pipelines, DATA_ID if data_id is None else data_id, region
    )


def test_everything_that_can_be_preloaded() -> None:
    source = Source()
    found = plan(source, pipeline("A", *(need(n, k) for n, k in ALL.items())), private_sndStamp=12345.5)
    assert set(found.found) == set(source.asked) == set(ALL) - {"regionTimeInfo", "raw"}
    assert found.found["bias"] == ["bias 1"]
    # Calibrations are valid when the visit was announced.
    assert all(asked == (DATA_ID, 12345.5, "r") for asked in source.asked.values())
    assert found.warnings == []


def test_once_for_all_pipelines() -> None:
    source = Source()
    found = plan(source, pipeline("A", need("bias"), need("dark")), pipeline("B", need("bias"), need("flat")))
    assert list(found.found) == ["bias", "dark", "flat"]


def test_what_a_pipeline_makes_is_not_looked_for() -> None:
    source = Source()
    plan(source, pipeline("Pre", makes=["objects"]), pipeline("A", need("objects", InputKind.OTHER)))
    assert source.asked == {}


@pytest.mark.parametrize("required", [True, False])
def test_what_is_missing_is_a_warning(required: bool) -> None:
    found = plan(Source("dark"), pipeline("A", need("dark", required=required), need("bias")))
    assert found.warnings == ["no dark for this visit: the central repo has none for it"]
    assert not found.has("dark")
    assert not found.has("never heard of")
    assert found.has("bias")


FILTERED = need("flat", filter_dependent=True)


@pytest.mark.parametrize(
    ("what", "data_id", "region", "filters", "reason"),
    [
        (FILTERED, {}, "r", "", "the visit names no filter"),
        (need("template", InputKind.TEMPLATE), {}, "r", "", "the visit names no filter"),
        (FILTERED, {}, "r", "x_99", "the repo does not know filter 'x_99'"),
        (need("template", InputKind.TEMPLATE), {}, "r", "x_99", "the repo does not know filter 'x_99'"),
        (need("refcat", InputKind.REFCAT), DATA_ID, None, "r", "its footprint on the sky is not known"),
        (need("template", InputKind.TEMPLATE), DATA_ID, None, "r", "its footprint on the sky is not known"),
    ],
)
def test_what_cannot_be_there(
    what: InputNeed, data_id: dict[str, Any], region: str | None, filters: str, reason: str
) -> None:
    source = Source()
    found = plan(source, pipeline("A", what, need("bias")), data_id=data_id, region=region, filters=filters)
    assert set(source.asked) == {"bias"}
    assert found.warnings == [f"no {what.dataset_type} for this visit: {reason}"]


def test_what_does_not_depend_on_filter_or_place() -> None:
    found = plan(
        Source(),
        pipeline("A", need("bias"), need("skyMap", InputKind.SKYMAP), need("net", InputKind.OTHER)),
        data_id={},
        region=None,
        filters="",
    )
    assert list(found.found) == ["bias", "skyMap", "net"]
    assert found.warnings == []


def test_feasible_keeps_the_order() -> None:
    first, second, third = (
        pipeline("A", need("bias")),
        pipeline("B", need("dark")),
        pipeline("C", need("flat", required=False), need("raw", InputKind.VISIT)),
    )
    assert Preloader.feasible([first, second, third], ["bias"], []) == [first, third]
    assert Preloader.feasible([first, second, third], ["dark"], ["bias"]) == [first, second, third]


def test_none_is_feasible() -> None:
    first, second = pipeline("A", need("bias"), need("dark")), pipeline("B", need("info", InputKind.GROUP))
    with pytest.raises(NoPipelineBuilt, match="A lacks bias, dark; B lacks info"):
        Preloader.feasible([first, second], ["flat"], [])


@given(
    st.lists(st.sets(st.sampled_from("abcdef")), min_size=1, max_size=4),
    st.sets(st.sampled_from("abcdef")),
    st.sets(st.sampled_from("abcdef")),
)
def test_feasible_is_what_has_its_inputs(
    required: list[set[str]], available: set[str], expected: set[str]
) -> None:
    pipelines = [pipeline(f"P{i}", *map(need, sorted(names))) for i, names in enumerate(required)]
    want = [p for p, names in zip(pipelines, required, strict=True) if names <= available | expected]
    if want:
        assert Preloader.feasible(pipelines, available, expected) == want
    else:
        with pytest.raises(NoPipelineBuilt):
            Preloader.feasible(pipelines, available, expected)
