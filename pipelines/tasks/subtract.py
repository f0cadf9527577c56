"""Difference between an image and the template."""

# mypy: disable-error-code="call-arg"
# (keywords of a class statement go to metaclasses that mypy does not see)

from __future__ import annotations

__all__ = ["SubtractConfig", "SubtractConnections", "SubtractTask"]

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
import numpy as np
from astropy.table import Table

from models.images import HeaderValue, MaskPlane, PromptImage
from pipelines.algorithms.background import subtract_background
from pipelines.algorithms.cosmic_rays import repair
from pipelines.algorithms.filters import grow
from pipelines.algorithms.kernel import KernelFit, fit_kernel
from pipelines.algorithms.subtraction import SkyNoise, sky_noise, subtract
from pipelines.algorithms.warp import pixel_map, warp_into
from pipelines.errors import SubtractionFailed


class SubtractConnections(pipeBase.PipelineTaskConnections, dimensions=("instrument", "visit", "detector")):
    """Inputs and outputs of `SubtractTask`."""

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
        name="preloaded_template",
        storageClass="PromptImage",
        dimensions=("instrument", "group", "detector"),
        doc="Template around the detector, nJy.",
    )
    difference_image = cT.Output(
        name="difference_image",
        storageClass="PromptImage",
        dimensions=("instrument", "visit", "detector"),
        doc="Image minus matched template, nJy.",
    )
    template_detector = cT.Output(
        name="template_detector",
        storageClass="PromptImage",
        dimensions=("instrument", "visit", "detector"),
        doc="Template on the image's pixels, not matched, nJy.",
    )


class SubtractConfig(pipeBase.PipelineTaskConfig, pipelineConnections=SubtractConnections):
    """Configuration of `SubtractTask`."""

    kernel_degree = pexConfig.Field(dtype=int, default=2, doc="Degree of the kernel's variation.")
    background_degree = pexConfig.Field(dtype=int, default=1, doc="Degree of the difference in sky.")
    max_stars = pexConfig.Field(dtype=int, default=100, doc="Stars that the kernel is fitted to, at most.")
    enough_stars = pexConfig.Field(
        dtype=int, default=12, doc="With fewer stars, other known objects help to fit the kernel."
    )
    min_coverage = pexConfig.Field(
        dtype=float, default=0.05, doc="Part of the image that the template must cover."
    )


