"""DIA sources to alerts in the LSST alert schema."""

from __future__ import annotations

__all__ = ["AlertBuilder", "CutoutMaker"]

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits

from models.images import HeaderValue, PromptImage
from repos.fits_files import FITS_BLOCK, image_hdu_bytes


class AlertBuilder:
    """Turns rows of tables into records of an Avro schema.

    Parameters
    ----------
    schema : `dict`
        Parsed schema of alerts, as `repos.alert_schema.load_alert_schema`
        returns it.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._records: dict[str, dict[str, _Field]] = {}
        self._collect(schema)

    def _collect(self, node: Any) -> None:
        """Find all records that the schema defines, however deep."""
        if isinstance(node, list):
            for part in node:
                self._collect(part)
        elif isinstance(node, Mapping):
            if node.get("type") == "record":
                name = str(node["name"]).rpartition(".")[2]
                self._records[name] = {f["name"]: _Field(f["type"]) for f in node["fields"]}
                for field in node["fields"]:
                    self._collect(field["type"])
            else:
                self._collect(node.get("type"))
                self._collect(node.get("items"))

    def record(self, name: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return one record of the schema.

        Parameters
        ----------
        name : `str`
            Last part of the record's name: ``diaSource``, ``diaObject``, ...
        row : `dict`
            Values by field; missing ones are null, or 0 where null is not
            allowed.
        """
        return {field: kind.convert(row.get(field)) for field, kind in self._records[name].items()}

    def alert(
        self,
        source: dict[str, Any],
        dia_object: dict[str, Any] | None,
        previous: list[dict[str, Any]],
        forced: list[dict[str, Any]],
        cutouts: Mapping[str, bytes | None],
    ) -> dict[str, Any]:
        """Put the parts of an alert together.

        Parameters
        ----------
        source, dia_object, previous, forced
            Records that `record` made.
        cutouts : `dict` [`str`, `bytes` or `None`]
            FITS files by the names of the schema (``cutoutScience``, ...).
        """
        alert = dict.fromkeys(self._records["alert"])
        alert["diaSourceId"] = source["diaSourceId"]
        alert["diaSource"] = source
        alert["diaObject"] = dia_object
        alert["prvDiaSources"] = previous or None
        alert["prvDiaForcedSources"] = forced or None
        alert.update(cutouts)
        return alert


class _Field:
    """Type of one field of a record."""

    def __init__(self, kind: Any) -> None:
        kinds = kind if isinstance(kind, list) else [kind]
        self._nullable = "null" in kinds
        plain = next((k for k in kinds if k != "null"), "null")
        self._kind = plain["type"] if isinstance(plain, Mapping) else plain

    def convert(self, value: Any) -> Any:
        """Return a value as Avro wants it."""
        if value is None or value is pd.NA or (isinstance(value, float | np.floating) and math.isnan(value)):
            if self._nullable:
                return None
            value = 0
        match self._kind:
            case "boolean":
                return bool(value)
            case "int" | "long":
                return int(value)
            case "float" | "double":
                return float(value)
            case "string":
                return str(value)
            case _:
                return value


class CutoutMaker:
    """Cuts squares out of an image, each a FITS file of its own.

    The header is formatted once; a cutout changes two cards of it.

    Parameters
    ----------
    image : `models.images.PromptImage`
    half : `int`
        Half side; squares have 2 * half + 1 pixels a side.
    """

    def __init__(self, image: PromptImage, half: int) -> None:
        self._image = image.image
        self._half = half
        side = 2 * half + 1
        cards: dict[str, HeaderValue] = {"BUNIT": image.header.get("BUNIT", "nJy"), **image.wcs_header}
        self._reference = float(cards.get("CRPIX1", 1.0)), float(cards.get("CRPIX2", 1.0))
        cards["CRPIX1"] = cards["CRPIX2"] = 0.0
        blank = image_hdu_bytes(np.zeros((side, side), np.float32), cards, primary=True)
        length = len(blank) - side * side * 4
        length -= length % FITS_BLOCK
        self._header = blank[:length]
        self._places = tuple(self._header.index(key) for key in (b"CRPIX1  =", b"CRPIX2  ="))

    def cut(self, x: float, y: float) -> bytes | None:
        """Return the square around a position.

        Parameters
        ----------
        x, y : `float`
            Position, pixels.

        Returns
        -------
        file : `bytes` or `None`
            A FITS file, NaN where the image does not reach; None if it
            reaches nowhere.
        """
        half, (ny, nx) = self._half, self._image.shape
        i, j = round(x), round(y)
        x0, x1, y0, y1 = max(0, i - half), min(nx, i + half + 1), max(0, j - half), min(ny, j + half + 1)
        if x0 >= x1 or y0 >= y1:
            return None
        side = 2 * half + 1
        pixels = np.full((side, side), np.nan, ">f4")
        pixels[y0 - j + half : y1 - j + half, x0 - i + half : x1 - i + half] = self._image[y0:y1, x0:x1]
        header = bytearray(self._header)
        corner = i - half, j - half
        for axis, place in enumerate(self._places):
            card = fits.Card(f"CRPIX{axis + 1}", float(f"{self._reference[axis] - corner[axis]:.14g}"))
            header[place : place + 80] = card.image.encode("ascii")
        data = pixels.tobytes()
        return bytes(header) + data + b"\0" * (-len(data) % FITS_BLOCK)
