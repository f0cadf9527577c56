"""Monitors over HTTP: ours, and one that behaves as the one in the field."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from flask import Flask, Response, jsonify, request
from werkzeug.serving import make_server

from app.streaming.rest.blueprint import create_rest_blueprint
from repos.streaming.database import create_streaming_engine
from repos.streaming.monitor_store import MonitorStore

TOKEN = "secret"
_NO_LIST = {"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]}


def our_monitor(directory: Path) -> tuple[Flask, MonitorStore]:
    store = MonitorStore.on(create_streaming_engine(f"sqlite:///{directory}/monitor.db"))
    app = Flask("ours")
    app.register_blueprint(create_rest_blueprint(store, zone=ZoneInfo("UTC"), token=TOKEN))
    return app, store


class FieldMonitor:
    """What the monitor in the field does with what agents send."""

    def __init__(self) -> None:
        self.app = Flask("field")
        self.runs: dict[int, dict[str, Any]] = {}
        self.files: dict[str, dict[str, Any]] = {}
        self.executions: dict[str, dict[str, Any]] = {}
        self.messages: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        self.heartbeats: list[dict[str, Any]] = []
        self.subscribers: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.paged = True
        self.one_page = False
        self._agents = count(1)
        self.app.before_request(self._note)
        for rule, methods, view in [
            ("/api/state/next-agent-id/", ["POST"], self._next_agent),
            ("/api/systemagents/heartbeat/", ["POST"], self._heartbeat),
            ("/api/subscribers/", ["POST"], self._subscribe),
            ("/api/runs/", ["GET", "POST"], self._runs),
            ("/api/runs/<int:key>/", ["GET", "PATCH"], self._run),
            ("/api/stf-files/", ["GET", "POST"], self._files),
            ("/api/stf-files/<key>/", ["GET", "PATCH"], self._file),
            ("/api/workflow-executions/", ["GET"], self._executions),
            ("/api/workflow-executions/<key>/", ["GET", "PATCH"], self._execution),
            ("/api/workflow-messages/", ["GET"], self._messages),
            ("/api/run-states/<key>/", ["GET"], self._run_state),
            ("/api/logs/", ["POST"], self._logs),
        ]:
            self.app.add_url_rule(rule, view.__name__, view, methods=methods)

    def _note(self) -> None:
        self.requests.append((request.method, request.path))

    def _next_agent(self) -> Any:
        return {"agent_id": next(self._agents), "status": "success"}

    def _heartbeat(self) -> Any:
        self.heartbeats.append(request.json)
        return jsonify(request.json), 201

    def _subscribe(self) -> Any:
        name = request.json["subscriber_name"]
        if name in self.subscribers:
            return {"subscriber_name": ["subscriber with this subscriber name already exists."]}, 400
        self.subscribers.add(name)
        return request.json, 201

    def _runs(self) -> Any:
        if request.method == "GET":
            return jsonify([*self.runs.values()])
        if any(run["run_number"] == request.json["run_number"] for run in self.runs.values()):
            return {"run_number": ["run with this run number already exists."]}, 400
        key = len(self.runs) + 1
        self.runs[key] = {"end_time": None, **request.json, "run_id": key}
        return self.runs[key], 201

    def _run(self, key: int) -> Any:
        if key not in self.runs:
            return {"detail": "No Run matches the given query."}, 404
        if request.method == "PATCH":
            self.runs[key] |= request.json
        return self.runs[key]

    def _files(self) -> Any:
        if request.method == "GET":
            rows = [*self.files.values()]
            if (number := request.args.get("run_number")) is not None:
                keys = {key for key, run in self.runs.items() if str(run["run_number"]) == number}
                rows = [row for row in rows if row["run"] in keys]
            for name in ("status", "stf_filename"):
                if name in request.args:
                    rows = [row for row in rows if row[name] == request.args[name]]
            if self.paged and (limit := request.args.get("limit")) is not None:
                rest = rows if self.one_page else rows[int(request.args.get("offset", 0)) :]
                page = {"count": len(rows), "next": None, "previous": None, "results": rest[: int(limit)]}
                return jsonify(page)
            return jsonify(rows)
        if not isinstance(request.json, dict):
            return _NO_LIST, 400
        if request.json["run"] not in self.runs:
            return {"run": [f'Invalid pk "{request.json["run"]}" - object does not exist.']}, 400
        if any(row["stf_filename"] == request.json["stf_filename"] for row in self.files.values()):
            return {"stf_filename": ["stf file with this stf filename already exists."]}, 400
        row = {"status": "registered", **request.json, "file_id": str(uuid4()), "workflow_id": None}
        self.files[row["file_id"]] = row
        return row, 201

    def _file(self, key: str) -> Any:
        if key not in self.files:
            return {"detail": "No StfFile matches the given query."}, 404
        if request.method == "PATCH":
            self.files[key] |= request.json
        return self.files[key]

    def _executions(self) -> Any:
        rows = [*self.executions.values()]
        for name in ("status", "namespace"):
            if name in request.args:
                rows = [row for row in rows if row[name] == request.args[name]]
        return jsonify(rows)

    def _execution(self, key: str) -> Any:
        if key not in self.executions:
            return {"detail": "No WorkflowExecution matches the given query."}, 404
        if request.method == "PATCH":
            self.executions[key] |= request.json
        return self.executions[key]

    def _messages(self) -> Any:
        return jsonify([m for m in self.messages if m["execution_id"] == request.args["execution_id"]])

    def _run_state(self, key: str) -> Any:
        return {"detail": "No RunState matches the given query."}, 404

    def _logs(self) -> Any:
        if not isinstance(request.json, dict):
            return _NO_LIST, 400
        self.logs.append(request.json)
        return Response(status=201)


def now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """Serve an application; gives its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
