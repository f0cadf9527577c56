"""Calibration of a single image: sky, stars, PSF, WCS, zero point."""

# mypy: disable-error-code="call-arg"
# (keywords of a class statement go to metaclasses that mypy does not see)

from __future__ import annotations

__all__ = ["CalibrateImageConfig", "CalibrateImageConnections", "CalibrateImageTask"]

from collections.abc import Sequence

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from scipy.spatial import KDTree

from models.images import HeaderValue, MaskPlane, PromptImage, wcs_cards
from pipelines.algorithms.astrometry import AstrometricFit, fit_astrometry
from pipelines.algorithms.background import subtract_background
from pipelines.algorithms.cosmic_rays import find_cosmic_rays, repair
from pipelines.algorithms.detection import Detections, detect
from pipelines.algorithms.filters import grow
from pipelines.algorithms.photometry import PsfPhotometry, fit_zero_point, psf_photometry
from pipelines.algorithms.psf import PsfFit, fit_psf
from pipelines.errors import CalibrationFailed
from pipelines.refcat import ReferenceCatalog, load_reference_catalog


class CalibrateImageConnections(
    pipeBase.PipelineTaskConnections, dimensions=("instrument", "visit", "detector")
):
    """Inputs and outputs of `CalibrateImageTask`."""

    post_isr_image = cT.Input(
        name="post_isr_image",
        storageClass="PromptImage",
        dimensions=("instrument", "exposure", "detector"),
        multiple=True,
        doc="Images of the visit's one exposure, electrons.",
    )
    refcat = cT.PrerequisiteInput(
        name="refcat",
        storageClass="ArrowAstropy",
        dimensions=("htm7",),
        multiple=True,
        deferLoad=True,
        doc="Reference catalogue.",
    )
    preliminary_visit_image = cT.Output(
        name="preliminary_visit_image",
        storageClass="PromptImage",
        dimensions=("instrument", "visit", "detector"),
        doc="Calibrated image without its sky, nJy, with WCS and PSF.",
    )
    single_visit_star = cT.Output(
        name="single_visit_star",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit", "detector"),
        doc="Sources found in the image.",
    )


class CalibrateImageConfig(pipeBase.PipelineTaskConfig, pipelineConnections=CalibrateImageConnections):
    """Configuration of `CalibrateImageTask`."""

    threshold = pexConfig.Field(dtype=float, default=6.0, doc="Detection threshold, sigma.")
    background_cell = pexConfig.Field(dtype=int, default=128, doc="Side of a cell of the sky's mesh, pixels.")
    find_cosmic_rays = pexConfig.Field(dtype=bool, default=True, doc="Find and mask cosmic rays?")
    max_pointing_error = pexConfig.Field(
        dtype=float, default=15.0, doc="How far the predicted WCS may be off, arcseconds."
    )
    psf_degree = pexConfig.Field(dtype=int, default=2, doc="Degree of the PSF's variation.")


