"""Template for one detector, ready before the exposure is."""

# mypy: disable-error-code="call-arg"
# (keywords of a class statement go to metaclasses that mypy does not see)

from __future__ import annotations

__all__ = ["WarpTemplateConfig", "WarpTemplateConnections", "WarpTemplateTask"]

from collections.abc import Sequence

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from lsst.daf.butler import DeferredDatasetHandle
from lsst.pipe.base.utils import RegionTimeInfo
from lsst.sphgeom import Region

from models.images import HeaderValue, MaskPlane, PromptImage
from pipelines.algorithms.warp import pixel_map, warp_into
from pipelines.footprint import Footprint, footprint_of


class WarpTemplateConnections(
    pipeBase.PipelineTaskConnections, dimensions=("instrument", "group", "detector")
):
    """Inputs and outputs of `WarpTemplateTask`."""

    region_time = cT.Input(
        name="regionTimeInfo",
        storageClass="RegionTimeInfo",
        dimensions=("instrument", "group", "detector"),
        doc="Padded footprint and time of the announced exposure.",
    )
    templates = cT.Input(
        name="template_coadd",
        storageClass="PromptImage",
        dimensions=("skymap", "tract", "patch", "band"),
        multiple=True,
        deferLoad=True,
        doc="Patches of the template, nJy.",
    )
    preloaded_template = cT.Output(
        name="preloaded_template",
        storageClass="PromptImage",
        dimensions=("instrument", "group", "detector"),
        doc="Template on a grid along the detector's edges, padded; nJy.",
    )


class WarpTemplateConfig(pipeBase.PipelineTaskConfig, pipelineConnections=WarpTemplateConnections):
    """Configuration of `WarpTemplateTask`."""

    min_coverage = pexConfig.Field(
        dtype=float,
        default=0.05,
        doc="Part of the footprint that the patches must cover for the template to be of use.",
    )


class WarpTemplateTask(pipeBase.PipelineTask):
    """Put patches of the template together on the predicted WCS.

    The grid lies along the edges of the padded footprint. Which corner of the
    detector it begins at, the footprint does not say, and it does not matter:
    the fitted WCS of the image is a shift, a small rotation and perhaps a
    quarter turn away, and one cheap resampling takes care of all.
    """

    ConfigClass = WarpTemplateConfig
    _DefaultName = "warpTemplate"

    def run(
        self, *, region_time: RegionTimeInfo, templates: Sequence[DeferredDatasetHandle]
    ) -> pipeBase.Struct:
        """Make the template of one detector.

        Parameters
        ----------
        region_time : `lsst.pipe.base.utils.RegionTimeInfo`
        templates : sequence of `lsst.daf.butler.DeferredDatasetHandle`
            Patches; those that do not touch the footprint are left out.

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``preloaded_template``.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            Raised if the patches cover next to nothing of the footprint.
        """
        region: Region = region_time.region
        # Where patches overlap the first one wins, so the order must not
        # depend on the registry's.
        ordered = sorted(templates, key=lambda h: (h.dataId["tract"], h.dataId["patch"]))
        grid: Footprint | None = None
        out: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        widths: list[float] = []
        for handle in ordered:
            patch: PromptImage = handle.get()
            wcs = patch.wcs
            if grid is None or out is None:
                scale = float(np.mean(proj_plane_pixel_scales(wcs))) * 3600.0
                grid = footprint_of(region, scale)
                out = _empty(grid.shape)
            self._add(patch, wcs, grid, out)
            if "PSFFWHM" in patch.header:
                widths.append(float(patch.header["PSFFWHM"]))
        if grid is None or out is None:
            raise pipeBase.NoWorkFound("no patch of the template overlaps the footprint")
        image, variance, mask = out
        coverage = 1.0 - float((mask & int(MaskPlane.NO_DATA) != 0).mean())
        self.metadata["coverage"] = coverage
        if coverage < self.config.min_coverage:
            raise pipeBase.NoWorkFound(
                f"the template covers {coverage:.1%} of the footprint, "
                f"less than {self.config.min_coverage:.0%}"
            )
        header: dict[str, HeaderValue] = {**grid.header, "BUNIT": "nJy", "COVERAGE": coverage}
        if widths:
            header["PSFFWHM"] = float(np.median(widths))
        return pipeBase.Struct(preloaded_template=PromptImage(image, variance, mask, header))

    def _add(
        self,
        patch: PromptImage,
        wcs: WCS,
        grid: Footprint,
        out: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> None:
        mask = np.zeros(patch.shape, np.int32) if patch.mask is None else patch.mask
        variance = np.zeros(patch.shape, np.float32) if patch.variance is None else patch.variance
        broken = ~np.isfinite(patch.image) | ~np.isfinite(variance)
        if broken.any():
            patch.image[broken] = 0
            variance[broken] = 0
            mask[broken] |= MaskPlane.NO_DATA
        mapping = pixel_map(WCS(fits.Header(grid.header), fix=False), wcs, grid.shape)
        warp_into(patch.image, variance, mask, mapping, out)


def _empty(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
        np.full(shape, int(MaskPlane.NO_DATA), np.int32),
    )
