"""Which pipelines apply to which visits: the configuration, read and checked.

The configuration is a YAML list; the first entry that matches a visit wins
(`services.selection` does the matching). See ``docs/adding-a-pipeline.md``.
"""

from __future__ import annotations

__all__ = [
    "AngleRange",
    "CoordinateType",
    "PipelineEntry",
    "PipelinesConfig",
    "expand_variables",
    "parse_pipelines_config",
    "pipelines_by_stem",
]

import math
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from config.values import expand_user
from models.errors import InvalidConfiguration

#: Stem under which the products of preload are kept; no pipeline may have it.
_RESERVED_STEM = "NoPipeline"

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class CoordinateType(StrEnum):
    """Which point of the sky is compared with an entry's region."""

    DETECTOR = "detector"
    """The centre of the visit's detector."""
    BORESIGHT = "boresight"
    """Where the telescope points."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class AngleRange(_Strict):
    """A range of an angle in degrees, both ends included."""

    min: float = Field(ge=-360, le=360, allow_inf_nan=False)
    max: float = Field(ge=-360, le=360, allow_inf_nan=False)

    def contains(self, value: float) -> bool:
        """Whether a value lies in the range, without wrapping."""
        return self.min <= value <= self.max

    def contains_wrapped(self, value: float) -> bool:
        """Whether an angle lies in the range, wrapping through 0."""
        if self.max - self.min >= 360:
            return True
        low, high, angle = _normalise(self.min), _normalise(self.max), _normalise(value)
        if low <= high:
            return low <= angle <= high
        return angle >= low or angle <= high


def _pipelines(value: Any) -> Any:
    if value is None or value == "None":
        return ()
    if isinstance(value, str):
        # pydantic collects ValueError, not TypeError.
        raise ValueError(f"give a list of paths, such as [{value}], not one string")
    return value


def _any_case(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class PipelineEntry(_Strict):
    """Some pipelines, and the visits that they are for.

    What is `None` matches every visit.
    """

    pipelines: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_pipelines)]
    """Paths, variables expanded, most preferred first; empty: run nothing."""
    survey: str | None = None
    """The visit's survey; "" matches only an empty one."""
    ra: AngleRange | None = None
    """Right ascension (ICRS), wrapping through 0."""
    dec: AngleRange | None = None
    """Declination (ICRS)."""
    binary_map: str | None = Field(default=None, alias="binary-map", min_length=1)
    """Path of a HEALPix map that is 1 where the entry matches."""
    coord_type: Annotated[CoordinateType, BeforeValidator(_any_case)] = Field(
        default=CoordinateType.DETECTOR, alias="coord-type"
    )
    """Which point `ra`, `dec` and `binary_map` are about."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        stems = [_stem(path) for path in self.pipelines]
        repeated = sorted({stem for stem in stems if stems.count(stem) > 1})
        if repeated:
            raise ValueError(
                f"two pipelines are named {', '.join(repeated)}; outputs are kept by name, so rename one"
            )
        if _RESERVED_STEM in stems:
            raise ValueError(f"no pipeline may be named {_RESERVED_STEM}; rename the file")
        if self.dec is not None:
            if not -90 <= self.dec.min <= 90 or not -90 <= self.dec.max <= 90:
                raise ValueError("dec must lie within [-90, 90] degrees")
            if self.dec.min >= self.dec.max:
                raise ValueError(f"dec min {self.dec.min} must be less than max {self.dec.max}")
        return self

    @property
    def needs_position(self) -> bool:
        """Whether only visits with the coordinate it asks for can match."""
        return self.ra is not None or self.dec is not None or self.binary_map is not None


class PipelinesConfig(_Strict):
    """A whole pipelines configuration."""

    entries: tuple[PipelineEntry, ...] = Field(min_length=1)
    """Entries; the first that matches a visit wins."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        clashes = [paths for paths in pipelines_by_stem([self]).values() if len(paths) > 1]
        if clashes:
            raise ValueError("; ".join(f"two pipelines have one name: {' and '.join(c)}" for c in clashes))
        return self

    @property
    def pipelines(self) -> tuple[str, ...]:
        """Every pipeline named, each once, in order of first appearance."""
        return tuple(dict.fromkeys(path for entry in self.entries for path in entry.pipelines))

    @property
    def maps(self) -> tuple[str, ...]:
        """Every map named, each once, in order of first appearance."""
        return tuple(dict.fromkeys(e.binary_map for e in self.entries if e.binary_map is not None))


