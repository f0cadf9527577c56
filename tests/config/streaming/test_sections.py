"""Sections of a testbed's TOML files."""

from __future__ import annotations

import pytest

from config.streaming.sections import AgentSection, check_agents, check_file, check_parameters
from models.errors import InvalidConfiguration

OFF = AgentSection(enabled=False)


def test_an_agent_without_a_program_may_only_be_left_out() -> None:
    check_agents({"other": OFF, "stf-data": AgentSection()}, all_needed=True)
    with pytest.raises(InvalidConfiguration, match=r"\[agents.other\]: there is no program for it"):
        check_agents({"other": AgentSection()}, all_needed=False)


def test_in_one_process_all_are_needed() -> None:
    check_agents({"stf-processing": OFF}, all_needed=False)
    with pytest.raises(InvalidConfiguration, match=r"\[agents.stf-processing\] enabled: is false"):
        check_agents({"stf-processing": OFF}, all_needed=True)


@pytest.mark.parametrize("name", ["", "a/b", "a b", "a?"])
def test_the_name_of_a_workflow_can_stand_in_a_url(name: str) -> None:
    check_file("x.toml", {"workflow": {"name": "prompt_processing-2.1"}})
    with pytest.raises(InvalidConfiguration, match=r"\[workflow\] name: "):
        check_file("x.toml", {"workflow": {"name": name}})


@pytest.mark.parametrize("namespace", ["a\nb", "a\0", "\x7f", "a" * 101])
def test_a_namespace_can_stand_in_a_line(namespace: str) -> None:
    check_parameters("x", {"namespace": "alice, 2nd/µ"})
    with pytest.raises(InvalidConfiguration, match="namespace: "):
        check_parameters("x", {"namespace": namespace})
    with pytest.raises(InvalidConfiguration, match=r"\[testbed\] namespace: "):
        check_file("x.toml", {"testbed": {"namespace": namespace}})
