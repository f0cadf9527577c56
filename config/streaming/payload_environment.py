"""The environment of payloads, which are programs of users."""

from __future__ import annotations

__all__ = ["payload_environment"]

import os
from collections.abc import Mapping

from pydantic import SecretStr

from config.streaming.settings import StreamingSettings


def payload_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment without what opens the doors of others: passwords,
    tokens, databases.

    Parameters
    ----------
    environment : mapping, optional
        That of this process by default.
    """
    fields = StreamingSettings.model_fields
    hidden = {
        variable
        for variable, name in StreamingSettings.variables().items()
        if fields[name].annotation is SecretStr or not fields[name].repr
    }
    source = os.environ if environment is None else environment
    return {name: value for name, value in source.items() if name not in hidden}
