"""Wiring of outbox and writer: who sends what, and what is counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from app.outbox_factory import OutboxCollector
from app.writer_metrics import WriterMetrics
from models.events import ALERT, BUTLER_WRITER, OutboxMessage
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
