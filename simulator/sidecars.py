"""Sidecars of raws: where the key of a raw does not tell its group, a file does."""

from __future__ import annotations

__all__ = ["StagedWithSidecar", "stage_frame"]

import json
from dataclasses import dataclass

from models.errors import InvalidMessage
from models.raws import parse_raw_key
from simulator.observing import FrameDelivery, StagedFrame


@dataclass(frozen=True)
class StagedWithSidecar:
    """A raw and its sidecar, which comes first."""

    sidecar: StagedFrame
    raw: StagedFrame

    def release(self) -> float:
        """Deliver both; returns the UTC unix time at which the raw was there."""
        self.sidecar.release()
        return self.raw.release()

    def discard(self) -> None:
        """Remove what was not delivered."""
        self.sidecar.discard()
        self.raw.discard()


def stage_frame(delivery: FrameDelivery, key: str, content: bytes, group: str) -> StagedFrame:
    """Bring a raw near its place, with its sidecar if raws of its form have one.

    Parameters
    ----------
    delivery : `simulator.observing.FrameDelivery`
    key : `str`
    content : `bytes`
    group : `str`
    """
    sidecar = _sidecar_key(key)
    raw = delivery.stage(key, content)
    if sidecar is None:
        return raw
    return StagedWithSidecar(delivery.stage(sidecar, json.dumps({"GROUPID": group}).encode()), raw)


def _sidecar_key(key: str) -> str | None:
    try:
        return parse_raw_key(key).sidecar_key
    except InvalidMessage:
        return None
