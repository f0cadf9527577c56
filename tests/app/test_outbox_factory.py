"""Wiring of outbox and writer: who sends what, and what is counted."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from app import connection_checks, fan_out_factory, kafka_access, writer_factory
from app.outbox_factory import OutboxCollector, build_outbox
from app.writer_factory import build_writer
from app.writer_metrics import WriterMetrics
from config.fan_out_settings import load_fan_out_settings
from config.settings import load_service_settings
from config.writer_settings import load_writer_settings
from models.events import ALERT, BUTLER_WRITER, OutboxMessage
from models.kafka_access import KafkaAccess
from models.outcomes import Result, VisitOutcome
from repos.ledger import Ledger
from repos.ledger_database import create_ledger_engine
from repos.outbox import Outbox
from services.outbox import OutboxDrain
from tests.repos.test_ledger import DAY, DEPLOYMENT, make_visit


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Outbox]:
    engine = create_ledger_engine(f"sqlite:///{tmp_path}/ledger.sqlite3")
    messages = [OutboxMessage(kind, "t", None, b"1") for kind in (ALERT, ALERT, BUTLER_WRITER)]
    Ledger(engine).finish(make_visit(), DEPLOYMENT, DAY, VisitOutcome(result=Result.PROCESSED), messages)
    yield Outbox(engine)
    engine.dispose()


def test_messages_are_counted_by_state_and_kind(store: Outbox) -> None:
    store.refuse(store.pending(kind=ALERT)[0].id, "too large")
    registry = CollectorRegistry()
    registry.register(OutboxCollector(OutboxDrain(store=store, senders={})))
    text = generate_latest(registry).decode()
    for state, kind, count in (
        ("waiting", ALERT, 1),
        ("waiting", BUTLER_WRITER, 1),
        ("refused", ALERT, 1),
        ("refused", BUTLER_WRITER, 0),
    ):
        assert f'prompt_processing_outbox_messages{{kind="{kind}",state="{state}"}} {count}.0' in text


def test_figures_of_the_writer() -> None:
    metrics = WriterMetrics()
    metrics.batch(messages=3, datasets=90, seconds=0.2)
    metrics.set_aside("conflict")
    metrics.lag(5)
    metrics.trouble("away")
    text = generate_latest(metrics.registry).decode()
    for line in (
        "prompt_processing_writer_lag_messages 5.0",
        "prompt_processing_writer_batch_messages_sum 3.0",
        "prompt_processing_writer_datasets_total 90.0",
        'prompt_processing_writer_set_aside_total{kind="conflict"} 1.0',
        'prompt_processing_writer_set_aside_total{kind="malformed"} 0.0',
        "prompt_processing_writer_degraded 1.0",
    ):
        assert line in text
    metrics.trouble(None)
    assert "prompt_processing_writer_degraded 0.0" in generate_latest(metrics.registry).decode()


@pytest.mark.parametrize("verified", [True, False])
def test_certificates_are_verified_unless_that_is_switched_off(
    store: Outbox,
    variables: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verified: bool,
) -> None:
    made: list[KafkaAccess] = []

    def note(*args: Any, **options: Any) -> KafkaAccess:
        made.append(KafkaAccess(*args, **options))
        return made[-1]

    for module in (connection_checks, fan_out_factory, kafka_access, writer_factory):
        monkeypatch.setattr(module, "KafkaAccess", note)
    everything = variables | {
        "USE_KAFKA_BUTLER_WRITER": "1",
        "BUTLER_WRITER_KAFKA_CLUSTER": "k:1",
        "BUTLER_WRITER_KAFKA_TOPIC": "t",
        "BUTLER_WRITER_KAFKA_SECURITY_PROTOCOL": "ssl",
        "AP_KAFKA_SERVER": "k:1",
        "AP_KAFKA_TOPIC": "t",
        "PP_ALERT_SECURITY_PROTOCOL": "ssl",
        "BUTLER_REPOSITORY": "/repo",
        "KAFKA_CLUSTER": "k:1",
        "KAFKA_TOPIC": "t",
        "KAFKA_OUTPUT_TOPIC": "u",
        "OUTPUT_DATASET_LIST_DIRECTORY": str(tmp_path),
        "KAFKA_SECURITY_PROTOCOL": "ssl",
        "NEXT_VISIT_TOPIC": "n",
        "CONSUMER_GROUP": "g",
        "SUPPORTED_INSTRUMENTS": "DemoCam",
        "INSTRUMENT_CONFIG_FILE": str(tmp_path / "routes.yaml"),
        "SECURITY_PROTOCOL": "ssl",
    }
    if not verified:
        everything["PP_KAFKA_VERIFY_TLS"] = "0"
    service, writer = load_service_settings(everything), load_writer_settings(everything)
    fan_out = load_fan_out_settings(everything)
    build_outbox(service, store)
    build_writer(writer)
    fan_out_factory._access(fan_out)
    connection_checks.service_connection_checks(service)
    connection_checks.writer_checks(writer)
    connection_checks.fan_out_checks(fan_out)
    assert len(made) == 8
    for access in made:
        context = access.options().get("ssl_context")
        # Without one the library makes its own, which verifies.
        assert (context is None or context.verify_mode is ssl.CERT_REQUIRED) is verified
