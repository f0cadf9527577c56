"""The documents tell the truth: whatever they name exists, and examples work."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from app.cli import _COMMANDS, build
from app.demo.summary import DemoFigures
from app.web.events import read_visit
from app.web.problems import STATUSES, Problem
from app.web.schemas import VisitAnswer
from config.environment import OTHER_VARIABLES
from config.instrument_routes import Platform, load_instrument_routes
from config.instruments import load_instrument
from config.loading import SETTINGS_FILE
from config.pipelines_config import parse_pipelines_config
from config.server_settings import SERVERS_DIRECTORY
from config.settings import PROJECT, load_service_settings
from models import errors
from models.errors import PromptProcessingError
from models.events import BatchFile, BatchIngested, PromptOutput
from models.notifications import read_notification
from models.raws import parse_raw_key
from models.visits import FannedOutVisit
from tests.docs import settings_table
from tests.docs.pages import PAGES, ROOT, Block, anchors, blocks, inline_code, links, prose, section

#: Variables that are not settings but are ours, the tools' or the tests'.
_OTHER_NAMES = {SETTINGS_FILE, SERVERS_DIRECTORY, "PROMPT_PROCESSING_DIR", "DATAID_TYPE_RUN"}
#: Where paths in the documents begin.
_DIRECTORIES = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"images"}
#: Top-level packages of the product.
_PACKAGES = ("app", "config", "init_job", "models", "pipelines", "repos", "services", "simulator")
#: Paths that a run makes.
_MADE = re.compile(r"demo-out/|\.venv|alerts$")

_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def _blocks(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


def _some(found: list[Block]) -> Any:
    return pytest.mark.parametrize("block", found, ids=str)


def _commands(text: str) -> Iterator[list[str]]:
    """Yield the words after ``prompt-processing`` wherever it is run."""
    for line in text.replace("\\\n", " ").splitlines():
        for call in re.findall(r"(?:^|[\s/`$])prompt-processing((?: +[^\s`|;&]+)*)", line):
            yield shlex.split(call, comments=True)


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """Options of each command that this version has, those in groups as
    ``group command``.
    """

    def of(group: Any, prefix: str = "") -> Iterator[tuple[str, set[str]]]:
        for name, command in group.commands.items():
            own = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
            yield f"{prefix}{name}", {"--help", *own}
            yield from of(command, f"{prefix}{name} ") if hasattr(command, "commands") else ()

    return dict(of(typer.main.get_command(build(_COMMANDS))))


@_PAGE
def test_commands_and_options_exist(page: Path, options: dict[str, set[str]]) -> None:
    calls = [
        *(words for block in blocks(page) if block.language == "console" for words in _commands(block.text)),
        *(words for code in inline_code(page) for words in _commands(code)),
    ]
    for words in calls:
        if not words:
            continue
        command = next((c for c in (" ".join(words[:2]), words[0]) if c in options), None)
        assert command is not None, f"{page.name} runs `prompt-processing {' '.join(words)}`"
        for word in words[1:]:
            if word.startswith("-"):
                assert word.partition("=")[0] in options[command], f"{page.name}: {words}"


@_PAGE
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join([*inline_code(page), *(b.text for b in blocks(page) if b.language == "console")])
    for target in re.findall(r"(?:^|\$ )make (?:[A-Z]+=\S+ )*([a-z]+)", text, re.MULTILINE):
        assert target in targets, f"{page.name}: make {target}"


@_PAGE
def test_settings_exist(page: Path) -> None:
    ours = (variable for _, cls, _ in settings_table.TABLES for variable in cls.variables())
    known = {*ours, *OTHER_VARIABLES, *_OTHER_NAMES}
    for code in inline_code(page):
        for name in re.findall(r"(?<![\w.<])[A-Z][A-Z0-9]*(?:_[A-Z][A-Z0-9]*)+(?![\w>(*])", code):
            assert name in known, f"{page.name} names {name}"


@_PAGE
def test_paths_exist(page: Path) -> None:
    for code in inline_code(page):
        path = code.partition("#")[0]
        top = path.partition("/")[0]
        if "/" not in path or top not in _DIRECTORIES or _MADE.match(path) or re.search(r"[\s<>{}]", path):
            continue
        assert list(ROOT.glob(path.rstrip("/"))), f"{page.name} names {code}"


@_PAGE
def test_modules_exist(page: Path) -> None:
    for code in inline_code(page):
        if not re.fullmatch(rf"(?:{'|'.join(_PACKAGES)})(?:\.\w+)+", code):
            continue
        parts = code.split(".")
        files = {n: ROOT.joinpath(*parts[:n]).with_suffix(".py") for n in range(2, len(parts) + 1)}
        depth = max((n for n, file in files.items() if file.exists()), default=0)
        assert depth, f"{page.name} names {code}"
        source = files[depth].read_text()
        for name in parts[depth:]:
            assert re.search(rf"\b{name}\b", source), f"{page.name} names {code}"


@_PAGE
def test_links_resolve(page: Path) -> None:
    for target in links(page):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(there), (
                f"{page.name} links to {target}; there are {sorted(anchors(there))}"
            )


@_PAGE
def test_reads_well(page: Path) -> None:
    text = page.read_text()
    # Tables of settings are for looking something up.
    assert page.name == "settings.md" or text.count("\n") <= 260, f"{page.name} is too long to be read"
    assert "TODO" not in text and "@@" not in text
    assert not re.search(r"[\U0001F300-\U0001FAFF\u2600-\u27BF]", text)
    # Of one machine, not of every reader's.
    assert not re.search(r"/(?:home|root|work)/", text)


def test_pictures_are_small() -> None:
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert {p.name for p in pictures} >= {"demo.png", "status.png"}
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG"), picture
        assert picture.stat().st_size < 300_000, picture


def _cloud_event(data: Any) -> None:
    read_visit({"content-type": "application/cloudevents+json"}, json.dumps(data).encode())


def _all_fields(model: type[Any]) -> Callable[[Any], None]:
    def parse(data: Any) -> None:
        parsed = model.model_validate(data)
        # An example must not show what the service would never say.
        assert set(data) <= set(parsed.model_dump())

    return parse


def _fanned_out(data: Any) -> None:
    assert FannedOutVisit.parse(data).to_message() == data


def _writer_message(data: Any) -> None:
    assert PromptOutput.parse(data).to_message() == data


def _exactly(model: type[Any]) -> Callable[[Any], None]:
    def parse(data: Any) -> None:
        assert model.model_validate(data).model_dump(mode="json") == data

    return parse


def _demo_figures(data: Any) -> None:
    assert set(DemoFigures.model_validate(data).model_dump()) == set(data)


def _bucket_notification(data: Any) -> None:
    [created] = read_notification(json.dumps(data).encode())
    assert created.time is not None and all(created.version)
    parse_raw_key(created.decoded_key or created.key)


def _log_line(data: Any) -> None:
    always = {"asctime", "level", "message", "name", "funcName", "lineno", "pathname", "process", "thread"}
    assert set(data) >= always


_MODELS: dict[str, Callable[[Any], None]] = {
    "FannedOutVisit": _fanned_out,
    "CloudEvent": _cloud_event,
    "VisitAnswer": _all_fields(VisitAnswer),
    "Problem": _all_fields(Problem),
    "PromptOutput": _writer_message,
    "BatchIngested": _exactly(BatchIngested),
    "BatchFile": _exactly(BatchFile),
    "DemoFigures": _demo_figures,
    "BucketNotification": _bucket_notification,
    "log": _log_line,
}


@_some([b for b in _blocks("json") if b.page.name != "adding-a-camera.md"])
def test_json_parses_with_its_model(block: Block) -> None:
    assert block.about in _MODELS, f"{block} must say what it is an example of"
    _MODELS[block.about](json.loads(block.text))


@_some(_blocks("text"))
def test_raw_keys_parse(block: Block) -> None:
    if block.about == "raw-key":
        for line in block.text.splitlines():
            parse_raw_key(line)


@_some([b for b in _blocks("yaml") if b.page.name != "adding-a-camera.md"])
def test_yaml_loads(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(block.text)
    match block.about:
        case "settings":
            load_service_settings({}, path)
        case "pipelines-config":
            config = parse_pipelines_config(block.text, env={"PROMPT_PROCESSING_DIR": str(PROJECT)})
            ours = [p for p in (*config.pipelines, *config.maps) if p.startswith(str(PROJECT))]
            assert ours and all(Path(p).is_file() for p in ours)
        case "pipeline":
            assert yaml.safe_load(block.text)["tasks"]
        case "instrument-routes":
            for platform, names in ((Platform.KNATIVE, ["LATISS", "LSSTCam"]), (Platform.KEDA, ["LATISS"])):
                assert list(load_instrument_routes(path, instruments=names, platform=platform)) == names
        case other:
            pytest.fail(f"{block} must say what it is an example of, not {other!r}")


def test_the_example_of_a_task_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from models.images import PromptImage
    from repos.pipeline_graphs import load_pipeline

    page = ROOT / "docs" / "adding-a-pipeline.md"
    code = next(b for b in blocks(page) if b.language == "python")
    module = tmp_path / code.about
    module.parent.mkdir()
    module.write_text(code.text)
    pipeline = tmp_path / "Depth.yaml"
    pipeline.write_text(next(b for b in blocks(page) if b.about == "pipeline").text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PIPELINES", str(ROOT / "pipelines"))
    loaded = load_pipeline(str(pipeline), {"apdb_config": "apdb.yaml"})
    task_node = loaded.graph.tasks["depth"]
    assert {"isr", "calibrateImage", "depth"} == set(loaded.graph.tasks)
    task = task_node.task_class(config=task_node.config)
    image = PromptImage(
        np.zeros((4, 4), np.float32), np.full((4, 4), 4.0, np.float32), None, {"PSFFWHM": 2.355}
    )
    # 10 sigma of 2 nJy a pixel over 4 pi pixels.
    assert task.run(image=image).depth["limit_njy"] == pytest.approx(10 * 2 * np.sqrt(4 * np.pi))


def test_settings_table_is_up_to_date() -> None:
    page = settings_table.PAGE.read_text()
    assert settings_table.with_table(page) == page, "run `python -m tests.docs.settings_table`"


def test_every_setting_is_in_the_table() -> None:
    page = settings_table.PAGE.read_text()
    for _, cls, _ in settings_table.TABLES:
        assert [name for name in cls.variables() if f"| `{name}` |" not in page] == []


def test_statuses_are_those_of_the_service() -> None:
    rows = re.findall(
        r"^\| (\d{3}) \| `([\w-]+)`", section(ROOT / "docs" / "messages.md", "POST /next-visit"), re.MULTILINE
    )
    ours = {(str(int(s.status)), s.name) for s in STATUSES.values()}
    of_the_web = {("401", "unauthorised"), ("413", "too-large")}
    of_success = {("200", "processed"), ("200", "already-processed")}
    assert set(rows) == ours | of_the_web | of_success


def test_every_failure_is_explained() -> None:
    text = section(ROOT / "docs" / "operations.md", "What each failure means")
    explained = set(re.findall(r"^\| [^|]+ \| (\w+) \|", text, re.MULTILINE))
    known = {
        name
        for name in errors.__all__
        if isinstance(kind := getattr(errors, name), type)
        and issubclass(kind, errors.ProcessingError)
        # Raised on the way to one of the others.
        and name not in ("PipelineFailed", "UnreadableImage")
    }
    assert known <= explained
    assert explained - known <= {"GivenUp", "ResultNotRecorded"}


def test_metrics_are_those_of_the_service() -> None:
    from prometheus_client import generate_latest

    from app.web.metrics import ServiceMetrics
    from services.slots.state import PoolSnapshot

    pool = PoolSnapshot(slots=(), waiting=0, deaths=0, closing=False, deployment_id=None)
    metrics = ServiceMetrics(instrument="Demo Cam-1", snapshot=lambda: pool)
    lines = generate_latest(metrics.registry).decode().splitlines()
    sold = {
        line.split()[2].replace("demo_cam_1", "<instrument>") for line in lines if line.startswith("# HELP")
    }
    text = section(ROOT / "docs" / "operations.md", "Metrics")
    named = {n for n in re.findall(r"`([\w<>]+)`", text) if "_" in n}
    assert {n for n in sold if not n.endswith("_created")} == named - {"PP_METRICS_PORT"}


def test_metrics_are_those_of_the_fan_out() -> None:
    from prometheus_client import generate_latest

    from app.fan_out_metrics import FanOutMetrics

    metrics = FanOutMetrics(instruments=["Demo Cam-1"])
    lines = generate_latest(metrics.registry).decode().splitlines()
    sold = {
        line.split()[2].replace("demo_cam_1", "<instrument>") for line in lines if line.startswith("# HELP")
    }
    text = section(ROOT / "docs" / "fan-out.md", "Metrics")
    named = {n for n in re.findall(r"`([\w<>]+)`", text) if "_" in n}
    assert {n for n in sold if not n.endswith("_created")} == named - {"PP_METRICS_PORT"}


def test_paths_of_the_interface_are_those_of_the_service() -> None:
    from app.web.openapi import openapi_document

    text = prose(ROOT / "docs" / "messages.md")
    named = {p.replace("<", "{").replace(">", "}") for p in re.findall(r"(?:GET|POST) (/[\w/.<>-]*)", text)}
    assert named == set(openapi_document("1", has_token=True)["paths"])


def test_every_module_is_described() -> None:
    text = (ROOT / "docs" / "organization.md").read_text()
    words = set(re.findall(r"[\w]+", " ".join(re.findall(r"`([^`\n]+)`", text))))
    for package in _PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if path.name.startswith("__") or {"algorithms", "ledger_migrations"} & set(path.parts):
                continue
            assert path.stem in words, (
                f"docs/organization.md does not say what {path.relative_to(ROOT)} is for"
            )


def test_every_algorithm_is_named() -> None:
    text = (ROOT / "docs" / "science.md").read_text()
    for path in (ROOT / "pipelines" / "algorithms").glob("[a-z]*.py"):
        assert f"`{path.stem}`" in text, f"docs/science.md does not name {path.stem}"


def test_task_options_have_the_values_that_are_told() -> None:
    from lsst.pipe.base import Pipeline

    graph = Pipeline.fromFile(str(ROOT / "pipelines" / "ApPipe.yaml")).to_graph()
    rows = re.findall(
        r"^\| [^|]+ \| ([^|]+) \| ([^|]+) \|$",
        section(ROOT / "docs" / "science.md", "Numbers to know"),
        re.MULTILINE,
    )
    checked = 0
    for told, where in rows:
        numbers = [float(n) for n in re.findall(r"\d+(?:\.\d+)?", told)]
        for number, (label, option) in zip(numbers, re.findall(r"`(\w+): (\w+)`", where), strict=False):
            value = getattr(graph.tasks[label].config, option)
            assert value == pytest.approx(number / 100 if "%" in told else number), f"{label}: {option}"
            checked += 1
    assert checked >= 6


def test_a_setting_that_is_missing_is_told_as_shown() -> None:
    told = section(ROOT / "docs" / "operations.md", "The night")
    with pytest.raises(PromptProcessingError) as error:
        load_service_settings({})
    for line in re.findall(r"^  (\w.*)$", told, re.MULTILINE):
        assert line in str(error.value)


@_some([b for b in _blocks("yaml") if b.page.name == "adding-a-camera.md" and b.text.startswith("name:")])
def test_camera_of_the_guide_loads(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(block.text)
    assert load_instrument(path).name
    assert os.access(ROOT / "config" / "instruments" / "DemoCam.yaml", os.R_OK)
