"""Settings that say where the ledger is."""

from __future__ import annotations

__all__ = ["LedgerSettings"]

from config.loading import Settings, setting
from config.values import AbsolutePath, Text, expand_user


class LedgerSettings(Settings):
    """Settings that say where the ledger is; enough to look at it."""

    state_dir: AbsolutePath = setting(
        "PP_STATE_DIR",
        default_factory=lambda: expand_user("~/.local/state/prompt-processing"),
        purpose="directory for what the service keeps itself: ledger, sockets, alerts",
        example="/var/lib/prompt-processing",
    )
    ledger_url: Text = setting(
        "PP_LEDGER_URL",
        default_factory=lambda data: f"sqlite:///{data.get('state_dir')}/ledger.sqlite3",
        purpose="database of the visit ledger, as SQLAlchemy URL",
        example="sqlite:////var/lib/prompt-processing/ledger.sqlite3",
        pattern="^[a-z0-9+]+://",
        repr=False,
    )
