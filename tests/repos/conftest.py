"""A small central repo for all tests of `repos` and `init_job`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
if str(BENCHMARKS) not in sys.path:
    # The yardstick is imported as `sketch`: its repo stores class names such
    # as sketch.model.ProtoCam.
    sys.path.append(str(BENCHMARKS))


@pytest.fixture(scope="session")
def built_central(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a central repo that nobody may write to; see
    `tests.repos.sketch_repo.build_central`.
    """
    from tests.repos.sketch_repo import build_central

    root = tmp_path_factory.mktemp("sketch") / "central"
    build_central(root)
    return root


@pytest.fixture
def central_root(built_central: Path, tmp_path: Path) -> Path:
    """Root of a central repo of the test's own."""
    return Path(shutil.copytree(built_central, tmp_path / "central"))
