"""DIA sources to alerts in the LSST alert schema."""

from __future__ import annotations

__all__ = ["AlertBuilder", "cutout_fits"]

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.images import HeaderValue, PromptImage
from pipelines.dia_tables import rows_of
from repos.fits_files import image_hdu_bytes

Float32Array = npt.NDArray[np.float32]


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

    def records(self, name: str, table: pd.DataFrame) -> list[dict[str, Any]]:
        """Return a record for each row of a table."""
        return [self.record(name, row) for row in rows_of(table)]

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


def cutout_fits(image: PromptImage, x: float, y: float, half: int) -> bytes | None:
    """Return a square around a position as a FITS file.

    Parameters
    ----------
    image : `models.images.PromptImage`
    x, y : `float`
        Position, pixels.
    half : `int`
        Half side; the square has 2 * half + 1 pixels a side.

    Returns
    -------
    file : `bytes` or `None`
        NaN where the image does not reach; None if it reaches nowhere.
    """
    i, j = round(x), round(y)
    ny, nx = image.shape
    x0, x1, y0, y1 = max(0, i - half), min(nx, i + half + 1), max(0, j - half), min(ny, j + half + 1)
    if x0 >= x1 or y0 >= y1:
        return None
    side = 2 * half + 1
    pixels = np.full((side, side), np.nan, np.float32)
    pixels[y0 - j + half : y1 - j + half, x0 - i + half : x1 - i + half] = image.image[y0:y1, x0:x1]
    cards: dict[str, HeaderValue] = {"BUNIT": image.header.get("BUNIT", "nJy"), **image.wcs_header}
    cards["CRPIX1"] = float(cards["CRPIX1"]) - (i - half)
    cards["CRPIX2"] = float(cards["CRPIX2"]) - (j - half)
    return image_hdu_bytes(pixels, cards, primary=True)