class CalibrateImageTask(pipeBase.PipelineTask):
    """Calibrate an image against a reference catalogue."""

    ConfigClass = CalibrateImageConfig
    _DefaultName = "calibrateImage"

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read the inputs; of the reference catalogue, what is needed."""
        inputs = butlerQC.get(inputRefs)
        images: Sequence[PromptImage] = inputs["post_isr_image"]
        if len(images) != 1:
            raise CalibrationFailed(
                f"visit {butlerQC.quantum.dataId['visit']} has {len(images)} exposures instead of one"
            )
        shards = [handle.get() for handle in inputs["refcat"]]
        butlerQC.put(self.run(image=images[0], refcat=shards), outputRefs)

    def run(self, *, image: PromptImage, refcat: Sequence[Table]) -> pipeBase.Struct:
        """Calibrate one image.

        Parameters
        ----------
        image : `models.images.PromptImage`
            Electrons, with predicted WCS; changed in place.
        refcat : sequence of `astropy.table.Table`

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``preliminary_visit_image`` and ``single_visit_star``.

        Raises
        ------
        pipelines.errors.CalibrationFailed
            Raised if there are too few stars for any step.
        """
        assert image.variance is not None and image.mask is not None
        where = f"visit {image.header.get('VISIT')}, detector {image.header.get('DETECTOR')}"
        band = str(image.header.get("BAND", ""))
        reference = load_reference_catalog(refcat, band)
        bad = image.unusable()
        if bad.all():
            raise CalibrationFailed(f"{where}: every pixel is masked")
        sky_free, level, rms = subtract_background(image.image, bad, cell=self.config.background_cell)
        if self.config.find_cosmic_rays:
            hits = find_cosmic_rays(sky_free, image.variance, bad, sky_variance=rms**2)
            image.mask[hits] |= MaskPlane.CR
            bad |= hits
            self.metadata["cosmic_ray_pixels"] = int(hits.sum())
        repair(sky_free, bad)
        found = detect(sky_free, rms, bad, threshold=self.config.threshold)
        fit = self._fit_wcs(image, found, reference, where)
        stars = self._choose_stars(found, fit, reference, image.mask)
        psf = fit_psf(sky_free, bad, found.x[stars], found.y[stars], degree=self.config.psf_degree)
        if psf is None:
            raise CalibrationFailed(f"{where}: no star is good enough for a PSF", stars=len(stars))
        photometry = psf_photometry(sky_free, image.variance, bad, psf.model, found.x, found.y)
        matched = np.full(len(found), -1)
        matched[fit.detections] = fit.references
        zero_point = fit_zero_point(
            photometry.flux[stars], photometry.error[stars], reference.flux[matched[stars]]
        )
        if zero_point is None:
            raise CalibrationFailed(
                f"{where}: no star with a {band}-band flux in the reference catalogue", stars=len(stars)
            )
        scale = np.float32(zero_point.scale)
        header: dict[str, HeaderValue] = {
            **image.header,
            **fit.header,
            "BUNIT": "nJy",
            "CALSCALE": zero_point.scale,
            "SKYLEVEL": level * zero_point.scale,
            "SKYRMS": rms * zero_point.scale,
            "PSFFWHM": psf.fwhm,
            "ASTRMS": fit.rms,
            "NASTROM": len(fit.detections),
        }
        calibrated = PromptImage(sky_free * scale, image.variance * scale**2, image.mask, header, psf.model)
        self._record(fit, psf, zero_point.scatter, zero_point.stars, len(found))
        table = _source_table(found, photometry, zero_point.scale, header)
        table["refId"] = np.where(matched >= 0, reference.id[matched], 0)
        table["isMatched"] = matched >= 0
        table["isStar"] = False
        table["isStar"][stars] = True
        return pipeBase.Struct(preliminary_visit_image=calibrated, single_visit_star=table)

    def _fit_wcs(
        self, image: PromptImage, found: Detections, reference: ReferenceCatalog, where: str
    ) -> AstrometricFit:
        scale = float(np.mean(proj_plane_pixel_scales(image.wcs))) * 3600.0
        fit = fit_astrometry(
            image.wcs_header,
            image.shape,
            (found.x, found.y),
            (reference.ra, reference.dec),
            reference_order=np.nan_to_num(reference.flux, nan=0.0),
            max_shift=self.config.max_pointing_error / scale,
        )
        if fit is None:
            raise CalibrationFailed(
                f"{where}: {len(found)} sources do not match {len(reference)} reference objects within "
                f"{self.config.max_pointing_error} arcsec of where they should be; check pointing and "
                "rotation in the header, and the reference catalogue",
                sources=len(found),
                references=len(reference),
            )
        return fit

    def _choose_stars(
        self,
        found: Detections,
        fit: AstrometricFit,
        reference: ReferenceCatalog,
        mask: npt.NDArray[np.int32],
    ) -> npt.NDArray[np.int64]:
        """Return indices of isolated stars that are not saturated, brightest
        first.
        """
        candidates = fit.detections[reference.star[fit.references] & (reference.flux[fit.references] > 0)]
        if not len(candidates):
            candidates = fit.detections
        candidates = np.sort(candidates)
        # Blends and galaxies that the catalogue calls stars are larger than most.
        size = np.median(found.size[candidates][: max(20, len(candidates) // 2)])
        keep = (found.size[candidates] < 1.25 * size) & (found.size[candidates] > 0.75 * size)
        keep &= found.elongation[candidates] < 1.5
        keep &= (found.flags[candidates] & 0b11100) == 0  # saturated, truncated, cut at a border
        near_saturation = grow(mask & int(MaskPlane.SAT | MaskPlane.BAD) != 0, 3)
        ix = np.clip(np.rint(found.x[candidates]).astype(int), 0, mask.shape[1] - 1)
        iy = np.clip(np.rint(found.y[candidates]).astype(int), 0, mask.shape[0] - 1)
        keep &= ~near_saturation[iy, ix]
        alone = keep & _isolated(found, candidates)
        # In a crowded field a neighbour is better than no star at all.
        return candidates[alone] if alone.sum() >= 8 else candidates[keep]

    def _record(self, fit: AstrometricFit, psf: PsfFit, scatter: float, stars: int, sources: int) -> None:
        self.metadata["sources"] = sources
        self.metadata["astrometry_pairs"] = len(fit.detections)
        self.metadata["astrometry_rms_px"] = fit.rms
        self.metadata["pointing_error_px"] = fit.shift
        self.metadata["psf_stars"] = len(psf.stars)
        self.metadata["psf_fwhm_px"] = psf.fwhm
        self.metadata["zero_point_scatter"] = scatter
        self.metadata["zero_point_stars"] = stars
        self.log.info(
            "%d sources; WCS from %d pairs, rms %.3f px, %.1f px off; PSF of %d stars, FWHM %.2f px; "
            "zero point of %d stars, scatter %.1f %%.",
            sources, len(fit.detections), fit.rms, fit.shift, len(psf.stars), psf.fwhm, stars, 100 * scatter,
        )  # fmt: skip


def _isolated(found: Detections, candidates: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether no source above 5 % of a star's flux lies within 12 pixels."""
    positions = np.column_stack([found.x, found.y])
    tree = KDTree(positions)
    result = np.ones(len(candidates), bool)
    for k, index in enumerate(candidates):
        others = [i for i in tree.query_ball_point(positions[index], 12.0) if i != index]
        result[k] = not any(found.flux[i] > 0.05 * found.flux[index] for i in others)
    return result


def _source_table(
    found: Detections, photometry: PsfPhotometry, scale: float, header: dict[str, HeaderValue]
) -> Table:
    wcs = WCS(fits.Header(wcs_cards(header)), fix=False)
    ra, dec = wcs.all_pix2world(found.x, found.y, 0) if len(found) else (found.x, found.y)
    return Table(
        {
            "x": found.x,
            "y": found.y,
            "ra": np.asarray(ra),
            "dec": np.asarray(dec),
            "psfFlux": photometry.flux * scale,
            "psfFluxErr": photometry.error * scale,
            "isoFlux": found.flux * scale,
            "size": found.size,
            "elongation": found.elongation,
            "flags": found.flags.astype(np.int32),
        }
    )
