"""Headers of FITS files that are known to be whole."""

from __future__ import annotations

__all__ = ["Header", "read_fits_header"]

import gzip
import io
import warnings
import zlib
from collections import ChainMap
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from astropy.io import fits
from astropy.io.fits.verify import VerifyError

from models.errors import UnreadableImage

#: Values by FITS keyword.
Header: TypeAlias = Mapping[str, Any]

_GZIP_MAGIC = b"\x1f\x8b"


def read_fits_header(path: str | PathLike[str], hdu: int) -> Header:
    """Read the header of an image, making sure that the file is whole.

    Parameters
    ----------
    path : path-like
        A FITS file; may be compressed as a whole (gzip) or tile by tile
        (fpack).
    hdu : `int`
        The HDU that holds the pixels.

    Returns
    -------
    header : mapping
        Cards of that HDU, which win, and of the primary HDU.

    Raises
    ------
    models.errors.UnreadableImage
        Raised if the file is not there, not FITS, truncated in header or
        data, or has no two-dimensional image where it should be; the text
        names the file.
    """
    source, size = _source(Path(path))
    try:
        with warnings.catch_warnings():
            # astropy warns of truncated files and goes on; we do not.
            warnings.simplefilter("ignore")
            # Compressed images are left as the tables they are stored as:
            # their keywords are the same, and nothing is decompressed.
            with fits.open(source, memmap=False, disable_image_compression=True) as hdus:
                _check_length(path, hdus, size)
                number = _image_number(path, hdus, hdu)
                pixels, primary = hdus[number].header, hdus[0].header
    except (OSError, ValueError, TypeError, KeyError, IndexError, VerifyError) as error:
        raise UnreadableImage(f"{path} is not FITS, or is truncated: {error}") from error
    return ChainMap(pixels, primary) if number else pixels


def _source(path: Path) -> tuple[Path | io.BytesIO, int]:
    """Return what to read, and its length in bytes when not compressed."""
    try:
        with path.open("rb") as stream:
            if stream.read(2) != _GZIP_MAGIC:
                return path, path.stat().st_size
        # The only way to know that it is whole is to decompress it.
        content = gzip.decompress(path.read_bytes())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableImage(f"{path} is truncated, or damaged: {error}") from error
    except OSError as error:
        raise UnreadableImage(f"{path} cannot be read: {error.strerror or error}") from error
    return io.BytesIO(content), len(content)


def _check_length(path: str | PathLike[str], hdus: fits.HDUList, size: int) -> None:
    for number, hdu in enumerate(hdus):
        # Without the padding to whole blocks, which holds no pixels.
        needed = hdu.fileinfo()["datLoc"] + hdu.size
        if needed > size:
            raise UnreadableImage(
                f"{path} is truncated: HDU {number} ends at byte {needed}, the file at {size}"
            )


def _image_number(path: str | PathLike[str], hdus: fits.HDUList, hdu: int) -> int:
    # Tile compression moves an image out of the primary HDU into the next.
    for number in (hdu, hdu + 1) if hdu == 0 else (hdu,):
        if number < len(hdus):
            header = hdus[number].header
            prefix = "Z" if header.get("ZIMAGE") else ""
            if header.get(f"{prefix}NAXIS") == 2 and (prefix or hdus[number].is_image):
                return number
    raise UnreadableImage(
        f"{path} has no two-dimensional image in HDU {hdu} ({len(hdus)} HDUs in all): "
        "truncated, or of another camera"
    )
