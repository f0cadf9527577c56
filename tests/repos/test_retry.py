"""Second tries after connection trouble."""

from __future__ import annotations

import botocore.exceptions
import pytest
import sqlalchemy.exc

from repos.retry import retry_connections

TROUBLE = [
    sqlalchemy.exc.OperationalError("select", {}, Exception("gone")),
    sqlalchemy.exc.InterfaceError("select", {}, Exception("gone")),
    sqlalchemy.exc.TimeoutError("pool"),
    botocore.exceptions.ClientError({"Error": {"Code": "503"}}, "GetObject"),
    botocore.exceptions.EndpointConnectionError(endpoint_url="http://s3"),
    botocore.exceptions.ReadTimeoutError(endpoint_url="http://s3"),
]


class Action:
    def __init__(self, *results: object) -> None:
        self.results = list(results)
        self.calls = 0

    def __call__(self) -> object:
        self.calls += 1
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


@pytest.mark.parametrize("error", TROUBLE, ids=lambda e: type(e).__name__)
def test_the_second_try_may_succeed(error: Exception) -> None:
    action = Action(error, "done")
    assert retry_connections(action, delay=0.001) == "done"
    assert action.calls == 2


@pytest.mark.parametrize("error", TROUBLE, ids=lambda e: type(e).__name__)
def test_there_is_no_third(error: Exception) -> None:
    action = Action(error, error, "done")
    with pytest.raises(type(error)):
        retry_connections(action, delay=0.001)
    assert action.calls == 2


def test_other_errors_are_not_tried_again() -> None:
    action = Action(ValueError("wrong"), "done")
    with pytest.raises(ValueError, match="wrong"):
        retry_connections(action, delay=0.001)
    assert action.calls == 1


def test_success_is_not_repeated() -> None:
    action = Action("done", "again")
    assert retry_connections(action, delay=0.001) == "done"
    assert action.calls == 1


def test_the_pause_is_within_a_quarter_of_the_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    for _ in range(30):
        retry_connections(Action(TROUBLE[0], "done"), delay=8.0)
    assert len(pauses) == 30
    assert all(6.0 <= pause <= 10.0 for pause in pauses)
    assert max(pauses) - min(pauses) > 0.1
