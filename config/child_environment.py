"""The environment of a service that we start ourselves."""

from __future__ import annotations

__all__ = ["child_environment"]

import os
from collections.abc import Mapping

from config.loading import SETTINGS_FILE
from config.settings import ServiceSettings


def child_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with other settings for the service.

    Settings that happen to be set here, but not in `variables`, are left out,
    so that a child is configured by its caller alone.

    Parameters
    ----------
    variables : `dict` [`str`, `str`]
        The child's settings.
    """
    own = {*ServiceSettings.variables(), SETTINGS_FILE}
    inherited = {name: value for name, value in os.environ.items() if name not in own}
    return {**inherited, **variables}
