"""Who runs this."""

from __future__ import annotations

import pwd

import pytest

from config.user import user_name

_VARIABLES = "LOGNAME", "USER", "LNAME", "USERNAME"


def _nobody(number: int) -> None:
    raise KeyError(f"getpwuid(): uid not found: {number}")


def test_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _VARIABLES:
        monkeypatch.setenv(name, "alice")
    assert user_name() == "alice"


def test_a_user_who_is_but_a_number_has_the_fields_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", _nobody)
    assert user_name() == "unknown"
