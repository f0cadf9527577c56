"""Removal of the instrument's signature."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.table import Table

from models.errors import UnreadableImage
from models.images import MaskPlane, PromptImage, RawImage
from pipelines.algorithms.isr import assemble, remove_signature
from pipelines.tasks.ingest_calibrated import IngestCalibratedTask
from pipelines.tasks.isr import IsrTask
from tests.pipelines.conftest import make_task
from tests.pipelines.synthetic import GAIN, READ_NOISE, SATURATION, camera

SIZE = 64
CARDS: dict[str, Any] = {"DETECTOR": 3, "EXPTIME": 10.0, "VISIT": 1}


def readout(electrons: np.ndarray) -> RawImage:
    """Read out a detector of two amplifiers with different gains and levels."""
    half = SIZE // 2
    raw = np.empty((SIZE, SIZE + 32))
    raw[:, :half] = electrons[:, :half] / GAIN + 1000
    raw[:, half : half + 16] = 1000
    raw[:, half + 16 : half + 32] = 1100
    raw[:, half + 32 :] = electrons[:, half:] / (1.1 * GAIN) + 1100
    return RawImage(raw.astype(np.float32), {})


def run(electrons: np.ndarray, **calibrations: Any) -> PromptImage:
    task = make_task(IsrTask)
    return task.run(raw=readout(electrons), camera=camera(SIZE), cards=CARDS, **calibrations).post_isr_image


def test_overscan_and_gain() -> None:
    electrons = np.full((SIZE, SIZE), 500.0)
    image = run(electrons)
    np.testing.assert_allclose(image.image, 500.0, rtol=1e-4)
    assert image.variance is not None
    np.testing.assert_allclose(image.variance, 500.0 + READ_NOISE**2, rtol=1e-4)
    assert image.header["BUNIT"] == "electron"


def test_calibrations_undo_what_the_camera_does() -> None:
    rng = np.random.default_rng(1)
    light = rng.uniform(100, 1000, (SIZE, SIZE))
    response = rng.uniform(0.8, 1.2, (SIZE, SIZE))
    bias, dark = rng.uniform(-5, 5, (SIZE, SIZE)), rng.uniform(0, 0.4, (SIZE, SIZE))
    gain = np.where(np.arange(SIZE) < SIZE // 2, GAIN, 1.1 * GAIN)
    electrons = light * response + (bias + dark * 10.0) * gain
    image = run(
        electrons,
        bias=PromptImage(bias.astype(np.float32)),
        dark=PromptImage(dark.astype(np.float32)),
        flat=PromptImage(response.astype(np.float32)),
    )
    np.testing.assert_allclose(image.image, light, rtol=2e-3)


def test_saturated_dead_and_defective_pixels_are_masked() -> None:
    electrons = np.full((SIZE, SIZE), 100.0)
    electrons[20, 10] = 1.01 * SATURATION * GAIN
    flat = np.ones((SIZE, SIZE), np.float32)
    flat[5, 5], flat[6, 6] = 0.0, np.nan
    defects = Table({"x0": [40], "y0": [50], "width": [3], "height": [100]})
    image = run(electrons, flat=PromptImage(flat), defects=defects)
    assert image.mask is not None
    assert image.mask[20, 10] & MaskPlane.SAT
    assert image.mask[21, 11] & MaskPlane.SAT
    assert not image.mask[23, 10]
    assert image.mask[5, 5] & MaskPlane.BAD
    assert image.mask[6, 6] & MaskPlane.BAD
    assert (image.mask[50:, 40:43] & MaskPlane.BAD).all()
    assert not image.mask[49, 40]
    assert np.isfinite(image.image).all()
    assert np.isfinite(image.variance).all()  # type: ignore[arg-type]


def test_a_readout_of_another_camera_is_named() -> None:
    detector = camera(SIZE).by_id[3]
    with pytest.raises(UnreadableImage, match=r"shape \(64, 64\).*another camera"):
        assemble(np.zeros((SIZE, SIZE)), detector)


def test_a_calibration_of_another_shape_is_named() -> None:
    detector = camera(SIZE).by_id[3]
    assembled = assemble(readout(np.zeros((SIZE, SIZE))).data, detector)
    with pytest.raises(ValueError, match="the flat has shape"):
        remove_signature(assembled, bias=None, dark=None, flat=np.ones((8, 8), np.float32), exposure_time=1.0)


def test_calibrated_frames_get_a_measured_noise() -> None:
    rng = np.random.default_rng(2)
    adu = rng.normal(200.0, 5.0, (SIZE, SIZE))
    adu[30, 30] = np.nan
    header: dict[str, Any] = {"GAIN": 2.0, "ESATUR": 1000.0}
    adu[10, 10] = 2000.0
    task = make_task(IngestCalibratedTask)
    image = task.run(raw=RawImage(adu, header), camera=camera(SIZE), cards=CARDS).post_isr_image
    assert np.median(image.image) == pytest.approx(400.0, rel=0.01)
    assert np.median(image.variance) == pytest.approx(100.0, rel=0.25)
    assert image.mask[30, 30] & MaskPlane.BAD
    assert image.mask[10, 10] & MaskPlane.SAT


@pytest.mark.parametrize("data", [np.zeros((3, 3)), np.full((SIZE, SIZE), np.nan)])
def test_unusable_calibrated_frames_are_refused(data: np.ndarray) -> None:
    with pytest.raises(UnreadableImage):
        make_task(IngestCalibratedTask).run(raw=RawImage(data), camera=camera(SIZE), cards=CARDS)
