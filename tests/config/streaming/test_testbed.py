"""The testbed's files: which count, what they may say, and how they are merged."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.streaming import testbed
from config.streaming.settings import StreamingSettings, load_streaming_settings
from config.streaming.testbed import PACKAGED, _over, load_testbed_config, packaged_workflows
from models.errors import InvalidConfiguration
from models.streaming.daq import DaqParameters

HEAD = '[testbed]\nnamespace = "n"\n'


def load(directory: Path, asked: str = "prompt_processing", **arguments: Any) -> testbed.TestbedConfig:
    """Load as a program in some working directory does."""
    env = arguments.pop("env", {})
    return load_testbed_config(asked, settings=load_streaming_settings(env), directory=directory, **arguments)


def write(directory: Path, **files: str) -> None:
    """Write files into the working directory's ``workflows``."""
    for name, text in files.items():
        path = directory / "workflows" / f"{name}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def test_packaged_files_have_the_references_values(tmp_path: Path) -> None:
    default = load(tmp_path, "prompt_processing_default")
    assert (default.workflow, default.version, default.namespace) == ("prompt_processing", "1.0", "test-user")
    assert [*default.agents] == ["stf-data", "stf-processing"]
    assert default.daq == {
        "no_beam_not_ready_delay": 5,
        "beam_not_ready_delay": 5,
        "beam_ready_delay": 2,
        "beam_not_ready_end_delay": 5,
        "broadcast_delay": 1,
        "stf_interval": 2.0,
        "stf_generation_time": 0.1,
        "physics_period_duration": 10,
        "physics_period_count": 1,
        "standby_duration": 2,
        "stf_count": 10,
        "realtime": True,
    }
    short = load(tmp_path)
    assert short.daq == {**default.daq, "stf_count": 3}
    assert (short.poll_interval, short.poll_timeout, short.container) == (60, 0, None)
    assert (short.config, short.testbed_file) == ("prompt_processing", None)
    assert packaged_workflows() == ["prompt_processing", "prompt_processing_default"]


def test_the_daq_takes_what_comes_out(tmp_path: Path) -> None:
    parameters = DaqParameters(**load(tmp_path).daq)
    assert (parameters.stf_count, parameters.physics_period_count) == (3, 1)


def test_an_include_fills_in_single_keys_and_changes_none(tmp_path: Path) -> None:
    write(
        tmp_path,
        mine='[testbed]\nnamespace = "n"\n[workflow]\nincludes = ["a.toml", "b"]\n'
        "[daq_state_machine]\nbroadcast_delay = 7\n",
        a='[workflow]\nname = "other"\nincludes = ["c"]\n'
        "[daq_state_machine]\nstandby_duration = 3\nbroadcast_delay = 1\n",
        b="[daq_state_machine]\nstandby_duration = 4\nbeam_ready_delay = 4\n",
        c="[daq_state_machine]\nstf_interval = 9\nstandby_duration = 9\n",
    )
    config = load(tmp_path, "mine")
    assert config.workflow == "mine"
    assert config.daq == {
        "broadcast_delay": 7,
        "standby_duration": 3,
        "beam_ready_delay": 4,
        "stf_interval": 9,
        "realtime": True,
    }


def test_a_file_lies_over_the_one_that_it_names(tmp_path: Path) -> None:
    write(tmp_path, mine='[workflow]\nconfig = "prompt_processing"\n[simulation]\nstf_count = 8\n')
    config = load(tmp_path, "mine")
    assert (config.daq["stf_count"], config.daq["physics_period_count"]) == (8, 1)
    assert (config.workflow, config.poll_interval) == ("prompt_processing", 60)


def test_the_testbed_file_says_where_but_not_which_workflow(tmp_path: Path) -> None:
    """The field's shipped file turns every execution into one of another workflow."""
    write(
        tmp_path,
        testbed='[testbed]\nnamespace = "torre1"\n[workflow]\nname = "stf_datataking"\nversion = "9"\n'
        "[simulation]\nphysics_period_count = 4\n",
    )
    config = load(tmp_path)
    assert (config.workflow, config.version, config.namespace) == ("prompt_processing", "1.0", "torre1")
    assert (config.daq["physics_period_count"], config.daq["stf_count"]) == (4, 3)


@pytest.mark.parametrize("named", ["t.toml", "workflows/t.toml", "{}/workflows/t.toml"])
def test_the_testbed_file_is_found_by_name_and_by_path(tmp_path: Path, named: str) -> None:
    write(tmp_path, t='[testbed]\nnamespace = "t"\n', testbed='[testbed]\nnamespace = "unused"\n')
    env = {"SWF_TESTBED_CONFIG": named.format(tmp_path)}
    assert load(tmp_path, env=env).namespace == "t"


