"""Datasets and their files."""

from __future__ import annotations

__all__ = ["CatalogueFile", "DatasetId"]

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


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
        Eight hexadecimal digits.
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
