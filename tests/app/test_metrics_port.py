"""The port of metrics and health."""

from __future__ import annotations

import httpx
from prometheus_client import CollectorRegistry, Counter

from app.metrics_port import MetricsPort
from simulator.servers.process import free_port


def ask(port: int, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False)


def test_metrics_and_health() -> None:
    registry = CollectorRegistry()
    Counter("visits", "Visits.", registry=registry).inc(3)
    faults: list[str] = []
    number = free_port()
    port = MetricsPort(number, registry, faults=lambda: faults)
    port.start()
    try:
        assert port.trouble is None
        assert "visits_total 3.0" in ask(number, "/metrics").text
        assert "visits_total 3.0" in ask(number, "/").text
        assert ask(number, "/health").json() == {"status": "healthy", "faults": []}
        faults.append("Kafka is away")
        health = ask(number, "/health")
        assert health.status_code == 200
        assert health.json() == {"status": "degraded", "faults": ["Kafka is away"]}
        second = MetricsPort(number, registry)
        second.start()
        assert str(number) in (second.trouble or "")
        second.stop()
    finally:
        port.stop()
    again = MetricsPort(number, registry)
    again.start()
    again.stop()
    assert again.trouble is None


def test_none_is_asked_for() -> None:
    port = MetricsPort(0, CollectorRegistry())
    port.start()
    port.stop()
    assert port.trouble is None
