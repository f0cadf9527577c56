"""Export: what goes out, and how it is handed over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from models.events import BUTLER_WRITER, OutboxMessage
from services.export import ExportedOutputs, Exporter
from tests.services.world import Ref, StorageType

MESSAGE = OutboxMessage(kind=BUTLER_WRITER, topic="t", key=None, payload=b"{}")


class Workspace:
    """Has outputs."""

    def __init__(self, *refs: Ref) -> None:
        self.refs = refs
        self.files: Any = None

    def outputs(self) -> tuple[Ref, ...]:
        return self.refs

    def export(self, refs: Iterable[Ref], files: Any) -> list[str]:
        self.files = files
        return [f"file of {ref.datasetType.name}" for ref in refs]


class Handover:
    """Takes outputs."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def hand_over(self, outputs: Any) -> tuple[OutboxMessage, ...]:
        self.got.append(outputs)
        return (MESSAGE,)


def ref(name: str, *dimensions: str, run: str = "r") -> Ref:
    return Ref(StorageType(name, dimensions=frozenset(dimensions or ("visit", "detector"))), run)


def exporter(handover: Handover, *wanted: str, enabled: bool = True) -> Exporter:
    return Exporter(
        files="central files",
        handover=handover,
        bundle=lambda records, files, types: (list(records), list(files), [t.name for t in types]),
        wants=lambda name: not wanted or name in wanted,
        enabled=enabled,
    )


def test_files_first_then_the_registry() -> None:
    handover, workspace = Handover(), Workspace(ref("image"), ref("source"), ref("source", run="other"))
    exported = exporter(handover).export(workspace, ["a record"])
    assert exported == ExportedOutputs(3, (MESSAGE,))
    assert workspace.files == "central files"
    files = ["file of image", "file of source", "file of source"]
    # Each dataset type once.
    assert handover.got == [(["a record"], files, ["image", "source"])]


def test_only_what_is_wanted() -> None:
    handover = Handover()
    exported = exporter(handover, "image").export(Workspace(ref("image"), ref("source")), [])
    assert exported.count == 1
    assert handover.got == [([], ["file of image"], ["image"])]


def test_only_what_has_a_detector() -> None:
    handover = Handover()
    workspace = Workspace(ref("summary", "instrument", "visit"), ref("config", "instrument"), ref("image"))
    assert exporter(handover).export(workspace, []).count == 1
    assert handover.got[0][1] == ["file of image"]


def test_switched_off() -> None:
    handover, workspace = Handover(), Workspace(ref("image"))
    assert exporter(handover, ".*", enabled=False).export(workspace, ["record"]) == ExportedOutputs()
    assert handover.got == [] and workspace.files is None


def test_nothing_to_export_still_hands_over_records() -> None:
    handover = Handover()
    assert exporter(handover).export(Workspace(), ["record"]).count == 0
    assert handover.got == [(["record"], [], [])]
