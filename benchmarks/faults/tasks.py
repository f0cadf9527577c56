"""A task that goes wrong in the way that its configuration says."""

# mypy: disable-error-code="call-arg"

from __future__ import annotations

__all__ = ["FaultConfig", "FaultConnections", "FaultTask"]

import ctypes
import signal
import subprocess
import sys
import time

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT

from models.images import PromptImage

#: Whatever the limit, no more than this is taken, bytes.
_MOST_MEMORY = 6 << 30
_BLOCK = 64 << 20


class FaultConnections(pipeBase.PipelineTaskConnections, dimensions=("instrument", "exposure", "detector")):
    """Inputs and outputs of `FaultTask`."""

    image = cT.Input(
        name="post_isr_image",
        storageClass="PromptImage",
        dimensions=("instrument", "exposure", "detector"),
        doc="Anything that an earlier task has made.",
    )
    report = cT.Output(
        name="fault_report",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "exposure", "detector"),
        doc="That nothing went wrong.",
    )


class FaultConfig(pipeBase.PipelineTaskConfig, pipelineConnections=FaultConnections):
    """Configuration of `FaultTask`."""

    fault = pexConfig.ChoiceField(
        dtype=str,
        doc="What goes wrong.",
        default="none",
        allowed={
            "none": "Nothing.",
            "raise": "An exception.",
            "segfault": "A null pointer is read.",
            "memory": "Memory is taken without end.",
            "deaf": "SIGTERM is ignored, and a child process started, while nothing happens for long.",
            "slow": "Nothing happens for long, but signals are heeded.",
        },
    )
    seconds = pexConfig.Field(dtype=float, default=600.0, doc="For how long nothing happens.")


class FaultTask(pipeBase.PipelineTask):
    """Go wrong."""

    ConfigClass = FaultConfig
    _DefaultName = "fault"

    def run(self, image: PromptImage) -> pipeBase.Struct:
        """Go wrong, or not.

        Parameters
        ----------
        image : `models.images.PromptImage`
        """
        match self.config.fault:
            case "raise":
                raise ValueError("this task was asked to fail")
            case "segfault":
                ctypes.string_at(0)
            case "memory":
                _eat()
            case "deaf":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({self.config.seconds})"])
                _sleep(self.config.seconds)
            case "slow":
                _sleep(self.config.seconds)
        return pipeBase.Struct(report={"shape": list(image.shape)})


def _eat() -> None:
    blocks: list[bytes] = []
    while len(blocks) * _BLOCK < _MOST_MEMORY:
        # Ones, not zeros: pages that are only promised cost nothing.
        blocks.append(b"\x01" * _BLOCK)


def _sleep(seconds: float) -> None:
    # In short naps: a signal that comes just before a nap is handled after it.
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.05)
