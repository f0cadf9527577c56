"""Make a central repo for a camera from a directory of calibrations,
reference catalogue and templates.

The directory's layout is described in ``docs/adding-a-camera.md``.
"""

from __future__ import annotations

__all__ = ["create_central"]

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from lsst.daf.butler import Butler, CollectionType, DatasetType, Timespan
from lsst.sphgeom import ConvexPolygon, HtmPixelization, LonLat, UnitVector3d
from pydantic import ValidationError

from config.instruments import InstrumentConfig, load_instrument
from init_job.new_repository import new_repository
from models.errors import InvalidConfiguration, UnreadableImage
from models.images import PromptImage
from models.sky_map import SkyMap
from repos.collections import (
    REFCATS,
    SKYMAPS,
    calib_collection,
    defaults_collection,
    raw_run,
    templates_collection,
)
from repos.fits_files import prompt_image_from_fits
from repos.instrument import register_instrument

_log = logging.getLogger(__name__)

_BY_DETECTOR = ("instrument", "detector")
#: Input dataset types of a repo made here: dimensions, storage class, whether
#: it is a calibration.
INPUT_TYPES: dict[str, tuple[tuple[str, ...], str, bool]] = {
    "raw": (("instrument", "exposure", "detector"), "RawImage", False),
    "camera": (("instrument",), "InstrumentConfig", True),
    "bias": (_BY_DETECTOR, "PromptImage", True),
    "dark": (_BY_DETECTOR, "PromptImage", True),
    "flat": (("instrument", "detector", "physical_filter"), "PromptImage", True),
    "defects": (_BY_DETECTOR, "ArrowAstropy", True),
    "refcat": (("htm7",), "ArrowAstropy", False),
    "skyMap": (("skymap",), "PromptSkyMap", False),
    "template_coadd": (("skymap", "tract", "patch", "band"), "PromptImage", False),
}

#: Columns without which a table is not what its name says.
_DEFECTS = ("x0", "y0", "width", "height")
_REFERENCE = ("id", "ra", "dec")

Progress = Callable[[str, int, int], None]


def create_central(
    root: str,
    source: Path,
    *,
    registry: str | None = None,
    namespace: str | None = None,
    datastore: str | None = None,
    progress: Progress | None = None,
) -> InstrumentConfig:
    """Make a central repo and fill it.

    Parameters
    ----------
    root : `str`
        Where the repo is made: a directory, or a place in a bucket.
    source : `pathlib.Path`
        Directory with ``instrument.yaml`` and what else there is, or an
        instrument file alone.
    registry : `str`, optional
        SQLAlchemy URL of the registry; SQLite in `root` by default.
    namespace : `str`, optional
        Database schema of the registry; made if it is not there.
    datastore : `str`, optional
        Root of the datastore, such as ``s3://bucket/prefix``; `root` by
        default.
    progress : callable, optional
        Called with what is being done, how much of it is and how much there
        is.

    Returns
    -------
    camera : `config.instruments.InstrumentConfig`

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if something in the directory cannot be used, and the text
        names the file; or if database or bucket cannot.
    """
    camera = load_instrument(source / "instrument.yaml" if source.is_dir() else source)
    with new_repository(root, registry=registry, namespace=namespace, datastore=datastore) as butler:
        _Filler(butler, camera, source if source.is_dir() else None, progress or (lambda *_: None)).fill()
    return camera


