"""Datasets and their files."""

from __future__ import annotations

__all__ = ["CatalogueFile", "DatasetId", "same_checksum"]

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

_ADLER32 = re.compile(r"(?:ad(?:ler32)?:)?([0-9a-f]{1,8})", re.IGNORECASE)


class DatasetId(NamedTuple):
    """Names a dataset: Rucio's DID."""

    scope: str
    name: str

    def __str__(self) -> str:
        return f"{self.scope}:{self.name}"


@dataclass(frozen=True)
class CatalogueFile:
    """A file of a dataset.

    Attributes
    ----------
    name : `str`
        Unique in its scope.
    path : `pathlib.Path`
        Where it is now.
    size_bytes : `int`
    adler32 : `str`
        Eight hexadecimal digits; "" if the catalogue has a file without.
    guid : `str`
        A UUID; the same whenever the file is registered again.
    metadata : `dict`
        ``run_number`` and what else is known.
    """

    name: str
    path: Path
    size_bytes: int
    adler32: str
    guid: str
    metadata: dict[str, Any] = field(default_factory=dict)


def same_checksum(told: str | None, adler32: str) -> bool:
    """Say whether a checksum that somebody told may be that of a content; of
    one of another kind nothing can be said.

    Parameters
    ----------
    told : `str` or `None`
        Hexadecimal digits, not always padded, maybe with ``ad:`` or
        ``adler32:`` before them.
    adler32 : `str`
        Hexadecimal digits.
    """
    match = _ADLER32.fullmatch(told.strip()) if told else None
    return match is None or int(match[1], 16) == int(adler32, 16)
