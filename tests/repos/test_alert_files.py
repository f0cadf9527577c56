"""Alerts as Avro object container files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.alerts import AlertPackets
from models.events import OutboxMessage
from repos.alert_files import AlertFileSink
from repos.alert_schema import latest_alert_schema_version
from tests.visits import make_visit

EMPTY = AlertPackets(schema_version=latest_alert_schema_version(), packets=[])


def no_broker(messages: Sequence[OutboxMessage]) -> None:
    raise AssertionError(f"{len(messages)} messages of alerts that go to files")


def read(path: str) -> list[dict[str, Any]]:
    with open(path, "rb") as file:
        return [dict(r) for r in fastavro.reader(file)]  # type: ignore[arg-type]


def test_the_file(tmp_path: Path) -> None:
    sink = AlertFileSink(tmp_path / "alerts")
    visit = make_visit(instrument="DemoCam", detector=3)
    place = sink.send(EMPTY, visit, 20260101, no_broker)
    assert Path(place) == tmp_path / "alerts" / "DemoCam-20260101-003.avro"
    assert read(place) == []
    assert [p.name for p in (tmp_path / "alerts").iterdir()] == ["DemoCam-20260101-003.avro"]


def test_a_second_run_replaces_the_file(tmp_path: Path) -> None:
    sink, visit = AlertFileSink(tmp_path), make_visit(detector=3)
    first = sink.send(EMPTY, visit, 5, no_broker)
    held = Path(first).open("rb")  # noqa: SIM115
    content = Path(first).read_bytes()
    second = sink.send(EMPTY, visit, 5, no_broker)
    assert second == first
    # Equal alerts, equal bytes; and who reads the old file goes on with it.
    assert Path(second).read_bytes() == content == held.read()
    assert Path(second).stat().st_ino != os.fstat(held.fileno()).st_ino
    held.close()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(exposure=st.integers(1, 10**13), detector=st.integers(0, 204))
def test_every_exposure_and_detector_has_a_file_of_its_own(
    tmp_path: Path, exposure: int, detector: int
) -> None:
    place = AlertFileSink(tmp_path).send(EMPTY, make_visit(detector=detector), exposure, no_broker)
    assert Path(place).stem.endswith(f"-{exposure}-{detector:03d}")


def test_it_is_on_disk_when_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    replace = Path.replace
    monkeypatch.setattr("os.fsync", lambda _: steps.append("sync"))
    monkeypatch.setattr(Path, "replace", lambda a, b: steps.append("rename") or replace(a, b))
    AlertFileSink(tmp_path).send(EMPTY, make_visit(), 5, no_broker)
    assert steps == ["sync", "rename", "sync"]
