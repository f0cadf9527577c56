"""The conductor: one visit, from preload to handing over its outputs.

Runs in a slot. It decides the order of things and what a failure means; the
things themselves are done by its collaborators.
"""

from __future__ import annotations

__all__ = ["Collaborators", "VisitProcessor"]

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from models.errors import (
    Disposition,
    ExportFailed,
    Interrupted,
    InterruptSignal,
    NoPipelineBuilt,
    NotInitialised,
    NotRetriable,
    ProcessingError,
    PromptProcessingError,
    TaskFailed,
)
from models.outcomes import Result, VisitOutcome
from models.visits import FannedOutVisit
from services.alerts import AlertPublisher
from services.execution import PipelineExecution
from services.export import ExportedOutputs, Exporter
from services.image_intake import ImageIntake
from services.preload import Preloader
from services.slots.protocol import Finished, ProcessVisit, SlotChannel, Stage
from services.visit_state import VisitState

_log = logging.getLogger(__name__)


class Pipelines(Protocol):
    """The deployment's pipelines."""

    def get(self, path: str) -> Any:
        """Return a pipeline, ready to run."""


class VisitRecords(Protocol):
    """What the repositories know of visits."""

    def make(self, visit: FannedOutVisit, output_date: str) -> Any:
        """Return the context of a visit."""

    def footprint(self, visit: FannedOutVisit) -> Any:
        """Return the padded area that the detector will cover, or None."""


class OwnDatasets(Protocol):
    """Writes the service's own datasets into a workspace."""

    def put_region_time_info(self, workspace: Any, visit: FannedOutVisit, region: Any, run: str) -> None:
        """Write where and when the observation will be made."""

    def put_preload_metrics(self, workspace: Any, run: str, seconds: Mapping[str, float]) -> None:
        """Write how long preload took."""

    def put_provenance(self, workspace: Any, run: str, facts: Mapping[str, Any]) -> None:
        """Write what ran on what."""

    @property
    def expected(self) -> Sequence[str]:
        """Dataset types that pipelines may read."""


class VisitDatabase(Protocol):
    """The APDB, as far as the service asks it."""

    def contains(self, visits: Sequence[int], detector: int) -> bool:
        """Say whether it holds anything of some visits."""


@dataclass(frozen=True, kw_only=True)
class Collaborators:
    """Everything a `VisitProcessor` works with."""

    pipelines: Pipelines
    """The deployment's pipelines."""
    records: VisitRecords
    """Data ids and footprints."""
    open_workspace: Callable[..., Any]
    """Begins a visit in the local repo."""
    is_initialised: Callable[[Sequence[str]], bool]
    """Whether the initializer has prepared output runs."""
    run_of: Callable[[str, str], str]
    """Maps output date and pipeline stem to the output run."""
    preloader: Preloader
    own_datasets: OwnDatasets
    images: ImageIntake
    execution: PipelineExecution
    alerts: AlertPublisher
    exporter: Exporter
    export_records: Callable[[Sequence[Any]], Sequence[Any]]
    """Chooses the dimension records that go out."""
    apdb: VisitDatabase
    on_exposures: Callable[[Sequence[int]], None] = lambda exposures: None
    """Told which exposures are processed, for the labels of log messages."""


