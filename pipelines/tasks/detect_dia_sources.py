"""Sources in a difference image."""

# mypy: disable-error-code="call-arg"
# (keywords of a class statement go to metaclasses that mypy does not see)

from __future__ import annotations

__all__ = ["DetectDiaSourcesConfig", "DetectDiaSourcesConnections", "DetectDiaSourcesTask"]

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
import numpy as np
import numpy.typing as npt
from astropy.table import Table
from astropy.wcs.utils import proj_plane_pixel_scales

from models.images import MaskPlane, PromptImage
from pipelines.algorithms.candidates import Candidates, Limits, select_candidates
from pipelines.algorithms.photometry import psf_photometry
from pipelines.algorithms.score import score_image

#: Names of ``pixelFlags_*`` columns by the mask plane they tell of.
_FLAGS = {
    "bad": MaskPlane.BAD,
    "cr": MaskPlane.CR,
    "edge": MaskPlane.EDGE,
    "nodata": MaskPlane.NO_DATA,
    "saturated": MaskPlane.SAT,
}
#: Planes for which there is also a column ``pixelFlags_*Center``.
_CENTRAL = ("cr", "nodata", "saturated")


class DetectDiaSourcesConnections(
    pipeBase.PipelineTaskConnections, dimensions=("instrument", "visit", "detector")
):
    """Inputs and outputs of `DetectDiaSourcesTask`."""

    science = cT.Input(
        name="preliminary_visit_image",
        storageClass="PromptImage",
        dimensions=("instrument", "visit", "detector"),
        doc="Calibrated image, nJy.",
    )
    stars = cT.Input(
        name="single_visit_star",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit", "detector"),
        doc="Sources of the image.",
    )
    template = cT.Input(
        name="template_detector",
        storageClass="PromptImage",
        dimensions=("instrument", "visit", "detector"),
        doc="Template on the image's pixels, nJy.",
    )
    difference = cT.Input(
        name="difference_image",
        storageClass="PromptImage",
        dimensions=("instrument", "visit", "detector"),
        doc="Image minus matched template, nJy.",
    )
    dia_source_unassociated = cT.Output(
        name="dia_source_unassociated",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit", "detector"),
        doc="Sources in the difference image, without ids.",
    )


class DetectDiaSourcesConfig(pipeBase.PipelineTaskConfig, pipelineConnections=DetectDiaSourcesConnections):
    """Configuration of `DetectDiaSourcesTask`."""

    threshold = pexConfig.Field(dtype=float, default=5.5, doc="Least significance of a source.")
    star_ratio = pexConfig.Field(
        dtype=float, default=0.02, doc="Least flux of a source relative to a star within 6 pixels."
    )
    max_chi2 = pexConfig.Field(
        dtype=float, default=2.5, doc="Most chi squared a pixel of a faint source's residuals about the PSF."
    )


