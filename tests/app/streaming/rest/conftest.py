"""The REST resources, asked through Flask's client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.streaming.rest.blueprint import create_rest_blueprint
from app.streaming.rest.stream import MessageStream
from repos.streaming.database import create_streaming_engine
from repos.streaming.monitor_store import MonitorStore
from services.streaming.workflow_records import JobSource


@pytest.fixture
def store(tmp_path: Path) -> MonitorStore:
    return MonitorStore.on(create_streaming_engine(f"sqlite:///{tmp_path}/monitor.db"))


@pytest.fixture
def make_client(store: MonitorStore) -> Callable[..., FlaskClient]:
    def make(
        *,
        token: str | None = None,
        zone: str = "UTC",
        jobs: JobSource | None = None,
        stream: MessageStream | None = None,
    ) -> FlaskClient:
        app = Flask("test")
        app.register_blueprint(
            create_rest_blueprint(store, zone=ZoneInfo(zone), token=token, jobs=jobs, stream=stream)
        )
        return app.test_client()

    return make


@pytest.fixture
def client(make_client: Callable[..., FlaskClient]) -> FlaskClient:
    return make_client()
