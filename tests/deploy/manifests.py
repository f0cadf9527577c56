"""The manifests as they would be applied: as much of Kustomize as they use."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from config.settings import PROJECT

DEPLOY = PROJECT / "deploy"
OVERLAYS = ("knative", "keda")


@cache
def _build(directory: Path) -> list[dict[str, Any]]:
    plan = yaml.safe_load((directory / "kustomization.yaml").read_text())
    unknown = plan.keys() - {"apiVersion", "kind", "namespace", "resources", "images"}
    assert not unknown, f"{directory}: this does not understand {unknown}"
    objects: list[dict[str, Any]] = []
    for resource in plan["resources"]:
        path = (directory / resource).resolve()
        if path.is_dir():
            objects += copy.deepcopy(_build(path))
        else:
            objects += [o for o in yaml.safe_load_all(path.read_text()) if o is not None]
    for item in objects:
        if "namespace" in plan:
            item["metadata"]["namespace"] = plan["namespace"]
        for pod in _pods(item):
            for container in pod["spec"]["containers"]:
                for image in plan.get("images", ()):
                    if container["image"] == image["name"]:
                        container["image"] = f"{image['newName']}:{image['newTag']}"
    return objects


def overlay(name: str) -> list[dict[str, Any]]:
    """Return the objects of an overlay."""
    return copy.deepcopy(_build(DEPLOY / name))


def one(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """Return an object by kind and name."""
    (found,) = (o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name))
    return found


def pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return all pod templates by the name of their owner."""
    return {item["metadata"]["name"]: pod for item in objects for pod in _pods(item)}


def _pods(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if isinstance(node.get("spec"), dict) and "containers" in node["spec"]:
            yield node
        else:
            for value in node.values():
                yield from _pods(value)
