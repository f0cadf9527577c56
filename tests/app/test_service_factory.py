from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.service_factory import build_service
from app.web.service import PromptService
from app.web_factory import gunicorn_options
from config.settings import ServiceSettings, load_service_settings
from models.errors import InvalidConfiguration, NoPipelineApplies
from models.kafka_access import KafkaAccess
from models.metrics import MeasuredBundle
from repos.bucket_listener import BucketListener
from simulator.servers.process import free_port
from tests.visits import make_visit


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    return {
        "RUBIN_INSTRUMENT": "DemoCam",
        "SKYMAP": "demo",
        "CENTRAL_REPO": str(tmp_path / "central"),
        "CONFIG_APDB": "apdb.yaml",
        "MAIN_PIPELINES_CONFIG": "- {pipelines: [A.yaml], survey: ours, ra: {min: 0, max: 20}}",
        "PREPROCESSING_PIPELINES_CONFIG": "- {pipelines: [P.yaml]}",
        "PP_IMAGE_DIRECTORY": str(tmp_path / "images"),
        "PP_STATE_DIR": str(tmp_path / "state"),
        "PP_METRICS_PORT": "0",
        "PP_SLOT_MEMORY_LIMIT": "512",
        "WORKER_COUNT": "3",
    }


@pytest.fixture
def settings(variables: dict[str, str]) -> ServiceSettings:
    return load_service_settings(variables)


@pytest.fixture
def service(settings: ServiceSettings) -> Iterator[PromptService]:
    made = build_service(settings)
    yield made
    made.close()


def test_limits_come_from_the_settings(service: PromptService) -> None:
    limits = service.slots.config
    assert (limits.count, limits.memory_limit) == (3, 512 << 20)
    assert service.token is None


def test_visits_are_selected_by_configuration(service: PromptService) -> None:
    """The detector's place on the sky counts, not the boresight."""
    off = make_visit(instrument="DemoCam", survey="ours", position=[25.0, 0.0])
    with pytest.raises(NoPipelineApplies):
        service.admission.handle(off)


def test_second_service_on_the_same_ledger_is_refused(
    service: PromptService, settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repos.ledger_database.LedgerLock.acquire.__defaults__", (0.1,))
    with pytest.raises(InvalidConfiguration, match="another service uses the ledger"):
        build_service(settings)


def test_ledger_can_be_used_again_after_the_end(settings: ServiceSettings) -> None:
    build_service(settings).close()
    build_service(settings).close()


def test_metrics_port(variables: dict[str, str]) -> None:
    port = free_port()
    free = build_service(load_service_settings(variables | {"PP_METRICS_PORT": str(port)}))
    _start_all_but_slots(free)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert b"200 OK" in connection.recv(1000)
    free.close()


def test_missing_broker_of_the_bucket_degrades(variables: dict[str, str]) -> None:
    variables |= {"IMAGE_BUCKET": "raws", "KAFKA_CLUSTER": "127.0.0.1:1"}
    del variables["PP_IMAGE_DIRECTORY"]
    service = build_service(load_service_settings(variables))
    _start_all_but_slots(service)
    assert service.dependencies["images"]() == "not connected yet"
    deadline = time.monotonic() + 120.0
    while "127.0.0.1:1 cannot be used" not in (trouble := service.dependencies["images"]() or ""):
        assert time.monotonic() < deadline, trouble
        time.sleep(0.01)
    service.close()
    assert service.dependencies["images"]() == "nobody listens; images are only looked for"


def test_metrics_port_that_is_taken_degrades(variables: dict[str, str]) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = str(taken.getsockname()[1])
        service = build_service(load_service_settings(variables | {"PP_METRICS_PORT": port}))
        _start_all_but_slots(service)
        assert any("PP_METRICS_PORT" in text for text in service.degraded())
        service.close()


def test_metrics_that_nobody_takes_degrade(variables: dict[str, str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    service = build_service(load_service_settings(variables | {"SASQUATCH_URL": url}))
    _start_all_but_slots(service)
    upload = service.admission._metrics  # type: ignore[attr-defined]
    values = {"timing": {"total": 1.0}}
    upload.offer(
        [MeasuredBundle(id="0", dataset_type="m", run="r", data_id={}, values=values, unix_time=0.0)]
    )
    deadline = time.monotonic() + 120
    while not upload.lost and time.monotonic() < deadline:
        time.sleep(0.02)
    assert any(text.startswith("sasquatch:") and url in text for text in service.degraded())
    service.close()


def test_without_sasquatch_nobody_uploads(service: PromptService) -> None:
    assert service.admission._metrics is None  # type: ignore[attr-defined]


def test_images_nobody_listens_for_degrade(service: PromptService) -> None:
    assert any(text.startswith("images:") for text in service.degraded())


def test_gunicorn_gets_threads_for_every_visit_and_more(settings: ServiceSettings) -> None:
    options = gunicorn_options(settings)
    assert options["workers"] == 1
    assert options["threads"] > 3 + 64
    assert options["graceful_timeout"] > settings.worker_grace_period


def test_parent_does_without_the_middleware() -> None:
    script = (
        "import sys, app.web_factory, app.worker_factory\n"
        "heavy = {'lsst', 'astropy', 'numba', 'scipy', 'pyarrow', 'boto3'}\n"
        "print(sorted(heavy & {m.partition('.')[0] for m in sys.modules}))"
    )
    ended = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def _start_all_but_slots(service: PromptService) -> None:
    for start in service.on_start:
        start()


def test_notifications_of_a_kafka_that_wants_to_know_who_reads(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[KafkaAccess] = []

    def listener(access: KafkaAccess, **options: object) -> BucketListener:
        made.append(access)
        return BucketListener(access, **options)

    monkeypatch.setattr("app.service_factory.BucketListener", listener)
    in_bucket = {name: value for name, value in variables.items() if name != "PP_IMAGE_DIRECTORY"} | {
        "IMAGE_BUCKET": "raws",
        "KAFKA_CLUSTER": "k:1",
        "PP_BUCKET_KAFKA_USERNAME": "worker",
        "PP_BUCKET_KAFKA_PASSWORD": "secret",
        "PP_BUCKET_KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
        "PP_KAFKA_VERIFY_TLS": "0",
    }
    build_service(load_service_settings(in_bucket)).close()
    assert made == [KafkaAccess("k:1", "worker", "secret", "sasl_ssl", verify=False)]
    with pytest.raises(InvalidConfiguration, match="PP_BUCKET_KAFKA_PASSWORD: is not set"):
        load_service_settings(in_bucket | {"PP_BUCKET_KAFKA_PASSWORD": ""})
