"""Cosmic rays and bleeding."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from simulator.artefacts import add_cosmic_rays, bleed


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, (12, 3), elements=st.floats(0, 1000, width=32)), st.floats(500, 900))
def test_bleeding_keeps_charge_unless_the_column_is_full(image: np.ndarray, full: float) -> None:
    result = bleed(image, full)
    assert result.max() <= np.float32(full) * 1.0001
    for column in range(3):
        before, after = image[:, column].sum(dtype=float), result[:, column].sum(dtype=float)
        capacity = full * 12
        assert after <= before + 1e-2
        if before <= capacity * 0.99:
            assert after > before - 1e-2 or (result[:, column] > full * 0.999).any()
        if (image[:, column] <= full).all():
            np.testing.assert_array_equal(result[:, column], image[:, column])


def test_bleeding_spreads_evenly_up_and_down_one_column() -> None:
    image = np.zeros((21, 3), np.float32)
    image[10, 1] = 500.0
    result = bleed(image, 100.0)
    assert (result[8:13, 1] == 100.0).all()
    assert result.sum() == 500.0
    assert (result[:, [0, 2]] == 0).all()


def test_cosmic_rays_come_at_their_rate() -> None:
    image = np.zeros((1024, 1024), np.float32)
    rng = np.random.default_rng(1)
    number = sum(add_cosmic_rays(image, rng, 30.0) for _ in range(4))
    assert 130 < number < 260
    assert (image > 100).sum() > number
    assert (image > 0).mean() < 0.01


def test_no_time_no_cosmic_rays() -> None:
    image = np.zeros((64, 64), np.float32)
    assert add_cosmic_rays(image, np.random.default_rng(1), 0.0) == 0
    assert not image.any()
