"""What a demo came to: a table for people, figures for programs."""

from __future__ import annotations

__all__ = ["DemoFigures", "outcome_of", "print_summary", "summarise"]

import statistics
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from app.demo.workplace import Workplace
from models.outcomes import Result, VisitOutcome
from simulator.observing import VisitReport
from simulator.score import Score

#: The least part of the injected transients that a demo must find.
LEAST_COMPLETENESS = 0.8
#: The most false alerts a detector and visit that a demo may send.
MOST_FALSE_ALERTS = 2.0


class DemoFigures(BaseModel):
    """The figures of a demo; see the contract in ``docs/messages.md``."""

    model_config = ConfigDict(frozen=True)

    visits: int
    """Visit-detectors that were announced."""
    processed: int
    failed: int
    alerts: int
    outputs: int
    slots: int
    completeness: float | None
    false_alerts_per_detector: float | None
    position_error_px: float | None
    flux_ratio: float | None
    image_to_alert_s: float | None
    framework_ms: float | None

    @property
    def faults(self) -> list[str]:
        """Why this demo does not count as a success."""
        faults = []
        if self.processed < self.visits:
            faults.append(f"only {self.processed} of {self.visits} visit-detectors were processed")
        if self.completeness is not None and self.completeness < LEAST_COMPLETENESS:
            faults.append(f"completeness {self.completeness:.2f} is below {LEAST_COMPLETENESS}")
        false = self.false_alerts_per_detector
        if false is not None and false > MOST_FALSE_ALERTS:
            faults.append(f"{false:.2f} false alerts a detector are more than {MOST_FALSE_ALERTS:g}")
        return faults


def outcome_of(report: VisitReport) -> VisitOutcome | None:
    """Return the outcome of a visit that was processed, else None."""
    if report.status != 200:
        return None
    return VisitOutcome.model_validate({**report.body, "result": Result.PROCESSED})


def summarise(reports: Sequence[VisitReport], score: Score, *, slots: int) -> DemoFigures:
    """Gather the figures of a demo."""
    outcomes = [outcome for r in reports if (outcome := outcome_of(r)) is not None]
    to_alert = [o.timings.image_to_alert for o in outcomes if o.timings.image_to_alert is not None]
    framework = [
        1e3 * (o.timings.total - (o.timings.waiting or 0.0) - (o.timings.tasks or 0.0))
        for o in outcomes
        if o.timings.total is not None
    ]
    return DemoFigures(
        visits=len(reports),
        processed=len(outcomes),
        failed=len(reports) - len(outcomes),
        alerts=sum(o.alerts for o in outcomes),
        outputs=sum(o.outputs for o in outcomes),
        slots=slots,
        completeness=score.completeness,
        false_alerts_per_detector=score.false_alerts_per_detector,
        position_error_px=score.position_error_px,
        flux_ratio=score.flux_ratio,
        image_to_alert_s=statistics.median(to_alert) if to_alert else None,
        framework_ms=statistics.median(framework) if framework else None,
    )


def print_summary(
    console: Console,
    reports: Sequence[VisitReport],
    figures: DemoFigures,
    score: Score,
    place: Workplace,
) -> None:
    """Show what was observed and how it went."""
    table = Table(title="The night", title_justify="left")
    for heading in ("visit", "detector", "pipeline"):
        table.add_column(heading)
    for heading in ("preload over", "image to alert", "outputs", "alerts"):
        table.add_column(heading, justify="right")
    for report in reports:
        table.add_row(*_row(report))
    console.print(table)
    if score.completeness is not None or score.false is not None:
        console.print(_score_line(score, figures))
    if figures.image_to_alert_s is not None and figures.framework_ms is not None:
        console.print(
            f"Speed: {figures.image_to_alert_s:.2f} s from image to alert, "
            f"{figures.framework_ms:.0f} ms of framework a visit and detector (medians, {figures.slots} slots)."
        )
    for report in reports:
        if report.status != 200:
            detail = report.body.get("detail", "no answer")
            console.print(f"[red]{report.visit}: status {report.status}: {detail}[/red]")
    console.print(
        f"Alerts: {place.alerts}\nOutputs: {place.central} (a Butler repository)\n"
        f"Service log: {place.log}\nSettings: {place.settings_file}",
        highlight=False,
        soft_wrap=True,
    )


def _row(report: VisitReport) -> tuple[str, ...]:
    outcome = outcome_of(report)
    if outcome is None:
        return (report.visit.groupId, str(report.visit.detector), f"[red]{report.status}[/red]", "", "", "", "")
    done, closed = outcome.timings.preload_done_unix, report.shutter_closed_at
    margin = "" if done is None or closed is None else _relative(done - closed)
    to_alert = outcome.timings.image_to_alert
    return (
        report.visit.groupId,
        str(report.visit.detector),
        outcome.pipeline or "",
        margin,
        "" if to_alert is None else f"{to_alert:.2f} s",
        str(outcome.outputs),
        str(outcome.alerts),
    )


def _relative(seconds: float) -> str:
    """Say when something happened, seen from the closing of the shutter."""
    side = "before" if seconds < 0 else "[red]after[/red]"
    return f"{abs(seconds):.1f} s {side} shutter"


def _score_line(score: Score, figures: DemoFigures) -> str:
    parts = []
    if score.completeness is not None:
        parts.append(f"{score.found} of {score.injected} transients found ({score.completeness:.0%})")
    if figures.false_alerts_per_detector is not None:
        parts.append(f"{figures.false_alerts_per_detector:.2f} false alerts a detector and visit")
    if score.position_error_px is not None and score.flux_ratio is not None:
        parts.append(f"off by {score.position_error_px:.2f} px, flux ratio {score.flux_ratio:.3f} (medians)")
    return f"Score: {'; '.join(parts)}."
