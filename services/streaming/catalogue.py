"""What agents need of the catalogue of datasets."""

from __future__ import annotations

__all__ = ["Catalogue"]

from collections.abc import Sequence
from typing import Protocol

from models.streaming.datasets import CatalogueFile, DatasetId


class Catalogue(Protocol):
    """Knows datasets and their files. Whatever is asked twice has one effect.

    Every method raises `models.errors.TemporarilyUnavailable` while it cannot
    be reached or answers with a failure of its own; nothing may then be
    assumed about what was asked.
    """

    def create_dataset(self, dataset: DatasetId, *, lifetime: float) -> None:
        """Make a dataset, open, if it is not there.

        Parameters
        ----------
        dataset : `DatasetId`
        lifetime : `float`
            Seconds.
        """

    def add_files(self, dataset: DatasetId, files: Sequence[CatalogueFile]) -> None:
        """Register files once each with size, checksum and metadata, have
        their content stored where the catalogue stores it, and attach them.

        Raises
        ------
        models.errors.InvalidMessage
            Raised if a file is refused for good; the text names it. Files
            before it were added, and maybe some behind it.
        """

    def files(self, dataset: DatasetId, *, after: int = 0) -> Sequence[CatalogueFile]:
        """Return the files of a dataset in the order in which they were
        attached, less the first `after`.
        """

    def close_dataset(self, dataset: DatasetId) -> None:
        """Have a dataset accept no more files."""

    def is_open(self, dataset: DatasetId) -> bool | None:
        """Say whether a dataset is open; None if there is none."""
