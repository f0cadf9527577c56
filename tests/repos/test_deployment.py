"""The deployment id."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from repos.deployment import compute_deployment_id
from repos.pipeline_graphs import LoadedPipeline, load_pipeline
from tests.repos.test_local_repo_forms import pipeline

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("app", "config", "init_job", "models", "pipelines", "repos", "services")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the project's packages."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / "tree" / package)
    return tmp_path / "tree"


def load(directory: Path, *tasks: str, name: str = "Test", apdb: str = "apdb") -> LoadedPipeline:
    directory.mkdir(exist_ok=True)
    path = directory / f"{name}.yaml"
    path.write_text(pipeline(*(tasks or ("start: StartTask",))))
    return load_pipeline(str(path), {"apdb_config": apdb})


def compute(
    root: Path, pipelines: Iterable[LoadedPipeline], maps: Iterable[bytes] = (b"one",), apdb: str = "apdb"
) -> str:
    return compute_deployment_id(root=root, pipelines=pipelines, files=maps, apdb_config=apdb)


def test_one_word(tree: Path, tmp_path: Path) -> None:
    made = compute(tree, [load(tmp_path)])
    assert re.fullmatch(r"[A-Za-z0-9_-]+", made)
    assert compute(tree, [load(tmp_path)]) == made


def test_not_with_the_place(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "somewhere" / "else"
    shutil.copytree(tree, other)
    made = compute(tree, [load(tmp_path / "here")])
    assert compute(other, [load(tmp_path / "there")]) == made
    # Nor with what running it leaves behind.
    (other / "repos" / "__pycache__").mkdir(exist_ok=True)
    (other / "repos" / "__pycache__" / "x.py").write_text("x")
    (other / "repos" / "notes.txt").write_text("x")
    assert compute(other, [load(tmp_path / "there")]) == made


def test_the_projects_own_pipelines_do_not_depend_on_the_place(tree: Path) -> None:
    made = []
    for root in (ROOT, tree):
        names = ("ApPipe", "Preprocessing", "SingleFrame", "Isr")
        loaded = [
            load_pipeline(str(root / "pipelines" / f"{n}.yaml"), {"apdb_config": "label:x"}) for n in names
        ]
        made.append(compute(tree, loaded))
    assert made[0] == made[1]


@pytest.mark.parametrize("package", PACKAGES)
def test_with_the_code(tree: Path, tmp_path: Path, package: str) -> None:
    made = compute(tree, [load(tmp_path)])
    (tree / package / "__init__.py").write_text("# one more line\n")
    changed = compute(tree, [load(tmp_path)])
    (tree / package / "new_module.py").write_text("")
    assert len({made, changed, compute(tree, [load(tmp_path)])}) == 3


def test_a_module_that_is_renamed(tree: Path, tmp_path: Path) -> None:
    made = compute(tree, [load(tmp_path)])
    (tree / "repos" / "retry.py").rename(tree / "repos" / "tries.py")
    assert compute(tree, [load(tmp_path)]) != made


def test_with_a_storage_class(tree: Path, tmp_path: Path) -> None:
    made = compute(tree, [load(tmp_path)])
    with (tree / "repos" / "storage_classes.yaml").open("a") as file:
        file.write("# changed\n")
    assert compute(tree, [load(tmp_path)]) != made


def test_with_pipelines(tree: Path, tmp_path: Path) -> None:
    ids = [
        compute(tree, pipelines)
        for pipelines in (
            [],
            [load(tmp_path)],
            [load(tmp_path, name="Other")],
            [load(tmp_path, "renamed: StartTask")],
            [load(tmp_path, "start: TogetherTask connections.dst=start")],
            [load(tmp_path, "start: FirstStepTask")],
            [load(tmp_path, "start: FirstStepTask mode=raise")],
            [load(tmp_path, "start: FirstStepTask connections.dst=other")],
            [load(tmp_path), load(tmp_path, name="Other")],
        )
    ]
    assert len(set(ids)) == len(ids)
    both = [load(tmp_path), load(tmp_path, name="Other")]
    assert compute(tree, both) == compute(tree, reversed(both))


def test_with_maps_and_apdb(tree: Path, tmp_path: Path) -> None:
    loaded = [load(tmp_path)]
    made = compute(tree, loaded, [b"one", b"two"])
    assert compute(tree, loaded, [b"two", b"one"]) == made
    others = [
        compute(tree, loaded, [b"one"]),
        compute(tree, loaded, [b"onetwo"]),
        compute(tree, loaded, [b"one", b"two"], apdb="other"),
    ]
    assert len({made, *others}) == 4


def test_with_package_versions(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = [load(tmp_path)]
    made = compute(tree, loaded)

    class Distribution:
        def __init__(self, name: str | None, version: str) -> None:
            self.name, self.version = name, version

    real = list(importlib.metadata.distributions())

    def having(*more: Any) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(importlib.metadata, "distributions", lambda: [*real, *more])
            return compute(tree, loaded)

    assert having() == made
    # What is left of a package that was removed has no name.
    assert having(Distribution(None, "1")) == made
    one, two = having(Distribution("extra", "1.0")), having(Distribution("extra", "1.1"))
    assert len({made, one, two}) == 3
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "distributions", lambda: reversed(real))
        assert compute(tree, loaded) == made
