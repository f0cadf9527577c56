"""How settings are read: environment, settings file, defaults; every fault named.

A settings class declares its variables with `setting`. The settings file is
YAML: a mapping from variable to value, in which a component (``service``,
``fan-out``, ``writer``, ``testbed``) may have a section of its own whose values win over
the common ones. The environment wins over the file.
"""

from __future__ import annotations

__all__ = ["Settings", "given", "load_settings", "merge_variables", "setting"]

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from config.values import expand_user
from models.errors import InvalidConfiguration

#: Variable that names the settings file.
SETTINGS_FILE = "PP_SETTINGS_FILE"
#: Components that may have a section of their own in the settings file.
COMPONENTS = ("service", "fan-out", "writer", "testbed")


class Settings(BaseSettings):
    """Base of all settings.

    Constructing one reads nothing but the arguments, which are named as the
    fields are; `load_settings` reads the environment.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        case_sensitive=True,
        validate_by_name=True,
        validate_by_alias=True,
        coerce_numbers_to_str=True,
        # Values may hold credentials.
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing but the arguments."""
        return (init_settings,)

    @classmethod
    def variables(cls) -> dict[str, str]:
        """Field name by variable."""
        return {_variable(cls, name): name for name in cls.model_fields}

    @classmethod
    def explain(cls, variable: str, what: str) -> str:
        """Return the sentence about a variable that is missing or wrong, with
        what it is for and an example.
        """
        field = cls.model_fields[cls.variables()[variable]]
        example = (field.examples or [""])[0]
        return f"{variable}: {what} ({field.description}; for example {variable}={example})"

    @classmethod
    def check_together(cls, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with the variables taken together.

        Parameters
        ----------
        values : mapping
            Every variable that is set, as it was written.
        """
        return []

    @classmethod
    def explain_missing(cls, values: Mapping[str, Any], needs: Mapping[str, Sequence[str]]) -> list[str]:
        """Return a sentence for each variable that another one needs and
        nobody gave.

        Parameters
        ----------
        values : mapping
            Every variable that is set, as it was written.
        needs : mapping [`str`, sequence [`str`]]
            What each variable needs if it is given.
        """
        there = given(values)
        return [
            cls.explain(other, f"is not set but {name} is")
            for name, others in needs.items()
            for other in others
            if name in there and other not in there
        ]


SettingsT = TypeVar("SettingsT", bound=Settings)


def given(values: Mapping[str, Any]) -> set[str]:
    """Return the variables that have a value; an empty one counts as none."""
    return {name for name, value in values.items() if value not in ("", None)}


def setting(variable: str, default: Any = ..., *, purpose: str, example: str, **arguments: Any) -> Any:
    """Declare a setting.

    Parameters
    ----------
    variable : `str`
        Name of the environment variable.
    default : optional
        Value if it is not set; without one it must be set.
    purpose : `str`
        What it is for, in a few words.
    example : `str`
        A value that it may have.
    **arguments
        Passed to `pydantic.Field`, such as limits.
    """
    if "default_factory" not in arguments:
        arguments["default"] = default
    return Field(
        validation_alias=AliasChoices(variable),
        description=purpose,
        examples=[example],
        validate_default=False,
        **arguments,
    )


def merge_variables(
    component: str,
    *,
    env: Mapping[str, str] | None = None,
    file: str | Path | None = None,
) -> tuple[dict[str, str], dict[str, Any]]:
    """Read the environment and the settings file.

    Parameters
    ----------
    component : `str`
        Whose section of the settings file counts.
    env : mapping, optional
        The environment; that of the process by default.
    file : path-like, optional
        The settings file; by default what ``PP_SETTINGS_FILE`` names, if set.

    Returns
    -------
    environment : `dict` [`str`, `str`]
        The environment.
    from_file : `dict` [`str`, `object`]
        The variables in the settings file, section and common part merged.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if the file cannot be read or is no mapping.
    """
    environment = dict(os.environ if env is None else env)
    path = file or environment.get(SETTINGS_FILE)
    return environment, _read_file(expand_user(path), component) if path else {}


def load_settings(
    cls: type[SettingsT],
    *,
    environment: Mapping[str, Any],
    from_file: Mapping[str, Any],
    known: Iterable[str] = (),
    faults: Iterable[str] = (),
) -> SettingsT:
    """Make settings of variables that have been read, or name every fault.

    Parameters
    ----------
    cls : `type`
        The settings class.
    environment, from_file : mapping
        Values by variable; the former win.
    known : iterable of `str`
        Variables of others that the settings file may hold.
    faults : iterable of `str`
        Faults already found in these variables.

    Raises
    ------
    models.errors.InvalidConfiguration
        Raised if a variable is missing or wrong; the text has a line for
        each, with what it is for and an example.
    """
    variables = cls.variables()
    found = list(faults)
    found += _unknown(from_file, {*variables, *known, SETTINGS_FILE})
    from_env = {name: environment[name] for name in variables if name in environment}
    of_file = {name: value for name, value in from_file.items() if name in variables and value is not None}
    found += cls.check_together({**of_file, **from_env})
    sources = (InitSettingsSource(cls, from_env), InitSettingsSource(cls, of_file))
    settings = None
    try:
        settings = cls(_build_sources=(sources, {}))
    except ValidationError as error:
        found += _describe(cls, error)
    if settings is None or found:
        lines = "".join(f"\n  {fault}" for fault in dict.fromkeys(found))
        raise InvalidConfiguration(f"settings that are missing or wrong:{lines}")
    return settings


def _read_file(path: Path, component: str) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text())
    except yaml.MarkedYAMLError as error:
        raise InvalidConfiguration(f"the settings file {path} {_describe_yaml(error)}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        raise InvalidConfiguration(f"the settings file {path} cannot be read: {error}") from error
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise InvalidConfiguration(f"the settings file {path} must be a mapping from variable to value")
    common = {str(name): value for name, value in data.items() if name not in COMPONENTS}
    section = data.get(component) or {}
    if not isinstance(section, dict):
        raise InvalidConfiguration(f"the settings file {path}: the section {component} must be a mapping")
    return {**common, **section}


def _describe_yaml(error: yaml.MarkedYAMLError) -> str:
    """Say where and why a file is no YAML, without what stands there: it may
    be a password.
    """
    mark = error.problem_mark or error.context_mark
    place = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    # Those of aliases and tags repeat them.
    grammar = isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError)
    what = error.problem if grammar else "an alias or a tag that is not known"
    return f"cannot be read{place}: {what}; a value with special characters needs quotes"


def _unknown(given: Iterable[str], known: set[str]) -> list[str]:
    """Name what looks like a slip of the pen in the settings file."""
    faults = []
    for name in given:
        if name in known or name.startswith("AWS_"):
            continue
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        faults.append(f"{name}: there is no such variable in the settings file{hint}")
    return faults


def _describe(cls: type[Settings], error: ValidationError) -> list[str]:
    fields = cls.variables() | {name: name for name in cls.model_fields}
    faults = []
    for item in error.errors(include_url=False, include_context=False):
        if item["type"] == "default_factory_not_called":
            continue  # It follows from another fault.
        name = fields.get(str(item["loc"][0])) if item["loc"] else None
        if name is None:
            faults.append(item["msg"])
            continue
        field = cls.model_fields[name]
        variable = _variable(cls, name)
        if item["type"] == "missing":
            what = "is not set"
        else:
            what = item["msg"].removeprefix("Value error, ")
            value = item["input"]
            # Whatever may hold a password is not repeated.
            if field.repr and field.annotation is not SecretStr and isinstance(value, str | int | float):
                what += f", not {value!r}"
        faults.append(cls.explain(variable, what))
    return faults


def _variable(cls: type[Settings], name: str) -> str:
    alias = cls.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return name
