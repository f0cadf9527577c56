"""Cameras, described by YAML files: geometry, amplifiers, filters, headers.

An instrument file is all that the system knows of a camera. Adding one is
described in ``docs/adding-a-camera.md``; ``config/instruments`` holds two.

Frames used throughout the project:

pixel
    Zero-based (x, y) of the trimmed detector image, the centre of the first
    pixel at (0, 0); x is the column (last array axis).
focal plane
    Field angle (X, Y) in degrees on the plane tangent at the boresight. At
    ``cameraAngle`` 0, +Y points north and +X west (or east with ``flip_x``).
sky
    ICRS right ascension and declination, degrees.
"""

from __future__ import annotations

__all__ = [
    "Amplifier",
    "Detector",
    "Filter",
    "HeaderField",
    "InstrumentConfig",
    "Section",
    "find_instrument_file",
    "load_instrument",
]

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from models.errors import InvalidConfiguration

#: Instrument files that ship with the project.
SHIPPED = Path(__file__).parent / "instruments"


class Section(NamedTuple):
    """A half-open rectangle of pixels, 0-based: columns [x0, x1), rows [y0, y1)."""

    x0: int
    x1: int
    y0: int
    y1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the section in an array of shape (ny, nx)."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (ny, nx) of the section."""
        return self.y1 - self.y0, self.x1 - self.x0


def _section(value: Any) -> Any:
    if isinstance(value, list | tuple) and len(value) == 4:
        section = Section(*(int(v) for v in value))
        if not (0 <= section.x0 < section.x1 and 0 <= section.y0 < section.y1):
            raise ValueError(f"[x0, x1, y0, y1] must be increasing and not negative, not {list(section)}")
        return section
    raise ValueError("give a section as [x0, x1, y0, y1]")


