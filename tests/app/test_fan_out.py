"""The fan-out as a process, between a real Kafka and a service."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import yaml

from models.kafka_access import KafkaAccess
from models.stream_entries import from_stream_entry
from models.visits import SummitVisit
from simulator.io.next_visit_topic import NextVisitTopic
from simulator.io.topic_writer import TopicWriter
from simulator.servers.kafka import KafkaServer
from simulator.servers.process import free_port
from simulator.servers.redis import RedisServer
from simulator.servers.schema_registry import SchemaRegistryServer
from tests.repos.answering_server import AnsweringServer, answer, answering_server
from tests.servers import unique_name
from tests.services.fan_out_world import announcement

pytestmark = pytest.mark.servers

#: Seconds that anything may take here.
_PATIENCE = 60.0


class World:
    """A topic, a service's double, and fan-outs between them."""

    def __init__(self, kafka: KafkaServer, registry: SchemaRegistryServer, scratch: Path) -> None:
        self._kafka = kafka
        self._registry = registry
        self._file = scratch / "instruments.yaml"
        self.log = scratch / "log"
        self.topic = unique_name()
        kafka.create_topic(self.topic)
        self._writer = TopicWriter(address=KafkaAccess(kafka.bootstrap), topic=self.topic)
        self.metrics_port = free_port()
        self.stream = unique_name()

    def announce(self, group: str, *, avro: bool = True, **changes: Any) -> None:
        now = time.time()
        fields = announcement(groupId=group, private_efdStamp=now, private_sndStamp=now + 37, **changes)
        if avro:
            topic = NextVisitTopic(writer=self._writer, schema_registry=self._registry.url)
            topic(SummitVisit.parse(fields))
        else:
            self._writer.send(json.dumps(fields).encode())

    def append(self, value: bytes) -> None:
        self._writer.send(value)

    @asynccontextmanager
    async def fan_out(
        self, server: AnsweringServer, **variables: str
    ) -> AsyncIterator[subprocess.Popen[bytes]]:
        routes = {
            "knative-urls": {"LSSTCam": f"http://127.0.0.1:{server.port}"},
            "redis-streams": {"LSSTCam": self.stream},
            "detectors": {"LSSTCam": {0: True, 4: True, 94: False}},
        }
        self._file.write_text(yaml.safe_dump(routes))
        environment = {
            "SUPPORTED_INSTRUMENTS": "LSSTCam",
            "INSTRUMENT_CONFIG_FILE": str(self._file),
            "KAFKA_CLUSTER": self._kafka.bootstrap,
            "KAFKA_SCHEMA_REGISTRY_URL": self._registry.url,
            "NEXT_VISIT_TOPIC": self.topic,
            "CONSUMER_GROUP": self.topic,
            "OFFSET": "earliest",
            "RETRY_KNATIVE_REQUESTS": "1",
            "PP_METRICS_PORT": str(self.metrics_port),
            "DEBUG_LOGS": "1",
            **variables,
        }
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: ASYNC220 (the loop has nothing else to do yet)
                [sys.executable, "-m", "app.cli", "fan-out"], env={**os.environ, **environment}, stderr=log
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    def ask(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.metrics_port}{path}", trust_env=False, timeout=60)

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def world(kafka: KafkaServer, schema_registry: SchemaRegistryServer, tmp_path: Path) -> World:
    return World(kafka, schema_registry, tmp_path)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        await asyncio.sleep(0.05)


async def ended(process: subprocess.Popen[bytes]) -> int:
    await until(lambda: process.poll() is not None)
    return process.returncode