def test_a_testbed_file_that_is_missing_is_named_with_the_places(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"SWF_TESTBED_CONFIG.*gone\.toml.*workflows"):
        load(tmp_path, env={"SWF_TESTBED_CONFIG": "gone.toml"})


def test_options_win_over_parameters_and_they_over_sections(tmp_path: Path) -> None:
    write(
        tmp_path,
        testbed="[parameters]\nstf_count = 5\nrealtime = false\n[simulation]\nstf_count = 4\n",
    )
    assert load(tmp_path).daq["stf_count"] == 5
    config = load(tmp_path, parameters={"stf_count": 6, "realtime": None, "namespace": "mine"})
    assert (config.daq["stf_count"], config.daq["realtime"], config.namespace) == (6, False, "mine")
    assert config.parameters == {"stf_count": 6, "realtime": False, "namespace": "mine"}


@pytest.mark.parametrize(
    ("simulation", "workflow", "expected"),
    [("true", None, True), ("false", None, False), ("true", "false", False), ("false", "true", True)],
)
def test_realtime_is_read(tmp_path: Path, simulation: str, workflow: str | None, *, expected: bool) -> None:
    """The field never reads that of ``[simulation]``."""
    own = "" if workflow is None else f"realtime = {workflow}\n"
    write(tmp_path, mine=f"{HEAD}[workflow]\n{own}[simulation]\nrealtime = {simulation}\n")
    assert load(tmp_path, "mine").daq["realtime"] is expected


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            "[simulation]\nstf_cuont = 3\n",
            r"\[simulation\] stf_cuont: there is no such key; did you mean stf_count",
        ),
        ("[simulaton]\n", r"\[simulaton\]: there is no such section; did you mean simulation"),
        ("[simulation]\nstf_count = '3'\n", r"\[simulation\] stf_count: .*integer, not '3'"),
        ("[simulation]\nstf_count = true\n", r"\[simulation\] stf_count: .*not True"),
        ("[simulation]\nstf_interval = -1\n", r"\[simulation\] stf_interval: .*greater than or equal to 0"),
        ("[simulation]\nstf_interval = nan\n", r"\[simulation\] stf_interval: .*not nan"),
        ("[simulation]\nrealtime = 1\n", r"\[simulation\] realtime: "),
        ("[simulation]\ncontainer = '/x'\n", r"container: does not belong here but to \[prompt_processing\]"),
        ("stf_count = 3\n", r"stf_count: stands outside of any section; it belongs to \[simulation\]"),
        ("[agents.stf-data]\nenable = true\n", r"\[agents.stf-data\] enable: .*did you mean enabled"),
        ("[testbed]\nnamespace = 3\n", r"\[testbed\] namespace: .*string"),
        ("simulation = 3\n", r"simulation: is 3, and not a section; it begins with a line \[simulation\]"),
        ("[simulation\n", "cannot be read as TOML"),
        ("[workflow]\nincludes = ['gone.toml']\n", r"\[workflow\] includes: there is no file gone.toml"),
        ("[workflow]\nconfig = 'gone'\n", r"\[workflow\] config: there is no file gone"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, text: str, what: str) -> None:
    write(tmp_path, mine=text)
    with pytest.raises(InvalidConfiguration, match=what) as caught:
        load(tmp_path, "mine")
    assert str(tmp_path / "workflows" / "mine.toml") in str(caught.value)


def test_a_fault_in_an_included_file_is_that_files(tmp_path: Path) -> None:
    write(tmp_path, mine=f'{HEAD}[workflow]\nincludes = ["a"]\n', a="[workflow]\nnaem = 'x'\n")
    with pytest.raises(InvalidConfiguration, match=r"a\.toml: \[workflow\] naem"):
        load(tmp_path, "mine")


@pytest.mark.parametrize("parameters", [{"workflow_name": "x"}, {"stf_cuont": 1}, {"stf_count": "1"}])
def test_unknown_and_wrong_parameters_are_refused(tmp_path: Path, parameters: dict[str, Any]) -> None:
    """The field drops the one silently and dies of the other."""
    with pytest.raises(InvalidConfiguration, match=f"parameters: {next(iter(parameters))}: "):
        load(tmp_path, parameters=parameters)


def test_files_that_include_each_other_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, a='[workflow]\nincludes = ["b"]\n', b='[workflow]\nincludes = ["a"]\n')
    with pytest.raises(InvalidConfiguration, match=r"a\.toml -> b\.toml -> a\.toml"):
        load(tmp_path, "a")


