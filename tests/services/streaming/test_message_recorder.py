"""Messages of the bus are kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import TemporarilyUnavailable
from models.streaming.bus import ReceivedMessage
from models.streaming.messages import RUN_TOPIC
from models.streaming.monitoring import BusHeartbeat, RecordedMessage
from services.streaming.message_recorder import BufferedRecorder, MessageRecorder


class _Sink:
    def __init__(self) -> None:
        self.messages: list[RecordedMessage] = []
        self.heartbeats: list[BusHeartbeat] = []
        self.batches = 0
        self.failures: list[Exception] = []
        self.poison = "poison"
        self.gate = threading.Event()
        self.gate.set()

    def record(self, messages: Sequence[RecordedMessage], heartbeats: Sequence[BusHeartbeat] = ()) -> None:
        assert self.gate.wait(60)
        if self.failures:
            raise self.failures.pop(0)
        if any(message.message_type == self.poison for message in messages):
            raise ValueError("poison")
        self.batches += 1
        self.messages += messages
        self.heartbeats += heartbeats


def message(body: Any, message_id: str | None = None) -> ReceivedMessage:
    return ReceivedMessage(RUN_TOPIC, body if isinstance(body, str) else json.dumps(body), message_id)


STF_GEN = {
    "msg_type": "stf_gen",
    "namespace": "n",
    "execution_id": "e-1",
    "run_id": "100010",
    "sender": "daq_simulator-agent-alice-1",
    "filename": "swf.100010.000001.stf",
}


@pytest.fixture
def sink() -> _Sink:
    return _Sink()


@pytest.fixture
def buffered(sink: _Sink) -> Iterator[BufferedRecorder]:
    recorder = BufferedRecorder(sink)
    recorder.start()
    yield recorder
    sink.gate.set()
    recorder.stop(5)


class TestMessages:
    def test_what_it_says_is_kept_in_its_place(self, sink: _Sink) -> None:
        MessageRecorder(sink).receive(message(STF_GEN, "ID:1"))
        (kept,) = sink.messages
        assert kept.message_content == STF_GEN
        assert (kept.message_type, kept.namespace, kept.execution_id) == ("stf_gen", "n", "e-1")
        assert (kept.run_id, kept.sender_agent) == ("100010", "daq_simulator-agent-alice-1")
        assert (kept.broker_id, kept.queue_name, kept.is_successful) == ("ID:1", RUN_TOPIC, True)
        assert kept.sent_at.tzinfo is not None

    def test_numbers_are_text(self, sink: _Sink) -> None:
        MessageRecorder(sink).receive(message({**STF_GEN, "run_id": 100010, "namespace": ["n"]}))
        assert (sink.messages[0].run_id, sink.messages[0].namespace) == ("100010", None)

    @pytest.mark.parametrize(
        "text", ["", "{", "[1]", '{"a": NaN}', '{"a": 1e999}', "[" * 100_000, "\0\ud800"]
    )
    def test_what_is_no_message_is_kept_as_such(self, sink: _Sink, text: str) -> None:
        MessageRecorder(sink).receive(message(text, "ID:1"))
        (kept,) = sink.messages
        assert not kept.is_successful and kept.error_message
        assert kept.message_content is None and kept.message_metadata is not None
        assert kept.message_metadata["text"][:1] == text[:1].replace("\0", "\ufffd")

    @given(st.text() | st.dictionaries(st.sampled_from([*STF_GEN, "agent_name", "status"]), st.text()))
    def test_whatever_comes_is_kept_in_a_form_for_every_database(self, body: Any) -> None:
        sink = _Sink()
        MessageRecorder(sink).receive(message(body))
        assert len(sink.messages) + len(sink.heartbeats) == 1
        for one in sink.messages:
            texts = one.model_dump(exclude={"message_content"})
            assert not any("\0" in str(value) for value in texts.values())
            json.dumps(texts, default=str, ensure_ascii=False).encode()

    def test_a_name_is_as_long_as_an_index_takes(self, sink: _Sink) -> None:
        text = "x" * 10_000
        MessageRecorder(sink).receive(message({**STF_GEN, "execution_id": text, "run_id": "9" * 5000}))
        MessageRecorder(sink).receive(message({"agent_name": text, "agent_type": text, "status": text}))
        (kept,), (beat,) = sink.messages, sink.heartbeats
        assert (len(kept.execution_id or ""), len(kept.run_id or "")) == (255, 255)
        assert kept.message_content is not None and kept.message_content["execution_id"] == text
        assert {len(beat.agent_name), len(beat.agent_type), len(beat.status)} == {255}


class TestHeartbeats:
    def test_a_name_and_a_status_are_a_sign_of_life(self, sink: _Sink) -> None:
        MessageRecorder(sink).receive(message({"agent_name": "a", "status": "OK", "agent_type": "DATA"}))
        (beat,) = sink.heartbeats
        assert (beat.agent_name, beat.agent_type, beat.status) == ("a", "DATA", "OK")
        assert sink.messages == []

    @pytest.mark.parametrize(
        "body",
        [
            {"agent_name": "a", "status": "OK", "msg_type": "agent_status"},
            {"agent_name": "a"},
            {"status": "OK", "agent_name": None},
            {"agent_name": ["a"], "status": "OK"},
        ],
    )
    def test_anything_else_is_a_message(self, sink: _Sink, body: dict[str, Any]) -> None:
        MessageRecorder(sink).receive(message(body))
        assert (len(sink.messages), sink.heartbeats) == (1, [])


class TestOneByOne:
    def test_while_the_database_is_away_the_bus_keeps_it(self, sink: _Sink) -> None:
        sink.failures = [TemporarilyUnavailable("away")]
        recorder = MessageRecorder(sink)
        with pytest.raises(TemporarilyUnavailable):
            recorder.receive(message(STF_GEN))
        recorder.receive(message(STF_GEN))
        assert len(sink.messages) == 1

    def test_one_that_cannot_be_kept_holds_up_no_others(
        self, sink: _Sink, caplog: pytest.LogCaptureFixture
    ) -> None:
        sink.failures = [ValueError("odd")]
        recorder = MessageRecorder(sink)
        recorder.receive(message(STF_GEN))
        recorder.receive(message(STF_GEN))
        assert len(sink.messages) == 1 and "is not recorded" in caplog.text


class TestBuffered:
    def fill(self, recorder: BufferedRecorder, kinds: Sequence[str]) -> None:
        for kind in kinds:
            recorder.receive(message({"msg_type": kind}))

    def test_many_are_kept_at_once_in_order(self, sink: _Sink, buffered: BufferedRecorder) -> None:
        kinds = [str(number) for number in range(3000)]
        self.fill(buffered, kinds)
        assert buffered.flush(60)
        assert [kept.message_type for kept in sink.messages] == kinds
        assert sink.batches < 30

    def test_while_the_database_is_away_they_wait(
        self, sink: _Sink, buffered: BufferedRecorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.streaming.message_recorder._PAUSE", 0.01)
        sink.failures = [TemporarilyUnavailable("away")] * 3
        self.fill(buffered, ["a", "b"])
        assert buffered.flush(60)
        assert [kept.message_type for kept in sink.messages] == ["a", "b"] and buffered.trouble is None

    def test_one_that_cannot_be_kept_takes_no_others_with_it(
        self, sink: _Sink, buffered: BufferedRecorder
    ) -> None:
        sink.poison = "b"
        self.fill(buffered, ["a", "b", "c"])
        assert buffered.flush(60)
        assert [kept.message_type for kept in sink.messages] == ["a", "c"]

    def test_only_so_many_wait(
        self, sink: _Sink, buffered: BufferedRecorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.streaming.message_recorder._WAITING", 10)
        sink.gate.clear()
        thread = threading.Thread(target=self.fill, args=(buffered, ["x"] * 50))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        sink.gate.set()
        thread.join(60)
        assert buffered.flush(60) and len(sink.messages) == 50

    def test_at_the_end_what_came_is_kept(self, sink: _Sink, buffered: BufferedRecorder) -> None:
        self.fill(buffered, ["a"])
        buffered.stop(60)
        assert len(sink.messages) == 1
        with pytest.raises(TemporarilyUnavailable):
            self.fill(buffered, ["b"])

    def test_the_end_does_not_wait_for_a_database_that_is_away(
        self, sink: _Sink, buffered: BufferedRecorder, caplog: pytest.LogCaptureFixture
    ) -> None:
        sink.failures = [TemporarilyUnavailable("away")] * 1000
        self.fill(buffered, ["a"])
        buffered.stop(5)
        assert sink.messages == [] and "are not recorded" in caplog.text
