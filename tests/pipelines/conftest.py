"""Observations and tasks that several tests share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lsst.pipe.base as pipeBase
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS
from lsst.daf.butler import Timespan
from lsst.dax.apdb.sql import ApdbSql
from lsst.pipe.base.utils import RegionTimeInfo
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from models.images import PromptImage
from pipelines.tasks.calibrate_image import CalibrateImageTask
from pipelines.tasks.detect_dia_sources import DetectDiaSourcesTask
from pipelines.tasks.isr import IsrTask
from pipelines.tasks.subtract import SubtractTask
from pipelines.tasks.warp_template import WarpTemplateTask
from tests.pipelines.synthetic import Synthetic, camera, make


@dataclass
class Handle:
    """Stands in for a deferred dataset."""

    value: Any
    dataId: dict[str, int]

    def get(self) -> Any:
        return copy.deepcopy(self.value)


@dataclass
class Reduced:
    """What the tasks made of an observation."""

    observation: Synthetic
    post_isr_image: PromptImage
    science: PromptImage
    stars: Table
    template: PromptImage
    difference: PromptImage
    sources: Table
    metadata: dict[str, Any]


def make_task(kind: type[pipeBase.PipelineTask], **options: Any) -> Any:
    """Return a task with some options changed."""
    config = kind.ConfigClass()
    for name, value in options.items():
        setattr(config, name, value)
    config.validate()
    return kind(config=config)


def region_time(observation: Synthetic, *, padding: float = 40.0, first: int = 0) -> RegionTimeInfo:
    """Return the padded footprint (pixels), its corners in any order."""
    wcs = WCS(fits.Header(observation.predicted_header), fix=False)
    low, high = -padding, observation.size - 1 + padding
    corners = np.roll([(low, low), (high, low), (high, high), (low, high)], first, axis=0)
    points = [
        UnitVector3d(LonLat.fromDegrees(*(float(v) for v in wcs.all_pix2world(x, y, 0)))) for x, y in corners
    ]
    begin = Time(60000.0, format="mjd", scale="tai")
    return RegionTimeInfo(region=ConvexPolygon.convexHull(points), timespan=Timespan(begin, None))


def cards_of(observation: Synthetic, visit: int = 2026092300001) -> dict[str, Any]:
    """Return the header cards that a task gets from the exposure's record."""
    return {
        "INSTRUME": "TestCam",
        "VISIT": visit,
        "DETECTOR": 3,
        "FILTER": "r_01",
        "BAND": "r",
        "EXPTIME": 30.0,
        "MJD-MID": 60000.25,
        "TIMESYS": "TAI",
        **observation.predicted_header,
    }


def preload(observation: Synthetic) -> PromptImage:
    """Return the template on the predicted WCS."""
    handle = Handle(observation.template, {"tract": 0, "patch": 0})
    result = make_task(WarpTemplateTask).run(region_time=region_time(observation), templates=[handle])
    return result.preloaded_template


def reduce(
    observation: Synthetic, template: PromptImage | None = None, visit: int = 2026092300001
) -> Reduced:
    """Run an observation through the tasks up to detection."""
    isr, calibrate = make_task(IsrTask), make_task(CalibrateImageTask)
    subtract, detect = make_task(SubtractTask), make_task(DetectDiaSourcesTask)
    post_isr = isr.run(
        raw=observation.raw,
        camera=camera(observation.size),
        cards=cards_of(observation, visit),
        bias=observation.bias,
        dark=observation.dark,
        flat=observation.flat,
    ).post_isr_image
    calibrated = calibrate.run(image=copy.deepcopy(post_isr), refcat=[observation.refcat])
    science, stars = calibrated.preliminary_visit_image, calibrated.single_visit_star
    difference = subtract.run(science=science, stars=stars, template=template or preload(observation))
    sources = detect.run(
        science=science,
        stars=stars,
        template=difference.template_detector,
        difference=difference.difference_image,
    ).dia_source_unassociated
    metadata = {
        name: task.metadata[name] for task in (calibrate, subtract, detect) for name in task.metadata.names()
    }
    return Reduced(
        observation,
        post_isr,
        science,
        stars,
        difference.template_detector,
        difference.difference_image,
        sources,
        metadata,
    )


@pytest.fixture(scope="session")
def observation() -> Synthetic:
    return make(1, size=512, transients=15)


@pytest.fixture(scope="session")
def reduced(observation: Synthetic) -> Reduced:
    return reduce(observation)


@pytest.fixture
def new_apdb(tmp_path: Path) -> Callable[[], str]:
    """Make an empty APDB and return the path of its configuration."""

    def make_apdb() -> str:
        # On purpose without a time-out in the configuration.
        config = ApdbSql.init_database(db_url=f"sqlite:///{tmp_path}/apdb.db")
        config.save(str(tmp_path / "apdb.yaml"))
        return str(tmp_path / "apdb.yaml")

    return make_apdb