class DetectDiaSourcesTask(pipeBase.PipelineTask):
    """Detect and measure sources of both signs."""

    ConfigClass = DetectDiaSourcesConfig
    _DefaultName = "detectDiaSources"

    def run(
        self, *, science: PromptImage, stars: Table, template: PromptImage, difference: PromptImage
    ) -> pipeBase.Struct:
        """Find sources in one difference image.

        Parameters
        ----------
        science, template, difference : `models.images.PromptImage`
        stars : `astropy.table.Table`

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``dia_source_unassociated``: columns of the APDB's DiaSource table
            as far as they are measured, in the order of rows and columns.
        """
        assert science.variance is not None and difference.variance is not None
        assert difference.mask is not None and difference.psf is not None
        bad = difference.unusable()
        score = score_image(
            difference.image, science.variance, template.variance, bad, difference.psf, difference.kernel
        )
        flux = np.fmax(np.asarray(stars["psfFlux"], float), np.asarray(stars["isoFlux"], float))
        limits = Limits(
            threshold=self.config.threshold, star_ratio=self.config.star_ratio, shape=self.config.max_chi2
        )
        candidates = select_candidates(
            score.score,
            difference.image,
            difference.variance,
            bad,
            difference.psf,
            (np.asarray(stars["x"], float), np.asarray(stars["y"], float), flux),
            limits,
        )
        self.metadata["score_rms"] = score.rms
        self.metadata["dia_sources"] = len(candidates.peaks)
        for name, count in candidates.rejected.items():
            self.metadata[f"rejected_{name}"] = count
        self.log.info(
            "%d DIA sources above %.1f sigma (%d dipoles); rejected: %s.",
            len(candidates.peaks), limits.threshold, int(candidates.dipole.sum()),
            ", ".join(f"{count} {name}" for name, count in candidates.rejected.items()),
        )  # fmt: skip
        return pipeBase.Struct(
            dia_source_unassociated=self._table(candidates, science, template, difference, score.rms)
        )

    def _table(
        self,
        candidates: Candidates,
        science: PromptImage,
        template: PromptImage,
        difference: PromptImage,
        noise_factor: float,
    ) -> Table:
        assert science.variance is not None and difference.mask is not None and difference.psf is not None
        peaks, photometry = candidates.peaks, candidates.photometry
        wcs = difference.wcs
        ra, dec = wcs.all_pix2world(peaks.x, peaks.y, 0) if len(peaks) else (peaks.x, peaks.y)
        direct = psf_photometry(
            science.image, science.variance, science.unusable(), difference.psf, peaks.x, peaks.y
        )
        # The score image's own rms says by how much correlated noise exceeds
        # what the variance planes hold.
        error = photometry.error * max(noise_factor, 1.0)
        fwhm = float(difference.header.get("PSFFWHM", 3.0))
        # Error of the centroid of a Gaussian in white noise (King 1983).
        position = np.minimum(0.71 * fwhm / np.maximum(np.abs(peaks.score), 1.0), 2.0)
        degrees = position * float(np.mean(proj_plane_pixel_scales(wcs)))
        table = Table(
            {
                "x": peaks.x,
                "y": peaks.y,
                "xErr": position,
                "yErr": position,
                "ra": np.asarray(ra, float),
                "dec": np.asarray(dec, float),
                "raErr": degrees,
                "decErr": degrees,
                "snr": np.abs(peaks.score),
                "psfFlux": photometry.flux,
                "psfFluxErr": error,
                "psfChi2": photometry.chi2,
                "psfNdata": photometry.pixels.astype(np.int32),
                "scienceFlux": direct.flux,
                "scienceFluxErr": direct.error,
                "templateFlux": direct.flux - photometry.flux,
                "templateFluxErr": error,
                "isNegative": peaks.score < 0,
                "isDipole": candidates.dipole,
                "dipoleNdata": np.zeros(len(peaks), np.int32),
                "trailNdata": np.zeros(len(peaks), np.int32),
                "bboxSize": np.full(len(peaks), difference.psf.coefficients.shape[1], np.int32),
            }
        )
        for name, column in _pixel_flags(difference.mask, peaks.ix, peaks.iy).items():
            table[name] = column
        return table


def _pixel_flags(
    mask: npt.NDArray[np.int32], ix: npt.NDArray[np.int64], iy: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the columns that say what is masked within 2 pixels (of the
    centre: 1) of each source.
    """
    ny, nx = mask.shape

    def bits(reach: int) -> npt.NDArray[np.int32]:
        total = np.zeros(len(ix), np.int32)
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                total |= mask[np.clip(iy + dy, 0, ny - 1), np.clip(ix + dx, 0, nx - 1)]
        return total

    wide, central = bits(2), bits(1)
    flags = {f"pixelFlags_{name}": (wide & int(plane)) != 0 for name, plane in _FLAGS.items()}
    flags |= {f"pixelFlags_{name}Center": (central & int(_FLAGS[name])) != 0 for name in _CENTRAL}
    flags["pixelFlags"] = (wide & int(MaskPlane.unusable())) != 0
    return flags