SectionField = Annotated[Section, BeforeValidator(_section)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Amplifier(_Strict):
    """One readout channel of a detector.

    Attributes
    ----------
    data : `Section`
        Where its pixels lie in the trimmed image.
    raw_data, raw_overscan : `Section` or `None`
        Where its light-sensitive and overscan pixels lie in the raw array;
        None for cameras whose frames begin after ISR.
    gain : `float`
        Electrons per ADU.
    read_noise : `float`
        Electrons, rms.
    saturation : `float`
        ADU above overscan.
    """

    name: str
    data: SectionField
    raw_data: SectionField | None = None
    raw_overscan: SectionField | None = None
    gain: float = Field(gt=0)
    read_noise: float = Field(ge=0)
    saturation: float = Field(gt=0)


class Detector(_Strict):
    """One sensor.

    Attributes
    ----------
    id : `int`
    name : `str`
        Full name, as in the Butler's ``detector`` records.
    center : `tuple` [`float`, `float`]
        Focal-plane position of the middle of the sensor, mm.
    rotation : `float`
        Angle from focal +X to pixel +x, degrees, counter-clockwise.
    size : `tuple` [`int`, `int`]
        Columns and rows of the trimmed image.
    """

    id: int = Field(ge=0)
    name: str
    center: tuple[float, float] = (0.0, 0.0)
    rotation: float = 0.0
    size: tuple[int, int]
    purpose: str = "SCIENCE"
    amplifiers: tuple[Amplifier, ...] = Field(min_length=1)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (ny, nx) of the trimmed image."""
        return self.size[1], self.size[0]

    @property
    def raw_shape(self) -> tuple[int, int]:
        """Shape (ny, nx) of the raw array."""
        sections = [s for a in self.amplifiers for s in (a.raw_data, a.raw_overscan) if s is not None]
        if not sections:
            return self.shape
        return max(s.y1 for s in sections), max(s.x1 for s in sections)


class Filter(_Strict):
    """A physical filter and the band it belongs to."""

    name: str
    band: str


class HeaderField(_Strict):
    """Where a piece of observation metadata comes from.

    Exactly one of `key` (a FITS keyword) and `value` (a constant); `unit` is
    an astropy unit for numbers, `scale` the astropy time scale for times,
    `format` an astropy time format.
    """

    key: str | None = None
    value: Any = None
    unit: str | None = None
    scale: str = "tai"
    format: str = "isot"

    @model_validator(mode="before")
    @classmethod
    def _from_keyword(cls, data: Any) -> Any:
        return {"key": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.key is None) == (self.value is None):
            raise ValueError("give either a FITS keyword (key) or a constant (value)")
        return self


class InstrumentConfig(_Strict):
    """Everything the system knows of a camera.

    Attributes
    ----------
    name : `str`
        Short name, as in ``RUBIN_INSTRUMENT`` and in messages.
    plate_scale : `float`
        Arcseconds per mm on the focal plane.
    pixel_size : `float`
        mm.
    flip_x : `bool`
        Whether focal +X points east, instead of west, when +Y points north.
    raw_hdu : `int`
        HDU of a raw file that holds the pixels.
    raw_form : `str`
        ``overscan`` for frames straight from the readout, ``calibrated`` for
        frames from which the instrument's signature is already removed.
    metadata : `dict`
        Observation metadata (names of `astro_metadata_translator` properties)
        to where they come from.
    files : `dict`
        Constants for single files, by regular expression that the file's name
        matches fully; they win over `metadata`.
    """

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    description: str = ""
    plate_scale: float = Field(gt=0)
    pixel_size: float = Field(gt=0)
    flip_x: bool = False
    detectors: tuple[Detector, ...] = Field(min_length=1)
    filters: tuple[Filter, ...] = Field(min_length=1)
    raw_hdu: int = 1
    raw_form: Literal["overscan", "calibrated"] = "overscan"
    metadata: dict[str, HeaderField]
    files: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_unique(self) -> Self:
        for what, names in (
            ("detector id", [str(d.id) for d in self.detectors]),
            ("detector name", [d.name for d in self.detectors]),
            ("filter", [f.name for f in self.filters]),
        ):
            repeated = {n for n in names if names.count(n) > 1}
            if repeated:
                raise ValueError(f"{what} {', '.join(sorted(repeated))} is given more than once")
        return self

    @property
    def pixel_scale(self) -> float:
        """Arcseconds per pixel."""
        return self.plate_scale * self.pixel_size

    @cached_property
    def by_id(self) -> Mapping[int, Detector]:
        """Detectors by id."""
        return {d.id: d for d in self.detectors}

    @cached_property
    def by_name(self) -> Mapping[str, Detector]:
        """Detectors by full name."""
        return {d.name: d for d in self.detectors}

    @cached_property
    def bands(self) -> Mapping[str, str]:
        """Band by physical filter."""
        return {f.name: f.band for f in self.filters}

    def overrides_for(self, file_name: str) -> dict[str, Any]:
        """Return the constants of `files` that apply to a file."""
        for pattern, values in self.files.items():
            if re.fullmatch(pattern, file_name):
                return values
        return {}


def load_instrument(path: str | Path) -> InstrumentConfig:
    """Read an instrument file.

    A detector may leave out what ``detector_defaults`` gives.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the file cannot be read or a field is missing or wrong; the
        text names the file and every such field.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"instrument file {path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise InvalidConfiguration(f"instrument file {path} must hold a mapping")
    defaults = data.pop("detector_defaults", None) or {}
    detectors = data.get("detectors")
    if isinstance(detectors, list) and isinstance(defaults, dict):
        data["detectors"] = [{**defaults, **d} if isinstance(d, dict) else d for d in detectors]
    try:
        return InstrumentConfig.model_validate(data)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise InvalidConfiguration(f"instrument file {path}: {faults}") from error


def find_instrument_file(name: str, search: Iterable[str | Path] = ()) -> Path:
    """Find the instrument file of a camera.

    Parameters
    ----------
    name : `str`
        The instrument's short name; the file is ``<name>.yaml``.
    search : iterable of path-like
        Directories with ``<name>.yaml``, or instrument files of any name,
        looked at before those that ship with the project.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if there is none, or a file on the way cannot be read.
    """
    places = [*map(Path, search), SHIPPED]
    for place in places:
        if place.suffix in (".yaml", ".yml"):
            # Given by name, whatever it is called.
            if place.is_file() and load_instrument(place).name == name:
                return place
        elif (place / f"{name}.yaml").is_file():
            return place / f"{name}.yaml"
    looked = ", ".join(str(p) for p in places)
    raise InvalidConfiguration(
        f"no instrument file {name}.yaml in {looked}; write one (docs/adding-a-camera.md) "
        "and name its directory in PP_INSTRUMENT_PATH"
    )
