"""Writes the golden messages of version 1: ``python -m tests.golden.generate DIR``.

They are frozen in ``tests/golden/v1``; nobody needs to run this again. It is
kept to show where they come from, and a test shows that it still writes them.
Messages that hold the Butler's own forms are made by the stock Butler, from
datasets that it has put into a repo; the others are written here by hand, from
the description of what the field sends. No code of the product is used.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import astropy.time
import fastavro
from lsst.daf.butler import Butler, DatasetRef, DatasetType, DimensionRecord, FileDataset, Timespan
from lsst.sphgeom import ConvexPolygon, UnitVector3d

VERSION = 1
DIRECTORY = Path(__file__).with_name("v1")
#: Id of the summit's schema in the registry of these messages.
SCHEMA_ID = 1742
RUN = "LSSTCam/prompt/output-2025-03-31/ApPipe/pp-1a2b3c"
GROUP = "2025-04-01T03:00:00.123"
EXPOSURE = 2025033100123
DAY_OBS = 20250331
_NAMESPACE = uuid.UUID("7f3c2b4e-5d1a-4c89-9f60-2b8de4a1c735")

#: What every copy of the visit has, in the order of the contract's table.
VISIT: dict[str, Any] = {
    "salIndex": 2,
    "scriptSalIndex": 300041,
    "groupId": GROUP,
    "coordinateSystem": 2,
    "position": [134.5454, -65.3261],
    "startTime": 1743476437.5,
    "rotationSystem": 2,
    "cameraAngle": 135.0,
    "filters": "r_57",
    "dome": 2,
    "duration": 35.0,
    "nimages": 1,
    "instrument": "LSSTCam",
    "survey": "BLOCK-365",
    "totalCheckpoints": 1,
    "private_sndStamp": 1743476400.25,
}
NEXT_VISIT: dict[str, Any] = {
    **VISIT,
    "private_efdStamp": 1743476363.25,
    "private_kafkaStamp": 1743476363.31,
    "private_identity": "ScriptQueue:2",
    "private_revCode": "c9aab3df",
    "private_origin": 3041,
    "private_seqNum": 1630,
    "private_rcvStamp": 1743476363.3125,
}
FANNED_OUT: dict[str, Any] = {**VISIT, "detector": 94}
_TYPES = {int: "long", float: "double", str: "string", list: {"type": "array", "items": "double"}}
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "nextVisitEnvelope",
    "fields": [
        {"name": "timestamp", "type": "long"},
        {
            "name": "message",
            "type": {
                "type": "record",
                "name": "nextVisit",
                "fields": [{"name": n, "type": _TYPES[type(v)]} for n, v in NEXT_VISIT.items()],
            },
        },
    ],
}
_ATTRIBUTES = {
    "specversion": "1.0",
    "id": "5f0d4a44-6f0e-4d3f-8a9a-6f3f1d0c2b11",
    "source": "lsst.sal.ScriptQueue.logevent_nextVisit",
    "type": "com.example.kafka",
    "time": "2025-04-01T02:59:23.400000+00:00",
}
STRUCTURED = {
    "headers": {"content-type": "application/cloudevents+json"},
    "body": {**_ATTRIBUTES, "datacontenttype": "application/json", "data": json.dumps(FANNED_OUT)},
}
BINARY = {
    "headers": {**{f"ce-{n}": v for n, v in _ATTRIBUTES.items()}, "content-type": "application/json"},
    "body": FANNED_OUT,
}
REDIS_ENTRY = {
    "salIndex": "2",
    "scriptSalIndex": "300041",
    "groupId": GROUP,
    "coordinateSystem": "2",
    "position": "[134.5454, -65.3261]",
    "startTime": "1743476437.5",
    "rotationSystem": "2",
    "cameraAngle": "135.0",
    "filters": "r_57",
    "dome": "2",
    "duration": "35.0",
    "nimages": "1",
    "instrument": "LSSTCam",
    "survey": "BLOCK-365",
    "totalCheckpoints": "1",
    "private_sndStamp": "1743476400.25",
    "detector": "94",
}
_OBSID = "MC_O_20250331_000123"
RAW_KEY = f"LSSTCam/20250331/{_OBSID}/{_OBSID}_R22_S11.fits"
NOTIFICATION = {
    "Records": [
        {
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": "rubin-summit"}, "object": {"key": RAW_KEY}},
        }
    ]
}
SIDECAR = {"GROUPID": GROUP, "RAFTBAY": "R22", "CCDSLOT": "S11", "OBSID": _OBSID}
BATCH_ID = "0d9cf4f2-37a5-4a0c-8a6f-1a4f6ab5f3c1"
BATCH_FILE_NAME = f"2025-04-01T03-01-12-000345-{BATCH_ID}.json"

_WHERE = {"instrument": "LSSTCam", "group": GROUP, "detector": 94}
_RAN = {"exposures": [], "outputs": 0, "alerts": 0, "warnings": []}


def _problem(status: int, name: str, detail: str, **fields: Any) -> dict[str, Any]:
    kind = f"urn:prompt-processing:problem:{name}"
    return {"type": kind, "title": name, "status": status, "detail": detail, **fields}


#: By the class of the error, or the result of the visit, that leads to them.
PROBLEMS: dict[str, dict[str, Any]] = {
    "InvalidMessage": _problem(400, "invalid-message", "nimages: Field required"),
    "StaleVisit": _problem(403, "stale-visit", "published 3700 s ago", **_WHERE),
    "AlreadyInProgress": _problem(409, "already-in-progress", "it is being processed now", **_WHERE),
    "UnusableVisit": _problem(422, "unusable-visit", "coordinateSystem OBSERVED", **_WHERE),
    "NoPipelineApplies": _problem(422, "no-pipeline-applies", "no entry matches", **_WHERE),
    "ServiceBusy": _problem(503, "interrupted", "no slot is free", reason="ServiceBusy", **_WHERE),
    "interrupted": _problem(
        503, "interrupted", "the slot was stopped", reason="Interrupted", **_WHERE, **_RAN
    ),
    "failed": _problem(500, "failed", "no image arrived", reason="NoImageArrived", **_WHERE, **_RAN),
    "not-retriable": _problem(
        500,
        "not-retriable",
        "the export failed. This visit should NOT be retried.",
        reason="ExportFailed",
        **_WHERE,
        **_RAN,
    ),
}


@dataclass(frozen=True)
class StockOutputs:
    """What the stock Butler has of a visit's outputs."""

    records: list[DimensionRecord]
    files: list[FileDataset]
    dataset_types: list[DatasetType]

    def message(self, *, with_types: bool) -> dict[str, Any]:
        """The message to the writer, of the Butler's ``to_simple()`` forms."""
        message: dict[str, Any] = {
            "type": "pp-output",
            "dimension_records": [r.to_simple().model_dump(mode="json") for r in self.records],
            "datasets": [f.to_simple().model_dump(mode="json") for f in self.files],
        }
        if with_types:
            message["dataset_types"] = [t.to_simple().model_dump(mode="json") for t in self.dataset_types]
        return message


