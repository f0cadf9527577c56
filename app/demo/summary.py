"""What a demo came to: a table for people, figures for programs."""

from __future__ import annotations

__all__ = ["DemoFigures", "print_summary", "summarise"]

import statistics
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from app.demo.installation import Installation, NightResult
from app.demo.table import night_table, outcome_of, print_failures, print_groups
from app.demo.workplace import Workplace
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
    preload_margin_s: float | None = Field(default=None, exclude=True)
    """From the end of preload to the closing of the shutter, at the least."""

    other_faults: tuple[str, ...] = Field(default=(), exclude=True)

    @property
    def faults(self) -> list[str]:
        """Why this demo does not count as a success."""
        faults = list(self.other_faults)
        if self.processed < self.visits:
            faults.append(f"only {self.processed} of {self.visits} visit-detectors were processed")
        if self.processed and (self.preload_margin_s is None or self.preload_margin_s <= 0):
            margin = self.preload_margin_s
            when = "it is not known when" if margin is None else f"{-margin:.1f} s after that at the worst"
            faults.append(f"preload was not over when the shutter closed ({when})")
        if self.completeness is not None and self.completeness < LEAST_COMPLETENESS:
            faults.append(f"completeness {self.completeness:.2f} is below {LEAST_COMPLETENESS}")
        false = self.false_alerts_per_detector
        if false is not None and false > MOST_FALSE_ALERTS:
            faults.append(f"{false:.2f} false alerts a detector are more than {MOST_FALSE_ALERTS:g}")
        return faults


def summarise(result: NightResult, score: Score, *, slots: int) -> DemoFigures:
    """Gather the figures of a demo."""
    reports = result.reports
    outcomes = [outcome for r in reports if (outcome := outcome_of(r)) is not None]
    to_alert = result.image_to_alert
    if to_alert is None:
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
        preload_margin_s=_least_margin(reports),
        other_faults=tuple(result.faults),
    )


def print_summary(
    console: Console,
    reports: Sequence[VisitReport],
    figures: DemoFigures,
    score: Score,
    place: Workplace,
    installation: Installation,
) -> None:
    """Show what was observed and how it went."""
    console.print(night_table(reports))
    print_groups(console, reports)
    if figures.preload_margin_s is not None and figures.preload_margin_s > 0:
        console.print(
            f"Preload and preprocessing were over {figures.preload_margin_s:.1f} s or more before the "
            "shutter closed."
        )
    if score.completeness is not None or score.false is not None:
        console.print(_score_line(score, figures))
    if figures.image_to_alert_s is not None and figures.framework_ms is not None:
        console.print(
            f"Speed: {figures.image_to_alert_s:.2f} s from image to alert, {figures.framework_ms:.0f} ms "
            f"of framework a visit and detector (medians, {figures.slots} slots)."
        )
    print_failures(console, reports)
    places = (
        f"Alerts: {installation.alerts}\nOutputs: {installation.outputs}\n"
        f"Service log: {place.log}\nSettings: {place.settings_file}"
    )
    console.print(
        # From where the reader is.
        places.replace(f"{Path.cwd()}/", ""),
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _least_margin(reports: Sequence[VisitReport]) -> float | None:
    """Return the least time from the end of preload to the closing of the
    shutter among visits that were processed, seconds; None if it is not known
    for every one.
    """
    margins = []
    for report in reports:
        outcome = outcome_of(report)
        if outcome is not None:
            done, closed = outcome.timings.preload_done_unix, report.shutter_closed_at
            if done is None or closed is None:
                return None
            margins.append(closed - done)
    return min(margins, default=None)


def _score_line(score: Score, figures: DemoFigures) -> str:
    parts = []
    if score.completeness is not None:
        parts.append(f"{score.found} of {score.injected} transients found ({score.completeness:.0%})")
    if figures.false_alerts_per_detector is not None:
        parts.append(f"{figures.false_alerts_per_detector:.2f} false alerts a detector and visit")
    if score.position_error_px is not None and score.flux_ratio is not None:
        parts.append(f"off by {score.position_error_px:.2f} px, flux ratio {score.flux_ratio:.3f} (medians)")
    return f"Score: {'; '.join(parts)}."
