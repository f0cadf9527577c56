"""Raws appear whole, under their final name, when they are released."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.io.delivery import DirectoryDelivery


def visible(directory: Path) -> list[str]:
    return sorted(
        str(p.relative_to(directory))
        for p in directory.rglob("*")
        if p.is_file() and not p.name.startswith(".")
    )


def test_nothing_is_seen_before_the_release(tmp_path: Path) -> None:
    delivery = DirectoryDelivery(image_dir=tmp_path / "images")
    staged = delivery.stage("Cam/3/g/0/17/r/a.fits", b"pixels")
    assert visible(tmp_path) == []
    when = staged.release()
    assert visible(tmp_path) == ["images/Cam/3/g/0/17/r/a.fits"]
    final = tmp_path / "images/Cam/3/g/0/17/r/a.fits"
    assert final.read_bytes() == b"pixels"
    assert when == pytest.approx(final.stat().st_ctime, abs=2.0)
    staged.discard()
    assert final.exists()


def test_discarding_leaves_nothing(tmp_path: Path) -> None:
    staged = DirectoryDelivery(image_dir=tmp_path).stage("Cam/a.fits", b"pixels")
    staged.discard()
    staged.discard()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_second_delivery_replaces_the_first(tmp_path: Path) -> None:
    delivery = DirectoryDelivery(image_dir=tmp_path)
    for content in (b"one", b"two"):
        delivery.stage("Cam/a.fits", content).release()
    assert (tmp_path / "Cam/a.fits").read_bytes() == b"two"
    assert visible(tmp_path) == ["Cam/a.fits"]
