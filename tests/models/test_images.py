"""Images, ids and alerts as values."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.alerts import AlertPackets
from models.ids import MAX_DETECTOR, MAX_SOURCES, MAX_VISIT, pack_source_id, unpack_source_id
from models.images import MaskPlane, PromptImage, RawImage, SpatialKernel
from models.metrics import MetricMeasurementBundle


def image() -> PromptImage:
    pixels = np.arange(12, dtype=np.float32).reshape(3, 4)
    return PromptImage(pixels, pixels + 1, np.zeros((3, 4), np.int32), {"BUNIT": "nJy"})


def test_equality_sees_every_part() -> None:
    one = image()
    assert one == copy.deepcopy(one)
    for change in (
        {"image": one.image + 1},
        {"variance": None},
        {"mask": one.mask + 1},  # type: ignore[operator]
        {"header": {}},
        {"psf": SpatialKernel(np.ones((1, 3, 3), np.float32), 0, 10.0)},
    ):
        other = copy.deepcopy(one)
        for name, value in change.items():
            setattr(other, name, value)
        assert other != one
    assert RawImage(one.image, {}) != RawImage(one.image, {"A": 1})


def test_not_a_number_equals_itself() -> None:
    one, other = image(), image()
    one.image[0, 0] = other.image[0, 0] = np.nan
    assert one == other


def test_planes_must_have_one_shape() -> None:
    with pytest.raises(ValueError, match="variance has shape"):
        PromptImage(np.zeros((3, 4)), np.zeros((4, 3)))


def test_pixels_have_the_types_of_the_file() -> None:
    pixels = np.ones((3, 4))
    one = PromptImage(pixels, pixels, np.ones((3, 4), np.int64))
    assert (one.image.dtype, one.variance.dtype, one.mask.dtype) == (np.float32, np.float32, np.int32)  # type: ignore[union-attr]


def test_unusable_pixels() -> None:
    one = image()
    assert not one.unusable().any()
    assert one.mask is not None
    one.mask[1, 1] = MaskPlane.CR
    one.mask[2, 2] = MaskPlane.DETECTED
    assert np.argwhere(one.unusable()).tolist() == [[1, 1]]


def test_wcs_comes_from_the_header() -> None:
    one = image()
    with pytest.raises(ValueError, match="CTYPE1"):
        _ = one.wcs
    one.header |= {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 5.0, "CRPIX1": 1.0,
        "CRPIX2": 1.0, "CD1_1": -1e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 1e-4,
    }  # fmt: skip
    assert one.wcs.all_pix2world(0, 0, 0) == [pytest.approx(10.0), pytest.approx(5.0)]
    assert "BUNIT" not in one.wcs_header


def test_a_kernel_is_a_polynomial_of_images() -> None:
    coefficients = np.zeros((3, 3, 3), np.float32)
    coefficients[0, 1, 1], coefficients[1, 0, 0], coefficients[2, 2, 2] = 1, 0.5, 0.25
    kernel = SpatialKernel(coefficients, 1, 100.0)
    middle, corner = kernel.at(50, 50), kernel.at(100, 0)
    assert middle[1, 1] == corner[1, 1] == 1
    assert middle[0, 0] == middle[2, 2] == 0
    assert sorted((corner[0, 0], corner[2, 2])) == [-0.5, 0.25]
    assert kernel.normalised_at(100, 0).sum() == pytest.approx(1)


@given(st.integers(0, MAX_VISIT), st.integers(0, MAX_DETECTOR), st.integers(0, MAX_SOURCES - 1))
def test_source_ids_are_reversible_and_fit(visit: int, detector: int, number: int) -> None:
    packed = pack_source_id(visit, detector, number)
    assert 0 <= packed < 2**63
    assert unpack_source_id(packed) == (visit, detector, number)


def test_the_last_visit_of_the_century_has_an_id() -> None:
    assert unpack_source_id(pack_source_id(2099123199999, 204, 9))[0] == 2099123199999


@pytest.mark.parametrize(
    ("visit", "detector", "number", "what"),
    [
        (MAX_VISIT + 1, 0, 0, "visit"),
        (1, MAX_DETECTOR + 1, 0, "detector"),
        (1, 0, MAX_SOURCES, "running number"),
        (-1, 0, 0, "visit"),
    ],
)
def test_what_does_not_fit_is_named(visit: int, detector: int, number: int, what: str) -> None:
    with pytest.raises(ValueError, match=f"^{what} -?[0-9]+ of visit .* does not fit"):
        pack_source_id(visit, detector, number)


def test_alert_packets_know_their_schema() -> None:
    packets = AlertPackets("11.1", [{"diaSourceId": 1}, {"diaSourceId": 2}])
    assert len(packets) == 2
    assert [p["diaSourceId"] for p in packets] == [1, 2]
    assert packets.schema_id == 1101


def test_metrics_are_a_mapping_of_actions() -> None:
    text = '{"prepButlerTimeMetric":[{"metric":"prep_butlerTotalTime","value":1.5,"unit":"s"}]}'
    bundle = MetricMeasurementBundle.model_validate_json(text)
    assert bundle.root["prepButlerTimeMetric"][0].value == 1.5
    assert bundle.model_dump_json() == text
