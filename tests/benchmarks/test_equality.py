"""What we write is what the straightforward sequence of calls writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.equality import differences

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("form", ["memory", "full"])
def test_outputs_equal_the_yardsticks(tmp_path: Path, form: str) -> None:
    count, found = differences(tmp_path, form=form)
    assert found == []
    assert count >= 10