class _Filler:
    def __init__(
        self, butler: Butler, camera: InstrumentConfig, source: Path | None, progress: Progress
    ) -> None:
        self._butler = butler
        self._camera = camera
        self._source = source
        self._progress = progress

    def fill(self) -> None:
        register_instrument(self._butler.registry, self._camera)
        for name, (dimensions, storage_class, is_calibration) in INPUT_TYPES.items():
            self._butler.registry.registerDatasetType(
                DatasetType(
                    name,
                    dimensions,
                    storage_class,
                    universe=self._butler.dimensions,
                    isCalibration=is_calibration,
                )
            )
        self._calibrations()
        self._reference_catalogue()
        self._templates()
        collections = self._butler.collections
        collections.register(raw_run(self._camera.name))
        self._chain(
            defaults_collection(self._camera.name),
            [
                calib_collection(self._camera.name),
                templates_collection(self._camera.name),
                REFCATS,
                SKYMAPS,
                raw_run(self._camera.name),
            ],
        )

    def _calibrations(self) -> None:
        name = self._camera.name
        run, certified = f"{calib_collection(name)}/run", f"{calib_collection(name)}/certified"
        self._butler.collections.register(run)
        self._butler.collections.register(certified, CollectionType.CALIBRATION)
        self._chain(calib_collection(name), [certified])
        found = list(self._calibration_files())
        refs = [self._butler.put(self._camera, "camera", instrument=name, run=run)]
        for i, (dataset_type, data_id, path) in enumerate(found):
            value: Any = _table(path, _DEFECTS) if path.suffix == ".ecsv" else _image(path)
            refs.append(self._butler.put(value, dataset_type, data_id, run=run))
            self._progress("calibrations", i + 1, len(found))
        # One range without bounds; add others with the Butler's own tools.
        self._butler.registry.certify(certified, refs, Timespan(None, None))

    def _calibration_files(self) -> Iterator[tuple[str, dict[str, Any], Path]]:
        if self._source is None:
            return
        root = self._source / "calibrations"
        for detector in self._camera.detectors:
            data_id = {"instrument": self._camera.name, "detector": detector.id}
            for dataset_type, suffix in (("bias", "fits"), ("dark", "fits"), ("defects", "ecsv")):
                path = root / dataset_type / f"{detector.id}.{suffix}"
                if path.exists():
                    yield dataset_type, data_id, path
            for filter_ in self._camera.filters:
                path = root / "flat" / f"{detector.id}_{filter_.name}.fits"
                if path.exists():
                    yield "flat", {**data_id, "physical_filter": filter_.name}, path

    def _reference_catalogue(self) -> None:
        self._butler.collections.register(f"{REFCATS}/reference")
        self._chain(REFCATS, [f"{REFCATS}/reference"])
        path = self._present("refcat.parquet") or self._present("refcat.ecsv")
        if path is None:
            _log.warning("There is no refcat.parquet or refcat.ecsv, so there are no reference catalogues.")
            return
        table = _table(path, _REFERENCE)
        pixelization = HtmPixelization(7)
        shards = np.array(
            [
                pixelization.index(UnitVector3d(LonLat.fromDegrees(float(ra), float(dec))))
                for ra, dec in zip(table["ra"], table["dec"], strict=True)
            ]
        )
        chosen = np.unique(shards)
        for i, shard in enumerate(chosen):
            self._butler.put(table[shards == shard], "refcat", htm7=int(shard), run=f"{REFCATS}/reference")
            self._progress("reference catalogue", i + 1, len(chosen))

    def _templates(self) -> None:
        run = f"{templates_collection(self._camera.name)}/run"
        self._butler.collections.register(run)
        self._butler.collections.register(SKYMAPS)
        self._chain(templates_collection(self._camera.name), [run])
        path = self._present("skymap.json")
        if path is None:
            _log.warning("There is no skymap.json, so there are no templates.")
            return
        try:
            sky_map = SkyMap.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise InvalidConfiguration(f"{path} is not a sky map: {error}") from error
        _register_sky_map(self._butler, sky_map)
        self._butler.put(sky_map, "skyMap", skymap=sky_map.name, run=SKYMAPS)
        files = sorted((path.parent / "templates").glob("*/*_*.fits"))
        for i, file in enumerate(files):
            tract, patch = _patch_of(file, sky_map)
            self._butler.put(
                _image(file),
                "template_coadd",
                skymap=sky_map.name,
                tract=tract,
                patch=patch,
                band=file.parent.name,
                run=run,
            )
            self._progress("templates", i + 1, len(files))

    def _present(self, name: str) -> Path | None:
        """Return a file of the directory, if it is there."""
        path = self._source / name if self._source is not None else None
        return path if path is not None and path.exists() else None

    def _chain(self, name: str, children: Iterable[str]) -> None:
        self._butler.collections.register(name, CollectionType.CHAINED)
        self._butler.collections.redefine_chain(name, list(children))


def _image(path: Path) -> PromptImage:
    try:
        return prompt_image_from_fits(path)
    except (OSError, ValueError, UnreadableImage) as error:
        raise InvalidConfiguration(f"{path} cannot be read as an image: {error}") from error


def _table(path: Path, columns: Iterable[str]) -> Table:
    try:
        table = Table.read(path)
    except Exception as error:  # astropy's and pyarrow's readers raise many types
        raise InvalidConfiguration(f"{path} cannot be read as a table: {error}") from error
    missing = [name for name in columns if name not in table.colnames]
    if missing:
        raise InvalidConfiguration(f"{path} lacks the columns {', '.join(missing)}")
    return table


def _patch_of(path: Path, sky_map: SkyMap) -> tuple[int, int]:
    """Return the tract and patch that a template's file name says."""
    match = re.fullmatch(r"(\d+)_(\d+)", path.stem)
    tracts = {t.id: t for t in sky_map.tracts}
    if match is None or int(match[1]) not in tracts or int(match[2]) not in tracts[int(match[1])].patches:
        raise InvalidConfiguration(
            f"{path} is not named <tract>_<patch>.fits for a patch of the sky map {sky_map.name}"
        )
    return int(match[1]), int(match[2])


def _register_sky_map(butler: Butler, sky_map: SkyMap) -> None:
    registry = butler.registry
    with registry.transaction():
        registry.syncDimensionData(
            "skymap",
            {
                "name": sky_map.name,
                "hash": hashlib.sha1(sky_map.model_dump_json().encode(), usedforsecurity=False).digest(),
                "tract_max": max(t.id for t in sky_map.tracts) + 1,
                "patch_nx_max": max(t.nx for t in sky_map.tracts),
                "patch_ny_max": max(t.ny for t in sky_map.tracts),
            },
        )
        for tract in sky_map.tracts:
            registry.insertDimensionData(
                "tract",
                {"skymap": sky_map.name, "id": tract.id, "region": _polygon(tract.tract_corners())},
                skip_existing=True,
            )
            registry.insertDimensionData(
                "patch",
                *(
                    {
                        "skymap": sky_map.name,
                        "tract": tract.id,
                        "id": patch,
                        "cell_x": tract.patch_index(patch)[0],
                        "cell_y": tract.patch_index(patch)[1],
                        "region": _polygon(tract.patch_corners(patch)),
                    }
                    for patch in tract.patches
                ),
                skip_existing=True,
            )


def _polygon(corners: Iterable[tuple[float, float]]) -> ConvexPolygon:
    return ConvexPolygon.convexHull([UnitVector3d(LonLat.fromDegrees(ra, dec)) for ra, dec in corners])
