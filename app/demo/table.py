"""The table of a night, for people."""

from __future__ import annotations

__all__ = ["night_table", "outcome_of", "print_failures", "print_groups"]

from collections.abc import Sequence

from rich.columns import Columns
from rich.console import Console
from rich.table import Table

from models.outcomes import Result, VisitOutcome
from simulator.observing import VisitReport


def outcome_of(report: VisitReport) -> VisitOutcome | None:
    """Return the outcome of a visit that was processed, else None."""
    if report.status != 200:
        return None
    return VisitOutcome.model_validate({**report.body, "result": Result.PROCESSED})


def night_table(reports: Sequence[VisitReport]) -> Table:
    """Return a table, one row a visit-detector, that fits 80 columns.

    When preload was over is seen from the closing of the shutter; the time to
    alerts counts from the image at its final name.
    """
    labels = _labels(reports)
    table = Table(title=_title(reports), title_justify="left")
    for heading in ("visit", "detector", "pipeline"):
        table.add_column(heading, no_wrap=True)
    for heading in ("preload over", "to alert", "outputs", "alerts"):
        table.add_column(heading, justify="right", no_wrap=True)
    previous = None
    for report in reports:
        group = report.visit.groupId
        if previous is not None and group != previous:
            table.add_section()
        previous = group
        table.add_row(labels[group], str(report.visit.detector), *_cells(report))
    return table


def print_groups(console: Console, reports: Sequence[VisitReport]) -> None:
    """Say which group each label of the table stands for."""
    console.print(
        Columns([f"{label} {group}" for group, label in _labels(reports).items()], padding=(0, 3)),
        highlight=False,
    )


def print_failures(console: Console, reports: Sequence[VisitReport]) -> None:
    """Say what became of each visit that was not processed."""
    for report in reports:
        if report.status != 200:
            detail = report.body.get("detail") or report.body.get("title") or "no answer"
            status = "no status" if report.status is None else f"status {report.status}"
            console.print(f"{report.visit}: {status}: {detail}", style="red", markup=False, soft_wrap=True)


def _labels(reports: Sequence[VisitReport]) -> dict[str, str]:
    groups = dict.fromkeys(report.visit.groupId for report in reports)
    return {group: f"#{number}" for number, group in enumerate(groups, start=1)}


def _title(reports: Sequence[VisitReport]) -> str:
    if not reports:
        return "No visits"
    groups = [*_labels(reports)]
    camera = reports[0].visit.instrument
    if len(groups) == 1:
        return f"{camera}, group {groups[0]}"
    return f"{camera}, {len(groups)} visits from group {groups[0]}"


def _cells(report: VisitReport) -> tuple[str, ...]:
    outcome = outcome_of(report)
    if outcome is None:
        return (f"[red]{report.status or 'no answer'}[/red]", "", "", "", "")
    done, closed = outcome.timings.preload_done_unix, report.shutter_closed_at
    margin = "" if done is None or closed is None else _relative(done - closed)
    to_alert = outcome.timings.image_to_alert
    return (
        outcome.pipeline or "",
        margin,
        "" if to_alert is None else f"{to_alert:.2f} s",
        str(outcome.outputs),
        str(outcome.alerts),
    )


def _relative(seconds: float) -> str:
    """Say when something happened, seen from the closing of the shutter."""
    if seconds < 0:
        return f"{-seconds:.1f} s before"
    return f"[red]{seconds:.1f} s after[/red]"
