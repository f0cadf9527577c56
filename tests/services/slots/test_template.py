from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from services.slots.process import SlotProcess, SlotUnavailable, TemplateProcess, describe_exit
from services.slots.protocol import ForkSlot
from services.slots.supervisor import TemplateSupervisor
from tests.services.slots.conftest import FAKE
from tests.waiting import still_there


@pytest.fixture
def template() -> Iterator[TemplateProcess]:
    process = TemplateProcess.launch(FAKE)
    yield process
    process.stop()


def start_slot(template: TemplateProcess) -> tuple[TemplateSupervisor, SlotProcess]:
    supervisor = TemplateSupervisor(launch=lambda: pytest.fail("another template was started"))
    supervisor.adopt(template)
    return supervisor, supervisor.start_slot(ForkSlot(number=0), 120.0)


def test_only_the_user_can_reach_it(template: TemplateProcess) -> None:
    assert template.directory.stat().st_mode & 0o777 == 0o700


def test_adopted_template_is_not_ended(template: TemplateProcess) -> None:
    supervisor, slot = start_slot(template)
    supervisor.close()
    # Slots of an owner that is gone are killed, but there is a next owner.
    assert slot.wait(60)
    other, slot = start_slot(template)
    assert slot.alive
    slot.close()
    other.close()


def test_slot_ends_with_its_connection(template: TemplateProcess) -> None:
    supervisor, slot = start_slot(template)
    slot.connection.close()
    assert slot.wait(60)
    assert supervisor.how_exited(slot.pid, 60.0) == 70
    assert supervisor.how_exited(os.getpid(), 60.0) is None
    supervisor.close()


def test_stop_leaves_nothing(template: TemplateProcess) -> None:
    _, slot = start_slot(template)
    template.stop()
    assert slot.wait(60)
    assert not template.directory.exists()
    with pytest.raises(SlotUnavailable):
        template.connect(ForkSlot(number=0))


def test_everything_dies_with_a_killed_owner() -> None:
    """Nothing is left behind even if nobody can clean up."""
    script = f"""
import os, signal
from services.slots.process import TemplateProcess
from services.slots.protocol import ForkSlot
from services.slots.supervisor import TemplateSupervisor
supervisor = TemplateSupervisor(launch=lambda: TemplateProcess.launch({FAKE!r}))
slot = supervisor.start_slot(ForkSlot(number=0), 120.0)
print(slot.pid, supervisor.ready.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=200, check=False)
    pids = [int(word) for word in ended.stdout.split()]
    assert len(pids) == 2
    assert still_there(pids) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "code 0"), (-9, "SIGKILL"), (-64, "SIGRTMAX"), (-99, "signal 99"), (None, "disappeared")],
)
def test_exit_codes_in_words(code: int | None, words: str) -> None:
    assert words in describe_exit(code)
