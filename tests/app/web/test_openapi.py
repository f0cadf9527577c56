from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.web.openapi import openapi_document
from tests.app.web.conftest import RunningService


def test_every_status_of_the_contract_is_described() -> None:
    operation = openapi_document("1", has_token=True)["paths"]["/next-visit"]["post"]
    described = set(operation["responses"])
    assert {"200", "400", "401", "403", "409", "413", "422", "500", "503"} <= described
    assert "Retry-After" in operation["responses"]["503"]["headers"]


def test_token_is_described_only_if_there_is_one() -> None:
    document = openapi_document("1", has_token=False)
    assert "401" not in document["paths"]["/next-visit"]["post"]["responses"]
    assert "securitySchemes" not in document["components"]


def test_pages_of_the_streaming_workflow_are_described_where_they_are() -> None:
    assert "/streaming" not in openapi_document("1", has_token=False)["paths"]
    assert "/streaming" in openapi_document("1", has_token=False, has_streaming=True)["paths"]


@pytest.mark.slow
@pytest.mark.parametrize("token", [None, "s3cret"])
def test_answers_conform(
    start_service: Callable[..., RunningService], tmp_path: Path, token: str | None
) -> None:
    """Schemathesis finds no 5xx and no answer that is not described, whatever
    it sends to a service that has nothing to run.
    """
    service = start_service(nothing=1, **({"token": token} if token else {}))
    # That data of the right form are accepted cannot hold here: there is
    # nothing to run for any visit.
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{service.url}/openapi.json",
        "--exclude-checks=positive_data_acceptance",
        "--max-examples=25",
        "--seed=1",
        "--no-color",
        *(["--header", f"Authorization: Bearer {token}"] if token else []),
    ]
    ran = subprocess.run(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout[-5000:]
