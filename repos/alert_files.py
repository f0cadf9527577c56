"""Alerts as Avro object container files in a directory."""

from __future__ import annotations

__all__ = ["AlertFileSink"]

from collections.abc import Callable, Sequence
from pathlib import Path

from models.alerts import AlertPackets
from models.events import OutboxMessage
from models.visits import FannedOutVisit
from repos.alert_encoding import alert_file_bytes
from repos.atomic_files import replace_file


class AlertFileSink:
    """Writes one file for each visit and detector, durably.

    Files are named ``<instrument>-<exposure>-<detector>.avro``; a second
    run of a visit replaces its file.

    Parameters
    ----------
    directory : `pathlib.Path`
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def send(
        self,
        packets: AlertPackets,
        visit: FannedOutVisit,
        exposure: int,
        outlet: Callable[[Sequence[OutboxMessage]], None],
    ) -> str:
        """Write the alerts of an exposure; they are on disk when this
        returns the file. The outlet is for others.
        """
        name = f"{visit.instrument}-{exposure}-{visit.detector:03d}.avro"
        path = self._directory / name
        replace_file(path, lambda aside: aside.write_bytes(alert_file_bytes(packets)), durable=True)
        return str(path)
