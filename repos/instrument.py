"""Butler instruments made from camera files.

The Butler stores an instrument as the name of a class. `class_name` gives
such a name for any camera file, and the module makes the class when asked for
it (`PEP 562 <https://peps.python.org/pep-0562/>`_), so that a camera needs no
Python code of its own.
"""

from __future__ import annotations

__all__ = ["ConfiguredInstrument", "class_name", "instrument_class", "register_instrument"]

from typing import Any, ClassVar

from lsst.daf.butler import DataId, Formatter, FormatterV2
from lsst.daf.butler.registry import Registry
from lsst.pipe.base import Instrument

from config.instruments import InstrumentConfig, find_instrument_file, load_instrument
from models.errors import InvalidConfiguration
from repos.formatters import raw_formatter

#: Largest exposure or visit id that the ``instrument`` record announces; ids
#: are at most dayobs * 100000 + seq, 13 digits.
MAX_EXPOSURE_ID = 10**14


class ConfiguredInstrument(Instrument):
    """Base of the classes made here: an instrument known by a camera file."""

    camera: ClassVar[InstrumentConfig]

    @classmethod
    def getName(cls) -> str:
        """Return the instrument's short name."""
        return cls.camera.name

    def register(self, registry: Registry, *, update: bool = False) -> None:
        """Write the instrument, its filters and its detectors to a registry."""
        register_instrument(registry, self.camera, update=update)

    def getRawFormatter(self, dataId: DataId) -> type[Formatter | FormatterV2]:
        """Return the formatter that reads this camera's raw files."""
        return raw_formatter(self.camera.raw_hdu)


def class_name(camera: InstrumentConfig) -> str:
    """Return the class name that a repo stores for a camera.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if it would be longer than the 64 characters the Butler keeps.
    """
    name = f"repos.instrument.{camera.name.replace('-', '_')}"
    if len(name) > 64:
        raise InvalidConfiguration(
            f"instrument name {camera.name} is too long: {name} has over 64 characters"
        )
    return name


def instrument_class(camera: InstrumentConfig) -> type[ConfiguredInstrument]:
    """Make the Butler instrument class of a camera."""
    name = class_name(camera).rpartition(".")[2]
    return type(name, (ConfiguredInstrument,), {"camera": camera, "__doc__": camera.description})


def register_instrument(registry: Registry, camera: InstrumentConfig, *, update: bool = False) -> None:
    """Write a camera's dimension records to a registry."""
    with registry.transaction():
        registry.syncDimensionData(
            "instrument",
            {
                "name": camera.name,
                "class_name": class_name(camera),
                "detector_max": max(d.id for d in camera.detectors) + 1,
                "visit_max": MAX_EXPOSURE_ID,
                "exposure_max": MAX_EXPOSURE_ID,
                "visit_system": 0,
            },
            update=update,
        )
        for filter_ in camera.filters:
            registry.syncDimensionData(
                "physical_filter",
                {"instrument": camera.name, "name": filter_.name, "band": filter_.band},
                update=update,
            )
        for detector in camera.detectors:
            registry.syncDimensionData(
                "detector",
                {
                    "instrument": camera.name,
                    "id": detector.id,
                    "full_name": detector.name,
                    "name_in_raft": detector.name.rpartition("_")[2],
                    "raft": detector.name.rpartition("_")[0] or detector.name,
                    "purpose": detector.purpose,
                },
                update=update,
            )


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    # `class_name` turns hyphens into underscores.
    for camera in dict.fromkeys((name, name.replace("_", "-"))):
        try:
            return instrument_class(load_instrument(find_instrument_file(camera)))
        except InvalidConfiguration as error:
            reason = str(error)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: {reason}")
