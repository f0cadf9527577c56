"""The template process as the parent sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.slots.process import TemplateProcess
from services.slots.protocol import OpenControl
from tests.services.slots.conftest import FAKE


def test_a_deep_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    template = TemplateProcess.launch(FAKE)
    try:
        template.connect(OpenControl()).close()
    finally:
        template.stop()
    assert list(deep.iterdir()) == []
