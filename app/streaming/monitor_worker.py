"""The Gunicorn worker that carries the monitor."""

from __future__ import annotations

__all__ = ["MonitorWorker"]

from app.service_worker import ServiceWorker
from app.streaming.monitor_app import SERVICE


class MonitorWorker(ServiceWorker):
    """A threaded worker that starts and stops the monitor with itself."""

    extension = SERVICE
