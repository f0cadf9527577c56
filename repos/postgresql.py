"""Which driver speaks to PostgreSQL, and what its refusals mean."""

from __future__ import annotations

__all__ = ["TIMEOUTS", "patient_url", "refusal", "use_installed_driver"]

import re

from sqlalchemy import make_url
from sqlalchemy.dialects import registry

#: Parameters of connections, so that a server that does not answer holds nobody
#: for minutes: seconds, but for TCP_USER_TIMEOUT, which is in milliseconds.
TIMEOUTS = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

_DRIVER = "sqlalchemy.dialects.postgresql.psycopg2"

#: What PostgreSQL says when waiting will not help.
_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|permission denied"
    r"|(database|role|schema) \".*\" does not exist"
)


def use_installed_driver() -> None:
    """Let URLs of the form ``postgresql://`` mean the driver that we bring.

    SQLAlchemy's own choice differs between its versions, and the Butler and
    the APDB leave it to SQLAlchemy. URLs that name a driver are not touched.
    Safe to call again.
    """
    registry.register("postgresql", _DRIVER, "dialect")


def patient_url(url: str) -> str:
    """Add `TIMEOUTS` to a URL of PostgreSQL, as far as it does not say
    otherwise; return others as they are.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "postgresql":
        return url
    missing = {name: value for name, value in TIMEOUTS.items() if name not in parsed.query}
    return parsed.update_query_dict(missing).render_as_string(hide_password=False)


def refusal(error: BaseException) -> str | None:
    """Return why a server will go on refusing us, in one line; None if an
    error, or what caused it, may pass.

    A password, database, role or schema that is wrong does not become right
    by waiting.
    """
    cause: BaseException | None = error
    while cause is not None:
        text = str(getattr(cause, "orig", None) or cause)
        if _REFUSED.search(text):
            return " ".join(text.split())
        cause = cause.__cause__
    return None
