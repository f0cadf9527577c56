"""Images as the pipelines hand them on: pixels, variance, mask, WCS, PSF.

Pixel arrays have shape (ny, nx); positions are zero-based (x, y) with the
centre of the first pixel at (0, 0), as everywhere in this project. The WCS is
kept as FITS keywords in the header, where reference pixels are one-based.
"""

from __future__ import annotations

__all__ = ["HeaderValue", "MaskPlane", "PromptImage", "RawImage", "SpatialKernel", "field_terms", "wcs_cards"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntFlag

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.wcs import WCS

#: What a FITS header card can hold.
HeaderValue = str | bool | int | float

#: First letters of the keywords that describe a celestial WCS (FITS WCS papers
#: I and II, and the TPV convention of SCAMP).
_WCS_PREFIXES = ("CTYPE", "CRVAL", "CRPIX", "CUNIT", "CDELT", "CD1_", "CD2_", "PC1_", "PC2_", "PV1_", "PV2_")
_WCS_KEYS = frozenset({"WCSAXES", "RADESYS", "EQUINOX", "LONPOLE", "LATPOLE"})


class MaskPlane(IntFlag):
    """Bits of a mask pixel."""

    BAD = 1
    """Defective pixel: dead, hot, or without response in the flat."""
    SAT = 2
    """Saturated, or bled into."""
    CR = 4
    """Hit by a cosmic ray."""
    EDGE = 8
    """Too near the border for a measurement."""
    NO_DATA = 16
    """No light was recorded here: outside the template, or never read."""
    DETECTED = 32
    """Belongs to a positive detection."""
    DETECTED_NEGATIVE = 64
    """Belongs to a negative detection of a difference image."""

    @classmethod
    def unusable(cls) -> MaskPlane:
        """Return the planes whose pixels carry no measurement."""
        return cls.BAD | cls.SAT | cls.CR | cls.NO_DATA


def wcs_cards(header: Mapping[str, HeaderValue]) -> dict[str, HeaderValue]:
    """Return the cards of a header that describe a celestial WCS."""
    return {k: v for k, v in header.items() if k in _WCS_KEYS or k.startswith(_WCS_PREFIXES)}


def field_terms(
    x: npt.ArrayLike, y: npt.ArrayLike, size: float, degree: int
) -> list[npt.NDArray[np.float64]]:
    """Evaluate the monomials in which models vary over a detector.

    Parameters
    ----------
    x, y : array-like
        Positions, pixels.
    size : `float`
        Length that maps to [-1, 1], pixels.
    degree : `int`
        Highest total power.

    Returns
    -------
    terms : `list` [`numpy.ndarray`]
        u^i v^j for i + j <= degree, where u = 2 x / size - 1; the constant
        comes first.
    """
    u = np.asarray(x, dtype=float) * (2.0 / size) - 1.0
    v = np.asarray(y, dtype=float) * (2.0 / size) - 1.0
    return [u**i * v**j for i in range(degree + 1) for j in range(degree + 1 - i)]


@dataclass(frozen=True, eq=False)
class SpatialKernel:
    """A small image that varies over the detector: a PSF or a kernel.

    Attributes
    ----------
    coefficients : `numpy.ndarray`, (nterms, n, n), float32
        Images that are multiplied by `field_terms` and added; n is odd.
    degree : `int`
        Degree of the polynomial.
    size : `float`
        Length that maps to [-1, 1], pixels.
    """

    coefficients: npt.NDArray[np.float32]
    degree: int
    size: float

    def at(self, x: float, y: float) -> npt.NDArray[np.float32]:
        """Return the image, (n, n), that belongs to a position."""
        terms = np.array(field_terms(x, y, self.size, self.degree), dtype=np.float32)
        return np.tensordot(terms, self.coefficients, 1)

    def normalised_at(self, x: float, y: float) -> npt.NDArray[np.float32]:
        """Return the image that belongs to a position, scaled to sum 1."""
        image = self.at(x, y)
        return image / image.sum(dtype=np.float64).astype(np.float32)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SpatialKernel):
            return NotImplemented
        return (
            self.degree == other.degree
            and self.size == other.size
            and np.array_equal(self.coefficients, other.coefficients)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(eq=False)
class RawImage:
    """A frame as it came from the camera.

    Attributes
    ----------
    data : `numpy.ndarray`, (ny, nx)
        Pixels in the order of the file, overscan included; ADU.
    header : `dict`
        Cards of the pixels' HDU over those of the primary one.
    """

    data: npt.NDArray[np.generic]
    header: dict[str, HeaderValue] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RawImage):
            return NotImplemented
        return self.header == other.header and np.array_equal(self.data, other.data)

    __hash__ = None  # type: ignore[assignment]


