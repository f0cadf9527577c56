"""``simulate``: observes against a running service."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import simulator.io.service_client
import simulator.io.surroundings
from app.commands.simulate import simulate
from config.kafka_login import KafkaLogin
from config.settings import PROJECT
from models.errors import InvalidConfiguration, TemporarilyUnavailable
from models.kafka_access import KafkaAccess
from simulator.io.surroundings import Surroundings
from simulator.observing import Timing, VisitReport
from simulator.plan import Plan
from simulator.schedule import plan_simulated
from tests.app.commands.running import run, words
from tests.app.test_demo import report
from tests.simulator.conftest import START, small_camera


class Observatory:
    """Observes nothing."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.asked: dict[str, Any] = {}
        self.surroundings: Surroundings | None = None
        self.reports: list[VisitReport] = [report(0), report(1)]
        self.ready = True

    @contextmanager
    def observatory_in(self, surroundings: Surroundings, **asked: Any) -> Iterator[Observatory]:
        self.surroundings, self.asked = surroundings, asked
        yield self

    def observe(self, plan: Plan) -> list[VisitReport]:
        self.plan = plan
        return self.reports

    @property
    def token(self) -> str | None:
        assert self.surroundings is not None
        return self.surroundings.token


@pytest.fixture
def observatory(monkeypatch: pytest.MonkeyPatch) -> Observatory:
    made = Observatory()
    monkeypatch.setattr(simulator.io.surroundings, "observatory_in", made.observatory_in)
    monkeypatch.setattr(simulator.io.service_client, "is_ready", lambda _: made.ready)
    for name in KafkaLogin.variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PP_TOKEN", raising=False)
    monkeypatch.delenv("S3_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("PP_SETTINGS_FILE", raising=False)
    return made


def test_a_night(observatory: Observatory, tmp_path: Path) -> None:
    arguments = (
        "--visits 2 --detectors 3 --seed 7 --cadence 4 --lead 3 --exposure 1 --survey wide --transients 0"
    )
    result = run(simulate, "--url", "http://h:1", "--image-dir", tmp_path, *arguments.split())
    assert result.exit_code == 0, result.output
    asked, plan = observatory.asked, observatory.plan
    assert plan is not None
    assert observatory.surroundings == Surroundings(url="http://h:1", image_dir=tmp_path)
    assert asked["timing"] == Timing(lead=3, exposure=1, cadence=4)
    assert (len(plan.visits), plan.detectors) == (2, (0, 1, 2))
    assert {p.visit.survey for p in plan.visits} == {"wide"}
    assert "#2" in result.output and "8.4 s before" in result.output


def test_all_detectors_unless_told_otherwise(observatory: Observatory, tmp_path: Path) -> None:
    camera = PROJECT / "config" / "instruments" / "DemoCam.yaml"
    run(simulate, "--image-dir", tmp_path, "--visits", 11, "--instrument", camera)
    assert observatory.plan is not None
    assert observatory.plan.detectors == (0, 1, 2, 3)
    # A long night is not rendered beforehand.
    assert observatory.asked["timing"].stage_ahead is not None
    assert observatory.asked["timing"].cadence is None


def test_the_token(observatory: Observatory, tmp_path: Path) -> None:
    arguments = ["--image-dir", tmp_path, "--detectors", 1]
    run(simulate, *arguments, PP_TOKEN="secret")
    assert observatory.token == "secret"
    run(simulate, *arguments, "--token", "another", PP_TOKEN="secret")
    assert observatory.token == "another"
    settings = tmp_path / "settings.yaml"
    settings.write_text("PP_TOKEN: filed\n")
    run(simulate, *arguments, PP_SETTINGS_FILE=str(settings))
    assert observatory.token == "filed"


def test_a_visit_that_fails(observatory: Observatory, tmp_path: Path) -> None:
    observatory.reports.append(report(2, status=500, detail="no image arrived"))
    result = run(simulate, "--image-dir", tmp_path, "--detectors", 1)
    assert result.exit_code == 1
    assert "status 500: no image arrived" in words(result)


def test_nobody_listens(observatory: Observatory, tmp_path: Path) -> None:
    observatory.ready = False
    result = run(simulate, "--image-dir", tmp_path, "--detectors", 1)
    assert isinstance(result.exception, TemporarilyUnavailable)
    assert "http://127.0.0.1:8080" in str(result.exception) and "--url" in str(result.exception)
    assert observatory.plan is None


def test_where_to_deliver_must_be_said(observatory: Observatory) -> None:
    result = run(simulate)
    assert result.exit_code == 2
    assert "--image-dir" in result.output
    assert observatory.plan is None


def test_servers(observatory: Observatory) -> None:
    arguments = (
        "--bucket raws --kafka k:1 --next-visit-topic visits --schema-registry http://r:1 --detectors 1"
    )
    result = run(simulate, *arguments.split(), S3_ENDPOINT_URL="http://s3:1")
    assert result.exit_code == 0, result.output
    assert observatory.surroundings == Surroundings(
        url="http://127.0.0.1:8080",
        bucket="raws",
        endpoint_url="http://s3:1",
        bucket_topic="rubin-prompt-processing",
        kafka=KafkaAccess("k:1"),
        visit_topic="visits",
        schema_registry="http://r:1",
    )


def test_kafka_that_wants_to_know_who_writes(
    observatory: Observatory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is set here is gone after the test.
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.delenv("SSL_CERT_FILE")
    # As the fan-out is told, which reads what is written here.
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "RUBIN_INSTRUMENT: DemoCam\nSASL_USERNAME: common\nwriter: {KAFKA_USERNAME: w}\n"
        "fan-out: {SASL_USERNAME: observer, SASL_MECHANISM: PLAIN, SECURITY_PROTOCOL: SASL_SSL, "
        "PP_KAFKA_VERIFY_TLS: 0, SSL_CERT_FILE: /etc/ca.pem}\n"
    )
    arguments = ("--image-dir", tmp_path, "--kafka", "k:1", "--next-visit-topic", "v", "--detectors", 1)
    result = run(simulate, *arguments, PP_SETTINGS_FILE=str(settings), SASL_PASSWORD="secret")
    assert result.exit_code == 0, result.output
    assert observatory.surroundings is not None
    assert observatory.surroundings.kafka == KafkaAccess(
        "k:1",
        username="observer",
        password="secret",
        security_protocol="sasl_ssl",
        mechanism="PLAIN",
        verify=False,
    )
    assert "secret" not in repr(observatory.surroundings)
    assert os.environ["SSL_CERT_FILE"] == "/etc/ca.pem"


def test_a_user_without_a_password(observatory: Observatory, tmp_path: Path) -> None:
    arguments = ("--image-dir", tmp_path, "--kafka", "k:1", "--next-visit-topic", "v", "--detectors", 1)
    result = run(simulate, *arguments, SASL_USERNAME="observer")
    assert isinstance(result.exception, InvalidConfiguration)
    assert "SASL_PASSWORD: is not set but SASL_USERNAME is" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "option", "what"),
    [
        ("--bucket raws", "--bucket", "--kafka HOST:PORT"),
        ("--image-dir . --next-visit-topic visits", "--next-visit-topic", "--kafka HOST:PORT"),
        ("--image-dir . --bucket raws --kafka k:1", "--bucket", "one of them"),
        ("--image-dir . --schema-registry http://r:1", "--schema-registry", "needs --next-visit-topic"),
        ("--image-dir . --bucket-topic t", "--bucket-topic", "needs --bucket"),
        ("--image-dir . --kafka k:1", "--kafka", "needs --bucket or --next-visit-topic"),
        ("--image-dir . --group g", "--group", "needs --replay"),
        ("--image-dir . --day-obs 20260101", "--day-obs", "needs --replay"),
        ("--image-dir . --keep-ids", "--keep-ids", "needs --replay"),
        ("--image-dir . --collection c", "--collection", "needs --replay"),
        ("--image-dir . --replay r --seed 2", "--seed", "leave out --replay"),
        ("--image-dir . --replay r --transients 2", "--transients", "leave out --replay"),
        ("--seed-dir sky --replay r", "--seed-dir", "leave out --replay"),
    ],
)
def test_options_that_do_not_fit(observatory: Observatory, arguments: str, option: str, what: str) -> None:
    result = run(simulate, "--detectors", 1, *arguments.split())
    assert result.exit_code == 2
    said = " ".join(words(result).replace("│", " ").split())
    assert f"Invalid value for {option}:" in said
    assert what in said
    assert observatory.plan is None


