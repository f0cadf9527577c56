"""Maps that say yes or no for each part of the sky, in HEALPix pixels."""

from __future__ import annotations

__all__ = ["BinaryMap", "load_binary_map"]

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from config.values import expand_user
from models.errors import InvalidConfiguration

if TYPE_CHECKING:
    import numpy.typing as npt
    from astropy_healpix import HEALPix

#: Values of the map's pixels: what they mean for a match.
_MATCHES = 1
_DOES_NOT_MATCH = (0, 16)


class BinaryMap:
    """A part of the sky.

    Parameters
    ----------
    pixels : `numpy.ndarray` [`bool`], shape (12 * nside**2,)
        Whether each pixel belongs to it.
    healpix : `astropy_healpix.HEALPix`
        The pixelisation, with its frame.
    """

    def __init__(self, pixels: npt.NDArray[np.bool_], healpix: HEALPix) -> None:
        self._pixels = pixels
        self._healpix = healpix

    @property
    def covered(self) -> float:
        """Fraction of the sky that belongs to it."""
        return float(self._pixels.mean())

    def contains(self, ra: float, dec: float) -> bool:
        """Whether a position (ICRS, degrees) belongs to it."""
        from astropy.coordinates import SkyCoord

        index = self._healpix.skycoord_to_healpix(SkyCoord(ra, dec, unit="deg", frame="icrs"))
        return bool(self._pixels[int(index)])


def load_binary_map(path: str | Path) -> BinaryMap:
    """Read a binary map from a HEALPix FITS file.

    The map must cover the full sky with implicit indexing, in ring or nested
    order, in equatorial, galactic or ecliptic (mean, J2000) coordinates. Its
    first column counts: 1 belongs to the area, 0 and 16 (unknown) do not.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the file cannot be read or is anything else.
    """
    # Only configurations with a map pay for these imports.
    from astropy.io import fits
    from astropy_healpix import HEALPix

    try:
        with fits.open(expand_user(path), memmap=False) as hdus:
            table = next((h for h in hdus if isinstance(h, fits.BinTableHDU)), None)
            if table is None:
                raise ValueError("it has no binary table")
            header = table.header
            values = np.ravel(np.asarray(table.data.field(0)))
    except Exception as error:  # what reads a damaged file may raise anything
        raise InvalidConfiguration(f"sky map {path} cannot be read as a HEALPix FITS map: {error}") from error
    faults, healpix_arguments = _read_header(header, values.size)
    matches = values == _MATCHES
    others = values[~(matches | np.isin(values, _DOES_NOT_MATCH))] if values.dtype.kind in "biuf" else values
    if others.size:
        examples = ", ".join(str(v) for v in np.unique(others)[:3])
        faults.append(f"has {others.size} pixels with other values than 0, 1 and 16: {examples}")
    if faults:
        raise InvalidConfiguration(f"sky map {path}: {'; '.join(faults)}")
    return BinaryMap(np.ascontiguousarray(matches), HEALPix(**healpix_arguments))


def _read_header(header: Any, size: int) -> tuple[list[str], dict[str, Any]]:
    """Read the pixelisation from the keywords of the HEALPix FITS convention."""
    from astropy.coordinates import BarycentricMeanEcliptic

    frames = {"C": "icrs", "G": "galactic", "E": BarycentricMeanEcliptic(equinox="J2000")}
    faults: list[str] = []
    order = str(header.get("ORDERING", "")).strip().lower()
    if order not in ("ring", "nested"):
        faults.append(f"ORDERING must be RING or NESTED, not {header.get('ORDERING')!r}")
    indexing = str(header.get("INDXSCHM", "IMPLICIT")).strip().upper()
    if indexing != "IMPLICIT":
        faults.append(f"INDXSCHM must be IMPLICIT, not {indexing}")
    # Writers spell it out or abbreviate it; the first letter counts. Q is the
    # convention's letter for equatorial.
    system = str(header.get("COORDSYS", "")).strip().upper()[:1].replace("Q", "C")
    if system not in frames:
        faults.append(f"COORDSYS must be C, G or E, not {header.get('COORDSYS')!r}")
    nside = header.get("NSIDE")
    if not isinstance(nside, int) or nside < 1 or (order == "nested" and nside & (nside - 1)):
        faults.append(f"NSIDE must be a positive number, for NESTED a power of two, not {nside!r}")
    elif size != 12 * nside**2:
        faults.append(f"must cover the full sky: {12 * nside**2} pixels at NSIDE {nside}, not {size}")
    return faults, {"nside": nside, "order": order, "frame": frames.get(system)}
