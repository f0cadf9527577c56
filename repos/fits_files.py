"""Images to FITS bytes and back, without a Butler.

The bytes depend on nothing but the image: no date, no software version.
"""

from __future__ import annotations

__all__ = [
    "FITS_BLOCK",
    "PromptImageFile",
    "image_hdu_bytes",
    "prompt_image_from_fits",
    "prompt_image_to_fits",
    "raw_from_fits",
]

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from models.errors import UnreadableImage
from models.images import HeaderValue, MaskPlane, PromptImage, RawImage, SpatialKernel

#: What names a file in this module.
PromptImageFile = str | PathLike[str]

#: FITS files consist of blocks of this many bytes (FITS standard 4.0, 3.1).
FITS_BLOCK = 2880
#: Cards that describe how an HDU is stored, not what it shows.
_STRUCTURAL = frozenset(
    [
        *(
            "SIMPLE",
            "XTENSION",
            "BITPIX",
            "NAXIS",
            "NAXIS1",
            "NAXIS2",
            "NAXIS3",
            "EXTEND",
            "PCOUNT",
            "GCOUNT",
        ),
        *("GROUPS", "TFIELDS", "BSCALE", "BZERO", "BLANK", "CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM"),
        *("EXTNAME", "EXTVER", "COMMENT", "HISTORY", "CONTINUE", "INHERIT", "END", ""),
    ]
)
_BITPIX = {"f4": -32, "f8": -64, "i4": 32, "i2": 16, "u1": 8}


def _card_values(header: fits.Header) -> dict[str, HeaderValue]:
    return {
        card.keyword: card.value
        for card in header.cards
        if card.keyword not in _STRUCTURAL and isinstance(card.value, str | bool | int | float)
    }


def image_hdu_bytes(
    data: npt.NDArray[np.generic],
    cards: dict[str, HeaderValue],
    *,
    name: str | None = None,
    primary: bool = False,
) -> bytes:
    """Return one HDU with an image.

    astropy formats the cards; pixels are written here because astropy's
    general writer takes three times as long for an image and ten times for a
    cutout.

    Parameters
    ----------
    data : `numpy.ndarray`
        float32, float64, int32, int16 or uint8 pixels.
    cards : `dict`
        Header cards; values that FITS cannot hold (NaN, infinity) are left
        out.
    name : `str`, optional
        EXTNAME.
    primary : `bool`, optional
        Whether this is the first HDU of the file.
    """
    code = f"{data.dtype.kind}{data.dtype.itemsize}"
    header = fits.Header()
    if primary:
        header["SIMPLE"] = True
    else:
        header["XTENSION"] = "IMAGE"
    header["BITPIX"] = _BITPIX[code]
    header["NAXIS"] = data.ndim
    for axis, length in enumerate(reversed(data.shape), start=1):
        header[f"NAXIS{axis}"] = length
    if primary:
        header["EXTEND"] = True
    else:
        header["PCOUNT"] = 0
        header["GCOUNT"] = 1
    if name is not None:
        header["EXTNAME"] = name
    for key, value in cards.items():
        if isinstance(value, float) and not np.isfinite(value):
            continue
        header[key if len(key) <= 8 else f"HIERARCH {key}"] = value
    pixels = data.astype(data.dtype.newbyteorder(">")).tobytes()
    return header.tostring().encode("ascii") + pixels + b"\0" * (-len(pixels) % FITS_BLOCK)


def _kernel_hdu(kernel: SpatialKernel, name: str) -> bytes:
    cards: dict[str, HeaderValue] = {"DEGREE": kernel.degree, "FIELDSIZ": float(kernel.size)}
    return image_hdu_bytes(np.asarray(kernel.coefficients, dtype=np.float32), cards, name=name)


def prompt_image_to_fits(image: PromptImage) -> bytes:
    """Return an image as the bytes of a FITS file.

    The primary HDU is empty; IMAGE comes next, then VARIANCE, MASK (with the
    bit of each plane in ``MP_*`` cards), PSF and KERNEL as far as there are
    any.
    """
    primary = fits.Header([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0), ("EXTEND", True)])
    parts = [primary.tostring().encode("ascii")]
    parts.append(image_hdu_bytes(np.asarray(image.image, dtype=np.float32), image.header, name="IMAGE"))
    if image.variance is not None:
        parts.append(image_hdu_bytes(np.asarray(image.variance, dtype=np.float32), {}, name="VARIANCE"))
    if image.mask is not None:
        planes: dict[str, HeaderValue] = {
            f"MP_{plane.name}": plane.value.bit_length() - 1 for plane in MaskPlane if plane.name
        }
        parts.append(image_hdu_bytes(np.asarray(image.mask, dtype=np.int32), planes, name="MASK"))
    for name, kernel in (("PSF", image.psf), ("KERNEL", image.kernel)):
        if kernel is not None:
            parts.append(_kernel_hdu(kernel, name))
    return b"".join(parts)


