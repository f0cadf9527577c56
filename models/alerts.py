"""Alerts of one visit and detector."""

from __future__ import annotations

__all__ = ["AlertPackets"]

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
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
        in degrees, times as MJD TAI, cutouts as FITS files in bytes. Not to be
        changed once they are encoded.
    """

    schema_version: str
    packets: list[dict[str, Any]]
    _encoded: list[bytes] = field(default_factory=list, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.packets)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.packets)

    def encoded(self, encode: Callable[[dict[str, Any]], bytes]) -> Sequence[bytes]:
        """Return each alert as bytes, encoding them the first time only:
        alerts go to more than one place.
        """
        if len(self._encoded) != len(self.packets):
            self._encoded[:] = [encode(packet) for packet in self.packets]
        return self._encoded

    @property
    def schema_id(self) -> int:
        """Number of the schema in the observatory's registry, major * 100 +
        minor (DMTN-093).
        """
        major, minor = self.schema_version.split(".")
        return int(major) * 100 + int(minor)
