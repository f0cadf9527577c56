"""Files that list the datasets of a batch, for those who copy them on."""

from __future__ import annotations

__all__ = ["BatchFiles"]

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from lsst.resources import ResourcePath

from models.errors import TemporarilyUnavailable
from models.events import BatchFile
from repos.atomic_files import replace_file
from repos.retry import is_outage

_log = logging.getLogger(__name__)


class BatchFiles:
    """Writes batch files into a directory or under an ``s3://`` prefix.

    Parameters
    ----------
    directory : `str`
        A missing local directory is made.
    now : callable, optional
        Returns the present time, aware.
    """

    def __init__(self, directory: str, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._directory = ResourcePath(directory, forceDirectory=True)
        self._now = now

    def write(self, batch: BatchFile) -> str:
        """Write the file of a batch; it is whole, or not there.

        Returns
        -------
        name : `str`
            Name within the directory.

        Raises
        ------
        models.errors.TemporarilyUnavailable
            Raised if it cannot be written now.
        """
        time = self._now().astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%S-%f")
        name = f"{time}-{batch.batch_id}.json"
        content = batch.model_dump_json().encode()
        uri = self._directory.join(name)
        try:
            if uri.isLocal:
                replace_file(Path(uri.ospath), lambda path: path.write_bytes(content), durable=True)
            else:
                # An object store takes whole objects.
                uri.write(content)
        except Exception as error:
            if isinstance(error, OSError) or is_outage(error):
                raise TemporarilyUnavailable(f"the batch file {uri} cannot be written: {error}") from error
            raise
        return name

    def remove(self, name: str) -> None:
        """Remove the file of a batch that came to nothing, if that is possible."""
        try:
            self._directory.join(name).remove()
        except Exception as error:  # every store has its own
            _log.info("The batch file %s, of which nobody was told, stays: %s", name, error)