def prompt_image_from_fits(path: PromptImageFile) -> PromptImage:
    """Read an image that `prompt_image_to_fits`, or anything alike, wrote.

    Only the first image of the file must be there.

    Raises
    ------
    models.errors.UnreadableImage
        Raised if this is not a whole FITS file, or holds no image.
    """
    with _opened(path) as hdus:
        first = _first_image(path, hdus)
        planes = {hdu.name: hdu for hdu in hdus}
        variance, mask = planes.get("VARIANCE"), planes.get("MASK")
        return PromptImage(
            image=_native(first.data, np.float32),
            variance=None if variance is None else _native(variance.data, np.float32),
            mask=None if mask is None else _native(mask.data, np.int32),
            header=_card_values(first.header),
            psf=_kernel(planes.get("PSF")),
            kernel=_kernel(planes.get("KERNEL")),
        )


def raw_from_fits(path: PromptImageFile, number: int | None = None) -> RawImage:
    """Read a frame as a camera wrote it.

    The cards of the HDU with the pixels, compressed or not, win over those of
    the primary HDU.

    Parameters
    ----------
    path : path-like
    number : `int`, optional
        HDU that holds the pixels; the first with a two-dimensional image if
        left out.

    Raises
    ------
    models.errors.UnreadableImage
        Raised if this is not a whole FITS file, or holds no image there.
    """
    with _opened(path) as hdus:
        hdu = _first_image(path, hdus if number is None else hdus[number : number + 1])
        header = _card_values(hdus[0].header) | _card_values(hdu.header)
        data = np.asarray(hdu.data)
        return RawImage(data.astype(data.dtype.newbyteorder("="), copy=False), header)


#: How a gzip file begins (RFC 1952).
_GZIP_MAGIC = b"\x1f\x8b"


class _Opened:
    """Context of an open FITS file that turns faults into our error."""

    def __init__(self, path: PromptImageFile) -> None:
        self._path = path
        self._hdus: fits.HDUList | None = None

    def __enter__(self) -> fits.HDUList:
        try:
            with open(self._path, "rb") as file:
                compressed = file.read(2) == _GZIP_MAGIC
            self._hdus = fits.open(self._path, memmap=False, lazy_load_hdus=False)
            # A gzip stream that ends early says so itself.
            if not compressed:
                self._check_length(Path(self._path).stat().st_size)
        except FileNotFoundError:
            raise
        except Exception as error:  # astropy raises anything, depending on what is broken
            self._close()
            raise UnreadableImage(f"{self._path} is not a whole FITS file: {error}") from error
        return self._hdus

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._close()
        if isinstance(error, Exception) and not isinstance(error, UnreadableImage):
            raise UnreadableImage(f"{self._path} cannot be read as a FITS image: {error}") from error

    def _check_length(self, size: int) -> None:
        """Astropy warns of a file that ends early and pads it with zeros."""
        assert self._hdus is not None
        for number, hdu in enumerate(self._hdus):
            if not hasattr(hdu, "fileinfo"):
                raise ValueError(f"HDU {number} is corrupt")
            info = hdu.fileinfo()
            if info and info["datLoc"] + info["datSpan"] > -(-size // FITS_BLOCK) * FITS_BLOCK:
                raise ValueError(
                    f"HDU {number} needs {info['datLoc'] + info['datSpan']} bytes, the file has {size}"
                )

    def _close(self) -> None:
        if self._hdus is not None:
            self._hdus.close()


def _opened(path: PromptImageFile) -> _Opened:
    return _Opened(path)


def _first_image(path: PromptImageFile, hdus: fits.HDUList) -> fits.ImageHDU:
    for hdu in hdus:
        if hdu.is_image and len(hdu.shape) == 2 and hdu.data is not None:
            return hdu
    raise UnreadableImage(f"{path} holds no two-dimensional image")


def _native(data: npt.NDArray[np.generic], dtype: type[np.generic]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(data, dtype=dtype)


def _kernel(hdu: fits.ImageHDU | None) -> SpatialKernel | None:
    if hdu is None:
        return None
    return SpatialKernel(
        coefficients=_native(hdu.data, np.float32),
        degree=int(hdu.header["DEGREE"]),
        size=float(hdu.header["FIELDSIZ"]),
    )
