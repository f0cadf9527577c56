"""From a raw image to electrons."""

# mypy: disable-error-code="call-arg"
# (keywords of a class statement go to metaclasses that mypy does not see)

from __future__ import annotations

__all__ = ["IsrConfig", "IsrConnections", "IsrTask"]

import dataclasses
from typing import Any

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
import numpy as np
from astropy.table import Table

from config.instruments import InstrumentConfig
from models.errors import UnreadableImage
from models.images import HeaderValue, PromptImage, RawImage
from pipelines.algorithms.isr import assemble, mask_defects, remove_signature
from pipelines.headers import exposure_cards


class IsrConnections(pipeBase.PipelineTaskConnections, dimensions=("instrument", "exposure", "detector")):
    """Inputs and outputs of `IsrTask`."""

    raw = cT.Input(
        name="raw",
        storageClass="RawImage",
        dimensions=("instrument", "exposure", "detector"),
        doc="Readout of a detector.",
    )
    camera = cT.PrerequisiteInput(
        name="camera",
        storageClass="InstrumentConfig",
        dimensions=("instrument",),
        isCalibration=True,
        doc="Layout of the camera and its amplifiers.",
    )
    bias = cT.PrerequisiteInput(
        name="bias",
        storageClass="PromptImage",
        dimensions=("instrument", "detector"),
        isCalibration=True,
        doc="Structure above the overscan level, ADU.",
    )
    dark = cT.PrerequisiteInput(
        name="dark",
        storageClass="PromptImage",
        dimensions=("instrument", "detector"),
        isCalibration=True,
        doc="Dark current, ADU per second.",
    )
    flat = cT.PrerequisiteInput(
        name="flat",
        storageClass="PromptImage",
        dimensions=("instrument", "detector", "physical_filter"),
        isCalibration=True,
        doc="Relative response.",
    )
    defects = cT.PrerequisiteInput(
        name="defects",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "detector"),
        isCalibration=True,
        minimum=0,
        doc="Rectangles of bad pixels: x0, y0, width, height.",
    )
    post_isr_image = cT.Output(
        name="post_isr_image",
        storageClass="PromptImage",
        dimensions=("instrument", "exposure", "detector"),
        doc="Image, variance and mask in electrons, with the predicted WCS.",
    )

    def __init__(self, *, config: IsrConfig | None = None) -> None:
        super().__init__(config=config)
        assert config is not None
        for name in ("bias", "dark", "flat"):
            if name not in config.required:
                setattr(self, name, dataclasses.replace(getattr(self, name), minimum=0))


class IsrConfig(pipeBase.PipelineTaskConfig, pipelineConnections=IsrConnections):
    """Configuration of `IsrTask`."""

    required = pexConfig.ListField(
        dtype=str,
        default=["bias", "dark", "flat"],
        doc="Calibrations without which the task does not run; others are applied if there are any.",
    )


class IsrTask(pipeBase.PipelineTask):
    """Remove the instrument's signature from a raw image."""

    ConfigClass = IsrConfig
    _DefaultName = "isr"

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read the inputs, among them the exposure's own record."""
        inputs = butlerQC.get(inputRefs)
        data_id = butlerQC.quantum.dataId
        camera: InstrumentConfig = inputs.pop("camera")
        raw: RawImage = inputs.pop("raw")
        detector = camera.by_id[int(data_id["detector"])]
        cards = exposure_cards(data_id, camera, detector, raw.header, keep_wcs=False)
        outputs = self.run(raw=raw, camera=camera, cards=cards, **inputs)
        butlerQC.put(outputs, outputRefs)

    def run(
        self,
        *,
        raw: RawImage,
        camera: InstrumentConfig,
        cards: dict[str, HeaderValue],
        bias: PromptImage | None = None,
        dark: PromptImage | None = None,
        flat: PromptImage | None = None,
        defects: Table | None = None,
    ) -> pipeBase.Struct:
        """Process one readout.

        Parameters
        ----------
        raw : `models.images.RawImage`
        camera : `config.instruments.InstrumentConfig`
        cards : `dict`
            From `pipelines.headers.exposure_cards`.
        bias, dark, flat : `models.images.PromptImage`, optional
        defects : `astropy.table.Table`, optional

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``post_isr_image``.

        Raises
        ------
        models.errors.UnreadableImage
            Raised if the raw is of another camera or filter.
        """
        detector = camera.by_id[int(cards["DETECTOR"])]
        if not np.issubdtype(raw.data.dtype, np.number):
            raise UnreadableImage(f"the raw image of detector {detector.id} has no numbers for pixels")
        image, variance, mask = remove_signature(
            assemble(raw.data, detector),
            bias=None if bias is None else bias.image,
            dark=None if dark is None else dark.image,
            flat=None if flat is None else flat.image,
            exposure_time=float(cards["EXPTIME"]),
        )
        if defects is not None:
            mask_defects(mask, _rectangles(defects))
        missing = [n for n, v in (("bias", bias), ("dark", dark), ("flat", flat)) if v is None]
        if missing:
            self.log.warning("No %s applied to detector %d.", ", ".join(missing), detector.id)
        header: dict[str, HeaderValue] = {**cards, "BUNIT": "electron"}
        return pipeBase.Struct(post_isr_image=PromptImage(image, variance, mask, header))


def _rectangles(defects: Table) -> list[tuple[int, int, int, int]]:
    columns: list[Any] = [defects[name].tolist() for name in ("x0", "y0", "width", "height")]
    return [(int(x0), int(y0), int(w), int(h)) for x0, y0, w, h in zip(*columns, strict=True)]