def stock_outputs(root: Path) -> StockOutputs:
    """Put outputs into a repo of the stock Butler, and ask it what it has."""
    Butler.makeRepo(str(root))
    with Butler.from_config(str(root), writeable=True) as butler:
        _insert_records(butler)
        butler.collections.register(RUN)
        types = [
            DatasetType(
                "regionTimeInfo",
                ("instrument", "group", "detector"),
                "StructuredDataDict",
                universe=butler.dimensions,
            ),
            DatasetType(
                "dia_source_summary",
                ("instrument", "visit", "detector"),
                "StructuredDataDict",
                universe=butler.dimensions,
            ),
            DatasetType(
                "dia_source", ("instrument", "visit", "detector"), "ArrowAstropy", universe=butler.dimensions
            ),
        ]
        refs = []
        for dataset_type in types:
            butler.registry.registerDatasetType(dataset_type)
            data_id = {"instrument": "LSSTCam", "detector": 94}
            data_id |= {"group": GROUP} if "group" in dataset_type.dimensions else {"visit": EXPOSURE}
            ref = DatasetRef(
                dataset_type,
                butler.registry.expandDataId(data_id, dimensions=dataset_type.dimensions),
                run=RUN,
                id=uuid.uuid5(_NAMESPACE, dataset_type.name),
            )
            refs.append(butler.put(_content(dataset_type.name), ref))
        files = sorted(butler._datastore.export(refs, transfer=None), key=lambda file: str(file.path))
        elements = (
            "group",
            "day_obs",
            "exposure",
            "visit_system",
            "visit",
            "visit_definition",
            "visit_system_membership",
            "visit_detector_region",
        )
        records = [
            record
            for element in elements
            for record in butler.query_dimension_records(element, explain=False)
        ]
        return StockOutputs(records, files, types)


