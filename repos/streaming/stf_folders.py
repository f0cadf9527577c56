"""Folders of STF files.

A run's files are in ``<container>/<dataset>``. The content of a file of the
simulated DAQ is the message that announces it.
"""

from __future__ import annotations

__all__ = ["StfFolders"]

import json
import stat
import time
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.streaming.data_runs import FoundFile
from models.streaming.names import parse_stf_filename

#: Bytes that are read at once.
_CHUNK = 1 << 20
#: Bytes of a file that may be its message.
_MESSAGE = 1 << 16
#: Seconds for which a file must not have changed to be taken as complete when
#: nobody announced it.
_SETTLED = 2.0


class StfFolders:
    """Looks at the files of runs; a `services.streaming.data_runs.StfFolders`.

    Parameters
    ----------
    settled : `float`, optional
        Seconds for which a file that nobody announced must not have changed.
    """

    def __init__(self, *, settled: float = _SETTLED) -> None:
        self._settled = settled

    def inspect(self, containers: Sequence[str], dataset: str, filename: str) -> FoundFile | None:
        """Return a file, from the first of the containers that has it; None
        if none has it, or it changes while it is read.
        """
        for path in _places(containers, dataset, filename):
            try:
                # Of a pipe, nothing would ever come.
                _size(path)
                with path.open("rb") as file:
                    size, checksum = 0, 1
                    while chunk := file.read(_CHUNK):
                        size += len(chunk)
                        checksum = zlib.adler32(chunk, checksum)
                if path.stat().st_size != size:
                    return None
            except OSError:
                continue
            return FoundFile(path=path, size_bytes=size, adler32=f"{checksum:08x}")
        return None

    def size(self, containers: Sequence[str], dataset: str, filename: str) -> int | None:
        """Return the size of a file in bytes; None if no container has it."""
        for path in _places(containers, dataset, filename):
            try:
                return _size(path)
            except OSError:
                continue
        return None

    def search(
        self, containers: Sequence[str], dataset: str, run_id: str, known: Collection[str]
    ) -> list[tuple[str, Mapping[str, Any]]]:
        """Return names of files of a run that are not known and do not change
        any more, in order, with what their content says if it is their
        message.
        """
        found: dict[str, Mapping[str, Any]] = {}
        latest = time.time() - self._settled
        for container in containers if _is_plain(dataset) else ():
            for path in _listing(Path(container) / dataset):
                name = parse_stf_filename(path.name)
                if name is None or name.run_id != run_id or path.name in known or path.name in found:
                    continue
                try:
                    if path.stat().st_mtime > latest:
                        continue
                    found[path.name] = _message(path)
                except OSError:
                    continue
        return sorted(found.items())


def _places(containers: Sequence[str], dataset: str, filename: str) -> Iterator[Path]:
    # A message is not trusted to lead out of the folder.
    if _is_plain(filename) and _is_plain(dataset):
        yield from (Path(container) / dataset / filename for container in containers)


def _size(path: Path) -> int:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(f"{path} is no file")
    return status.st_size


def _is_plain(name: str) -> bool:
    return Path(name).name == name and name != ".."


def _listing(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _message(path: Path) -> Mapping[str, Any]:
    if _size(path) > _MESSAGE:
        return {}
    try:
        body = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, Mapping) else {}