def visits(server: AnsweringServer) -> list[tuple[str, int]]:
    """Group and detector of what arrived, in a sorted list."""
    found = [json.loads(json.loads(body)["data"]) for _, _, body in server.requests]
    return sorted((visit["groupId"], visit["detector"]) for visit in found)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_from_the_topic_to_the_service(world: World) -> None:
    async def scenario() -> None:
        async with answering_server(answer()) as server, world.fan_out(server) as process:
            world.announce("avro")
            world.append(b"\x00nonsense")
            world.append(b"{")
            world.announce("empty", instrument="")
            world.announce("json", avro=False)
            await until(lambda: len(server.requests) == 4)
            assert visits(server) == [("avro", 0), ("avro", 4), ("json", 0), ("json", 4)]
            event = json.loads(server.requests[0][2])
            assert event["source"] == world.topic

            def metrics() -> str:
                return world.ask("/metrics").text

            await until(lambda: "lsstcam_prompt_processing_in_process_requests 0.0" in metrics())
            assert "lsstcam_next_visit_messages 2.0" in metrics()
            assert 'prompt_processing_skipped_next_visits_total{reason="malformed"} 1.0' in metrics()
            assert 'prompt_processing_skipped_next_visits_total{reason="unknown-schema"} 1.0' in metrics()
            assert 'prompt_processing_skipped_next_visits_total{reason="no-instrument"} 1.0' in metrics()
            assert "request_processing_seconds_count 4.0" in metrics()
            health = await asyncio.to_thread(world.ask, "/health")
            assert (health.status_code, health.json()["status"]) == (200, "healthy")
            process.terminate()
            assert await ended(process) == 0

    run(scenario())
    assert all(
        {"asctime", "level", "message", "name", "lineno", "thread"} <= set(line) for line in world.logged()
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_told_to_stop_it_reads_no_more_and_waits_for_answers(world: World, number: signal.Signals) -> None:
    async def scenario() -> None:
        async with answering_server(answer()) as server:
            server.release.clear()
            async with world.fan_out(server) as process:
                world.announce("first")
                await until(lambda: len(server.requests) == 2)
                process.send_signal(number)
                await until(lambda: "no nextVisit is read" in world.log.read_text())
                world.announce("second")
                await asyncio.sleep(0.5)
                assert process.poll() is None
                server.release.set()
                assert await ended(process) == 0
            assert visits(server) == [("first", 0), ("first", 4)]
            # What came meanwhile is for the next one, and only that.
            async with world.fan_out(server):
                await until(lambda: len(server.requests) == 4)
                assert visits(server)[2:] == [("second", 0), ("second", 4)]

    run(scenario())


def test_grace_has_an_end(world: World) -> None:
    async def scenario() -> None:
        async with answering_server(answer()) as server:
            server.release.clear()
            async with world.fan_out(server, PP_FAN_OUT_GRACE_PERIOD="0.2") as process:
                world.announce("first")
                await until(lambda: len(server.requests) == 2)
                process.terminate()
                assert await ended(process) == 0
        assert "2 visits are not answered after 0.2 s" in world.log.read_text()

    run(scenario())


def test_killed_before_a_visit_is_sent_it_is_sent_by_the_next(world: World) -> None:
    async def scenario() -> None:
        async with answering_server(answer()) as server:
            away = AnsweringServer([], port=free_port())
            async with world.fan_out(away) as process:
                world.announce("first")
                await until(lambda: "was not accepted" in world.log.read_text())
                process.kill()
                await ended(process)
            async with world.fan_out(server):
                await until(lambda: len(server.requests) == 2)
            assert visits(server) == [("first", 0), ("first", 4)]

    run(scenario())


def test_a_service_that_comes_back_gets_the_visit(world: World) -> None:
    async def scenario() -> None:
        async with answering_server(answer()) as server:
            port = server.port
        async with world.fan_out(AnsweringServer([], port=port)):
            world.announce("first")
            await until(lambda: "was not accepted" in world.log.read_text())
            double = AnsweringServer([answer()])
            double.release.set()
            async with await asyncio.start_server(double.serve, "127.0.0.1", port):
                await until(lambda: len(double.requests) == 2)

    run(scenario())


def test_a_503_is_sent_again_once_after_the_time_it_names(world: World) -> None:
    async def scenario() -> None:
        async with answering_server(answer("503 x", Retry_After="1")) as server, world.fan_out(server):
            world.announce("first")
            await until(lambda: len(server.requests) == 4)
            await asyncio.sleep(1.5)
            assert visits(server) == [("first", 0), ("first", 0), ("first", 4), ("first", 4)]

    run(scenario())


def test_the_registry_may_be_away(world: World, schema_registry: SchemaRegistryServer) -> None:
    async def scenario() -> None:
        async with answering_server(answer()) as server:
            world.announce("first")
            schema_registry.stop()
            try:
                async with world.fan_out(server):
                    await until(lambda: "does not answer" in world.log.read_text())
                    # What needs no registry does not wait behind it.
                    world.announce("second", avro=False)
                    await until(lambda: len(server.requests) == 2)
                    schema_registry.start()
                    await until(lambda: len(server.requests) == 4)
            finally:
                schema_registry.start()
            assert {group for group, _ in visits(server)} == {"first", "second"}

    run(scenario())


def test_into_a_stream(world: World, redis_server: RedisServer) -> None:
    host, _, port = redis_server.host_port.partition(":")
    client = redis.Redis(host=host, port=int(port))

    async def scenario() -> None:
        variables = {"PLATFORM": "keda", "REDIS_HOST": redis_server.host_port}
        async with world.fan_out(AnsweringServer([], port=1), **variables) as process:
            world.announce("first")
            await until(lambda: client.xlen(world.stream) == 2)
            process.terminate()
            assert await ended(process) == 0

    run(scenario())
    entries: Any = client.xrange(world.stream)
    assert [from_stream_entry(fields).detector for _, fields in entries] == [0, 4]


def test_what_is_wrong_with_the_settings_is_said_in_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "fan-out"],
        env={**os.environ, "INSTRUMENT_CONFIG_FILE": str(tmp_path / "none.yaml")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "SUPPORTED_INSTRUMENTS: is not set" in done.stderr
    assert "Traceback" not in done.stderr
