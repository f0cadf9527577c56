"""A disk that is full, and a directory that cannot be written: nothing half
written is left, and once there is room again things work.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.alerts import AlertPackets
from repos.alert_files import AlertFileSink
from repos.alert_schema import latest_alert_schema_version
from repos.atomic_files import replace_file
from tests.repos.test_alert_files import no_broker
from tests.visits import make_visit

#: Size of the disk, bytes; a page for each of a few names, and little else.
SIZE = 64 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small file system of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Use up all room on a disk."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"x" * 4096)
    return filler


def test_a_dataset_file_is_whole_or_not_there(small_disk: Path) -> None:
    old = small_disk / "dataset.fits"
    old.write_bytes(b"old")
    filler = fill(small_disk)
    with pytest.raises(OSError, match="No space left") as raised:
        replace_file(old, lambda path: path.write_bytes(b"new" * 10000))
    assert raised.value.errno == errno.ENOSPC
    assert old.read_bytes() == b"old"
    assert sorted(p.name for p in small_disk.iterdir()) == ["dataset.fits", "filler"]
    filler.unlink()
    replace_file(old, lambda path: path.write_bytes(b"new" * 10000))
    assert old.read_bytes() == b"new" * 10000


def test_an_alert_file_is_whole_or_not_there(small_disk: Path, packets: AlertPackets) -> None:
    filler = fill(small_disk)
    sink = AlertFileSink(small_disk)
    with pytest.raises(OSError, match="No space left"):
        sink.send(packets, make_visit(), 1, no_broker)
    assert [p.name for p in small_disk.iterdir()] == ["filler"]
    filler.unlink()
    place = sink.send(packets, make_visit(), 1, no_broker)
    assert Path(place).stat().st_size > 0


@pytest.fixture
def packets() -> AlertPackets:
    """No alerts; the file's header with the schema fills several pages."""
    return AlertPackets(schema_version=latest_alert_schema_version(), packets=[])


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    blocker = tmp_path / "blocker"
    blocker.write_text("not a directory")
    with pytest.raises(OSError, match=os.strerror(errno.ENOTDIR)):
        replace_file(blocker / "dataset.fits", lambda path: path.write_bytes(b"new"))
