"""Makes ``high_galactic_latitude.fits``: run ``python -m config.maps.high_galactic_latitude``.

The map is 1 where the centre of a pixel is more than 15 degrees from the
plane of the Galaxy, and 0 elsewhere. Within the plane stars are too crowded
for the pipelines that ship with the project.
"""

from __future__ import annotations

__all__ = ["LATITUDE", "NSIDE", "make_map"]

from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy_healpix import HEALPix

#: Pixels of 1.8 degrees: smaller than the field of view of a survey camera.
NSIDE = 32
#: Least distance from the plane, degrees.
LATITUDE = 15.0


def make_map() -> npt.NDArray[np.uint8]:
    """Return the map, nested, in equatorial coordinates, shape (12 * NSIDE**2,)."""
    healpix = HEALPix(nside=NSIDE, order="nested", frame="icrs")
    centers = healpix.healpix_to_skycoord(np.arange(healpix.npix))
    return (np.abs(centers.galactic.b.deg) > LATITUDE).astype(np.uint8)


def main() -> None:
    """Write the map beside this file."""
    column = fits.Column(name="SELECTED", format="B", array=make_map())
    table = fits.BinTableHDU.from_columns([column])
    table.header.update(
        PIXTYPE="HEALPIX",
        ORDERING="NESTED",
        COORDSYS="C",
        NSIDE=NSIDE,
        INDXSCHM="IMPLICIT",
        OBJECT="FULLSKY",
    )
    table.writeto(Path(__file__).with_suffix(".fits"), overwrite=True)


if __name__ == "__main__":
    main()
