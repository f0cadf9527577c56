"""Where each instrument's visits go: the fan-out's instrument file.

A YAML mapping with ``knative-urls`` (instrument to URL, or to a list of
them), ``redis-streams`` (instrument to stream) and ``detectors`` (instrument
to a mapping from detector to true or false). Under ``detectors``, the key
``<instrument>-TEST-<salIndex>`` replaces the instrument's set for that
salIndex.
"""

from __future__ import annotations

__all__ = ["InstrumentRoute", "Platform", "load_instrument_routes"]

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError

from config.values import Text
from models.errors import InvalidConfiguration

_log = logging.getLogger(__name__)

#: Path of the service's entry, if a URL has none.
_PATH = "/next-visit"
_TEST_KEY = re.compile(r"(?P<instrument>.+)-TEST-(?P<sal_index>\d+)")


class Platform(StrEnum):
    """What scales the workers, and so how visits reach them."""

    KNATIVE = "knative"
    """Visits are posted over HTTP."""
    KEDA = "keda"
    """Visits are written to Redis streams."""


@dataclass(frozen=True)
class InstrumentRoute:
    """Where an instrument's visits go.

    Attributes
    ----------
    instrument : `str`
    detectors : `tuple` [`int`, ...]
        Active detectors, in order.
    urls : `tuple` [`str`, ...]
        URLs that take its visits.
    stream : `str` or `None`
        Redis stream that takes them.
    test_detectors : mapping [`int`, `tuple` [`int`, ...]]
        Active detectors by salIndex, where they differ.
    """

    instrument: str
    detectors: tuple[int, ...]
    urls: tuple[str, ...] = ()
    stream: str | None = None
    test_detectors: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def active_detectors(self, sal_index: int) -> tuple[int, ...]:
        """Return the detectors to which visits of a script queue go."""
        return self.test_detectors.get(sal_index, self.detectors)

    @property
    def all_detectors(self) -> tuple[int, ...]:
        """Every detector that is active for any script queue."""
        return tuple(sorted({*self.detectors, *(n for ids in self.test_detectors.values() for n in ids)}))


def _complete(url: Any) -> Any:
    """Check a URL; add the path of the service's entry if it has none."""
    if not isinstance(url, str):
        raise ValueError("give a URL, or a list of them")
    parts = urlsplit(url)
    try:
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        port_is_valid = False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
        raise ValueError(f"{url!r} is no URL such as http://service:8080/next-visit")
    return urlunsplit(parts._replace(path=_PATH)) if parts.path in ("", "/") else url


def _one_or_more(value: Any) -> Any:
    urls = [_complete(url) for url in (value if isinstance(value, list) else [value])]
    if not urls or len({*urls}) != len(urls):
        raise ValueError("the list is empty, or names one URL twice")
    return urls


def _none_as_empty(value: Any) -> Any:
    """Accept a key with nothing below it, as the other platform's may be."""
    return {} if value is None else value


Detector = Annotated[int, Field(ge=0, lt=2**31)]


class _File(BaseModel):
    model_config = ConfigDict(extra="allow")

    knative_urls: Annotated[
        dict[str, Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]], BeforeValidator(_none_as_empty)
    ] = Field(alias="knative-urls", default_factory=dict)
    redis_streams: Annotated[dict[str, Text], BeforeValidator(_none_as_empty)] = Field(
        alias="redis-streams", default_factory=dict
    )
    detectors: dict[str, dict[Detector, StrictBool]]


def load_instrument_routes(
    path: Path, *, instruments: Iterable[str], platform: Platform
) -> dict[str, InstrumentRoute]:
    """Read the instrument file.

    Parameters
    ----------
    path : `pathlib.Path`
        Named by ``INSTRUMENT_CONFIG_FILE``.
    instruments : iterable of `str`
        The supported instruments; others in the file are left out.
    platform : `Platform`
        Decides which kind of route each of them must have.

    Returns
    -------
    routes : `dict` [`str`, `InstrumentRoute`]
        By instrument.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the file cannot be read, or something in it is missing or
        wrong; the text names the file and every such key.
    """
    where = f"INSTRUMENT_CONFIG_FILE {path}"
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        raise InvalidConfiguration(f"{where} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise InvalidConfiguration(
            f"{where} must be a mapping with detectors and knative-urls or redis-streams"
        )
    try:
        file = _File.model_validate(data)
    except ValidationError as error:
        raise InvalidConfiguration(_describe(where, error)) from error
    for name in file.model_extra or ():
        _log.warning("%s: the key %s is not known and does nothing.", where, name)
    faults: list[str] = []
    routes = {}
    for name in instruments:
        if name not in file.detectors:
            faults.append(f"detectors.{name} is missing")
        elif platform is Platform.KNATIVE and name not in file.knative_urls:
            faults.append(f"knative-urls.{name} is missing")
        elif platform is Platform.KEDA and name not in file.redis_streams:
            faults.append(f"redis-streams.{name} is missing")
        else:
            routes[name] = _route(file, name)
    if faults:
        raise InvalidConfiguration(f"{where}: {'; '.join(faults)}")
    return routes


def _route(file: _File, instrument: str) -> InstrumentRoute:
    tests = {}
    for key, detectors in file.detectors.items():
        match = _TEST_KEY.fullmatch(key)
        if match and match["instrument"] == instrument:
            tests[int(match["sal_index"])] = _active(detectors)
    return InstrumentRoute(
        instrument=instrument,
        detectors=_active(file.detectors[instrument]),
        urls=file.knative_urls.get(instrument, ()),
        stream=file.redis_streams.get(instrument),
        test_detectors=tests,
    )


def _active(detectors: Mapping[int, bool]) -> tuple[int, ...]:
    return tuple(sorted(number for number, active in detectors.items() if active))


def _describe(where: str, error: ValidationError) -> str:
    faults = []
    for item in error.errors(include_url=False, include_context=False):
        key = ".".join(str(part) for part in item["loc"] if part != "[key]")
        faults.append(f"{key}: {item['msg'].removeprefix('Value error, ')}")
    return f"{where}: {'; '.join(faults)}"