def pipelines_by_stem(configs: Iterable[PipelinesConfig]) -> dict[str, list[str]]:
    """Gather the different pipelines of each file stem.

    Outputs are kept by stem, so more than one path for a stem is a clash.
    """
    found: dict[str, list[str]] = {}
    for config in configs:
        for path in config.pipelines:
            paths = found.setdefault(_stem(path), [])
            if path not in paths:
                paths.append(path)
    return found


def parse_pipelines_config(
    value: Any, *, env: Mapping[str, str], name: str = "pipelines configuration"
) -> PipelinesConfig:
    """Read a pipelines configuration.

    Parameters
    ----------
    value : `str` or `list`
        YAML text, the path of a YAML file (one line that ends in ``.yaml``
        or ``.yml``), or the list itself.
    env : mapping
        Variables that paths may use as ``${NAME}``.
    name : `str`, optional
        What the configuration is called in messages.

    Returns
    -------
    config : `PipelinesConfig`
        The configuration, variables expanded.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if it cannot be read, is empty or not a list, has unknown keys
        or wrong values, or uses variables that are not set; the text names
        every fault.
    """
    data = _load(value, env, name) if isinstance(value, str) else value
    if not isinstance(data, list) or not data:
        raise InvalidConfiguration(
            f"{name}: must be a non-empty YAML list, such as [{{pipelines: [a.yaml]}}]"
        )
    faults: list[str] = []
    entries: list[PipelineEntry] = []
    for number, item in enumerate(data, start=1):
        if not isinstance(item, dict):
            faults.append(f"entry {number}: must be a mapping with the key pipelines, not {item!r}")
            continue
        try:
            entries.append(PipelineEntry.model_validate(_expand_paths(item, env)))
        except InvalidConfiguration as error:
            faults.append(f"entry {number}: {error}")
        except ValidationError as error:
            faults.extend(f"entry {number}: {fault}" for fault in _describe(error))
    if not faults:
        try:
            return PipelinesConfig(entries=tuple(entries))
        except ValidationError as error:
            faults.extend(_describe(error))
    raise InvalidConfiguration(f"{name}: " + "; ".join(faults))


def expand_variables(text: str, env: Mapping[str, str]) -> str:
    """Replace every ``${NAME}`` by its value.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if a variable is not set.
    """
    unset = sorted({name for name in _VARIABLE.findall(text) if name not in env})
    if unset:
        names = ", ".join(f"${{{name}}}" for name in unset)
        raise InvalidConfiguration(f"{text!r} uses {names}, which is not set; set it or write the path out")
    return _VARIABLE.sub(lambda match: env[match[1]], text)


def _load(text: str, env: Mapping[str, str], name: str) -> Any:
    if _is_path(text):
        try:
            path = expand_variables(text.strip(), env)
            text = expand_user(path).read_text()
        except (OSError, UnicodeDecodeError, InvalidConfiguration) as error:
            raise InvalidConfiguration(f"{name}: the file {text.strip()} cannot be read: {error}") from error
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidConfiguration(f"{name}: is not YAML: {' '.join(str(error).split())}") from error


def _is_path(text: str) -> bool:
    line = text.strip()
    return "\n" not in line and line.endswith((".yaml", ".yml")) and not line.startswith(("-", "[", "{"))


def _expand_paths(item: dict[Any, Any], env: Mapping[str, str]) -> dict[Any, Any]:
    """Expand the variables in the paths of one entry."""
    expanded = dict(item)
    if isinstance(paths := item.get("pipelines"), list):
        expanded["pipelines"] = [expand_variables(p, env) if isinstance(p, str) else p for p in paths]
    if isinstance(path := item.get("binary-map"), str):
        expanded["binary-map"] = expand_variables(path, env)
    return expanded


def _stem(path: str) -> str:
    # A path may select part of a pipeline: "ApPipe.yaml#isr,calibrate".
    return PurePosixPath(path.partition("#")[0]).stem


def _normalise(angle: float) -> float:
    # The second modulo turns the 360.0 that rounding leaves of a tiny
    # negative angle into 0.
    return math.fmod(angle % 360.0, 360.0)


def _describe(error: ValidationError) -> list[str]:
    faults = []
    for item in error.errors(include_url=False, include_context=False):
        field = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            allowed = ", ".join(f.alias or n for n, f in PipelineEntry.model_fields.items())
            faults.append(f"{field}: is not a known key; there are {allowed}")
            continue
        message = item["msg"].removeprefix("Value error, ")
        faults.append(f"{field}: {message}" if field else message)
    return faults
