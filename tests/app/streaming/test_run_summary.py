"""The tree of a run, and what is wrong with it."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from app.streaming.run_summary import RunSummary, Standing, summary_tree

GOOD = Standing(
    execution_id="prompt_processing-alice-0001",
    execution_status="completed",
    run_number=102363,
    generated=2,
    registered=2,
    processed=2,
    total=2,
    dataset="swf.102363.run",
    dataset_open=False,
    dataset_files=2,
    task_id="12",
    task_state="done",
    messages={"run_imminent": 1, "start_run": 1, "stf_gen": 2, "end_run": 1, "custom": 1},
    agents=("daq_simulator-agent-alice-1", "data-agent-alice-2"),
    over=True,
)


def test_the_tree_is_that_of_the_fields_document() -> None:
    summary = RunSummary.of(GOOD, simulated_s=22.7, duration_s=22.9, total_s=25.0)
    assert summary.faults == ()
    output = io.StringIO()
    Console(file=output, width=120).print(summary_tree(summary))
    assert output.getvalue() == (
        "Run 102363 Summary:\n"
        "├── Duration: 22.7 seconds (simulation time), 22.9 s by the clock, all processed after 25.0 s\n"
        "├── STF files: 2 (2 registered, 2 processed)\n"
        "├── Dataset: swf.102363.run (closed, 2 files)\n"
        "├── Messages:\n"
        "│   ├── run_imminent → agents prepared\n"
        "│   ├── start_run → physics phase began\n"
        "│   ├── stf_gen (x2) → STF files generated\n"
        "│   ├── end_run → Dataset closed, task submitted\n"
        "│   └── custom → recorded\n"
        "├── Agents involved:\n"
        "│   ├── daq_simulator-agent-alice-1\n"
        "│   └── data-agent-alice-2\n"
        "├── Local processing:\n"
        "│   └── Single task submitted for entire dataset: 12 (done), 2 of 2 files processed\n"
        "└── Execution: prompt_processing-alice-0001 (completed)\n"
    )


def test_the_tree_over_panda_has_the_documents_words() -> None:
    lines = tree_of(RunSummary.of(GOOD, executor="panda"))
    assert "│   ├── end_run → Dataset closed, PanDA submitted" in lines
    assert "├── PanDA:" in lines
    assert "│   └── Single task submitted for entire dataset: 12 (done), 2 of 2 files processed" in lines


def test_a_terminal_without_such_characters_gets_the_tree_in_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    console = Console(file=stream, width=120)
    console.print(summary_tree(RunSummary.of(GOOD), ascii_only=console.options.ascii_only))
    stream.flush()
    assert b"|   +-- run_imminent -> agents prepared\n" in raw.getvalue()


def test_one_file_is_no_files() -> None:
    assert "├── Dataset: swf.102363.run (closed, 1 file)" in tree_of(
        RunSummary.of(replace(GOOD, dataset_files=1))
    )


def tree_of(summary: RunSummary) -> list[str]:
    output = io.StringIO()
    Console(file=output, width=120).print(summary_tree(summary))
    return output.getvalue().splitlines()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"execution_status": "failed"}, "is failed, not completed"),
        ({"execution_status": "terminated"}, "is terminated, not completed"),
        ({"processed": 1, "failed": 1}, "1 of 2 STF files were processed, 1 failed"),
        ({"dataset_open": True}, "the dataset swf.102363.run is open"),
        ({"dataset_files": 1}, "1 of 2 STF files are in the dataset"),
        ({"over": False, "waiting_for": "the task"}, "given up while waiting for: the task"),
    ],
)
def test_faults_are_named(change: dict[str, object], fault: str) -> None:
    faults = RunSummary.of(replace(GOOD, **change)).faults  # type: ignore[arg-type]
    assert len(faults) == 1
    assert fault in faults[0]


@pytest.mark.parametrize("status", ["terminated", "completed"])
def test_a_run_that_was_stopped_may_be_terminated(status: str) -> None:
    assert RunSummary.of(replace(GOOD, execution_status=status), stopped=True).faults == ()


def test_a_stop_excuses_no_failure() -> None:
    assert RunSummary.of(replace(GOOD, execution_status="failed"), stopped=True).faults


def test_a_monitor_that_hears_nothing_is_named() -> None:
    output = io.StringIO()
    Console(file=output, width=120).print(summary_tree(RunSummary.of(replace(GOOD, messages={}))))
    assert "does not hear this bus" in output.getvalue()


def test_panda_is_named_and_so_is_a_task_that_is_missing() -> None:
    summary = RunSummary.of(replace(GOOD, task_id=None), executor="panda")
    output = io.StringIO()
    Console(file=output, width=120).print(summary_tree(summary))
    assert "├── PanDA:\n│   └── No task was submitted\n" in output.getvalue()
