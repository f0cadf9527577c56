"""Small tasks that do what real ones do to a local repo, well or badly.

`tests.repos.sketch_repo` makes a repo that they can be run in.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

import lsst.pex.config
import numpy as np
from astropy.table import Table
from lsst.daf.butler import FormatterV2, StorageClassDelegate
from lsst.pipe.base import (
    AnnotatedPartialOutputsError,
    InputQuantizedConnection,
    NoWorkFound,
    OutputQuantizedConnection,
    PipelineTask,
    PipelineTaskConfig,
    PipelineTaskConnections,
    QuantumContext,
    Struct,
)
from lsst.pipe.base.connectionTypes import InitInput, InitOutput, Input, Output, PrerequisiteInput

VISIT = ("instrument", "visit", "detector")
EXPOSURE = ("instrument", "exposure", "detector")
GROUP = ("instrument", "group", "detector")
DETECTOR = ("instrument", "detector")
DATA = "StructuredDataDict"


class Thing:
    """A composite that the middleware can take apart."""

    def __init__(self, pixels: np.ndarray, info: Mapping[str, Any]) -> None:
        self.pixels = pixels
        self.info = dict(info)


def part_of(thing: Thing, name: str) -> Any:
    """Return a component."""
    return int(thing.pixels.sum()) if name == "total" else getattr(thing, name)


class ThingDelegate(StorageClassDelegate):
    """Components and parameters of `Thing`."""

    def getComponent(self, composite: Thing, componentName: str) -> Any:
        return part_of(composite, componentName)

    def handleParameters(self, inMemoryDataset: Any, parameters: Mapping[str, Any] | None = None) -> Any:
        rows = (parameters or {}).get("rows")
        if rows is None:
            return inMemoryDataset
        return Thing(inMemoryDataset.pixels[:rows], inMemoryDataset.info)


class ThingFormatter(FormatterV2):
    """`Thing` as a file; leaves parameters to the delegate."""

    default_extension = ".npz"
    can_read_from_local_file = True
    unsupported_parameters = None  # all

    def read_from_local_file(self, path: str, component: str | None = None, expected_size: int = -1) -> Any:
        with np.load(path) as file:
            thing = Thing(file["pixels"], json.loads(str(file["info"])))
        return thing if component is None else part_of(thing, component)

    def to_bytes(self, in_memory_dataset: Thing) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, pixels=in_memory_dataset.pixels, info=json.dumps(in_memory_dataset.info))
        return buffer.getvalue()


#: Configuration that a repo needs for `Thing`.
STORAGE = {
    "storageClasses": {
        "TestThing": {
            "pytype": f"{__name__}.Thing",
            "components": {"pixels": "PPNpz", "info": DATA},
            "derivedComponents": {"total": "int"},
            "parameters": ["rows"],
            "delegate": f"{__name__}.ThingDelegate",
        }
    },
    "datastore": {"formatters": {"TestThing": f"{__name__}.ThingFormatter"}},
}


class StartConnections(PipelineTaskConnections, dimensions=EXPOSURE, defaultTemplates={"dst": "start"}):
    raw = Input(name="raw", storageClass="PPImage", dimensions=EXPOSURE, doc="")
    product = Output(name="{dst}", storageClass=DATA, dimensions=EXPOSURE, doc="")


class StartConfig(PipelineTaskConfig, pipelineConnections=StartConnections):
    pass


class StartTask(PipelineTask):
    """Begin with the raw image."""

    ConfigClass = StartConfig
    _DefaultName = "start"

    def run(self, raw: Any) -> Struct:
        return Struct(product={"mean": float(raw.data.mean()), "exposure": raw.header["EXPID"]})


class StepConnections(
    PipelineTaskConnections, dimensions=VISIT, defaultTemplates={"src": "start", "dst": "middle"}
):
    source = Input(name="{src}", storageClass=DATA, dimensions=VISIT, doc="")
    product = Output(name="{dst}", storageClass=DATA, dimensions=VISIT, doc="")
    extra = Output(name="{dst}_extra", storageClass=DATA, dimensions=VISIT, doc="")

    def adjustQuantum(self, inputs: Any, outputs: Any, label: str, data_id: Any) -> Any:
        if self.config.mode == "adjust":
            raise NoWorkFound("there is nothing to do for this quantum")
        return super().adjustQuantum(inputs, outputs, label, data_id)


class StepConfig(PipelineTaskConfig, pipelineConnections=StepConnections):
    mode = lsst.pex.config.Field(dtype=str, default="good", doc="What happens.")


class StepTask(PipelineTask):
    """One step of several; its configuration says how it goes."""

    ConfigClass = StepConfig
    _DefaultName = "step"

    def runQuantum(
        self,
        butlerQC: QuantumContext,
        inputRefs: InputQuantizedConnection,
        outputRefs: OutputQuantizedConnection,
    ) -> None:
        source = butlerQC.get(inputRefs)["source"]
        match self.config.mode:
            case "raise":
                raise RuntimeError("this step failed")
            case "no-work":
                raise NoWorkFound("nothing found to work on")
            case "half":
                butlerQC.put({"half": source}, outputRefs.extra)
                raise RuntimeError("this step failed after its first output")
            case "partial":
                butlerQC.put({"half": source}, outputRefs.extra)
                cause = ValueError("this step got half way")
                raise AnnotatedPartialOutputsError.annotate(cause, self, log=self.log) from cause
            case "only-extra":
                butlerQC.put({"half": source}, outputRefs.extra)
            case "change-after-put":
                product = {"from": source}
                butlerQC.put(product, outputRefs.product)
                product["from"] = "changed after it was put"
                butlerQC.put(product, outputRefs.extra)
            case _:
                butlerQC.put({"from": source}, outputRefs.product)
                butlerQC.put({"more": source}, outputRefs.extra)


class FirstStepConnections(
    StepConnections, dimensions=VISIT, defaultTemplates={"src": "start", "dst": "middle"}
):
    source = Input(name="{src}", storageClass=DATA, dimensions=EXPOSURE, multiple=True, doc="")


class FirstStepConfig(StepConfig, pipelineConnections=FirstStepConnections):
    pass


class FirstStepTask(StepTask):
    """The step from exposures to visits."""

    ConfigClass = FirstStepConfig


class CollectConnections(
    PipelineTaskConnections,
    dimensions=VISIT,
    defaultTemplates={"lhs": "left", "rhs": "right", "dst": "collected"},
):
    left = Input(name="{lhs}", storageClass=DATA, dimensions=VISIT, minimum=0, doc="")
    right = Input(name="{rhs}", storageClass=DATA, dimensions=VISIT, minimum=0, doc="")
    never = Input(
        name="never_made",
        storageClass=DATA,
        dimensions=VISIT,
        minimum=0,
        deferGraphConstraint=True,
        doc="",
    )
    calibration = PrerequisiteInput(
        name="no_such_calibration",
        storageClass=DATA,
        dimensions=DETECTOR,
        isCalibration=True,
        minimum=0,
        doc="",
    )
    many = PrerequisiteInput(
        name="no_such_catalogue",
        storageClass=DATA,
        dimensions=("htm7",),
        minimum=0,
        multiple=True,
        deferLoad=True,
        doc="",
    )
    product = Output(name="{dst}", storageClass=DATA, dimensions=VISIT, doc="")


class CollectConfig(PipelineTaskConfig, pipelineConnections=CollectConnections):
    pass


class CollectTask(PipelineTask):
    """Take what there is."""

    ConfigClass = CollectConfig
    _DefaultName = "collect"

    def run(self, **inputs: Any) -> Struct:
        return Struct(
            product={"present": sorted(k for k, v in inputs.items() if v), "left": inputs.get("left")}
        )


class MakeConnections(PipelineTaskConnections, dimensions=VISIT):
    start = Input(name="start", storageClass=DATA, dimensions=EXPOSURE, multiple=True, doc="")
    thing = Output(name="made_thing", storageClass="TestThing", dimensions=VISIT, doc="")
    table = Output(name="made_table", storageClass="ArrowAstropy", dimensions=VISIT, doc="")
    frame = Output(name="made_frame", storageClass="DataFrame", dimensions=VISIT, doc="")
    schema = InitOutput(name="made_schema", storageClass="ArrowAstropy", doc="")


class MakeConfig(PipelineTaskConfig, pipelineConnections=MakeConnections):
    pass


class MakeTask(PipelineTask):
    """Write datasets of several kinds."""

    ConfigClass = MakeConfig
    _DefaultName = "make"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.schema = Table({"ra": np.zeros(0), "flux": np.zeros(0, "f4")})

    def run(self, start: list[dict[str, Any]]) -> Struct:
        pixels = np.arange(20.0).reshape(5, 4) + start[0]["mean"]
        table = Table({"ra": pixels[:, 0], "flux": pixels[:, 1].astype("f4"), "id": np.arange(5)})
        return Struct(thing=Thing(pixels, {"exposures": len(start)}), table=table, frame=table.to_pandas())


class ReadConnections(PipelineTaskConnections, dimensions=VISIT):
    info = Input(name="made_thing.info", storageClass=DATA, dimensions=VISIT, doc="")
    total = Input(name="made_thing.total", storageClass="int", dimensions=VISIT, doc="")
    thing = Input(name="made_thing", storageClass="TestThing", dimensions=VISIT, deferLoad=True, doc="")
    table = Input(name="made_table", storageClass="ArrowNumpy", dimensions=VISIT, doc="")
    columns = Input(name="made_table.columns", storageClass="ArrowColumnList", dimensions=VISIT, doc="")
    frame = Input(name="made_frame", storageClass="ArrowAstropy", dimensions=VISIT, deferLoad=True, doc="")
    calibration = PrerequisiteInput(
        name="thing_calib.pixels", storageClass="PPNpz", dimensions=DETECTOR, isCalibration=True, doc=""
    )
    weights = PrerequisiteInput(name="weights", storageClass=DATA, dimensions=("instrument",), doc="")
    schema = InitInput(name="made_schema", storageClass="ArrowTable", doc="")
    settings = InitInput(name="global_settings", storageClass=DATA, doc="")
    result = Output(name="read_result", storageClass=DATA, dimensions=VISIT, doc="")
    converted = Output(name="read_table", storageClass="ArrowAstropy", dimensions=VISIT, doc="")


class ReadConfig(PipelineTaskConfig, pipelineConnections=ReadConnections):
    pass


class ReadTask(PipelineTask):
    """Read them in every way there is."""

    ConfigClass = ReadConfig
    _DefaultName = "read"

    def __init__(self, *, initInputs: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(initInputs=initInputs, **kwargs)
        self.names = list(initInputs["schema"].column_names)
        self.settings = initInputs["settings"]

    def run(
        self,
        info: dict[str, Any],
        total: int,
        thing: Any,
        table: np.ndarray,
        columns: list[str],
        frame: Any,
        calibration: np.ndarray,
        weights: dict[str, Any],
    ) -> Struct:
        some = frame.get(parameters={"columns": ["flux"]})
        result = {
            "init": {"names": self.names, "settings": self.settings},
            "info": info,
            "total": total,
            "first_rows": thing.get(parameters={"rows": 2}).pixels.tolist(),
            "pixels": thing.get(component="pixels").tolist(),
            "whole": type(thing.get()).__name__,
            "columns": list(columns),
            "some": list(some.colnames),
            "rowcount": int(frame.get(component="rowcount")),
            "as_arrow": frame.get(storageClass="ArrowTable").num_rows,
            "table": [list(row) for row in table.tolist()],
            "calibration": calibration.tolist(),
            "weights": weights,
        }
        return Struct(result=result, converted=some)


class SpoilConnections(
    PipelineTaskConnections, dimensions=EXPOSURE, defaultTemplates={"dst": "spoilt", "src": "start"}
):
    raw = Input(name="raw", storageClass="PPImage", dimensions=EXPOSURE, doc="")
    source = Input(name="{src}", storageClass=DATA, dimensions=EXPOSURE, doc="")
    bias = PrerequisiteInput(
        name="bias", storageClass="PPImage", dimensions=DETECTOR, isCalibration=True, doc=""
    )
    calibration = PrerequisiteInput(
        name="thing_calib", storageClass="TestThing", dimensions=DETECTOR, isCalibration=True, doc=""
    )
    image = Output(name="{dst}_image", storageClass="PPImage", dimensions=EXPOSURE, doc="")
    product = Output(name="{dst}", storageClass=DATA, dimensions=EXPOSURE, doc="")


class SpoilConfig(PipelineTaskConfig, pipelineConnections=SpoilConnections):
    pass


class SpoilTask(PipelineTask):
    """Change the inputs in place and hand them out again."""

    ConfigClass = SpoilConfig
    _DefaultName = "spoil"

    def run(self, raw: Any, source: dict[str, Any], bias: Any, calibration: Thing) -> Struct:
        seen = {
            "raw": float(raw.data.sum()),
            "bias": float(bias.data.sum()),
            "calibration": float(calibration.pixels.sum()),
            "info": dict(calibration.info),
            "source": dict(source),
        }
        raw.data += 7
        raw.header["SPOILT"] = True
        bias.data *= 3.0
        calibration.pixels[:] = -1.0
        calibration.info["spoilt"] = True
        source["spoilt"] = True
        return Struct(image=raw, product=seen)


class SkyConnections(PipelineTaskConnections, dimensions=VISIT):
    raw = Input(name="raw", storageClass="PPImage", dimensions=EXPOSURE, multiple=True, doc="")
    template = Input(
        name="template_coadd",
        storageClass="PPImage",
        dimensions=("skymap", "tract", "patch", "band"),
        multiple=True,
        deferLoad=True,
        doc="",
    )
    refcat = PrerequisiteInput(
        name="refcat",
        storageClass="ArrowAstropy",
        dimensions=("htm7",),
        multiple=True,
        deferLoad=True,
        doc="",
    )
    skymap = PrerequisiteInput(name="skyMap", storageClass="PPSkyMap", dimensions=("skymap",), doc="")
    product = Output(name="sky_inputs", storageClass=DATA, dimensions=VISIT, doc="")


class SkyConfig(PipelineTaskConfig, pipelineConnections=SkyConnections):
    pass


class SkyTask(PipelineTask):
    """Say which patches and shards there are, in the order given."""

    ConfigClass = SkyConfig
    _DefaultName = "sky"

    def run(self, raw: Any, template: Iterable[Any], refcat: Iterable[Any], skymap: Any) -> Struct:
        return Struct(
            product={
                "patches": [h.dataId["patch"] for h in template],
                "shards": [h.dataId["htm7"] for h in refcat],
                "skymap": skymap.name,
            }
        )


class PrepareConnections(PipelineTaskConnections, dimensions=GROUP):
    where = Input(name="regionTimeInfo", storageClass="RegionTimeInfo", dimensions=GROUP, doc="")
    template = Input(
        name="template_coadd",
        storageClass="PPImage",
        dimensions=("skymap", "tract", "patch", "band"),
        multiple=True,
        deferLoad=True,
        doc="",
    )
    prepared = Output(name="prepared", storageClass=DATA, dimensions=GROUP, doc="")


class PrepareConfig(PipelineTaskConfig, pipelineConnections=PrepareConnections):
    pass


class PrepareTask(PipelineTask):
    """Work that needs no image."""

    ConfigClass = PrepareConfig
    _DefaultName = "prepare"

    def run(self, where: Any, template: Iterable[Any]) -> Struct:
        return Struct(
            prepared={
                "patches": [h.dataId["patch"] for h in template],
                "area": where.region.getBoundingBox().getWidth().asDegrees(),
                "timespan": str(where.timespan),
            }
        )


class UsePreparedConnections(PipelineTaskConnections, dimensions=EXPOSURE):
    raw = Input(name="raw", storageClass="PPImage", dimensions=EXPOSURE, doc="")
    prepared = Input(name="prepared", storageClass=DATA, dimensions=GROUP, doc="")
    product = Output(name="used", storageClass=DATA, dimensions=EXPOSURE, doc="")


class UsePreparedConfig(PipelineTaskConfig, pipelineConnections=UsePreparedConnections):
    pass


class UsePreparedTask(PipelineTask):
    """Work with what was prepared."""

    ConfigClass = UsePreparedConfig
    _DefaultName = "usePrepared"

    def run(self, raw: Any, prepared: dict[str, Any]) -> Struct:
        return Struct(product={"exposure": raw.header["EXPID"], "prepared": prepared})


class GatherConnections(PipelineTaskConnections, dimensions=GROUP):
    start = Input(name="start", storageClass=DATA, dimensions=EXPOSURE, multiple=True, doc="")
    product = Output(name="gathered", storageClass=DATA, dimensions=GROUP, doc="")


class GatherConfig(PipelineTaskConfig, pipelineConnections=GatherConnections):
    pass


class GatherTask(PipelineTask):
    """Bring all snaps of a group together."""

    ConfigClass = GatherConfig
    _DefaultName = "gather"

    def run(self, start: list[dict[str, Any]]) -> Struct:
        return Struct(product={"exposures": [s["exposure"] for s in start]})


class PatchConnections(
    PipelineTaskConnections, dimensions=("instrument", "visit", "detector", "skymap", "tract", "patch")
):
    start = Input(name="start", storageClass=DATA, dimensions=EXPOSURE, multiple=True, doc="")
    template = Input(
        name="template_coadd", storageClass="PPImage", dimensions=("skymap", "tract", "patch", "band"), doc=""
    )
    product = Output(
        name="by_patch",
        storageClass=DATA,
        dimensions=("instrument", "visit", "detector", "skymap", "tract", "patch"),
        doc="",
    )


class PatchConfig(PipelineTaskConfig, pipelineConnections=PatchConnections):
    pass


class PatchTask(PipelineTask):
    """Several quanta a visit."""

    ConfigClass = PatchConfig
    _DefaultName = "patch"

    def run(self, start: list[dict[str, Any]], template: Any) -> Struct:
        return Struct(product={"mean": float(template.data.mean()), "start": start})


def find_weights(dataset_type: Any, registry: Any, data_id: Any, collections: Any) -> Iterable[Any]:
    """Look for datasets the way only a registry can."""
    return registry.queryDatasets(dataset_type, collections=collections, findFirst=True)


class LookUpConnections(PipelineTaskConnections, dimensions=EXPOSURE):
    raw = Input(name="raw", storageClass="PPImage", dimensions=EXPOSURE, doc="")
    weights = PrerequisiteInput(
        name="weights",
        storageClass=DATA,
        dimensions=("instrument",),
        lookupFunction=find_weights,
        multiple=True,
        doc="",
    )
    product = Output(name="looked_up", storageClass=DATA, dimensions=EXPOSURE, doc="")


class LookUpConfig(PipelineTaskConfig, pipelineConnections=LookUpConnections):
    pass


class LookUpTask(PipelineTask):
    """Find an input by a function of its own."""

    ConfigClass = LookUpConfig
    _DefaultName = "lookUp"

    def run(self, raw: Any, weights: list[dict[str, Any]]) -> Struct:
        return Struct(product={"weights": weights})


class TogetherConnections(StartConnections, dimensions=EXPOSURE, defaultTemplates={"dst": "together"}):
    def adjust_all_quanta(self, adjuster: Any) -> None:
        """Look at all quanta, and leave them."""


class TogetherConfig(PipelineTaskConfig, pipelineConnections=TogetherConnections):
    pass


class TogetherTask(StartTask):
    """Adjust all quanta at once."""

    ConfigClass = TogetherConfig


class WiderConnections(SkyConnections, dimensions=VISIT):
    def getSpatialBoundsConnections(self) -> Iterable[str]:
        return ("template",)


class WiderConfig(PipelineTaskConfig, pipelineConnections=WiderConnections):
    pass


class WiderTask(SkyTask):
    """Look for inputs beyond its own region."""

    ConfigClass = WiderConfig
