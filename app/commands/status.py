"""``prompt-processing status``: the night so far."""

from __future__ import annotations

__all__ = ["status"]

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.tables import print_rows
from config.values import expand_user

if TYPE_CHECKING:
    from models.ledger import VisitRecord

_COLUMNS = (
    "started",
    "group",
    "detector",
    "state",
    "tries",
    "pipeline",
    "preload s",
    "total s",
    "to alert s",
    "outputs",
    "alerts",
    "detail",
)

#: Colours of states on a terminal; the word says the same.
_STYLES = {"processed": "green", "running": "cyan", "interrupted": "yellow"}


def status(
    *,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="Settings file; the environment wins over it.")
    ] = None,
    ledger: Annotated[
        str | None, typer.Option("--ledger", help="File or URL of the ledger, instead of the settings'.")
    ] = None,
    day: Annotated[
        int | None, typer.Option("--day", help="Night, YYYYMMDD. The last one with visits.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Visits to list, the last; 0 for all.")] = 40,
    errors: Annotated[bool, typer.Option("--errors", help="List only visits that went wrong.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show the night so far, from the ledger; the service may run or not."""
    # `--help` does without these.
    from config.settings import load_ledger_settings
    from models.errors import PromptProcessingError
    from repos.ledger import Ledger
    from repos.ledger_database import create_ledger_engine
    from repos.outbox import Outbox

    try:
        engine = create_ledger_engine(
            _url(ledger) or load_ledger_settings(file=settings_file).ledger_url, read_only=True
        )
        night = day if day is not None else Ledger(engine).last_day()
        visits = Ledger(engine).visits(night) if night is not None else []
        waiting, refused = Outbox(engine).count_pending(), Outbox(engine).count_refused()
    except PromptProcessingError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    shown = [visit for visit in visits if visit.in_error or not errors]
    shown = shown[:limit] if limit else shown
    if as_json:
        listed = [_as_json(visit) for visit in shown]
        typer.echo(json.dumps({"day_obs": night, "waiting": waiting, "refused": refused, "visits": listed}))
        return
    typer.echo(_summary(night, visits))
    for kind, count in waiting.items():
        typer.echo(f"{count} messages of kind {kind} wait to be sent")
    for kind, count in refused.items():
        typer.echo(
            f"{count} messages of kind {kind} were refused and are set aside; "
            "`prompt-processing outbox list` says why"
        )
    print_rows(
        _COLUMNS,
        [_row(visit) for visit in shown],
        [_STYLES.get(visit.state, "red") for visit in shown],
        foldable={"detail": 16},
    )


def _url(ledger: str | None) -> str | None:
    if ledger is None or "://" in ledger:
        return ledger
    return f"sqlite:///{expand_user(ledger)}"


def _summary(night: int | None, visits: Sequence[VisitRecord]) -> str:
    if night is None:
        return "There are no visits yet."
    states = sorted({visit.state for visit in visits})
    counts = ", ".join(f"{sum(v.state == state for v in visits)} {state}" for state in states)
    outcomes = [visit.outcome for visit in visits if visit.outcome is not None]
    handed_over = f"{sum(o.outputs for o in outcomes)} outputs, {sum(o.alerts for o in outcomes)} alerts"
    return f"Night {night}: {len(visits)} visit-detectors ({counts or 'none'}), {handed_over}"


def _row(visit: VisitRecord) -> tuple[str, ...]:
    outcome = visit.outcome
    timings = outcome.timings if outcome is not None else None
    return (
        f"{visit.started:%H:%M:%S}",
        visit.visit.groupId,
        str(visit.visit.detector),
        visit.state,
        str(visit.attempts),
        (outcome.pipeline if outcome is not None else None) or "",
        _seconds(timings.preload if timings else None),
        _seconds(timings.total if timings else None),
        _seconds(timings.image_to_alert if timings else None),
        str(outcome.outputs) if outcome is not None else "",
        str(outcome.alerts) if outcome is not None else "",
        " ".join(outcome.detail.split()) if outcome is not None else "",
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _as_json(visit: VisitRecord) -> dict[str, object]:
    return {
        "instrument": visit.visit.instrument,
        "group": visit.visit.groupId,
        "detector": visit.visit.detector,
        "deployment_id": visit.deployment_id,
        "state": visit.state,
        "attempts": visit.attempts,
        "started": visit.started.isoformat(),
        "finished": visit.finished.isoformat() if visit.finished else None,
        "outcome": visit.outcome.model_dump(mode="json") if visit.outcome else None,
    }
