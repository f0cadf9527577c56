"""The views that all resources have: list, one row, and changes of it."""

from __future__ import annotations

__all__ = ["Listing", "RowViews", "Views", "integer_key", "not_found"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from flask import Blueprint, Response, request

from app.streaming.rest.answers import (
    BadFields,
    answer,
    asked,
    plain_error,
    read_body,
    validated,
    without_content,
)
from app.streaming.rest.bodies import Body, partial
from app.streaming.rest.queries import EveryQuery
from repos.streaming.monitor_rows import Page, Resource

Row = dict[str, Any]


@dataclass(frozen=True)
class Listing:
    """How a resource is listed.

    Attributes
    ----------
    query : `type`
        What can be asked for.
    find : callable
        Finds rows; called with the values of the query that were given.
    most : `int` or `None`
        Rows in a list for which no number is asked; None for all of them.
    enveloped : `bool`
        Whether a list of limited length says how long the whole one is, in
        the form of the field.
    """

    query: type[EveryQuery]
    find: Callable[..., Page]
    most: int | None = None
    enveloped: bool = False


@dataclass(frozen=True)
class RowViews:
    """What the views of one resource need.

    Attributes
    ----------
    path : `str`
        Such as ``runs``.
    store : `repos.streaming.monitor_rows.Resource`
    body : `type`
        What can be written.
    read_key : callable
        Reads a key from a URL; raises `ValueError` for what can be none.
    listing : `Listing`
    hidden : `tuple` [`str`, ...]
        Columns that are nobody's business.
    """

    path: str
    store: Resource
    body: type[Body]
    read_key: Callable[[str], Any]
    listing: Listing
    hidden: tuple[str, ...] = ()


class Views:
    """The views of one resource.

    Parameters
    ----------
    spec : `RowViews`
    zone : `zoneinfo.ZoneInfo`
        That of times without one.

    Attributes
    ----------
    spec : `RowViews`
    """

    def __init__(self, spec: RowViews, *, zone: ZoneInfo) -> None:
        self.spec = spec
        self._zone = zone

    def register(self, blueprint: Blueprint) -> None:
        """Add the views to a blueprint."""
        path = self.spec.path
        rules: list[tuple[str, str, Callable[..., Response]]] = [
            (f"/{path}/", "GET", self.list_rows),
            (f"/{path}/", "POST", self.create),
            (f"/{path}/<key>/", "GET", self.retrieve),
            (f"/{path}/<key>/", "PATCH", self.patch),
            (f"/{path}/<key>/", "PUT", self.put),
            (f"/{path}/<key>/", "DELETE", self.delete),
        ]
        for rule, method, view in rules:
            name = f"{path}-{method.lower()}-{rule.count('/')}"
            blueprint.add_url_rule(rule, name, view, methods=[method], strict_slashes=False)

    def list_rows(self) -> Response:
        """List rows."""
        listing = self.spec.listing
        query = self.asked()
        wanted = query.model_dump(exclude_none=True)
        names = {"start_time": "start", "end_time": "end", "message_type": "message_types"}
        given = {names.get(name, name): value for name, value in wanted.items()}
        if "message_types" in given:
            given["message_types"] = [given["message_types"]]
        if query.limit is None and listing.most is not None:
            given["limit"] = listing.most
        page = listing.find(**given)
        rows = [self.shown(row) for row in page.items]
        body: Any = rows
        if listing.enveloped and query.limit is not None:
            body = {
                "count": page.total,
                "next": _page_url(query.offset + query.limit, query.limit, page.total),
                "previous": _page_url(query.offset - query.limit, query.limit, page.total)
                if query.offset
                else None,
                "results": rows,
            }
        response = answer(body)
        response.headers["X-Total-Count"] = str(page.total)
        return response

    def asked(self) -> EveryQuery:
        """Read what a list is asked for.

        Raises
        ------
        app.streaming.rest.answers.BadFields
            Raised if it is wrong.
        """
        return asked(self.spec.listing.query, zone=self._zone)

    def create(self) -> Response:
        """Add a row."""
        values = self.new_row(read_body())
        return answer(self.shown(self.spec.store.add(values)), HTTPStatus.CREATED)

    def retrieve(self, key: str) -> Response:
        """Return a row."""
        row = None if (known := self._key(key)) is None else self.spec.store.get(known)
        return not_found() if row is None else answer(self.shown(row))

    def patch(self, key: str) -> Response:
        """Change some fields of a row."""
        return self._change(key, partial(self.spec.body))

    def put(self, key: str) -> Response:
        """Change the fields of a row that are named; the needed ones must be."""
        return self._change(key, self.spec.body)

    def delete(self, key: str) -> Response:
        """Remove a row."""
        known = self._key(key)
        if known is None or not self.spec.store.remove(known):
            return not_found()
        return without_content()

    def _change(self, key: str, model: type[Body]) -> Response:
        known = self._key(key)
        if known is None:
            return not_found()
        body = validated(model, read_body(), zone=self._zone)
        # As in the field, what is not named stays: a time of the start, say,
        # has a default for new rows only.
        values = body.model_dump(exclude_unset=True)
        # What names the row stays, and so does what nobody can write.
        values.pop(self.spec.store.key.name, None)
        if "updated_at" in self.spec.store.table.columns:
            values["updated_at"] = datetime.now(UTC)
        row = self.spec.store.change(known, values)
        return not_found() if row is None else answer(self.shown(row))

    def new_row(self, body: Any) -> Row:
        """Read a row.

        Raises
        ------
        app.streaming.rest.answers.BadFields
            Raised if a field is missing or wrong.
        """
        fields = validated(self.spec.body, body, zone=self._zone)
        return fields.model_dump() | self.spec.body.fixed()

    def new_rows(self, bodies: list[Any]) -> list[Row]:
        """Read rows.

        Raises
        ------
        app.streaming.rest.answers.BadFields
            Raised if a field of any is missing or wrong.
        """
        rows: list[Row] = []
        faults: list[Any] = []
        for body in bodies:
            try:
                rows.append(self.new_row(body))
            except BadFields as error:
                faults.append(error.faults)
            else:
                faults.append({})
        if any(faults):
            raise BadFields(faults)
        return rows

    def shown(self, row: Mapping[str, Any]) -> Row:
        """Return what is answered of a row."""
        return {name: value for name, value in row.items() if name not in self.spec.hidden}

    def _key(self, text: str) -> Any:
        try:
            key = self.spec.read_key(text)
        except ValueError:
            return None
        # No database has these.
        return None if isinstance(key, str) and ("\0" in key or not key.isprintable()) else key


def integer_key(text: str) -> int:
    """Read a key that is a number.

    Raises
    ------
    ValueError
        Raised if it is none that a table can have.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**63):
        raise ValueError("no key")
    return int(text)


def not_found() -> Response:
    """Answer that there is no such thing."""
    return plain_error(HTTPStatus.NOT_FOUND, "Not found.")


def _page_url(offset: int, limit: int, total: int) -> str | None:
    if offset >= total:
        return None
    others = {name: value for name, value in request.args.items() if name not in ("limit", "offset")}
    return f"{request.base_url}?{urlencode({**others, 'limit': limit, 'offset': max(0, offset)})}"
