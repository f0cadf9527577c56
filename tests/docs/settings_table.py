"""The tables of settings in ``docs/settings.md``, made from the settings classes.

``python -m tests.docs.settings_table`` writes them anew.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from config.fan_out_settings import FanOutSettings
from config.loading import Settings
from config.settings import ServiceSettings
from config.stream_settings import StreamSettings
from config.streaming.settings import StreamingSettings
from config.writer_settings import WriterSettings
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "settings.md"
BEGIN = "<!-- settings: made by tests/docs/settings_table.py -->"
END = "<!-- end of settings -->"

#: What a default that depends on other settings is.
_DEPENDENT = {
    "PP_STATE_DIR": "`~/.local/state/prompt-processing`",
    "PP_LEDGER_URL": "SQLite in `PP_STATE_DIR`",
    "READ_CENTRAL_REPO": "the same as `CENTRAL_REPO`",
    "PP_ALERT_DIRECTORY": "`alerts` in `PP_STATE_DIR`",
    "REGISTER_DATASET_TYPES": "1 without bucket and writer, else 0",
    "SERVICE_LOG_LEVELS": "root WARNING, lsst INFO, ours DEBUG",
    "EXPORT_TYPE_REGEXP": "`- .*`",
    "LOCAL_REPO_CACHE_SIZE": "3 of each type",
    "PP_TESTBED_DIRECTORY": "`testbed-out` in the working directory",
    "PP_PAYLOAD_WORKERS": "number of processors",
}


#: Heading, class, and one whose settings are not repeated.
TABLES: tuple[tuple[str, type[Settings], type[Settings] | None], ...] = (
    ("Service and initializer", ServiceSettings, None),
    ("Stream worker, besides those of the service", StreamSettings, ServiceSettings),
    ("Fan-out", FanOutSettings, None),
    ("Writer", WriterSettings, None),
    ("Streaming workflow", StreamingSettings, None),
)


def settings_tables() -> str:
    """Return all tables in Markdown."""
    return "\n\n".join(f"## {heading}\n\n{_table(cls, base)}" for heading, cls, base in TABLES)


def _table(cls: type[Settings], base: type[Settings] | None) -> str:
    """Return a table, required settings first."""
    rows = []
    for variable, name in cls.variables().items():
        if base is not None and variable in base.variables():
            continue
        field = cls.model_fields[name]
        default = "**required**" if field.is_required() else _default(variable, field.get_default())
        rows.append((not field.is_required(), f"| `{variable}` | {default} | {field.description} |"))
    lines = [row for _, row in sorted(rows, key=lambda row: row[0])]
    return "\n".join(["| variable | default | what it is for |", "| --- | --- | --- |", *lines])


def _default(variable: str, value: Any) -> str:
    # One component's may depend on other settings where another's does not.
    if variable in _DEPENDENT and not isinstance(value, bool):
        return _DEPENDENT[variable]
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    match value:
        case None | "" | ():
            return "unset"
        case bool():
            return f"`{int(value)}`"
        case Enum() | str() | Path():
            return f"`{value}`"
        case int() | float():
            return f"`{value:g}`"
        case BaseModel():
            return f"`{value.model_dump_json()}`"
    raise TypeError(f"the default {value!r} of {variable} needs a line in _DEPENDENT")


def with_table(text: str) -> str:
    """Return a page with its tables renewed."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{settings_tables()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
