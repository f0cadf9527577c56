"""The views of resources of which many rows can be added at once."""

from __future__ import annotations

__all__ = ["FileViews", "LogViews"]

import itertools
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any
from zoneinfo import ZoneInfo

from flask import Blueprint, Response

from app.streaming.rest.answers import BadFields, answer, answer_parts, read_body, validated
from app.streaming.rest.bodies import FileChange
from app.streaming.rest.resources import RowViews, Views
from models.streaming.monitoring import FileUpdate
from repos.streaming.monitor_files import FileStore
from repos.streaming.monitor_log_store import LogStore

#: Files that are read at once of a list that is as long as it is.
_PART = 1000


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

    def list_rows(self) -> Response:
        """List files. A list without a limit may be of any length; it is sent
        as it is read.
        """
        query = self.asked()
        if query.limit is not None or query.offset:
            return super().list_rows()
        wanted = query.model_dump(exclude_none=True, exclude={"limit", "offset"})
        total = self._files.listed(**wanted, limit=0).total
        parts = self._files.parts(_PART, **wanted)
        # What goes wrong at once can still be answered.
        parts = itertools.chain([next(parts)], parts)
        if (most := self._most(wanted)) is not None:
            parts = _first(most, parts)
        response = answer_parts([self.shown(row) for row in part] for part in parts)
        response.headers["X-Total-Count"] = str(total)
        return response

    def _most(self, wanted: dict[str, Any]) -> int | None:
        # Of a run, all of them.
        return None if "run_number" in wanted else self.spec.listing.most

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


def _first(count: int, parts: Iterable[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    """Return the first rows of several parts."""
    for part in parts:
        yield part[:count]
        count -= len(part)
        if count <= 0:
            return
