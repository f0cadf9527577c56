"""A version 2 that exists in these tests alone: how a change of messages goes.

In it, a visit's ``nimages`` is called ``snaps``, and a writer message says
which deployment it comes from.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

from models.errors import InvalidMessage
from models.events import PromptOutput
from models.stream_entries import from_stream_entry
from models.versions import VersionedMessage
from models.visits import FannedOutVisit
from tests.golden.test_golden import golden


class FannedOutVisitTwo(FannedOutVisit):
    schema_version: ClassVar[int] = 2

    nimages: int = 0
    snaps: int

    @classmethod
    def from_previous(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {**{k: v for k, v in data.items() if k != "nimages"}, "snaps": data.get("nimages")}

    def to_message(self) -> dict[str, Any]:
        return {k: v for k, v in super().to_message().items() if k != "nimages"}


class PromptOutputTwo(PromptOutput):
    schema_version: ClassVar[int] = 2

    deployment: str

    @classmethod
    def from_previous(cls, data: dict[str, Any]) -> dict[str, Any]:
        # Found in the name of the run.
        (ref,) = data["datasets"][0]["refs"].values()
        return {**data, "deployment": ref["run"].rpartition("/")[2]}


class FannedOutVisitThree(FannedOutVisitTwo):
    schema_version: ClassVar[int] = 3

    @classmethod
    def from_previous(cls, data: dict[str, Any]) -> dict[str, Any]:
        return data


ONE: dict[type[VersionedMessage], Any] = {
    FannedOutVisit: golden("fanned_out_visit"),
    PromptOutput: golden("pp_output"),
}
PAIRS = [(FannedOutVisit, FannedOutVisitTwo), (PromptOutput, PromptOutputTwo)]
both = pytest.mark.parametrize(("first", "second"), PAIRS)


def message_of(message: Any) -> Any:
    return json.loads(json.dumps(message.to_message()))


@both
def test_version_1_is_never_named_and_later_ones_always(first: Any, second: Any) -> None:
    assert "schemaVersion" not in message_of(first.parse(ONE[first]))
    assert message_of(second.parse(ONE[first]))["schemaVersion"] == 2


@both
def test_a_reader_takes_its_version_and_the_one_before(first: Any, second: Any) -> None:
    from_one = second.parse(ONE[first])
    named = second.parse({**ONE[first], "schemaVersion": 1})
    from_two = second.parse(message_of(from_one))
    assert from_one == named == from_two


@both
def test_a_reader_of_version_1_refuses_version_2_by_name(first: Any, second: Any) -> None:
    two = message_of(second.parse(ONE[first]))
    name = first.message_name
    with pytest.raises(InvalidMessage, match=rf"schemaVersion 2 of the {name} .*; this program reads 1$"):
        first.parse(two)


def test_a_reader_forgets_what_is_older() -> None:
    one = ONE[FannedOutVisit]
    with pytest.raises(InvalidMessage, match=r"schemaVersion 1 .*reads 2 and 3"):
        FannedOutVisitThree.parse(one)
    assert FannedOutVisitThree.parse(message_of(FannedOutVisitTwo.parse(one))).snaps == 1


@both
@pytest.mark.parametrize("version", [0, 3, -1, "2", 2.0, True, None])
def test_other_versions_are_refused_by_name(first: Any, second: Any, version: Any) -> None:
    with pytest.raises(InvalidMessage, match="schemaVersion"):
        second.parse({**ONE[first], "schemaVersion": version})


def test_what_the_old_version_lacks_is_named() -> None:
    one = {k: v for k, v in ONE[FannedOutVisit].items() if k != "nimages"}
    with pytest.raises(InvalidMessage, match="snaps"):
        FannedOutVisitTwo.parse(one)


def test_in_streams_too() -> None:
    assert from_stream_entry({**golden("redis_entry"), "schemaVersion": "1"}).detector == 94
    with pytest.raises(InvalidMessage, match="schemaVersion 2 of the visit"):
        from_stream_entry({**golden("redis_entry"), "schemaVersion": "2"})
