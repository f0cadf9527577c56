"""How the Butler writes and reads the project's dataset types.

Storage classes and formatters are declared in ``storage_classes.yaml``, which
goes into the configuration of every repository that the project makes.
"""

from __future__ import annotations

__all__ = [
    "AlertPacketsFormatter",
    "PromptImageFormatter",
    "RawFormatter",
    "raw_formatter",
    "repository_config",
]

from pathlib import Path
from typing import Any, ClassVar

import fastavro
from lsst.daf.butler import Config, FormatterV2

from models.alerts import AlertPackets
from models.images import PromptImage, RawImage
from repos.alert_encoding import alert_file_bytes
from repos.fits_files import prompt_image_from_fits, prompt_image_to_fits, raw_from_fits

#: What the names of the formatters for single HDUs begin with.
_RAW_FORMATTER = "RawFormatterHdu"
_CONFIG = Path(__file__).with_name("storage_classes.yaml")


def repository_config() -> Config:
    """Return the storage classes and formatters to give to
    `lsst.daf.butler.Butler.makeRepo`; merge other settings into it.
    """
    return Config(str(_CONFIG))


class _FitsFormatter(FormatterV2):
    default_extension = ".fits"
    supported_extensions = frozenset({".fits", ".fits.fz", ".fits.gz", ".fz"})
    can_read_from_local_file = True


class PromptImageFormatter(_FitsFormatter):
    """`~models.images.PromptImage` as multi-extension FITS."""

    def read_from_local_file(self, path: str, component: str | None = None, expected_size: int = -1) -> Any:
        """Return the image, or its header."""
        image = prompt_image_from_fits(path)
        return image if component is None else getattr(image, component)

    def to_bytes(self, in_memory_dataset: Any) -> bytes:
        """Return the FITS file of an image."""
        return prompt_image_to_fits(in_memory_dataset)

    def can_accept(self, in_memory_dataset: Any) -> bool:
        """Say whether this is an image."""
        return isinstance(in_memory_dataset, PromptImage)


class RawFormatter(_FitsFormatter):
    """`~models.images.RawImage` from the files of a camera; never written."""

    #: Anything that begins with ``f`` is a raw (``docs/messages.md``).
    supported_extensions = frozenset({".fits", ".fits.fz", ".fits.gz", ".fz", ".fit", ".fts"})
    #: HDU that holds the pixels; None for the first that holds an image.
    hdu: ClassVar[int | None] = None

    def read_from_local_file(self, path: str, component: str | None = None, expected_size: int = -1) -> Any:
        """Return the frame, or its header."""
        image: RawImage = raw_from_fits(path, self.hdu)
        return image if component is None else getattr(image, component)


def raw_formatter(hdu: int) -> type[RawFormatter]:
    """Return the formatter for cameras that keep the pixels in an HDU.

    The Butler stores the names of formatters, so each HDU has a class of its
    own that this module makes when it is asked for its name.
    """
    name = f"{_RAW_FORMATTER}{hdu}"
    return type(name, (RawFormatter,), {"hdu": hdu, "__module__": __name__})


def __getattr__(name: str) -> type[RawFormatter]:
    number = name.removeprefix(_RAW_FORMATTER)
    if number == name or not number.isdigit():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return raw_formatter(int(number))


class AlertPacketsFormatter(FormatterV2):
    """`~models.alerts.AlertPackets` as an Avro object container file."""

    default_extension = ".avro"
    supported_extensions = frozenset({".avro"})
    can_read_from_local_file = True

    def read_from_local_file(self, path: str, component: str | None = None, expected_size: int = -1) -> Any:
        """Return the alerts of a file."""
        with open(path, "rb") as file:
            reader = fastavro.reader(file)
            name = str(reader.writer_schema["name"])  # lsst.v<major>_<minor>.alert
            version = name.split(".")[1].removeprefix("v").replace("_", ".")
            return AlertPackets(schema_version=version, packets=[dict(r) for r in reader])

    def to_bytes(self, in_memory_dataset: Any) -> bytes:
        """Return the Avro file of alerts."""
        return alert_file_bytes(in_memory_dataset)