def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> dict[str, Any]:
    """Have a night that may be replayed; return what is asked of it."""
    import simulator.io.replay

    asked: dict[str, Any] = {}
    night = plan_simulated(
        seed=1, visits=2, transients=0, start=START, instrument=small_camera(**changes), detectors=1
    )

    def plan_replay(repo: str, **given: Any) -> Plan:
        asked.update(given, repo=repo, instrument=given["instrument"].name)
        return night

    monkeypatch.setattr(simulator.io.replay, "plan_replay", plan_replay)
    return asked


def test_a_recorded_night(observatory: Observatory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = recorded(tmp_path, monkeypatch)
    arguments = "--replay /repo --limit 5 --collection u/raws --group a --group b --day-obs 20260101"
    result = run(simulate, "--image-dir", tmp_path, *arguments.split())
    assert result.exit_code == 0, result.output
    assert asked == {
        "repo": "/repo",
        "instrument": "DemoCam",
        "collections": ["u/raws"],
        "groups": ["a", "b"],
        "day_obs": 20260101,
        "visits": 5,
        "detectors": None,
        "survey": None,
    }


def groups_observed(observatory: Observatory) -> list[str]:
    assert observatory.plan is not None
    return [planned.visit.groupId for planned in observatory.plan.visits]


def test_recorded_visits_get_new_groups(
    observatory: Observatory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(tmp_path, monkeypatch)
    run(simulate, "--replay", "/repo", "--image-dir", tmp_path, "--keep-ids")
    own = groups_observed(observatory)
    assert all(group.startswith("2027-01-15T") for group in own)
    result = run(simulate, "--replay", "/repo", "--image-dir", tmp_path)
    assert not set(groups_observed(observatory)) & set(own)
    assert "keep" not in result.output


def test_recorded_visits_that_cannot_get_new_groups(
    observatory: Observatory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(tmp_path, monkeypatch, files={".*D00.*": {"exposure_id": 7}})
    result = run(simulate, "--replay", "/repo", "--image-dir", tmp_path)
    assert result.exit_code == 0, result.output
    assert "keep their groups and exposure ids" in words(result)
    assert "exposure_id" in words(result)
    assert all(group.startswith("2027-01-15T") for group in groups_observed(observatory))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--instrument", "NoCam"], "no instrument file NoCam.yaml"),
        (["--detectors", 99], "DemoCam has 4 detectors, not 99"),
    ],
)
def test_a_plan_that_makes_no_sense(
    observatory: Observatory, tmp_path: Path, arguments: list[object], what: str
) -> None:
    result = run(simulate, "--image-dir", tmp_path, *arguments)
    assert isinstance(result.exception, InvalidConfiguration)
    assert what in str(result.exception)


def test_the_seed_directory(
    observatory: Observatory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Any] = []

    def write(plan: Plan, directory: Path, progress: Any) -> None:
        progress("make sky", 1, 1)
        written.append((directory, len(plan.visits), plan.detectors))

    monkeypatch.setattr(Plan, "write_seed_directory", write)
    observatory.ready = False
    result = run(simulate, "--seed-dir", tmp_path / "sky", "--seed", 7)
    assert result.exit_code == 0, result.output
    assert written == [(tmp_path / "sky", 3, (0, 1, 2, 3))]
    assert "create-central" in result.output
    assert observatory.plan is None


def test_help() -> None:
    output = run(simulate, "--help").output
    assert "--seed-dir ./sky" in output and "--cadence 37" in output
    assert "--bucket images --kafka kafka:9092" in output and "--next-visit-topic next-visit" in output
    assert "--replay /repo/main" in output
