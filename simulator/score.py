"""How well a night's alerts tell the truth.

Counted are injected transients whose true signal-to-noise, before any
detection, is 10 or more. An alert belongs to a transient within one arcsecond;
alerts of variable stars count neither as found nor as false; every other
alert is false, whatever its flags, a second one of the same transient too.
"""

from __future__ import annotations

__all__ = ["MATCH_RADIUS", "MINIMUM_SNR", "FoundAlert", "Score", "read_alerts", "score", "score_alerts"]

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import fastavro
import numpy as np
from pydantic import BaseModel, ConfigDict

from models.geometry import angular_separation
from simulator.camera import Injected
from simulator.plan import Plan
from simulator.profiles import FloatArray

#: Arcseconds within which an alert belongs to a source.
MATCH_RADIUS = 1.0
#: Signal-to-noise from which a transient should be found.
MINIMUM_SNR = 10.0


@dataclass(frozen=True)
class FoundAlert:
    """What the score needs of an alert.

    Attributes
    ----------
    visit, detector : `int`
    ra, dec : `float`
        Degrees.
    flux : `float`
        Point-source flux on the difference, nJy.
    """

    visit: int
    detector: int
    ra: float
    dec: float
    flux: float


class Score(BaseModel):
    """The figures; None where the truth is not known or nothing was counted.

    Attributes
    ----------
    completeness : `float` or `None`
        Part of the counted transients that were found.
    false_alerts_per_detector : `float` or `None`
        False alerts a detector and visit.
    position_error_px : `float` or `None`
        Median distance from the true position, pixels.
    flux_ratio : `float` or `None`
        Median of measured over true flux.
    injected, found, false : `int` or `None`
        Counted transients, those of them found, and false alerts.
    alerts : `int`
        All alerts.
    """

    model_config = ConfigDict(frozen=True)

    completeness: float | None = None
    false_alerts_per_detector: float | None = None
    position_error_px: float | None = None
    flux_ratio: float | None = None
    injected: int | None = None
    found: int | None = None
    false: int | None = None
    alerts: int = 0


def read_alerts(files: Iterable[str | Path]) -> list[FoundAlert]:
    """Read Avro container files with alerts in the LSST schema."""
    alerts = []
    for file in files:
        with Path(file).open("rb") as stream:
            for packet in fastavro.reader(stream):
                assert isinstance(packet, dict)
                source = packet["diaSource"]
                alerts.append(
                    FoundAlert(
                        visit=source["visit"],
                        detector=source["detector"],
                        ra=source["ra"],
                        dec=source["dec"],
                        flux=np.nan if source["psfFlux"] is None else source["psfFlux"],
                    )
                )
    return alerts


def score(plan: Plan, alert_files: Iterable[str | Path]) -> Score:
    """Compare a night's alerts with the truth.

    Parameters
    ----------
    plan : `simulator.plan.Plan`
        What was observed.
    alert_files : iterable of path-like
        Avro container files.

    Returns
    -------
    score : `Score`
    """
    return score_alerts(plan, read_alerts(alert_files))


def score_alerts(plan: Plan, alerts: Sequence[FoundAlert]) -> Score:
    """Compare alerts, already read, with the truth; see `score`."""
    if plan.variables is None:
        return Score(alerts=len(alerts))
    frames = list(plan.frames)
    known = {(frame.exposure_id, frame.detector) for frame in frames}
    # Alerts of what was never observed are false wherever they are.
    false = sum((alert.visit, alert.detector) not in known for alert in alerts)
    injected = found = 0
    distances: list[float] = []
    ratios: list[float] = []
    for frame in frames:
        own = [a for a in alerts if (a.visit, a.detector) == (frame.exposure_id, frame.detector)]
        truth = frame.injected
        if truth is None:
            continue
        matches, unmatched = _match(truth, own)
        counted = truth.snr >= MINIMUM_SNR
        injected += int(counted.sum())
        for index, (alert, distance) in matches.items():
            if counted[index]:
                found += 1
                distances.append(distance / plan.instrument.pixel_scale)
                ratios.append(alert.flux / truth.flux[index])
        false += _count_false(unmatched, plan.variables)
    return Score(
        completeness=found / injected if injected else None,
        false_alerts_per_detector=false / len(frames) if frames else None,
        position_error_px=float(np.median(distances)) if distances else None,
        flux_ratio=float(np.nanmedian(ratios)) if np.isfinite(ratios).any() else None,
        injected=injected,
        found=found,
        false=false,
        alerts=len(alerts),
    )


def _match(
    truth: Injected, alerts: Sequence[FoundAlert]
) -> tuple[dict[int, tuple[FoundAlert, float]], list[FoundAlert]]:
    """Pair transients and alerts one to one, the nearest first.

    Returns
    -------
    matches : `dict`
        (alert, distance in arcseconds) by index of the transient.
    unmatched : `list`
        Alerts left over.
    """
    if not alerts or not len(truth.ra):
        return {}, list(alerts)
    ra, dec = np.array([(a.ra, a.dec) for a in alerts]).T
    distance = 3600.0 * angular_separation(truth.ra[:, None], truth.dec[:, None], ra, dec)
    matches: dict[int, tuple[FoundAlert, float]] = {}
    used: set[int] = set()
    for flat in np.argsort(distance, axis=None):
        source, number = (int(n) for n in np.unravel_index(flat, distance.shape))
        if distance[source, number] > MATCH_RADIUS:
            break
        if source not in matches and number not in used:
            matches[source] = alerts[number], float(distance[source, number])
            used.add(number)
    return matches, [alert for number, alert in enumerate(alerts) if number not in used]


def _count_false(alerts: Sequence[FoundAlert], variables: tuple[FloatArray, FloatArray]) -> int:
    if not len(variables[0]):
        return len(alerts)
    return sum(angular_separation(a.ra, a.dec, *variables).min() * 3600.0 > MATCH_RADIUS for a in alerts)
