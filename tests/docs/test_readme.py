"""The README's way to a running service, followed word for word."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.web.problems import Problem
from config.settings import ServiceSettings
from simulator.servers.process import free_port
from tests.docs.pages import ROOT, blocks, section

README = ROOT / "README.md"


def _shell_lines(text: str) -> list[str]:
    """Return the commands of a console block; here-documents as they are."""
    return [line.removeprefix("$ ") for line in text.splitlines()]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.mark.slow
def test_run_the_service(tmp_path: Path, port: int) -> None:
    if shutil.which("curl") is None:
        assert os.environ.get("CI") != "true", "curl is not here: apt-get install curl"
        pytest.skip("curl is not here")
    text = section(README, "Run the service")
    of_section = [b for b in blocks(README) if b.text in text]
    (settings,) = (b for b in of_section if b.language == "yaml")
    (tmp_path / "settings.yaml").write_text(settings.text.replace("8080", str(port)))
    lines = [line for b in of_section if b.language == "console" for line in _shell_lines(b.text)]
    script = "\n".join(lines).replace("8080", str(port))
    # The simulator's own default is the port of the README.
    script = script.replace(
        "simulate --seed 7 --image-dir", f"simulate --url http://127.0.0.1:{port} --seed 7 --image-dir"
    )
    assert "prompt-processing serve 2> service.log &" in script
    binaries = Path(sys.executable).parent
    inherited = {n: v for n, v in os.environ.items() if n not in ServiceSettings.variables()}
    # To a file, because the service would keep a pipe open.
    with open(tmp_path / "output", "w") as file:
        process = subprocess.Popen(
            ["bash", "-ec", f"{script}\nkill %1\nwait %1"],
            cwd=tmp_path,
            env={**inherited, "PATH": f"{binaries}:{os.environ['PATH']}", "PP_METRICS_PORT": "0"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(timeout=240)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    output = (tmp_path / "output").read_text()
    assert process.returncode == 0, output
    assert "All is well." in output
    assert '{"status":"ok"}' in output
    assert '"status":"ready"' in output
    assert "2 visit-detectors (2 processed)" in output
    problem = json.JSONDecoder().raw_decode(output[output.rindex('{"type"') :])[0]
    (shown,) = (json.loads(b.text) for b in of_section if b.language == "json")
    Problem.model_validate(problem)
    # How old the visit is by now differs.
    age = re.compile(r"published \d+ s ago")
    assert age.search(problem["detail"])
    for body in (problem, shown):
        body["detail"] = age.sub("published some s ago", body["detail"])
    assert problem == shown
