"""A small camera, and nights with it."""

from __future__ import annotations

from typing import Any

import pytest

from config.instruments import InstrumentConfig, find_instrument_file, load_instrument

#: 2027-01-15 08:00 UTC.
START = 1_800_000_000.0


def small_camera(**changes: Any) -> InstrumentConfig:
    """Return DemoCam with sensors of 192 x 192 pixels, close together."""
    demo = load_instrument(find_instrument_file("DemoCam"))
    data: dict[str, Any] = demo.model_dump(mode="json", exclude_none=True)
    data["name"] = "SmallCam"
    for detector in data["detectors"]:
        detector["size"] = [192, 192]
        detector["center"] = [1.05 if c > 0 else -1.05 for c in detector["center"]]
        left, right = detector["amplifiers"]
        left.update(data=[0, 96, 0, 192], raw_data=[0, 96, 0, 192], raw_overscan=[96, 128, 0, 192])
        right.update(data=[96, 192, 0, 192], raw_data=[160, 256, 0, 192], raw_overscan=[128, 160, 0, 192])
    return InstrumentConfig.model_validate(data | changes)


@pytest.fixture(scope="session")
def camera() -> InstrumentConfig:
    """The small camera."""
    return small_camera()
