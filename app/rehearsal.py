"""A rehearsal of visits, so that the first is not slower than the others."""

from __future__ import annotations

__all__ = ["imaginary_raw", "imaginary_visit", "import_readers", "rehearse"]

import importlib
import logging
import time
from collections.abc import Callable, Iterable

from config.instruments import InstrumentConfig
from models.raws import RawKey, parse_raw_key
from models.times import tai_from_unix
from models.visits import CoordinateSystem, Dome, FannedOutVisit, RotationSystem

_log = logging.getLogger(__name__)

#: Modules that the middleware imports only when it first reads or writes a
#: dataset of some kind, or first talks to a database or server of some kind.
_READERS = (
    "astropy.io.ascii.ecsv",
    "astropy.io.fits",
    "astropy.io.misc.yaml",
    "boto3.s3.inject",
    "encodings.idna",
    "httpcore",
    "lsst.daf.butler.formatters.json",
    "lsst.daf.butler.formatters.parquet",
    "lsst.daf.butler.formatters.yaml",
    "lsst.daf.butler.registry.databases.postgresql",
    "lsst.resources.s3",
    "psycopg2.extras",
    "pyarrow.dataset",
    "pyarrow.parquet",
)


def import_readers() -> None:
    """Import what reads and writes datasets, and what talks to their servers;
    before slots are forked, so that they share it.
    """
    for name in _READERS:
        importlib.import_module(name)


def imaginary_visit(camera: InstrumentConfig) -> FannedOutVisit:
    """Return a visit of a camera's first detector and filter that nobody
    announced.
    """
    now = tai_from_unix(time.time())
    return FannedOutVisit(
        salIndex=0,
        scriptSalIndex=0,
        groupId="rehearsal",
        coordinateSystem=CoordinateSystem.ICRS,
        position=(0.0, 0.0),
        startTime=now,
        rotationSystem=RotationSystem.SKY,
        cameraAngle=0.0,
        filters=camera.filters[0].name,
        dome=Dome.OPEN,
        duration=30.0,
        nimages=1,
        instrument=camera.name,
        survey="",
        totalCheckpoints=1,
        private_sndStamp=now,
        detector=camera.detectors[0].id,
    )


def imaginary_raw() -> RawKey:
    """Return the key of a raw image with a sidecar, which nobody took."""
    return parse_raw_key("LSSTCam-imSim/19700101/0/0_r_0_R00_S00.fits")


def rehearse(steps: Iterable[tuple[str, Callable[[], object]]]) -> None:
    """Take steps whose results do not matter, only that they were taken.

    What cannot be done now is said, and will be met again by a visit, whose
    answer then tells of it.
    """
    for name, step in steps:
        begin = time.perf_counter()
        try:
            step()
        except Exception as error:  # of the middleware, databases and files
            _log.warning("Rehearsal of %s: %s: %s", name, type(error).__name__, error)
        _log.debug("Rehearsed %s in %.3f s.", name, time.perf_counter() - begin)