class VisitProcessor:
    """Processes visits, one at a time.

    Parameters
    ----------
    collaborators : `Collaborators`
    """

    def __init__(self, collaborators: Collaborators) -> None:
        self._with = collaborators

    def process(self, request: ProcessVisit, channel: SlotChannel) -> Finished:
        """Process a visit; failures are in the result.

        Parameters
        ----------
        request : `services.slots.protocol.ProcessVisit`
        channel : `services.slots.protocol.SlotChannel`
            Told how far the visit is; gives the images that the listener
            sees.
        """
        state = VisitState(request)
        error: PromptProcessingError | None = None
        try:
            try:
                self._prepare(state, channel)
                self._take_images(state, channel)
                self._execute(state, channel)
            except InterruptSignal as signal:
                raise Interrupted(f"processing was {signal}") from signal
        except PromptProcessingError as raised:
            error = self._judge(state, raised)
        except Exception as raised:  # whatever else goes wrong is answered too
            _log.exception("Processing of %s failed unexpectedly.", state.visit)
            error = self._judge(state, ProcessingError(f"{type(raised).__name__}: {raised}"))
        try:
            with channel.shielded():
                return self._finish(state, channel, error)
        finally:
            if state.workspace is not None:
                state.workspace.close()

    def _prepare(self, state: VisitState, channel: SlotChannel) -> None:
        """Everything that can be done before there is an image."""
        channel.report(Stage.PREPARING)
        have, visit, date = self._with, state.visit, state.request.output_date
        state.context = have.records.make(visit, date)
        main = self._usable(state.request.pipelines.main)
        preprocessing = self._usable(state.request.pipelines.preprocessing, tolerant=True)
        runs = [have.run_of(date, p.stem) for p in (*main, *preprocessing)]
        if not have.is_initialised(runs):
            raise NotInitialised(
                f"the output runs of {date} are not prepared ({', '.join(runs)}); "
                "run `prompt-processing init` with this deployment's settings"
            )
        region = have.records.footprint(visit)
        with state.timer("search"):
            plan = have.preloader.plan(
                visit, [*preprocessing, *main], state.context.data_ids.values, region
            )
        state.warnings.extend(plan.warnings)
        made = [name for p in preprocessing for name in p.products]
        own = have.own_datasets.expected if region is not None else ()
        here = [name for name in plan.found if plan.has(name)]
        have.preloader.feasible(main, here, [*made, *own])
        state.workspace = workspace = have.open_workspace(
            state.context, [*preprocessing, *main], one_exposure=visit.nimages == 1
        )
        with state.timer("transfer"):
            workspace.fetch(found for refs in plan.found.values() for found in refs)
        if region is not None:
            have.own_datasets.put_region_time_info(workspace, visit, region, state.context.preload_run)
        with state.timer("preprocess"):
            self._preprocess(state, preprocessing)
        state.main = have.preloader.feasible(main, [n for n in [*here, *made] if workspace.has(n)], own)
        state.preload_is_done()
        have.own_datasets.put_preload_metrics(workspace, state.context.preload_run, state.preload_seconds)

    def _usable(self, paths: Sequence[str], *, tolerant: bool = False) -> list[Any]:
        """Return the pipelines that fit the repo, of those that are
        configured.
        """
        usable, reasons = [], []
        for path in paths:
            try:
                usable.append(self._with.pipelines.get(path))
            except NoPipelineBuilt as error:
                _log.warning("%s", error)
                reasons.append(str(error))
            except ProcessingError as error:
                if not tolerant:
                    raise
                _log.error("Preprocessing is left out: %s", error)
        if not usable and reasons and not tolerant:
            raise NoPipelineBuilt("; ".join(reasons))
        return usable

    def _preprocess(self, state: VisitState, pipelines: Sequence[Any]) -> None:
        if not pipelines:
            return
        date = state.request.output_date
        try:
            executed = self._with.execution.run_first(
                pipelines, lambda stem: self._with.run_of(date, stem), state.workspace
            )
            state.preprocessing = executed.stem
            state.task_seconds += executed.report.task_seconds
            executed.report.raise_failure(executed.stem)
        except ProcessingError as error:
            # Main pipelines that can do without are tried all the same.
            _log.error("Preprocessing of %s failed: %s", state.visit, error, exc_info=error)
            state.warnings.append(f"preprocessing failed: {error}")

    def _take_images(self, state: VisitState, channel: SlotChannel) -> None:
        for exposure in self._with.images.take(state, channel):
            with state.timer("ingest"):
                state.workspace.add_exposure(exposure)
            state.exposures.append(exposure)
        self._with.on_exposures([e.exposure for e in state.exposures])

    def _execute(self, state: VisitState, channel: SlotChannel) -> None:
        if self._with.apdb.contains(state.visits, state.visit.detector):
            raise NotRetriable("the APDB already holds this visit and detector; it was not run again")
        date = state.request.output_date

        def started(stem: str) -> None:
            channel.report(Stage.EXECUTING, tuple(state.visits))
            state.pipeline = stem

        with state.timer("main"):
            executed = self._with.execution.run_first(
                state.main,
                lambda stem: self._with.run_of(date, stem),
                state.workspace,
                on_start=started,
                on_quantum=lambda planned: self._publish(state, channel, planned),
            )
        state.main_run = executed.run
        state.task_seconds += executed.report.task_seconds
        executed.report.raise_failure(executed.stem)

    def _publish(self, state: VisitState, channel: SlotChannel, planned: Any) -> None:
        """Send the alerts among what a quantum has just put."""
        outputs = [ref for refs in planned.quantum.outputs.values() for ref in refs]
        for ref in self._with.alerts.alert_refs(outputs):
            if not state.workspace.has_ref(ref):
                continue
            with channel.shielded():
                channel.report(Stage.PUBLISHING, tuple(state.visits))
                exposure = ref.dataId.get("visit", ref.dataId.get("exposure", 0))
                self._with.alerts.publish(
                    state.workspace.read(ref), state.visit, int(exposure), state.published
                )

    def _judge(self, state: VisitState, error: PromptProcessingError) -> PromptProcessingError:
        """Decide what a failure means, by what it may have changed outside."""
        if isinstance(error, NotRetriable) or state.pipeline is None:
            return error
        if state.published.count:
            return NotRetriable(f"alerts were sent before this happened: {error}")
        try:
            touched = self._with.apdb.contains(state.visits, state.visit.detector)
        except ProcessingError as unknown:
            return NotRetriable(f"{error}; whether the APDB changed cannot be determined: {unknown}")
        if touched:
            return NotRetriable(f"the APDB was changed before this happened: {error}")
        return error

    def _finish(
        self, state: VisitState, channel: SlotChannel, error: PromptProcessingError | None
    ) -> Finished:
        """Export what there is to export and make the answer."""
        exported = ExportedOutputs()
        result = Result.PROCESSED if error is None else Result.from_disposition(_disposition(error))
        if error is not None:
            level = logging.WARNING if isinstance(error, TaskFailed | Interrupted) else logging.ERROR
            _log.log(level, "Processing of %s did not succeed: %s", state.visit, error, exc_info=error)
        if state.workspace is not None and result is not Result.INTERRUPTED:
            channel.report(Stage.EXPORTING, tuple(state.visits))
            try:
                with state.timer("export"):
                    exported = self._export(state)
            except Exception as failure:  # datastore, registry and disk raise many types
                _log.exception("Export of %s failed.", state.visit)
                if error is None:
                    error = ExportFailed(
                        f"processing succeeded, but its outputs could not be exported: "
                        f"{type(failure).__name__}: {failure}"
                    )
                    result = Result.NOT_RETRIABLE
                else:
                    state.warnings.append(f"partial outputs could not be exported: {failure}")
        outcome = VisitOutcome(
            result=result,
            title="" if error is None else type(error).__name__,
            detail="" if error is None else str(error),
            pipeline=state.pipeline,
            preprocessing_pipeline=state.preprocessing,
            exposures=tuple(e.exposure for e in state.exposures),
            outputs=exported.count,
            alerts=state.published.count,
            alert_files=tuple(state.published.files),
            warnings=tuple(state.warnings),
            timings=state.timings(),
        )
        return Finished(outcome=outcome, outbox=(*exported.messages, *state.published.messages))

    def _export(self, state: VisitState) -> ExportedOutputs:
        run = state.main_run or state.context.preload_run
        self._with.own_datasets.put_provenance(state.workspace, run, state.provenance())
        records = [*state.context.records]
        for exposure in state.exposures:
            for group in exposure.records.values():
                records.extend(group)
        return self._with.exporter.export(state.workspace, self._with.export_records(records))


def _disposition(error: PromptProcessingError) -> Disposition:
    found: Disposition = getattr(error, "disposition", Disposition.FAILED)
    return Disposition.FAILED if found is Disposition.NOT_OURS else found
