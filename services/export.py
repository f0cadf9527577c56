"""Export: put a visit's outputs in their final place and hand them over."""

from __future__ import annotations

__all__ = ["ExportedOutputs", "Exporter", "Handover", "OutputWorkspace"]

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from models.events import OutboxMessage

_log = logging.getLogger(__name__)


class OutputWorkspace(Protocol):
    """Where a visit's outputs are."""

    def outputs(self) -> Sequence[Any]:
        """Return references to everything that was made for the visit."""

    def export(self, refs: Iterable[Any], files: Any) -> Sequence[Any]:
        """Write datasets to their final place."""


class Handover(Protocol):
    """Makes files in place known to the central registry."""

    def hand_over(self, outputs: Any) -> tuple[OutboxMessage, ...]:
        """Register outputs, or return the messages that will."""


@dataclass(frozen=True)
class ExportedOutputs:
    """What was handed over.

    Attributes
    ----------
    count : `int`
        Number of datasets.
    messages : `tuple` [`models.events.OutboxMessage`, ...]
        What remains to be sent, stored with the visit's result.
    """

    count: int = 0
    messages: tuple[OutboxMessage, ...] = ()


class Exporter:
    """Exports the outputs that the configuration wants kept.

    Parameters
    ----------
    files : object
        Writes into the central datastore.
    handover : `Handover`
    bundle : callable
        Maps dimension records and file datasets to what `handover` takes.
    wants : callable
        Says of a dataset type's name whether it is exported.
    enabled : `bool`
        Whether anything is exported at all.
    """

    def __init__(
        self,
        *,
        files: Any,
        handover: Handover,
        bundle: Callable[[Sequence[Any], Sequence[Any], Sequence[Any]], Any],
        wants: Callable[[str], bool],
        enabled: bool = True,
    ) -> None:
        self._files = files
        self._handover = handover
        self._bundle = bundle
        self._wants = wants
        self._enabled = enabled

    def wanted(self, ref: Any) -> bool:
        """Say whether a dataset is to be exported."""
        return "detector" in ref.datasetType.dimensions and self._wants(ref.datasetType.name)

    def export(self, workspace: OutputWorkspace, records: Sequence[Any]) -> ExportedOutputs:
        """Export a visit's outputs, whole or partial.

        Parameters
        ----------
        workspace : `OutputWorkspace`
        records : `list`
            Dimension records to go with them.
        """
        if not self._enabled:
            return ExportedOutputs()
        refs = [ref for ref in workspace.outputs() if self.wanted(ref)]
        file_datasets = workspace.export(refs, self._files)
        types = list({ref.datasetType.name: ref.datasetType for ref in refs}.values())
        messages = self._handover.hand_over(self._bundle(records, file_datasets, types))
        _log.info("Exported %d datasets.", len(file_datasets))
        return ExportedOutputs(len(file_datasets), messages)
