"""Both forms of local repo come to the same."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.settings import LocalRepoForm
from models.errors import InterruptSignal, NoPipelineBuilt
from repos.collections import output_run
from repos.local_repos import LocalRepos
from repos.memory_repo import MemoryWorkspace
from tests.repos.sketch_repo import DATE, DEPLOYMENT, INSTRUMENT, Observatory, Observed

TASKS = "tests.repos.pipeline_tasks"


def pipeline(*tasks: str) -> str:
    """Return a pipeline of tasks, each ``label: Class key=value ...``."""
    text = "description: test\nparameters: {apdb_config: ''}\ntasks:\n"
    for task in tasks:
        label, class_name, *settings = task.split()
        text += f"  {label}\n    class: {TASKS}.{class_name}\n"
        if settings:
            text += "    config:\n"
        for setting in settings:
            key, _, value = setting.partition("=")
            text += f"      {key}: {value}\n"
    return text


def steps(mode: str) -> str:
    """Return a chain with a branch, whose first link goes as `mode` says."""
    return pipeline(
        "start: StartTask",
        f"first: FirstStepTask mode={mode} connections.dst=middle",
        "needs_product: StepTask connections.src=middle connections.dst=last",
        "needs_extra: StepTask connections.src=middle_extra connections.dst=other",
        "needs_last: StepTask connections.src=last connections.dst=end",
        "independent: FirstStepTask connections.dst=aside",
        "optional: CollectTask connections.lhs=middle connections.rhs=aside",
        "nothing: CollectTask connections.lhs=last connections.rhs=other connections.dst=rest",
    )


PIPELINES = {
    "sketch": "description: proto\nparameters: {apdb_config: ''}\ntasks:\n"
    "  isr: sketch.tasks.IsrTask\n  calibrate: sketch.tasks.CalTask\n  subtract: sketch.tasks.DiffTask\n",
    **{
        f"steps_{mode.replace('-', '_')}": steps(mode)
        for mode in (
            "good",
            "raise",
            "half",
            "partial",
            "adjust",
            "no-work",
            "only-extra",
            "change-after-put",
        )
    },
    "reading": pipeline("start: StartTask", "make: MakeTask", "read: ReadTask"),
    "spoiling": pipeline(
        "start: StartTask",
        "spoil: SpoilTask",
        "again: SpoilTask connections.src=spoilt connections.dst=spoilt_again",
    ),
    "sky": pipeline("sky: SkyTask"),
    "parts": pipeline("sky: SkyTask", "apart: StartTask connections.dst=apart"),
    "prepare": pipeline("prepare: PrepareTask"),
    "prepared": pipeline("use: UsePreparedTask"),
    "gather": pipeline("start: StartTask", "gather: GatherTask"),
    "by_patch": pipeline("start: StartTask", "patch: PatchTask"),
    "look_up": pipeline("look: LookUpTask"),
    "together": pipeline("together: TogetherTask"),
    "wider": pipeline("wider: WiderTask"),
}

_exposures = itertools.count(1000)


@pytest.fixture(scope="module")
def observatory(built_central: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observatory]:
    directory = tmp_path_factory.mktemp("forms")
    root = Path(shutil.copytree(built_central, directory / "central"))
    made = Observatory(root, directory / "work", PIPELINES, initialise=("sketch", "reading"))
    yield made
    made.close()


def in_both(observatory: Observatory, stem: str, *, snaps: int = 1, **fields: Any) -> Observed:
    """Process one visit in both forms and compare; returns what they came to."""
    exposures = [next(_exposures) for _ in range(snaps)]
    seen = {}
    for form in ("memory", "full"):
        seen[form] = observatory.observe(
            form, stem, group=f"group-{exposures[0]}", exposures=exposures, **fields
        )
    memory, full = seen["memory"], seen["full"]
    assert sorted(memory.executed) == sorted(full.executed)
    assert sorted(memory.failed) == sorted(full.failed)
    assert (memory.not_built is None) == (full.not_built is None), (memory.not_built, full.not_built)
    assert identities(memory) == identities(full)
    assert message(memory) == message(full)
    for name in memory.files:
        # Logs and metadata hold times and sizes of the process.
        if "_log" not in name and "_metadata" not in name:
            if name.endswith(".yaml"):
                assert yaml.safe_load(memory.files[name]) == yaml.safe_load(full.files[name])
            assert memory.files[name] == full.files[name], name
    return memory


def identities(observed: Observed) -> dict[tuple[str, str, str], str]:
    return {(r.datasetType.name, r.run, str(r.dataId)): str(r.id) for r in observed.refs}


def message(observed: Observed) -> dict[str, Any]:
    return {
        **observed.message,
        "datasets": sorted(observed.message["datasets"], key=lambda d: str(d["path"])),
    }


def value(observatory: Observatory, observed: Observed, dataset_type: str) -> Any:
    """Read an output back the way a stranger would."""
    (path,) = (p for p in observed.files if f"/{dataset_type}/" in p)
    return yaml.safe_load(observed.files[path])


def test_the_yardstick(observatory: Observatory) -> None:
    observed = in_both(observatory, "sketch")
    assert [label for label, _ in observed.executed] == ["isr", "calibrate", "subtract"]
    assert observed.types >= {"post_isr_image", "visit_image", "stars", "difference_image", "dia_source"}


def test_two_snaps(observatory: Observatory) -> None:
    observed = in_both(observatory, "sketch", snaps=2)
    assert len(observed.executed) == 6
    definitions = [r["definition"] for r in observed.message["dimension_records"]]
    assert definitions.count("exposure") == definitions.count("visit") == 2
    assert definitions.count("group") == 1


def test_two_snaps_with_a_failing_task(observatory: Observatory) -> None:
    observed = in_both(observatory, "steps_raise", snaps=2)
    assert len(observed.failed) == 2


ALL = {"middle", "middle_extra", "last", "last_extra", "end", "end_extra", "other", "other_extra"}

#: How the first of `steps` goes, whether that is a failure, and which of its
#: outputs and of those after it there are.
STEPS = {
    "good": (None, ALL),
    "raise": ("RuntimeError", set()),
    "half": ("RuntimeError", {"middle_extra"}),
    "partial": ("ValueError", {"middle_extra"}),
    "adjust": (None, set()),
    "no_work": (None, set()),
    "only_extra": (None, {"middle_extra", "other", "other_extra"}),
    "change_after_put": (None, ALL),
}


@pytest.mark.parametrize("mode", STEPS)
def test_a_task_that_goes_wrong(observatory: Observatory, mode: str) -> None:
    error, made = STEPS[mode]
    observed = in_both(observatory, f"steps_{mode}")
    assert [name for _, name, _ in observed.failed] == ([] if error is None else [error])
    chain = {n for n in observed.types if n.split("_")[0] in ("middle", "last", "end", "other")}
    assert chain == made
    assert observed.types >= {"start", "aside", "aside_extra"}
    if error is None:
        assert value(observatory, observed, "collected")["present"] == (
            ["left", "right"] if "middle" in made else ["right"]
        )


def test_an_output_that_is_changed_after_it_was_put(observatory: Observatory) -> None:
    observed = in_both(observatory, "steps_change_after_put")
    assert value(observatory, observed, "middle")["from"] != "changed after it was put"
    assert value(observatory, observed, "middle_extra")["from"] == "changed after it was put"


def test_components_parameters_and_conversions(observatory: Observatory) -> None:
    observed = in_both(observatory, "reading")
    assert not observed.failed
    read = value(observatory, observed, "read_result")
    assert read["init"] == {"names": ["ra", "flux"], "settings": {"answer": 42}}
    assert read["info"] == {"exposures": 1}
    assert len(read["first_rows"]) == 2
    assert read["some"] == ["flux"]
    assert read["calibration"] == [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]


def test_tasks_that_change_their_inputs(observatory: Observatory) -> None:
    in_both(observatory, "spoiling")
    observed = in_both(observatory, "spoiling")  # calibrations are cached now
    first, again = (value(observatory, observed, n) for n in ("spoilt", "spoilt_again"))
    for seen in (first, again):
        assert seen["bias"] == 100.0 * 16 * 16
        assert seen["calibration"] == 21.0
        assert seen["info"] == {"detector": 1}
    assert first["raw"] == again["raw"]


def test_inputs_on_the_sky(observatory: Observatory) -> None:
    observed = in_both(observatory, "sky")
    seen = value(observatory, observed, "sky_inputs")
    assert len(seen["patches"]) > 1 and seen["patches"] == sorted(seen["patches"])
    assert len(seen["shards"]) >= 1 and seen["shards"] == sorted(seen["shards"])


def test_no_template_means_no_work_for_what_needs_it(observatory: Observatory) -> None:
    away = {"position": [200.0, 20.0]}
    observed = in_both(observatory, "sky", **away)
    assert observed.not_built is not None
    assert observed.types <= {"regionTimeInfo"}


def test_parts_of_a_pipeline_are_on_their_own(observatory: Observatory) -> None:
    observed = in_both(observatory, "parts", position=[200.0, 20.0])
    assert [label for label, _ in observed.executed] == ["apart"]


@pytest.mark.parametrize("rotation", [1, 2])
def test_preprocessing_hands_over(observatory: Observatory, rotation: int) -> None:
    # Without a rotation there is no footprint, so no regionTimeInfo.
    observed = in_both(observatory, "prepared", preprocessing="prepare", rotationSystem=rotation)
    if rotation == 1:
        assert observed.not_built is not None
    else:
        assert [label for label, _ in observed.executed] == ["prepare", "use"]
        assert value(observatory, observed, "used")["prepared"]["patches"]


@pytest.mark.parametrize("announced", ["", "r_57", "u_unknown"])
def test_another_filter_than_announced(observatory: Observatory, announced: str) -> None:
    observed = in_both(observatory, "steps_good", filters=announced)
    assert not observed.failed
    assert observed.not_built is None


def test_a_second_run_gives_the_same_ids(observatory: Observatory) -> None:
    first = observatory.observe("memory", "sketch", group="again", exposures=[500])
    second = observatory.observe("memory", "sketch", group="again", exposures=[500])
    assert identities(first) == identities(second)
    full = [observatory.observe("full", "sketch", group="again", exposures=[500]) for _ in range(2)]
    assert identities(full[0]) == identities(full[1]) == identities(first)


def local_repos(observatory: Observatory, form: LocalRepoForm = LocalRepoForm.AUTO) -> LocalRepos:
    return LocalRepos(memory=observatory.memory, full=observatory.full, form=form)


@pytest.mark.parametrize(
    ("stem", "reason"),
    [
        ("by_patch", "several quanta"),
        ("look_up", "looks up"),
        ("together", "adjusts all quanta"),
        ("wider", "beyond its own region"),
    ],
)
def test_pipelines_that_need_a_full_repo(observatory: Observatory, stem: str, reason: str) -> None:
    made = observatory.pipeline(stem)
    assert reason in " ".join(made.obstacles)
    visit = observatory.visit(f"choice-{stem}")
    context = observatory.contexts.make(visit, DATE)
    workspace = local_repos(observatory).open(
        context, [observatory.pipeline("sketch"), made], one_exposure=True
    )
    try:
        assert not isinstance(workspace, MemoryWorkspace)
    finally:
        workspace.close()


@pytest.mark.parametrize(
    ("form", "one_exposure", "in_memory"),
    [
        (LocalRepoForm.AUTO, True, True),
        (LocalRepoForm.AUTO, False, False),
        (LocalRepoForm.FULL, True, False),
        (LocalRepoForm.MEMORY, False, True),
    ],
)
def test_choice_of_form(
    observatory: Observatory, form: LocalRepoForm, one_exposure: bool, in_memory: bool
) -> None:
    fits = [observatory.pipeline(s) for s in ("sketch", "reading", "prepare")]
    assert all(p.fits_memory for p in fits)
    context = observatory.contexts.make(observatory.visit(f"choice-{form}-{one_exposure}"), DATE)
    workspace = local_repos(observatory, form).open(context, fits, one_exposure=one_exposure)
    try:
        assert isinstance(workspace, MemoryWorkspace) == in_memory
    finally:
        workspace.close()


@pytest.mark.parametrize("stem", ["by_patch", "look_up", "together", "wider"])
def test_the_full_repo_runs_what_memory_cannot(observatory: Observatory, stem: str) -> None:
    observed = observatory.observe("full", stem, group=f"full-{stem}", exposures=[next(_exposures)])
    assert not observed.failed and observed.not_built is None
    if stem == "by_patch":
        assert len([label for label, _ in observed.executed if label == "patch"]) > 1
    if stem == "look_up":
        assert value(observatory, observed, "looked_up") == {"weights": [{"weight": 0.5}]}


def test_a_task_that_gathers_snaps(observatory: Observatory) -> None:
    in_both(observatory, "gather")
    exposures = [next(_exposures), next(_exposures)]
    observed = observatory.observe("full", "gather", group="snaps", exposures=exposures)
    assert value(observatory, observed, "gathered") == {"exposures": exposures}
    # Forced into memory it would see one only: better not at all.
    forced = observatory.observe("memory", "gather", group="snaps", exposures=exposures)
    assert "gathers several exposures" in str(forced.not_built)


@pytest.mark.parametrize("form", ["memory", "full"])
def test_nothing_of_an_interrupted_visit_is_left(observatory: Observatory, form: str) -> None:
    def interrupt(planned: Any) -> None:
        raise InterruptSignal("told to stop")

    visit = observatory.visit(f"interrupted-{form}")
    exposure = next(_exposures)
    workspace, _ = observatory.begin(form, visit, ["sketch"])
    observatory.expose(workspace, visit, exposure)
    with pytest.raises(InterruptSignal):
        observatory.run(workspace, "sketch", on_quantum=interrupt)
    workspace.close()
    if form == "full":
        butler = observatory.full.butler
        run = output_run(INSTRUMENT, DATE, "sketch", DEPLOYMENT)
        assert not butler.query_datasets("post_isr_image", run, explain=False)
        assert not butler.query_datasets("raw", "ProtoCam/raw/all", explain=False)
    again = observatory.observe(form, "sketch", group=visit.groupId, exposures=[exposure])
    assert len(again.executed) == 3


def test_hooks(observatory: Observatory) -> None:
    for form in ("memory", "full"):
        calls: list[str] = []
        visit = observatory.visit(f"hooks-{form}")
        workspace, _ = observatory.begin(form, visit, ["sky", "steps_raise"])
        observatory.expose(workspace, visit, next(_exposures))
        observatory.run(
            workspace,
            "steps_raise",
            on_start=lambda calls=calls: calls.append("begun"),
            on_quantum=lambda q, calls=calls: calls.append(q.task_node.label),
        )
        workspace.close()
        # Told once at the start, and of every quantum that succeeded.
        assert calls == ["begun", "start", "independent"]


def test_a_pipeline_that_cannot_be_built_is_not_begun(observatory: Observatory) -> None:
    for form in ("memory", "full"):
        visit = observatory.visit(f"unbuilt-{form}", position=[200.0, 20.0])
        workspace, _ = observatory.begin(form, visit, ["sky"])
        observatory.expose(workspace, visit, next(_exposures))
        begun: list[str] = []
        with pytest.raises(NoPipelineBuilt, match="sky"):
            observatory.run(workspace, "sky", on_start=lambda begun=begun: begun.append("x"))
        assert not begun
        # The next pipeline runs all the same.
        assert observatory.run(workspace, "steps_good").executed
        workspace.close()


def test_missing_prerequisite(observatory: Observatory) -> None:
    for form in ("memory", "full"):
        visit = observatory.visit(f"no-bias-{form}", detector=7)  # has no calibrations
        workspace, _ = observatory.begin(form, visit, ["sketch"])
        observatory.expose(workspace, visit, next(_exposures))
        with pytest.raises(NoPipelineBuilt):
            observatory.run(workspace, "sketch")
        workspace.close()
