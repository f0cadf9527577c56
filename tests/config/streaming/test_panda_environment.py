"""The environment of PanDA's client."""

from __future__ import annotations

import pytest

from config.streaming.panda_environment import panda_environment


def test_the_token_has_a_place_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    assert panda_environment({"A": "1"}) == {"A": "1", "PANDA_CONFIG_ROOT": "/home/alice/.pathena"}
    monkeypatch.delenv("PANDA_CONFIG_ROOT", raising=False)
    assert panda_environment()["PANDA_CONFIG_ROOT"] == "/home/alice/.pathena"


def test_a_place_that_was_chosen_is_left() -> None:
    assert panda_environment({"PANDA_CONFIG_ROOT": "/tokens"}) == {"PANDA_CONFIG_ROOT": "/tokens"}
