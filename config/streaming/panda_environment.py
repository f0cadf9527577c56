"""The environment of PanDA's own client."""

from __future__ import annotations

__all__ = ["panda_environment"]

import os
from collections.abc import Mapping
from pathlib import Path

#: Where the client keeps its token, and answers of the identity provider.
_CONFIG_ROOT = "PANDA_CONFIG_ROOT"


def panda_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which the client finds its token.

    Left to itself it looks in the working directory, which for a submission
    is a new one each time. Its set-up script names ``~/.pathena``, and so do
    we where that was not run.

    Parameters
    ----------
    environment : mapping, optional
        That of this process by default.
    """
    source = os.environ if environment is None else environment
    return {_CONFIG_ROOT: str(Path.home() / ".pathena"), **source}
