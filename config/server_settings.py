"""What the servers for tests and demos take from the environment."""

from __future__ import annotations

__all__ = ["ServerPlaces", "server_environment", "server_places"]

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: Directory into which servers are unpacked that are not installed.
SERVERS_DIRECTORY = "PP_SERVERS_DIR"


@dataclass(frozen=True)
class ServerPlaces:
    """Where servers come from.

    Attributes
    ----------
    unpacked : `pathlib.Path`
        Directory for those that are not installed.
    use_installed : `bool`
        Whether installed ones are used where there are any.
    """

    unpacked: Path
    use_installed: bool = True

    def which(self, program: str) -> Path | None:
        """Return the installed program of a name, if it may be used."""
        found = shutil.which(program) if self.use_installed else None
        return None if found is None else Path(found)


def server_places(project: Path) -> ServerPlaces:
    """Return where servers come from: ``PP_SERVERS_DIR``, else ``.servers``.

    Parameters
    ----------
    project : `pathlib.Path`
        Root of the project.
    """
    return ServerPlaces(Path(os.environ.get(SERVERS_DIRECTORY) or project / ".servers").absolute())


def server_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with some variables added."""
    return {**os.environ, **variables}
