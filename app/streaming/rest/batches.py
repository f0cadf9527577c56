"""The views of resources of which many rows can be added at once."""

from __future__ import annotations

__all__ = ["FileViews", "LogViews"]

from http import HTTPStatus
from zoneinfo import ZoneInfo

from flask import Blueprint, Response

from app.streaming.rest.answers import BadFields, answer, read_body, validated
from app.streaming.rest.bodies import FileChange
from app.streaming.rest.resources import RowViews, Views
from models.streaming.monitoring import FileUpdate
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
        self._zone = zone
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

    def patch_list(self) -> Response:
        """Change status and metadata of files; entries of the metadata that
        are not named stay, unlike in a change of one file.
        """
        body = read_body()
        if not isinstance(body, list):
            raise BadFields({"non_field_errors": ["Expected a list of objects with file_id and status."]})
        updates = [validated(FileChange, one, zone=self._zone) for one in body]
        self._files.update(FileUpdate.model_validate(update.model_dump()) for update in updates)
        return answer({"updated": len(updates)})

    def register(self, blueprint: Blueprint) -> None:
        """Add the views to a blueprint."""
        super().register(blueprint)
        blueprint.add_url_rule(
            "/stf-files/", "stf-files-patch-list", self.patch_list, methods=["PATCH"], strict_slashes=False
        )


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
