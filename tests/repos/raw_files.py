"""A camera and its raw files, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from config.instruments import InstrumentConfig
from models.raws import FoundImage, parse_raw_key
from models.visits import FannedOutVisit

SIZE = (64, 48)
GROUP = "2026-01-01T00:00:00.000"
EXPOSURE = 2026010100007


def make_camera(**changes: Any) -> InstrumentConfig:
    """Make a camera of 2 x 2 sensors."""
    amplifier = {
        "name": "A",
        "data": [0, SIZE[0], 0, SIZE[1]],
        "gain": 1.0,
        "read_noise": 5.0,
        "saturation": 6e4,
    }
    detectors = [
        {"id": i, "name": f"D{i:02d}", "center": [x, y], "size": SIZE, "amplifiers": [amplifier]}
        for i, (x, y) in enumerate([(-1, -1), (1, -1), (-1, 1), (1, 1)])
    ]
    values: dict[str, Any] = {
        "name": "TestCam",
        "plate_scale": 40.0,
        "pixel_size": 0.01,
        "detectors": detectors,
        "filters": [{"name": "g_01", "band": "g"}, {"name": "r_01", "band": "r"}],
        "raw_form": "calibrated",
        "metadata": {
            "instrument": "INSTRUME",
            "telescope": {"value": "Test 1 m"},
            "exposure_id": "EXPID",
            "physical_filter": "FILTER",
            "detector_num": "DETNUM",
            "datetime_begin": {"key": "DATE-BEG", "scale": "tai"},
            "datetime_end": {"key": "DATE-END", "scale": "tai"},
            "exposure_time": {"key": "EXPTIME", "unit": "s"},
            "observation_type": "IMGTYPE",
            "observation_id": "OBSID",
            "observing_day": "DAYOBS",
            "observation_counter": "SEQNUM",
            "object": "OBJECT",
            "boresight_airmass": "AIRMASS",
            "tracking_ra": {"key": "RA", "unit": "deg"},
            "tracking_dec": {"key": "DEC", "unit": "deg"},
            "boresight_rotation_angle": {"key": "ROTANGLE", "unit": "deg"},
        },
    }
    return InstrumentConfig.model_validate({**values, **changes})


#: Cards of the primary HDU.
PRIMARY: dict[str, Any] = {
    "INSTRUME": "TestCam",
    "EXPID": EXPOSURE,
    "FILTER": "r_01",
    "DATE-BEG": "2026-01-01T05:00:00.000",
    "DATE-END": "2026-01-01T05:00:30.000",
    "EXPTIME": 30.0,
    "IMGTYPE": "science",
    "OBSID": "TC_20260101_000007",
    "DAYOBS": 20251231,
    "SEQNUM": 7,
    "OBJECT": "field",
    "AIRMASS": 2.0,
    "RA": 30.0,
    "DEC": -40.0,
    "ROTANGLE": 15.0,
}


def make_visit(detector: int = 2) -> FannedOutVisit:
    """Make the visit that the raw files are of."""
    return FannedOutVisit(
        salIndex=1,
        scriptSalIndex=1,
        groupId=GROUP,
        coordinateSystem=2,
        position=(30.0, -40.0),
        startTime=1.7e9,
        rotationSystem=2,
        cameraAngle=15.0,
        filters="r_01",
        dome=2,
        duration=35.0,
        nimages=1,
        instrument="TestCam",
        survey="test",
        totalCheckpoints=1,
        private_sndStamp=1.7e9,
        detector=detector,
    )


def write_raw(
    root: Path, *, detector: int = 2, exposure: int = EXPOSURE, name: str = "raw.fits", **changes: Any
) -> FoundImage:
    """Write a raw file; cards set to None are left out."""
    cards = {k: v for k, v in {**PRIMARY, **changes}.items() if v is not None}
    key = f"TestCam/{detector}/{GROUP}/0/{exposure}/r_01/{name}"
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    primary = fits.PrimaryHDU(header=fits.Header(cards))
    data = np.arange(SIZE[0] * SIZE[1], dtype=np.int16).reshape(SIZE[1], SIZE[0])
    pixel_cards = fits.Header(
        {"DETNUM": detector, "OBJECT": "pixels win"} if "OBJECT" not in changes else {"DETNUM": detector}
    )
    image = (fits.CompImageHDU if name.endswith(".fz") else fits.ImageHDU)(data, header=pixel_cards)
    fits.HDUList([primary, image]).writeto(path, overwrite=True)
    return FoundImage(raw=parse_raw_key(key), location=str(path))
