"""Alerts of one visit and detector."""

from __future__ import annotations

__all__ = ["AlertPackets"]

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AlertPackets:
    """Alerts in the LSST alert schema.

    Attributes
    ----------
    schema_version : `str`
        Version of the schema, ``major.minor`` as in ``lsst.alert.packet``.
    packets : `list` [`dict`]
        One record an alert, as `fastavro` writes them; fluxes in nJy, angles
        in degrees, times as MJD TAI, cutouts as FITS files in bytes.
    """

    schema_version: str
    packets: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.packets)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.packets)

    @property
    def schema_id(self) -> int:
        """Number of the schema in the observatory's registry, major * 100 +
        minor (DMTN-093).
        """
        major, minor = self.schema_version.split(".")
        return int(major) * 100 + int(minor)
