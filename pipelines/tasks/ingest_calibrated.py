"""Frames from which the instrument's signature is already removed."""

# mypy: disable-error-code="call-arg"
# (keywords of a class statement go to metaclasses that mypy does not see)

from __future__ import annotations

__all__ = ["IngestCalibratedConfig", "IngestCalibratedConnections", "IngestCalibratedTask"]

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
import numpy as np

from config.instruments import InstrumentConfig
from models.errors import UnreadableImage
from models.images import HeaderValue, MaskPlane, PromptImage, RawImage
from pipelines.algorithms.background import subtract_background
from pipelines.algorithms.cosmic_rays import repair
from pipelines.headers import exposure_cards


class IngestCalibratedConnections(
    pipeBase.PipelineTaskConnections, dimensions=("instrument", "exposure", "detector")
):
    """Inputs and outputs of `IngestCalibratedTask`."""

    raw = cT.Input(
        name="raw",
        storageClass="RawImage",
        dimensions=("instrument", "exposure", "detector"),
        doc="Frame after ISR, ADU, with or without its sky.",
    )
    camera = cT.PrerequisiteInput(
        name="camera",
        storageClass="InstrumentConfig",
        dimensions=("instrument",),
        isCalibration=True,
        doc="Layout of the camera and its amplifiers.",
    )
    post_isr_image = cT.Output(
        name="post_isr_image",
        storageClass="PromptImage",
        dimensions=("instrument", "exposure", "detector"),
        doc="Image, variance and mask in electrons, with the frame's WCS.",
    )


class IngestCalibratedConfig(pipeBase.PipelineTaskConfig, pipelineConnections=IngestCalibratedConnections):
    """Configuration of `IngestCalibratedTask`."""

    gain_key = pexConfig.Field(
        dtype=str,
        default="GAIN",
        doc="Header card with the gain, electrons per ADU; without it the camera file's is used.",
    )
    saturation_key = pexConfig.Field(
        dtype=str,
        default="ESATUR",
        doc="Header card with the saturation level, ADU; without it the camera file's is used.",
    )


class IngestCalibratedTask(pipeBase.PipelineTask):
    """Take over a frame that needs no ISR.

    Its noise is measured: that of blank sky, to which sources add their
    photon noise.
    """

    ConfigClass = IngestCalibratedConfig
    _DefaultName = "ingestCalibrated"

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read the inputs, among them the exposure's own record."""
        inputs = butlerQC.get(inputRefs)
        data_id = butlerQC.quantum.dataId
        camera: InstrumentConfig = inputs["camera"]
        detector = camera.by_id[int(data_id["detector"])]
        cards = exposure_cards(data_id, camera, detector, inputs["raw"].header, keep_wcs=True)
        butlerQC.put(self.run(cards=cards, **inputs), outputRefs)

    def run(
        self, *, raw: RawImage, camera: InstrumentConfig, cards: dict[str, HeaderValue]
    ) -> pipeBase.Struct:
        """Process one frame.

        Parameters
        ----------
        raw : `models.images.RawImage`
        camera : `config.instruments.InstrumentConfig`
        cards : `dict`
            From `pipelines.headers.exposure_cards`.

        Returns
        -------
        result : `lsst.pipe.base.Struct`
            ``post_isr_image``.

        Raises
        ------
        models.errors.UnreadableImage
            Raised if the frame has another shape than the detector, or no
            usable pixel.
        """
        detector = camera.by_id[int(cards["DETECTOR"])]
        if raw.data.shape != detector.shape:
            raise UnreadableImage(
                f"the frame has shape {raw.data.shape}, but detector {detector.id} ({detector.name}) has "
                f"{detector.shape}: it belongs to another camera, or the instrument file is wrong"
            )
        adu = raw.data.astype(np.float32)
        bad = ~np.isfinite(adu)
        if bad.all():
            raise UnreadableImage(f"the frame of detector {detector.id} has no finite pixel")
        adu[bad] = 0
        gain, saturation = self._amplifier_values(raw.header, camera, detector.id)
        mask = np.zeros(adu.shape, np.int32)
        mask[bad] |= MaskPlane.BAD
        mask[adu >= saturation] |= MaskPlane.SAT
        image = adu * gain
        flat_sky, _, rms = subtract_background(image, mask != 0)
        variance = np.maximum(flat_sky, np.float32(0)) + np.float32(rms**2)
        repair(image, bad)
        header: dict[str, HeaderValue] = {**cards, "BUNIT": "electron"}
        return pipeBase.Struct(post_isr_image=PromptImage(image, variance, mask, header))

    def _amplifier_values(
        self, header: dict[str, HeaderValue], camera: InstrumentConfig, detector_id: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return maps of the gain (e/ADU) and the saturation level (ADU)."""
        detector = camera.by_id[detector_id]
        gain = np.ones(detector.shape, np.float32)
        saturation = np.full(detector.shape, np.inf, np.float32)
        for amplifier in detector.amplifiers:
            gain[amplifier.data.slices] = amplifier.gain
            saturation[amplifier.data.slices] = amplifier.saturation
        if (own_gain := header.get(self.config.gain_key)) is not None:
            gain[:] = np.float32(own_gain)
        if (own_level := header.get(self.config.saturation_key)) is not None:
            saturation[:] = np.float32(own_level)
        return gain, saturation
