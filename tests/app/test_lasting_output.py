"""Standard output that is closed, or full, at its other end."""

from __future__ import annotations

import io
import logging
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console

from app.lasting_output import LastingOutput


def test_what_is_written_arrives() -> None:
    stream = io.StringIO()
    Console(file=LastingOutput(stream)).print("a [b]c[/b]")  # type: ignore[arg-type]
    assert stream.getvalue() == "a c\n"


def test_who_reads_no_more_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = os.pipe()
    with open(writer, "w") as stream:
        output = LastingOutput(stream)
        console = Console(file=output)  # type: ignore[arg-type]
        console.print("first")
        assert os.read(reader, 100) == b"first\n"
        os.close(reader)
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                console.print("more")
                output.flush()
        assert len(caplog.records) == 1
        assert "Broken pipe" in caplog.text
        # What is left goes nowhere, and is no error at the end.
        stream.flush()


def test_a_full_disk_stops_nothing() -> None:
    with Path("/dev/full").open("w") as stream:
        output = LastingOutput(stream)
        assert output.write("x" * 100_000) == 100_000
        output.flush()


def test_a_stream_that_is_closed_stops_nothing() -> None:
    stream = io.StringIO()
    stream.close()
    output = LastingOutput(stream)
    output.write("x")
    output.flush()
    assert output.closed


def test_it_is_otherwise_like_its_stream() -> None:
    assert LastingOutput(sys.__stdout__).fileno() == 1  # type: ignore[arg-type]