def _content(name: str) -> Any:
    if name == "dia_source":
        from astropy.table import Table

        return Table({"diaSourceId": [1, 2], "ra": [134.5, 134.6]})
    return {"of": name}


def _insert_records(butler: Butler) -> None:
    # Corners that every machine computes alike.
    polygon = ConvexPolygon([UnitVector3d.X(), UnitVector3d.Y(), UnitVector3d.Z()])
    begin = astropy.time.Time("2025-04-01T03:00:37.5", scale="tai")
    timespan = Timespan(begin, begin + astropy.time.TimeDelta(30.0, format="sec"))
    filter_ = {"instrument": "LSSTCam", "physical_filter": "r_57"}
    common = {
        **filter_,
        "day_obs": DAY_OBS,
        "exposure_time": 30.0,
        "observation_reason": "science",
        "science_program": "BLOCK-365",
        "seq_num": 123,
        "target_name": "lowdust",
        "zenith_angle": 41.25,
        "azimuth": 180.5,
        "timespan": timespan,
    }
    insert = butler.registry.insertDimensionData
    insert(
        "instrument",
        {
            "name": "LSSTCam",
            "class_name": "lsst.obs.lsst.LsstCam",
            "detector_max": 205,
            "visit_max": 10**13,
            "exposure_max": 10**13,
            "visit_system": 2,
        },
    )
    insert("physical_filter", {"instrument": "LSSTCam", "name": "r_57", "band": "r"})
    insert(
        "detector",
        {
            "instrument": "LSSTCam",
            "id": 94,
            "full_name": "R22_S11",
            "name_in_raft": "S11",
            "raft": "R22",
            "purpose": "SCIENCE",
        },
    )
    insert("day_obs", {"instrument": "LSSTCam", "id": DAY_OBS})
    insert("group", {"instrument": "LSSTCam", "name": GROUP})
    insert("visit_system", {"instrument": "LSSTCam", "id": 0, "name": "one-to-one"})
    insert(
        "exposure",
        {
            **common,
            "id": EXPOSURE,
            "group": GROUP,
            "obs_id": _OBSID,
            "dark_time": 30.5,
            "observation_type": "science",
            "seq_start": 123,
            "seq_end": 123,
            "tracking_ra": 134.5454,
            "tracking_dec": -65.3261,
            "sky_angle": 135.0,
            "has_simulated": False,
            "can_see_sky": True,
        },
    )
    insert("visit", {**common, "id": EXPOSURE, "name": _OBSID, "region": polygon})
    insert("visit_definition", {"instrument": "LSSTCam", "exposure": EXPOSURE, "visit": EXPOSURE})
    insert("visit_system_membership", {"instrument": "LSSTCam", "visit": EXPOSURE, "visit_system": 0})
    insert(
        "visit_detector_region",
        {"instrument": "LSSTCam", "visit": EXPOSURE, "detector": 94, "region": polygon},
    )


def _avro() -> bytes:
    stream = io.BytesIO()
    stream.write(struct.pack(">bI", 0, SCHEMA_ID))
    datum = {"timestamp": 1743476363310, "message": NEXT_VISIT}
    fastavro.schemaless_writer(stream, fastavro.parse_schema(SCHEMA), datum)
    return stream.getvalue()


def generate(directory: Path) -> None:
    """Write all messages into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        outputs = stock_outputs(Path(scratch) / "repo")
    ids = [str(id_) for file in outputs.files for ref in file.refs for id_ in [ref.id]]
    messages = {
        "next_visit": NEXT_VISIT,
        "next_visit_schema": SCHEMA,
        "fanned_out_visit": FANNED_OUT,
        "cloud_event_structured": STRUCTURED,
        "cloud_event_binary": BINARY,
        "redis_entry": REDIS_ENTRY,
        "notification": NOTIFICATION,
        "sidecar": SIDECAR,
        "pp_output": outputs.message(with_types=False),
        "pp_output_with_dataset_types": outputs.message(with_types=True),
        "batch_ingested": {
            "type": "batch-ingested",
            "batch_id": BATCH_ID,
            "origin": "prompt_processing",
            "batch_file": BATCH_FILE_NAME,
        },
        "batch_file": {"batch_id": BATCH_ID, "datasets": ids},
        "problems": PROBLEMS,
    }
    for name, message in messages.items():
        (directory / f"{name}.json").write_text(json.dumps(message, indent=1) + "\n")
    (directory / "next_visit.avro").write_bytes(_avro())


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
