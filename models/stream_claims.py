"""Entries of a stream of visits as a worker gets them."""

from __future__ import annotations

__all__ = ["ClaimedEntry"]

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ClaimedEntry:
    """An entry that a worker holds the claim on.

    Attributes
    ----------
    entry_id : `str`
        Its id in the stream.
    fields : mapping [`bytes`, `bytes`]
        What it says; see `models.stream_entries.from_stream_entry`.
    deliveries : `int`
        How often it was handed to a worker, this time included.
    """

    entry_id: str
    fields: Mapping[bytes, bytes]
    deliveries: int
