"""The walls of the house: who may import what, who may read the environment."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: From top to bottom: imports go only downwards.
FLOORS = ["agents", "app", "init_job", "simulator", "services", "pipelines", "repos", "models", "config"]
#: Beyond the order of the floors: what the simulator may use of the project.
SIMULATOR_USES = {"simulator", "models", "config"}
#: Packages of others, and where alone they may be imported.
RESERVED = {
    "flask": {"app"},
    "gunicorn": {"app"},
    "werkzeug": {"app"},
    "lsst": {"repos", "pipelines", "init_job", "simulator.io.replay"},
    "sqlalchemy": {"repos", "init_job"},
    "boto3": {"repos", "simulator.io"},
    "botocore": {"repos", "simulator.io"},
    "kafka": {"repos", "simulator.io"},
    "redis": {"repos", "simulator.io"},
    "stomp": {"repos", "simulator.io"},
    "rucio": {"repos"},
    "pandaclient": {"repos"},
    "simpy": {"simulator"},
    "mcp": {"app"},
    "supervisor": {"app"},
    "uvicorn": {"app"},
    "starlette": {"app"},
    "httpx": {"repos", "simulator.io"},
    "h11": {"repos", "simulator.io"},
    "requests": {"repos", "simulator.io"},
    "urllib3": {"repos", "simulator.io"},
    "cloudevents": {"app", "repos", "simulator.io"},
}
#: The factory that wires a slot hands the middleware's types on.
EXEMPT = {("app.slot_factory", "lsst")}


def modules() -> list[tuple[str, Path]]:
    """Return name and file of every module of the product."""
    found = []
    for package in FLOORS:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found.append((name.removesuffix(".__init__"), path))
    return found


def imports(path: Path) -> Iterator[str]:
    """Yield the absolute name of everything that a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def breaches(name: str, path: Path) -> Iterator[str]:
    """Yield what a module imports and may not."""
    own = name.partition(".")[0]
    for imported in imports(path):
        top = imported.partition(".")[0]
        if top in FLOORS:
            if own == "simulator" and top not in SIMULATOR_USES:
                yield f"{name} imports {imported}: the simulator shares no code with the processing side"
            elif own == "config" and imported.startswith("models") and imported.startswith("models.errors"):
                continue
            elif own == "services" and top in ("repos", "pipelines"):
                yield f"{name} imports {imported}: services know the repos by Protocols only"
            elif FLOORS.index(top) < FLOORS.index(own):
                yield f"{name} imports {imported}, which is above it"
        elif top in RESERVED and (name, top) not in EXEMPT:
            allowed = RESERVED[top]
            if not any(name == place or name.startswith(f"{place}.") for place in allowed):
                yield f"{name} imports {imported}, which belongs to {', '.join(sorted(allowed))} alone"


@pytest.mark.parametrize(
    ("name", "path"), modules(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_imports_go_downwards(name: str, path: Path) -> None:
    assert list(breaches(name, path)) == []


def environment_reads(path: Path) -> Iterator[int]:
    """Yield the lines in which a module reaches for the environment."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            if node.attr in ("environ", "environb", "getenv", "getenvb", "putenv"):
                yield node.lineno
        elif (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {alias.name for alias in node.names} & {"environ", "environb", "getenv"}
        ):
            yield node.lineno


@pytest.mark.parametrize(
    ("name", "path"), modules(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_only_config_reads_the_environment(name: str, path: Path) -> None:
    if not name.startswith("config"):
        assert list(environment_reads(path)) == []


def test_there_is_something_to_check() -> None:
    names = {name for name, _ in modules()}
    assert {"app.cli", "repos.central", "services.conductor", "models.visits", "config.settings"} <= names


def test_a_breach_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import os\nimport flask\nfrom repos.central import CentralRepo\nos.environ['A']\n")
    assert len(list(breaches("services.wrong", wrong))) == 3
    assert list(breaches("simulator.wrong", wrong)) != []
    assert list(environment_reads(wrong)) == [4]
    low = tmp_path / "low.py"
    low.write_text("from app.cli import main\n")
    assert "models.low imports app.cli, which is above it" in list(breaches("models.low", low))


def test_the_yardstick_is_unchanged() -> None:
    import hashlib

    digest = hashlib.sha256()
    for path in sorted((ROOT / "benchmarks" / "sketch").iterdir()):
        if path.suffix in (".py", ".yaml"):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    assert digest.hexdigest() == "2aabc61afb9e31e1d4dfe1e57140e4a31577c7d999e978107d8eb7fe2fd9e563"
