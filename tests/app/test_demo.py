"""The demo's table, its figures, its workplace and its service."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from rich.console import Console

from app.demo import service_process
from app.demo.installation import NightResult
from app.demo.program import ProgramEnded
from app.demo.progress import NightProgress
from app.demo.service_process import ServiceProcess, free_port
from app.demo.summary import DemoFigures, print_summary, summarise
from app.demo.table import night_table, outcome_of, print_failures, print_groups
from app.demo.workplace import Workplace
from config.instruments import find_instrument_file, load_instrument
from config.settings import load_service_settings
from models.errors import InvalidConfiguration
from models.visits import FannedOutVisit
from simulator.observing import VisitReport
from simulator.score import Score
from tests.visits import make_visit

CLOSED = 1_800_000_000.0
#: The figures that the contract names.
FIGURES = [
    "visits",
    "processed",
    "failed",
    "alerts",
    "outputs",
    "slots",
    "completeness",
    "false_alerts_per_detector",
    "position_error_px",
    "flux_ratio",
    "image_to_alert_s",
    "framework_ms",
]


def report(
    group: int = 0,
    detector: int = 0,
    *,
    status: int | None = 200,
    preload: float | None = 8.4,
    detail: str | None = None,
    **timings: float,
) -> VisitReport:
    """Return a report of a visit whose preload was over so many seconds
    before the shutter closed.
    """
    visit: FannedOutVisit = make_visit(
        groupId=f"2026-03-01T03:16:{group:02d}.974", detector=detector, instrument="DemoCam"
    )
    body: dict[str, Any] = {
        "result": "processed",
        "pipeline": "SingleFrame",
        "outputs": 33,
        "alerts": 16,
        "alert_files": ["/a.avro"],
        "timings": {
            "total": 3.0,
            "waiting": 1.0,
            "tasks": 1.5,
            "image_to_alert": 1.25,
            "preload_done_unix": None if preload is None else CLOSED - preload,
            **timings,
        },
    }
    if status != 200:
        body = {"title": "Failed"} if detail is None else {"title": "Failed", "detail": detail}
    return VisitReport(
        visit=visit,
        status=status,
        body=body,
        attempts=1,
        exposure_ids=(1,),
        announced_at=CLOSED - 9,
        answered_at=CLOSED + 3,
        shutter_opened_at=CLOSED - 3,
        shutter_closed_at=CLOSED,
        raw_delivered_at=CLOSED + 0.01,
    )


def score(**values: Any) -> Score:
    given = {
        "completeness": 0.9,
        "false_alerts_per_detector": 0.5,
        "position_error_px": 0.1,
        "flux_ratio": 1.0,
        "injected": 10,
        "found": 9,
        "false": 1,
        "alerts": 10,
    }
    return Score(**{**given, **values})


def shown(thing: Any, width: int = 80) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(thing)
    return out.getvalue().splitlines()


def test_the_table_does_not_wrap() -> None:
    late = report(2, 188, preload=-120.5, image_to_alert=123.456)
    lines = shown(night_table([report(0), report(0, 1), report(1), late, report(2, 3, status=503)]))
    assert all(len(line) <= 80 for line in lines)
    rows = [line for line in lines if line.startswith("│")]
    # A line each, whatever is in it.
    assert len(rows) == 5
    assert "8.4 s before" in rows[0] and "1.25 s" in rows[0] and "SingleFrame" in rows[0]
    assert "120.5 s after" in rows[3] and "123.46 s" in rows[3]
    assert [row.split("│")[1].strip() for row in rows] == ["#1", "#1", "#2", "#3", "#3"]
    assert "503" in rows[4]
    assert "DemoCam, 3 visits from group 2026-03-01T03:16:00.974" in lines[0]


def test_the_group_of_a_single_visit_is_in_the_title() -> None:
    assert (
        shown(night_table([report(0), report(0, 1)]))[0].strip() == "DemoCam, group 2026-03-01T03:16:00.974"
    )
    assert shown(night_table([]))[0].strip() == "No visits"


def test_groups_of_labels() -> None:
    out = io.StringIO()
    print_groups(Console(file=out, width=80), [report(0), report(0, 1), report(1)])
    assert out.getvalue().split() == ["#1", "2026-03-01T03:16:00.974", "#2", "2026-03-01T03:16:01.974"]


def test_failures_are_explained() -> None:
    out = io.StringIO()
    failed = [
        report(),
        report(1, status=500, detail="task isr [of ApPipe] failed: " + 30 * "very "),
        report(2, status=None),
    ]
    print_failures(Console(file=out, width=80), failed)
    first, second = out.getvalue().splitlines()
    assert first.startswith(
        "DemoCam group 2026-03-01T03:16:01.974 detector 0: status 500: task isr [of ApPipe]"
    )
    assert second.endswith("no status: Failed")


def test_an_outcome_is_read_from_an_answer() -> None:
    outcome = outcome_of(report())
    assert outcome is not None and outcome.alerts == 16
    assert outcome_of(report(status=503)) is None


def test_figures() -> None:
    reports = [
        report(0),
        report(1, total=4.0, image_to_alert=2.25),
        report(2, total=5.0),
        report(3, status=500),
    ]
    figures = summarise(NightResult(reports, []), score(), slots=2)
    assert list(figures.model_dump(mode="json")) == FIGURES
    assert (figures.visits, figures.processed, figures.failed) == (4, 3, 1)
    assert (figures.alerts, figures.outputs, figures.slots) == (48, 99, 2)
    assert figures.image_to_alert_s == 1.25
    assert figures.framework_ms == 1500.0
    assert figures.preload_margin_s == pytest.approx(8.4)
    assert figures.faults == ["only 3 of 4 visit-detectors were processed"]


def test_a_demo_that_goes_well() -> None:
    reports = [report(0), report(1, preload=0.3)]
    figures = summarise(NightResult(reports, []), score(), slots=2)
    assert figures.faults == []
    out = io.StringIO()
    place = Workplace(Path("/demo"))
    where: Any = SimpleNamespace(alerts=place.alerts, outputs=place.central)
    print_summary(Console(file=out, width=80), reports, figures, score(), place, where)
    assert "over 0.3 s or more before the shutter closed" in " ".join(out.getvalue().split())
    for path in (place.alerts, place.central, place.log, place.settings_file):
        assert str(path) in out.getvalue()


def test_places_are_told_from_where_the_reader_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = Workplace(Path("out"))
    where: Any = SimpleNamespace(alerts=place.alerts, outputs=place.central)
    out = io.StringIO()
    reports = [report(0)]
    figures = summarise(NightResult(reports, []), score(), slots=2)
    print_summary(Console(file=out, width=80), reports, figures, score(), place, where)
    assert "Alerts: out/alerts\n" in out.getvalue()
    assert str(tmp_path) not in out.getvalue()


@pytest.mark.parametrize(
    ("reports", "scored", "fault"),
    [
        (
            [report(), report(1, preload=-0.2)],
            {},
            "preload was not over when the shutter closed (0.2 s after",
        ),
        ([report(), report(1, preload=None)], {}, "it is not known when"),
        ([report()], {"completeness": 0.79}, "completeness 0.79 is below 0.8"),
        ([report()], {"false_alerts_per_detector": 2.01}, "2.01 false alerts a detector are more than 2"),
        ([report(status=None)], {}, "only 0 of 1"),
    ],
)
def test_faults(reports: list[VisitReport], scored: dict[str, Any], fault: str) -> None:
    (found,) = summarise(NightResult(reports, []), score(**scored), slots=1).faults
    assert fault in found


def test_nothing_is_known_of_real_frames() -> None:
    nothing = dict.fromkeys(
        ("completeness", "false_alerts_per_detector", "position_error_px", "flux_ratio", "false")
    )
    figures = summarise(NightResult([report()], []), score(**nothing), slots=1)
    assert figures.faults == []
    assert figures.completeness is None


def test_alerts_are_timed_where_they_arrive() -> None:
    result = NightResult([report()], [], image_to_alert=[2.0, 4.0, 9.0], faults=["an alert is missing"])
    figures = summarise(result, score(), slots=1)
    assert figures.image_to_alert_s == 4.0
    assert figures.faults == ["an alert is missing"]
    assert set(figures.model_dump()) == set(FIGURES)


def test_nothing_was_processed() -> None:
    figures = summarise(NightResult([report(status=503)], []), score(), slots=1)
    assert (figures.image_to_alert_s, figures.framework_ms, figures.preload_margin_s) == (None, None, None)
    assert isinstance(figures, DemoFigures)


# The workplace.


def test_a_workplace(tmp_path: Path) -> None:
    place = Workplace.create(tmp_path / "demo")
    (place.alerts).mkdir()
    (place.images / "old.fits").touch()
    again = Workplace.create(tmp_path / "demo")
    assert again.root == place.root.absolute()
    assert not again.alerts.exists() and not (again.images / "old.fits").exists()


def test_somebody_elses_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InvalidConfiguration, match="--out"):
        Workplace.create(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidConfiguration, match="cannot write"):
        Workplace.create(tmp_path / "file" / "demo")


@pytest.mark.parametrize("camera", ["DemoCam", "DecamStamps"])
def test_the_demo_s_settings_are_settings(tmp_path: Path, camera: str) -> None:
    place = Workplace.create(tmp_path / "demo")
    instrument = load_instrument(find_instrument_file(camera))
    variables = place.write_settings(instrument, skymap="sky", port=1234, slots=3)
    assert yaml.safe_load(place.settings_file.read_text()) == variables
    settings = load_service_settings(variables)
    assert (settings.worker_count, settings.port, settings.rubin_instrument) == (3, 1234, camera)
    assert all(Path(p).is_file() for p in settings.main_pipelines_config.pipelines)


# Progress.


class _Plan:
    """A plan of two visits of two detectors, one snap each."""

    class _Visit:
        snaps = (0,)
        detectors = (0, 1)

    visits = (_Visit(), _Visit())


def test_night_progress() -> None:
    told: list[tuple[str, int, int]] = []
    progress = NightProgress(lambda *what: told.append(what), _Plan())  # type: ignore[arg-type]
    visit: Any = object()
    progress.staged(4, 4)
    progress.announced(visit, (0, 1))
    progress.shutter(visit, 0, is_open=True)
    progress.shutter(visit, 0, is_open=False)
    progress.answered(report())
    progress.answered(report())
    assert told == [
        ("render frames", 4, 4),
        ("announce visits", 1, 2),
        ("expose", 0, 2),
        ("expose", 1, 2),
        ("process detectors", 1, 4),
        ("process detectors", 2, 4),
    ]


# The service.


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServiceProcess:
    """A service that is a program of the test's own."""
    program = tmp_path / "program"
    program.mkdir()
    (program / "app").mkdir()
    (program / "app" / "__init__.py").touch()
    (program / "app" / "cli.py").write_text(
        "import os, signal, sys, time\n"
        "print('starting', sys.argv[1:], flush=True)\n"
        "if os.environ.get('BROKEN'): sys.exit('no central repo')\n"
        "def stop(*_):\n"
        "    print('stopping', flush=True)\n"
        "    if os.environ.get('STUBBORN') is None: sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "open(os.environ['READY'], 'w').close()\n"
        "while True: time.sleep(0.05)\n"
    )
    ready = tmp_path / "ready"
    monkeypatch.setattr(service_process, "is_ready", lambda _: ready.exists())
    return ServiceProcess(
        environment={"PYTHONPATH": str(program), "READY": str(ready), "PATH": os.environ["PATH"]},
        log=tmp_path / "service.log",
        url="http://127.0.0.1:1",
    )


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # `python -m app.cli` would otherwise find the project's in the directory.
    monkeypatch.chdir(tmp_path)


