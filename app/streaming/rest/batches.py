"""The views of resources of which many rows can be added at once."""

from __future__ import annotations

__all__ = ["FileViews", "LogViews"]

from http import HTTPStatus
from zoneinfo import ZoneInfo

from flask import Response

from app.streaming.rest.answers import answer, read_body
from app.streaming.rest.resources import RowViews, Views
from repos.streaming.monitor_files import FileStore
from repos.streaming.monitor_log_store import LogStore


class FileViews(Views):
    """The views of STF files.

    Parameters
    ----------
    spec : `app.streaming.rest.resources.RowViews`
    files : `repos.streaming.monitor_files.FileStore`
    zone : `zoneinfo.ZoneInfo`
    """

    def __init__(self, spec: RowViews, *, files: FileStore, zone: ZoneInfo) -> None:
        super().__init__(spec, zone=zone)
        self._files = files

    def create(self) -> Response:
        """Register a file, or those of a list.

        Of a list, files that are there already are answered as they are; a
        single one that is there is refused, as in the field.
        """
        body = read_body()
        if not isinstance(body, list):
            return answer(self.shown(self._files.add(self.new_row(body))), HTTPStatus.CREATED)
        rows = self._files.register(self.new_rows(body))
        return answer([self.shown(row) for row in rows], HTTPStatus.CREATED)


class LogViews(Views):
    """The views of logs.

    Parameters
    ----------
    spec : `app.streaming.rest.resources.RowViews`
    logs : `repos.streaming.monitor_log_store.LogStore`
    zone : `zoneinfo.ZoneInfo`
    """

    def __init__(self, spec: RowViews, *, logs: LogStore, zone: ZoneInfo) -> None:
        super().__init__(spec, zone=zone)
        self._logs = logs

    def create(self) -> Response:
        """Keep a line, or those of a list."""
        body = read_body()
        if not isinstance(body, list):
            return answer(self.shown(self._logs.add(self.new_row(body))), HTTPStatus.CREATED)
        self._logs.add_all(self.new_rows(body))
        return answer({"created": len(body)}, HTTPStatus.CREATED)
