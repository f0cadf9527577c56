"""Raw frames as FITS files, with the header that the camera file promises."""

from __future__ import annotations

__all__ = ["UNITS", "header_cards", "image_hdus", "raw_file"]

import io
from collections.abc import Mapping
from typing import Any

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.time import Time

from config.instruments import InstrumentConfig

#: Units of the observation metadata that is given as plain numbers.
UNITS: Mapping[str, u.UnitBase] = {
    "exposure_time": u.s,
    "dark_time": u.s,
    "tracking_ra": u.deg,
    "tracking_dec": u.deg,
    "boresight_rotation_angle": u.deg,
}


def header_cards(instrument: InstrumentConfig, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Translate observation metadata into the camera's header cards.

    Parameters
    ----------
    instrument : `config.instruments.InstrumentConfig`
        Whose `metadata` says where each value goes.
    metadata : mapping
        Values by the names of `astro_metadata_translator` properties; numbers
        in `UNITS`, times as `astropy.time.Time`.

    Returns
    -------
    cards : `dict`
        Values by FITS keyword.

    Raises
    ------
    ValueError
        Raised if the camera file asks for something that `metadata` lacks.
    """
    cards: dict[str, Any] = {}
    for name, source in instrument.metadata.items():
        if source.key is None:
            continue
        if name not in metadata:
            raise ValueError(
                f"{instrument.name}.yaml maps {name} to {source.key}, but nobody knows its value"
            )
        value = metadata[name]
        if isinstance(value, Time):
            value = getattr(getattr(value, source.scale), source.format)
        elif name in UNITS and source.unit is not None:
            value = (value * UNITS[name]).to_value(source.unit)
        cards[source.key] = value
    return cards


def raw_file(instrument: InstrumentConfig, metadata: Mapping[str, Any], pixels: np.ndarray) -> bytes:
    """Return a raw frame as the bytes of a FITS file.

    Parameters
    ----------
    instrument : `config.instruments.InstrumentConfig`
        Says the header's keywords and which HDU holds the pixels.
    metadata : mapping
        As in `header_cards`.
    pixels : `numpy.ndarray`, (ny, nx)
        Overscan included; ADU.
    """
    primary = fits.PrimaryHDU()
    hdus = fits.HDUList([primary])
    while len(hdus) < instrument.raw_hdu:
        hdus.append(fits.ImageHDU())
    if instrument.raw_hdu == 0:
        hdus[0] = fits.PrimaryHDU(pixels)
    else:
        hdus.append(fits.ImageHDU(pixels))
    hdus[0].header.update(header_cards(instrument, metadata))
    buffer = io.BytesIO()
    hdus.writeto(buffer)
    return buffer.getvalue()


def image_hdus(planes: Mapping[str, np.ndarray], cards: Mapping[str, Any]) -> fits.HDUList:
    """Return images in the form of calibrations and templates.

    Parameters
    ----------
    planes : mapping [`str`, `numpy.ndarray`]
        Images by HDU name; the first becomes HDU 1.
    cards : mapping
        Header cards of HDU 1.
    """
    hdus = fits.HDUList([fits.PrimaryHDU()])
    for name, plane in planes.items():
        hdus.append(fits.ImageHDU(plane, name=name))
    hdus[1].header.update(cards)
    return hdus