@dataclass(eq=False)
class PromptImage:
    """An image in the trimmed frame of a detector or of a patch of sky.

    Attributes
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        Pixel values in the unit that header card ``BUNIT`` names.
    variance : `numpy.ndarray` or `None`, (ny, nx), float32
        Their variance, unit squared.
    mask : `numpy.ndarray` or `None`, (ny, nx), int32
        Bits of `MaskPlane`.
    header : `dict`
        FITS cards, among them those of the WCS.
    psf : `SpatialKernel` or `None`
        Point-spread function; use its `~SpatialKernel.normalised_at`.
    kernel : `SpatialKernel` or `None`
        Matching kernel, of a difference image.
    """

    image: npt.NDArray[np.float32]
    variance: npt.NDArray[np.float32] | None = None
    mask: npt.NDArray[np.int32] | None = None
    header: dict[str, HeaderValue] = field(default_factory=dict)
    psf: SpatialKernel | None = None
    kernel: SpatialKernel | None = None

    def __post_init__(self) -> None:
        # What is kept in memory equals what is written and read again, to the
        # last bit: pixels have the types of the file, and numbers in the
        # header no more digits than a FITS card takes (14, with an exponent of
        # two digits).
        self.image = np.asarray(self.image, dtype=np.float32)
        if self.variance is not None:
            self.variance = np.asarray(self.variance, dtype=np.float32)
        if self.mask is not None:
            self.mask = np.asarray(self.mask, dtype=np.int32)
        self.header = {k: float(f"{v:.14g}") if isinstance(v, float) else v for k, v in self.header.items()}
        for name in ("variance", "mask"):
            plane = getattr(self, name)
            if plane is not None and plane.shape != self.image.shape:
                raise ValueError(f"{name} has shape {plane.shape}, the image {self.image.shape}")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ny, nx = self.image.shape
        return ny, nx

    @property
    def wcs(self) -> WCS:
        """The WCS of the header, made anew on each access.

        Raises
        ------
        ValueError
            Raised if the header has none.
        """
        if "CTYPE1" not in self.header:
            raise ValueError("the image's header has no celestial WCS (CTYPE1 is missing)")
        return WCS(fits.Header(self.wcs_header), fix=False)

    @property
    def wcs_header(self) -> dict[str, HeaderValue]:
        """The cards of the header that describe the WCS."""
        return wcs_cards(self.header)

    def unusable(self) -> npt.NDArray[np.bool_]:
        """Return where pixels carry no measurement, (ny, nx)."""
        if self.mask is None:
            return np.zeros(self.shape, dtype=bool)
        return (self.mask & int(MaskPlane.unusable())) != 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PromptImage):
            return NotImplemented
        return (
            self.header == other.header
            and self.psf == other.psf
            and self.kernel == other.kernel
            and np.array_equal(self.image, other.image, equal_nan=True)
            and _same(self.variance, other.variance)
            and _same(self.mask, other.mask)
        )

    __hash__ = None  # type: ignore[assignment]


def _same(a: npt.NDArray[np.generic] | None, b: npt.NDArray[np.generic] | None) -> bool:
    if a is None or b is None:
        return a is b
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