@pytest.mark.parametrize("namespace", ["", '[testbed]\nnamespace = ""\n', '[testbed]\nnamespace = "  "\n'])
def test_a_namespace_is_needed(tmp_path: Path, namespace: str) -> None:
    write(tmp_path, mine=namespace)
    with pytest.raises(InvalidConfiguration, match=r"\[testbed\] namespace: is missing or empty"):
        load(tmp_path, "mine")


def test_candidates_of_a_name(tmp_path: Path) -> None:
    write(tmp_path, x_default=HEAD, testbed=HEAD)
    assert load(tmp_path, "x").sources[0] == tmp_path / "workflows" / "x_default.toml"
    write(tmp_path, x=HEAD)
    assert load(tmp_path, "x").sources[0] == tmp_path / "workflows" / "x.toml"
    assert load(tmp_path, "x").config == str(tmp_path / "workflows" / "x.toml")
    (tmp_path / "own.toml").write_text(HEAD)
    assert load(tmp_path, "./own.toml").config == str(tmp_path / "own.toml")
    assert load(tmp_path, "own.toml").workflow == "own"
    # What is here goes before what is packaged.
    write(tmp_path, prompt_processing=HEAD)
    assert load(tmp_path).namespace == "n"


def test_a_workflow_that_does_not_exist(tmp_path: Path) -> None:
    """The field takes the testbed's file instead, and another workflow runs."""
    with pytest.raises(InvalidConfiguration, match="did you mean prompt_processing"):
        load(tmp_path, "promt_processing")


def test_the_container_is_made_absolute_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STF_PLACE", "stf")
    env = {"SWF_PROMPT_PROCESSING_CONTAINER": "$STF_PLACE/here"}
    assert load(tmp_path, env=env).container == tmp_path / "stf" / "here"
    assert load(tmp_path, env=env, parameters={"container": "/there"}).container == Path("/there")


def test_a_container_with_a_variable_that_is_not_set_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory of that name is what nobody wants."""
    monkeypatch.delenv("STF_PLACE", raising=False)
    for container in ("$STF_PLACE/here", "/there/${STF_PLACE}"):
        with pytest.raises(InvalidConfiguration, match=r"container.*no variable STF_PLACE"):
            load(tmp_path, parameters={"container": container})


def test_a_file_of_an_editor_that_marks_utf8_is_read(tmp_path: Path) -> None:
    write(tmp_path, mine="")
    (tmp_path / "workflows" / "mine.toml").write_text(
        '[testbed]\r\nnamespace = "münster"\r\n', encoding="utf-8-sig", newline=""
    )
    assert load(tmp_path, "mine").namespace == "münster"


def test_the_environment_wins_for_polling(tmp_path: Path) -> None:
    config = load(tmp_path, env={"SWF_PANDA_POLL_INTERVAL": "5", "SWF_PANDA_POLL_TIMEOUT": "7"})
    assert (config.poll_interval, config.poll_timeout) == (5, 7)


def test_packaged_files_are_files() -> None:
    assert all(tomllib.loads(path.read_text()) for path in PACKAGED.glob("*.toml"))


_KEYS = st.sampled_from(["a", "b", "c"])
_TABLES = st.dictionaries(_KEYS, st.one_of(st.integers(), st.dictionaries(_KEYS, st.integers())))


@given(_TABLES, _TABLES, _TABLES)
def test_merging_is_a_rule_that_can_be_relied_on(a: Any, b: Any, c: Any) -> None:
    assert _over(a, {}) == _over({}, a) == _over(a, a) == a
    assert set(_over(a, b)) == {*a, *b}
    same_kinds = all(
        len({isinstance(table[key], dict) for table in (a, b, c) if key in table}) <= 1 for key in "abc"
    )
    if same_kinds:
        assert _over(a, _over(b, c)) == _over(_over(a, b), c)


_PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "stf_count": st.integers(0, 100),
        "physics_period_count": st.integers(0, 5),
        "stf_interval": st.floats(0, 10),
        "realtime": st.booleans(),
    },
)


@given(own=_PARAMETERS, active=_PARAMETERS, asked=_PARAMETERS)
def test_the_highest_that_says_something_counts(
    tmp_path_factory: pytest.TempPathFactory, own: Any, active: Any, asked: Any
) -> None:
    directory = tmp_path_factory.mktemp("merge")
    text = "\n".join(f"{key} = {str(value).lower()}" for key, value in own.items())
    write(directory, mine=f'[workflow]\nconfig = "prompt_processing"\n[simulation]\n{text}\n')
    text = "\n".join(f"{key} = {str(value).lower()}" for key, value in active.items())
    write(directory, testbed=f"[simulation]\n{text}\n")
    lowest = load_testbed_config(settings=StreamingSettings(), directory=directory / "nowhere").daq
    daq = load(directory, "mine", parameters=asked).daq
    assert daq == {**lowest, **own, **active, **asked}
