"""The deployment id: one word for the code and configuration that made a
dataset.

The middleware wants every run to be made by one version of everything, so the
id is part of the names of output runs. It changes with anything that could
change an output and never with where the process runs.
"""

from __future__ import annotations

__all__ = ["compute_deployment_id"]

import hashlib
import importlib.metadata
from collections.abc import Iterable, Iterator
from pathlib import Path

from repos.pipeline_graphs import LoadedPipeline

#: The project's own packages whose content counts.
_PACKAGES = ("app", "config", "init_job", "models", "pipelines", "repos", "services")
#: Kinds of files that count in them.
_SUFFIXES = frozenset({".py", ".yaml", ".fits", ".avsc", ".json"})


def compute_deployment_id(
    *, root: Path, pipelines: Iterable[LoadedPipeline], files: Iterable[bytes], apdb_config: str
) -> str:
    """Compute the deployment id.

    Parameters
    ----------
    root : `pathlib.Path`
        Directory that holds the project's packages.
    pipelines : iterable of `repos.pipeline_graphs.LoadedPipeline`
        Every configured pipeline; their resolved definitions and task
        configurations count.
    files : iterable of `bytes`
        Contents of the maps and the camera file that the settings name.
    apdb_config : `str`
        The ``CONFIG_APDB`` string.

    Returns
    -------
    deployment_id : `str`
        ``d`` and 16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for part in _parts(root, pipelines, files, apdb_config):
        # The length keeps neighbouring parts apart.
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return f"d{digest.hexdigest()[:16]}"


def _parts(
    root: Path, pipelines: Iterable[LoadedPipeline], files: Iterable[bytes], apdb_config: str
) -> Iterator[bytes]:
    # The name is None where the metadata of a removed package is left.
    versions = {d.name.lower(): d.version for d in importlib.metadata.distributions() if d.name}
    for name, version in sorted(versions.items()):
        yield f"{name}=={version}".encode()
    for package in _PACKAGES:
        for file in sorted((root / package).rglob("*")):
            if file.suffix in _SUFFIXES and "__pycache__" not in file.parts:
                yield file.relative_to(root).as_posix().encode()
                yield file.read_bytes()
    for pipeline in sorted(pipelines, key=lambda p: p.stem):
        yield pipeline.stem.encode()
        for label, task in sorted(pipeline.graph.tasks.items()):
            yield f"{label}: {task.task_class_name}".encode()
            yield task.get_config_str().encode()
    yield from sorted(hashlib.sha256(m).digest() for m in files)
    yield apdb_config.encode()