def test_a_service_comes_and_goes(service: ServiceProcess, tmp_path: Path) -> None:
    service.start()
    # Ctrl-C must not reach it behind our back.
    assert os.getsid(service.pid) != os.getsid(0)
    service.stop()
    service.wait()
    assert (tmp_path / "service.log").read_text().splitlines() == ["starting ['serve']", "stopping"]
    service.stop()


def test_a_service_that_does_not_start(service: ServiceProcess) -> None:
    service._environment["BROKEN"] = "1"
    with pytest.raises(ProgramEnded, match="no central repo"):
        service.start()


def test_a_service_that_is_not_ready_in_time(
    service: ServiceProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_process, "is_ready", lambda _: False)
    with pytest.raises(ProgramEnded, match=r"not ready within 0\.5 s"):
        service.start(timeout=0.5)
    assert not _lives(service.pid)


def test_a_service_that_does_not_stop(service: ServiceProcess) -> None:
    service._environment["STUBBORN"] = "1"
    service.start()
    service.stop(timeout=0.2)
    assert not _lives(service.pid)


def test_an_impatient_user(service: ServiceProcess) -> None:
    service._environment["STUBBORN"] = "1"
    service.start()
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)

    def interrupt() -> None:
        while "stopping" not in service._log.read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGALRM)

    impatient = threading.Thread(target=interrupt, daemon=True)
    impatient.start()
    try:
        service.stop(timeout=200)
    finally:
        impatient.join()
        signal.signal(signal.SIGALRM, previous)
    assert not _lives(service.pid)


def test_a_free_port_is_free() -> None:
    assert 1024 <= free_port() < 65536


def _lives(pid: int) -> bool:
    for _ in range(20):
        if not Path(f"/proc/{pid}").exists():
            return False
        time.sleep(0.05)
    return True


def test_the_interpreter_is_the_same(service: ServiceProcess) -> None:
    service.start()
    command = Path(f"/proc/{service.pid}/cmdline").read_bytes().split(b"\0")
    service.stop()
    assert command[0].decode() == sys.executable
