"""Kinds of values that settings have."""

from __future__ import annotations

__all__ = [
    "LOG_LEVELS",
    "OUR_LOGGERS",
    "ROOT_LOGGER",
    "AbsolutePath",
    "Brokers",
    "CacheLimits",
    "CacheLimitsField",
    "LogLevels",
    "OptionalBrokers",
    "OptionalNumber",
    "OptionalPath",
    "OptionalText",
    "OptionalUrl",
    "Patterns",
    "SearchPath",
    "Seconds",
    "Text",
    "expand_user",
    "lower_case",
    "parse_log_levels",
]

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt

#: Logging levels by name; VERBOSE and TRACE are those of the LSST middleware.
LOG_LEVELS = {
    "CRITICAL": 50,
    "FATAL": 50,
    "ERROR": 40,
    "WARNING": 30,
    "WARN": 30,
    "INFO": 20,
    "VERBOSE": 15,
    "DEBUG": 10,
    "TRACE": 5,
}

#: Top-level packages of the project, whose loggers are "ours".
OUR_LOGGERS = ("app", "config", "init_job", "models", "pipelines", "repos", "services", "simulator")

#: Name of the root logger in ``SERVICE_LOG_LEVELS``.
ROOT_LOGGER = "."


def logging_levels(ours: str, *layers: Mapping[str, str]) -> dict[str, int]:
    """Return the level of each logger ("" is the root).

    Parameters
    ----------
    ours : `str`
        Level of the project's own loggers.
    *layers : mapping [`str`, `str`]
        Levels by logger, `ROOT_LOGGER` for the root, which is ``WARNING``
        otherwise; the later win.
    """
    names = {ROOT_LOGGER: "WARNING", **dict.fromkeys(OUR_LOGGERS, ours)}
    for layer in layers:
        names.update(layer)
    return {"" if name == ROOT_LOGGER else name: LOG_LEVELS[level] for name, level in names.items()}


def lower_case(value: Any) -> Any:
    """Accept words in any case, and none for unset."""
    return value.lower() or None if isinstance(value, str) else value


def _empty_as_none(value: Any) -> Any:
    return None if value == "" else value


def _yaml(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"is not YAML: {' '.join(str(error).split())}") from error


def expand_user(path: str | Path) -> Path:
    """Return a path made absolute, with ``~`` replaced where that is known to
    stand for a directory; else it is the name of a file.
    """
    return Path(os.path.expanduser(path)).absolute()


def _check_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return pattern


def _check_brokers(value: str) -> str:
    for broker in value.split(","):
        if _host_of(f"//{broker.strip()}") is None:
            raise ValueError(f"{broker.strip()!r} is not of the form host:port; separate several by commas")
    return value


def _check_url(value: str) -> str:
    if not value.startswith(("http://", "https://")) or _host_of(value) is None:
        raise ValueError("is no URL that begins with http:// or https:// and a host")
    return value


def _host_of(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        return parts.hostname if parts.port != 0 else None
    except ValueError:  # of the port, or of brackets
        return None


def _split_path(value: Any) -> Any:
    if isinstance(value, str):
        return [part for part in value.split(os.pathsep) if part]
    return value


class CacheLimits(BaseModel):
    """How many datasets of each type the local repo keeps between visits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: NonNegativeInt = 3
    """Limit of every type that `types` does not name."""
    types: dict[str, NonNegativeInt] = Field(default_factory=dict)
    """Limits by name of dataset type."""

    def limit(self, dataset_type: str) -> int:
        """Return how many datasets of a type are kept."""
        return self.types.get(dataset_type, self.default)


def _cache_limits(value: Any) -> Any:
    value = _yaml(value)
    if isinstance(value, bool) or not isinstance(value, int | dict | CacheLimits):
        raise ValueError("give a number, or a mapping from dataset type to number")
    if isinstance(value, int):
        return {"default": value}
    if isinstance(value, dict) and "types" not in value:
        types = dict(value)
        default = {"default": types.pop("default")} if "default" in types else {}
        return {**default, "types": types}
    return value


def parse_log_levels(value: Any) -> Any:
    """Read ``logger=LEVEL ...`` into levels by logger.

    Raises
    ------
    ValueError
        Raised if an item is not of this form, or the level has no name here.
    """
    if isinstance(value, dict):
        items = [(str(name), str(level)) for name, level in value.items()]
    elif isinstance(value, str):
        items = []
        for word in value.split():
            name, equals, level = word.partition("=")
            if not equals or not name:
                raise ValueError(f"{word!r} is not of the form logger=LEVEL")
            items.append((name, level))
    else:
        raise ValueError("give logger=LEVEL, separated by spaces")
    for name, level in items:
        if level.upper() not in LOG_LEVELS:
            raise ValueError(f"{name}={level}: the level must be one of {', '.join(LOG_LEVELS)}")
    return {name: level.upper() for name, level in items}


#: Text that must not be empty.
Text = Annotated[str, Field(min_length=1)]
#: Text, or None if empty.
OptionalNumber = Annotated[int | None, BeforeValidator(_empty_as_none)]
OptionalText = Annotated[str | None, BeforeValidator(_empty_as_none)]
#: Kafka brokers, ``host:port`` separated by commas.
Brokers = Annotated[Text, AfterValidator(_check_brokers)]
#: The same, or None if empty.
OptionalBrokers = Annotated[Brokers | None, BeforeValidator(_empty_as_none)]
#: URL of a server, or None if empty; it may hold credentials, so is not shown.
OptionalUrl = Annotated[Annotated[str, AfterValidator(_check_url)] | None, BeforeValidator(_empty_as_none)]
#: Absolute path, ``~`` expanded.
AbsolutePath = Annotated[Path, AfterValidator(expand_user)]
#: Absolute path, or None if empty.
OptionalPath = Annotated[AbsolutePath | None, BeforeValidator(_empty_as_none)]
#: A length of time.
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
#: Regular expressions, in YAML.
Patterns = Annotated[tuple[Annotated[str, AfterValidator(_check_pattern)], ...], BeforeValidator(_yaml)]
#: Directories and files, separated by colons.
SearchPath = Annotated[tuple[AbsolutePath, ...], BeforeValidator(_split_path)]
#: Limits of the dataset cache, in YAML.
CacheLimitsField = Annotated[CacheLimits, BeforeValidator(_cache_limits)]
#: Levels by logger.
LogLevels = Annotated[dict[str, str], BeforeValidator(parse_log_levels)]
