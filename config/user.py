"""Who runs this process."""

from __future__ import annotations

__all__ = ["user_name"]

import getpass

#: Of who has no name, as in the field.
_NOBODY = "unknown"


def user_name() -> str:
    """Return the user's name: from ``LOGNAME``, ``USER`` and the like, else the
    system's; ``unknown`` if that has none, as in containers whose user is but
    a number.
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # Until Python 3.12 the former.
        return _NOBODY