class SubtractTask(pipeBase.PipelineTask):
    """Align, match and subtract the template."""

    ConfigClass = SubtractConfig
    _DefaultName = "subtract"

    def run(self, *, science: PromptImage, stars: Table, template: PromptImage) -> pipeBase.Struct:
        """Subtract the template from one image.

        Parameters
        ----------
        science : `models.images.PromptImage`
            With fitted WCS and PSF.
        stars : `astropy.table.Table`
        template : `models.images.PromptImage`
            On a grid that covers the image.

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``difference_image`` and ``template_detector``.

        Raises
        ------
        pipelines.errors.SubtractionFailed
            Raised if the template covers next to nothing of the image, or no
            star is there to match it.
        """
        assert science.variance is not None and science.mask is not None
        aligned = self._align(science, template)
        assert aligned.variance is not None and aligned.mask is not None
        empty = aligned.mask & int(MaskPlane.NO_DATA) != 0
        aligned.image, _, _ = subtract_background(aligned.image, aligned.unusable())
        repair(aligned.image, aligned.unusable() & ~empty)
        fit = self._match(science, aligned, stars)
        difference, variance = subtract(science.image, science.variance, aligned.image, aligned.variance, fit)
        # The kernel spreads what is wrong with a template pixel over its core.
        mask = science.mask.copy()
        mask[grow(aligned.unusable(), 2)] |= MaskPlane.NO_DATA
        mask[grow(empty, 10)] |= MaskPlane.EDGE | MaskPlane.NO_DATA
        difference[mask & int(MaskPlane.NO_DATA) != 0] = 0
        noise = sky_noise(science, aligned, difference, mask, fit.kernel)
        self._record(fit, noise, float(empty.mean()))
        header: dict[str, HeaderValue] = {
            **science.header,
            "DIFFRMS": noise.measured,
            "DIFFPRED": noise.predicted,
            "SCIRMS": noise.science,
            "TMPLRMS": noise.template,
            "KERNSUM": fit.scale,
            "NKERNEL": fit.stars,
            "TMPLCOVR": 1.0 - float(empty.mean()),
        }
        return pipeBase.Struct(
            difference_image=PromptImage(difference, variance, mask, header, science.psf, fit.kernel),
            template_detector=aligned,
        )

    def _align(self, science: PromptImage, template: PromptImage) -> PromptImage:
        shape = science.shape
        out = (
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
            np.full(shape, int(MaskPlane.NO_DATA), np.int32),
        )
        assert template.variance is not None and template.mask is not None
        mapping = pixel_map(science.wcs, template.wcs, shape)
        warp_into(template.image, template.variance, template.mask, mapping, out)
        covered = float((out[2] & int(MaskPlane.NO_DATA) == 0).mean())
        if covered < self.config.min_coverage:
            raise SubtractionFailed(
                f"the template covers {covered:.1%} of visit {science.header.get('VISIT')}, detector "
                f"{science.header.get('DETECTOR')}: the pointing differs from the announced one, or the "
                "padding (PRELOAD_PADDING) is too small",
                coverage=covered,
            )
        header: dict[str, HeaderValue] = {**science.header, "BUNIT": "nJy"}
        return PromptImage(*out, header)

    def _match(self, science: PromptImage, aligned: PromptImage, stars: Table) -> KernelFit:
        assert science.variance is not None and aligned.variance is not None
        chosen = self._choose(stars)
        fit = fit_kernel(
            science.image,
            aligned.image,
            # A kernel of unit sum that widens a PSF averages noise: of the
            # template's about a third is left.
            science.variance + np.float32(0.3) * aligned.variance,
            science.unusable() | aligned.unusable(),
            np.asarray(chosen["x"], float),
            np.asarray(chosen["y"], float),
            degree=self.config.kernel_degree,
            background_degree=self.config.background_degree,
            max_stars=self.config.max_stars,
        )
        if fit is None:
            raise SubtractionFailed(
                f"no star of visit {science.header.get('VISIT')}, detector {science.header.get('DETECTOR')} "
                "lies where the template is usable",
                stars=len(chosen),
            )
        return fit

    def _choose(self, sources: Table) -> Table:
        """Return what the kernel is fitted to: stars, or where they are few
        other known objects as well, because these are convolved alike.
        """
        star = np.asarray(sources["isStar"], bool)
        if star.sum() >= self.config.enough_stars:
            return sources[star]
        error = np.asarray(sources["psfFluxErr"], float)
        bright = np.asarray(sources["psfFlux"], float) > 30.0 * error
        clean = (np.asarray(sources["flags"], int) & 0b11100) == 0
        known = np.asarray(sources["isMatched"], bool)
        return sources[star | (known & bright & clean)]

    def _record(self, fit: KernelFit, noise: SkyNoise, uncovered: float) -> None:
        self.metadata["kernel_stars"] = fit.stars
        self.metadata["kernel_sum"] = fit.scale
        self.metadata["kernel_chi2"] = fit.chi2
        self.metadata["difference_rms"] = noise.measured
        self.metadata["difference_rms_predicted"] = noise.predicted
        self.metadata["template_uncovered"] = uncovered
        self.log.info(
            "Kernel of %d stars, sum %.3f, chi2 %.2f; rms of blank sky %.4g nJy, predicted %.4g.",
            fit.stars, fit.scale, fit.chi2, noise.measured, noise.predicted,
        )  # fmt: skip
