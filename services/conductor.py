"""The conductor: one visit, from preload to handing over its outputs.

Runs in a slot. It decides the order of things and what a failure means; the
things themselves are done by its collaborators.
"""

from __future__ import annotations

__all__ = ["VisitProcessor"]

import logging
from collections.abc import Sequence
from typing import Any

from models.errors import (
    Disposition,
    ExportFailed,
    Interrupted,
    InterruptSignal,
    NoPipelineBuilt,
    NotInitialised,
    NotRetriable,
    PipelineUnreadable,
    ProcessingError,
    PromptProcessingError,
    TaskFailed,
    TemporarilyUnavailable,
)
from models.metrics import MeasuredBundle
from models.outcomes import Result, VisitOutcome
from services.collaborators import Collaborators
from services.export import ExportedOutputs
from services.slots.protocol import Finished, ProcessVisit, SlotChannel, Stage
from services.visit_state import VisitState

_log = logging.getLogger(__name__)


class VisitProcessor:
    """Processes visits, one at a time.

    Parameters
    ----------
    collaborators : `services.collaborators.Collaborators`
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
        try:
            error = self._attempt(state, channel)
            with channel.shielded():
                return self._conclude(state, channel, error)
        except InterruptSignal as signal:
            # It comes at most once, but anywhere: also while a failure was
            # being judged, or on the threshold of the shield.
            with channel.shielded():
                if state.finished is not None:
                    return state.finished
                stopped = Interrupted(f"processing was {signal}")
                return self._conclude(state, channel, self._judge(state, stopped))

    def _attempt(self, state: VisitState, channel: SlotChannel) -> PromptProcessingError | None:
        """Do everything but exporting; return what it failed of."""
        try:
            self._prepare(state, channel)
            self._take_images(state, channel)
            self._execute(state, channel)
        except PromptProcessingError as error:
            return self._judge(state, error)
        except (Exception, SystemExit) as error:  # whatever else goes wrong is answered too
            what = f"{type(error).__name__}: {error}"
            if self._with.is_outage(error):
                return self._judge(state, TemporarilyUnavailable(f"a dependency failed: {what}"))
            _log.exception("Processing of %s failed unexpectedly.", state.visit)
            return self._judge(state, ProcessingError(what))
        return None

    def _prepare(self, state: VisitState, channel: SlotChannel) -> None:
        """Everything that can be done before there is an image."""
        channel.report(Stage.PREPARING)
        have, visit, date = self._with, state.visit, state.request.output_date
        state.context = have.retry(lambda: have.records.make(visit, date))
        main = self._usable(state.request.pipelines.main)
        preprocessing = self._usable_preprocessing(state)
        runs = [have.run_of(date, p.stem) for p in (*main, *preprocessing)]
        if not have.retry(lambda: have.is_initialised(runs)):
            raise NotInitialised(
                f"the output runs of {date} are not prepared ({', '.join(runs)}); "
                "run `prompt-processing init` with this deployment's settings"
            )
        region = have.records.footprint(visit)
        with state.timer("search"):
            plan = have.retry(
                lambda: have.preloader.plan(
                    visit, [*preprocessing, *main], state.context.data_ids.values, region
                )
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
            have.retry(lambda: workspace.fetch(found for refs in plan.found.values() for found in refs))
        if region is not None:
            have.own_datasets.put_region_time_info(workspace, visit, region, state.context.preload_run)
        with state.timer("preprocess"):
            self._preprocess(state, preprocessing)
        _heed(channel)
        state.preload_is_done()
        have.own_datasets.put_preload_metrics(workspace, state.context.preload_run, state.preload_seconds)
        state.main = have.preloader.feasible(main, [n for n in [*here, *made] if workspace.has(n)], own)

    def _usable(self, paths: Sequence[str]) -> list[Any]:
        """Return the pipelines that fit the repo, in the order of preference,
        up to one that cannot be loaded: it is not passed over for the next.

        Raises
        ------
        models.errors.PipelineUnreadable
            Raised if that leaves none.
        models.errors.NoPipelineBuilt
            Raised if none fits.
        """
        usable, reasons = [], []
        for path in paths:
            try:
                usable.append(self._with.get_pipeline(path))
            except NoPipelineBuilt as error:
                _log.warning("%s", error)
                reasons.append(str(error))
            except PipelineUnreadable as error:
                if not usable:
                    raise
                _log.error("No pipeline from here on can be used: %s", error)
                break
        if not usable and reasons:
            raise NoPipelineBuilt("; ".join(reasons))
        return usable

    def _usable_preprocessing(self, state: VisitState) -> list[Any]:
        try:
            return self._usable(state.request.pipelines.preprocessing)
        except ProcessingError as error:
            # Main pipelines that can do without are tried all the same.
            _log.error("There will be no preprocessing of %s: %s", state.visit, error)
            state.warnings.append(f"preprocessing failed: {error}")
            return []

    def _preprocess(self, state: VisitState, pipelines: Sequence[Any]) -> None:
        if not pipelines:
            return
        date = state.request.output_date
        try:
            executed = self._with.execution.run_first(
                pipelines,
                lambda stem: self._with.run_of(date, stem),
                state.workspace,
                on_start=state.preprocessing_begins,
            )
            state.task_seconds += executed.report.task_seconds
            executed.report.raise_failure(executed.stem)
        except Interrupted:
            raise
        except Exception as error:  # of tasks, middleware or repositories
            _log.error("Preprocessing of %s failed: %s", state.visit, error, exc_info=error)
            state.warnings.append(f"preprocessing failed: {error}")

    def _take_images(self, state: VisitState, channel: SlotChannel) -> None:
        def add(exposure: Any) -> None:
            state.workspace.add_exposure(exposure)
            state.exposures.append(exposure)
            self._with.on_exposures([exposure.exposure])

        self._with.images.take(state, channel, add)

    def _execute(self, state: VisitState, channel: SlotChannel) -> None:
        if self._with.apdb.contains(state.visits, state.visit.detector):
            state.came_before = True
            raise NotRetriable("the APDB already holds this visit and detector; it was not run again")
        date = state.request.output_date
        _heed(channel)

        def started(stem: str) -> None:
            channel.report(Stage.EXECUTING, tuple(state.visits))
            state.main_begins(stem, self._with.run_of(date, stem))

        def quantum_done(planned: Any) -> None:
            self._publish(state, channel, planned)
            if not state.published.begun:
                _heed(channel)

        with state.timer("main"):
            executed = self._with.execution.run_first(
                state.main,
                lambda stem: self._with.run_of(date, stem),
                state.workspace,
                on_start=started,
                on_quantum=quantum_done,
            )
        state.task_seconds += executed.report.task_seconds
        executed.report.raise_failure(executed.stem)

    def _publish(self, state: VisitState, channel: SlotChannel, planned: Any) -> None:
        """Send the alerts among what a quantum has just put."""
        outputs = [ref for refs in planned.quantum.outputs.values() for ref in refs]
        for ref in self._with.alerts.alert_refs(outputs):
            # A task that found no work puts none.
            if not state.workspace.has_ref(ref):
                continue
            packets = state.workspace.read(ref)
            exposure = int(ref.dataId.get("visit", ref.dataId.get("exposure", 0)))
            with channel.shielded():
                if len(packets):
                    channel.report(Stage.PUBLISHING, tuple(state.visits))
                self._with.alerts.publish(packets, state.visit, exposure, state.published, channel.send)

    def _judge(self, state: VisitState, error: PromptProcessingError) -> PromptProcessingError:
        """Decide what a failure means, by what it may have changed outside."""
        if isinstance(error, NotRetriable) or state.pipeline is None:
            return error
        if state.published.begun:
            return NotRetriable(f"alerts were sent, or may have been, before this happened: {error}")
        try:
            touched = self._with.apdb.contains(state.visits, state.visit.detector)
        except Exception as unknown:  # the safe side, whatever it is
            return NotRetriable(f"{error}; whether the APDB changed cannot be determined: {unknown}")
        if touched:
            return NotRetriable(f"the APDB was changed before this happened: {error}")
        return error

    def _conclude(
        self, state: VisitState, channel: SlotChannel, error: PromptProcessingError | None
    ) -> Finished:
        """Export what there is to export, make the answer, forget the visit."""
        try:
            state.finished = self._finish(state, channel, error)
            return state.finished
        finally:
            if state.workspace is not None:
                try:
                    state.workspace.close()
                except Exception:  # of the local repo, whose next visit begins anew
                    _log.exception("%s could not be removed from the local repo.", state.visit)

    def _finish(
        self, state: VisitState, channel: SlotChannel, error: PromptProcessingError | None
    ) -> Finished:
        exported = ExportedOutputs()
        result = Result.PROCESSED if error is None else Result.from_disposition(_disposition(error))
        if error is not None:
            level = logging.WARNING if isinstance(error, TaskFailed | Interrupted) else logging.ERROR
            _log.log(level, "Processing of %s did not succeed: %s", state.visit, error, exc_info=error)
        # What an earlier run read and wrote is left as it is.
        if state.workspace is not None and result is not Result.INTERRUPTED and not state.came_before:
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
        return Finished(
            outcome=outcome,
            outbox=exported.messages,
            measurements=self._measured(state) if exported.count else (),
        )

    def _measured(self, state: VisitState) -> tuple[MeasuredBundle, ...]:
        try:
            return self._with.measurements(state.workspace)
        except Exception:  # no metric is worth a visit
            _log.exception("The metrics of %s are not uploaded.", state.visit)
            return ()

    def _export(self, state: VisitState) -> ExportedOutputs:
        run = state.main_run or state.context.preload_run
        self._with.own_datasets.put_provenance(state.workspace, run, state.provenance())
        records = [*state.context.records]
        for exposure in state.exposures:
            for group in exposure.records.values():
                records.extend(group)
        return self._with.exporter.export(state.workspace, self._with.export_records(records))


def _heed(channel: SlotChannel) -> None:
    """Stop if the visit was told to: a task may have taken the signal for an
    error of its own, and caught it.
    """
    if channel.interrupted:
        raise Interrupted("processing was stopped by an earlier signal")


def _disposition(error: PromptProcessingError) -> Disposition:
    found: Disposition = getattr(error, "disposition", Disposition.FAILED)
    return Disposition.FAILED if found is Disposition.NOT_OURS else found
