"""The workload of the overhead benchmark, for either side.

One detector, 18 preloaded datasets, 256 x 256 images, three trivial tasks, 11
outputs. The yardstick (``benchmarks/sketch``) makes every query and copy for
every visit; ours is the service's own code path in a real slot, with a ledger.
"""

from __future__ import annotations

__all__ = ["DEPLOYMENT", "DETECTOR", "NIGHT", "OurSide", "Yardstick", "make_repo"]

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from lsst.daf.butler import Butler  # noqa: E402
from sketch.baseline import PIPE, Baseline, make_local  # noqa: E402
from sketch.central import DEC, RA, ROT, make_central  # noqa: E402
from sketch.common import make_raw  # noqa: E402

from app.initialising import initialise  # noqa: E402
from config.settings import load_service_settings  # noqa: E402
from models.pipelines import SelectedPipelines  # noqa: E402
from models.times import day_obs  # noqa: E402
from models.visits import CoordinateSystem, Dome, FannedOutVisit, RotationSystem  # noqa: E402
from repos.ledger import Ledger  # noqa: E402
from repos.ledger_database import create_ledger_engine  # noqa: E402
from services.slots.attendance import ImageFeed  # noqa: E402
from services.slots.pool import SlotPool  # noqa: E402
from services.slots.process import TemplateProcess  # noqa: E402
from services.slots.protocol import Finished, MessagesMade, ProcessVisit  # noqa: E402
from services.slots.state import PoolConfig  # noqa: E402
from services.slots.supervisor import TemplateSupervisor  # noqa: E402

DETECTOR = 5
#: Night and deployment of the yardstick's output runs.
NIGHT, DEPLOYMENT = "2025-06-13", "deploy"
#: 2025-06-14T02:00:00 TAI as unix-style seconds.
OBSERVED = 1749866400.0
_PIPELINE = HERE / "pipelines" / "ApPipe.yaml"


def make_repo(root: Path) -> None:
    """Make the yardstick's central repo, with output types and runs."""
    from lsst.pipe.base import Pipeline

    make_central(str(root))
    with Butler.from_config(str(root), writeable=True) as butler:
        graph = Pipeline.fromFile(PIPE).to_graph()
        graph.resolve(butler.registry)
        graph.register_dataset_types(butler)


class Yardstick:
    """The straightforward sequence of Butler calls, with direct insertion."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self._root = root
        self._scratch = Path(tempfile.mkdtemp(prefix="raws-", dir=scratch))
        self._read = Butler.from_config(str(root), writeable=False)
        self._write = Butler.from_config(str(root), writeable=True)
        self._local = make_local(str(scratch), self._read)
        self._keep: set[Any] | None = None

    def visit(self, exposure: int) -> float:
        """Process a visit; return the seconds it took."""
        raw = str(self._scratch / f"{exposure}.fits")
        make_raw(raw, exposure, DETECTOR)
        begin = time.perf_counter()
        visit = Baseline(
            self._read, self._local.name, exposure, DETECTOR, writer="direct", central_root=str(self._root)
        )
        visit.c_w = self._write
        everything, calibs = visit.find()
        visit.transfer(everything, calibs)
        if self._keep is None:
            self._keep = {ref for ref in everything if ref.datasetType.isCalibration()}
        visit.keep = self._keep
        visit.ingest(raw)
        visit.run()
        visit.export()
        visit.clean()
        return time.perf_counter() - begin

    def register(self, finished: Finished) -> None:
        """Do what the writer service would do with a message."""
        from sketch.baseline import writer_ingest

        writer_ingest(self._write, [m.payload.decode() for m in finished.outbox])


class OurSide:
    """The service's code path: ledger, slot, and all that a slot does.

    Parameters
    ----------
    root : `pathlib.Path`
        Central repo.
    scratch : `pathlib.Path`
        For images, ledger and local repos.
    direct : `bool`
        Whether outputs are inserted directly, or by a message.
    form : `str`
        Form of the local repo.
    """

    def __init__(self, root: Path, scratch: Path, *, direct: bool, form: str = "auto") -> None:
        self._scratch = Path(tempfile.mkdtemp(prefix="ours-", dir=scratch))
        self._images = self._scratch / "images"
        self._images.mkdir()
        variables = {
            "RUBIN_INSTRUMENT": "ProtoCam",
            "PP_INSTRUMENT_PATH": str(HERE / "ProtoCam.yaml"),
            "SKYMAP": "proto_v1",
            "CENTRAL_REPO": str(root),
            # The workload stores nothing there; asking it is part of a visit.
            "CONFIG_APDB": str(self._make_apdb()),
            "MAIN_PIPELINES_CONFIG": yaml.safe_dump([{"pipelines": [str(_PIPELINE)]}]),
            "PREPROCESSING_PIPELINES_CONFIG": yaml.safe_dump([{"pipelines": None}]),
            "PP_IMAGE_DIRECTORY": str(self._images),
            "PP_STATE_DIR": str(self._scratch),
            "PP_DEPLOYMENT_ID": DEPLOYMENT,
            "PP_LOCAL_REPO_FORM": form,
            "LOCAL_REPOS": str(self._scratch),
            "SERVICE_LOG_LEVELS": ".=ERROR lsst=WARNING services=WARNING repos=WARNING app=WARNING",
            "REGISTER_DATASET_TYPES": "1",
        }
        if not direct:
            variables |= {
                "USE_KAFKA_BUTLER_WRITER": "1",
                "BUTLER_WRITER_KAFKA_CLUSTER": "localhost:9092",
                "BUTLER_WRITER_KAFKA_TOPIC": "butler-writer",
            }
        initialise(load_service_settings(variables), [NIGHT])
        self._ledger = Ledger(create_ledger_engine(f"sqlite:///{self._scratch}/ledger.sqlite3"))
        before = dict(os.environ)
        os.environ.update(variables)
        try:
            self._pool = SlotPool(
                config=PoolConfig(count=1, nice=0),
                template=TemplateSupervisor(
                    launch=lambda: TemplateProcess.launch("benchmarks.overhead_slot:prepare")
                ),
            )
            self._pool.start()
            self._pool.deployment_id(60.0)
        finally:
            os.environ.clear()
            os.environ.update(before)

    def visit(self, exposure: int) -> tuple[float, Finished]:
        """Process a visit.

        Returns
        -------
        seconds : `float`
            From start of preload to files in place and message durably
            queued, or outputs inserted.
        finished : `services.slots.protocol.Finished`
        """
        visit = announce(exposure)
        directory = self._images / f"ProtoCam/{DETECTOR}/{exposure}/0/{exposure}/g_6"
        directory.mkdir(parents=True)
        make_raw(str(directory / "raw.fits"), exposure, DETECTOR)
        request = ProcessVisit(
            visit=visit, pipelines=SelectedPipelines((), (str(_PIPELINE),)), output_date=NIGHT
        )
        night = day_obs(visit.private_sndStamp)
        begin = time.perf_counter()
        self._ledger.claim(visit, DEPLOYMENT, night)
        finished = self._pool.run(request, ImageFeed(), _no_alerts)
        self._ledger.finish(visit, DEPLOYMENT, night, finished.outcome, finished.outbox)
        return time.perf_counter() - begin, finished

    def close(self) -> None:
        """End the slot."""
        self._pool.close()

    def _make_apdb(self) -> Path:
        from init_job.new_repository import create_apdb

        config = self._scratch / "apdb.yaml"
        create_apdb(f"sqlite:///{self._scratch}/apdb.db", config)
        return config


def _no_alerts(made: MessagesMade) -> None:
    raise AssertionError(f"the pipeline makes no alerts, but {len(made.messages)} came")


def announce(exposure: int) -> FannedOutVisit:
    """Return the visit that an exposure of the workload belongs to."""
    return FannedOutVisit(
        salIndex=1,
        scriptSalIndex=1,
        groupId=str(exposure),
        coordinateSystem=CoordinateSystem.ICRS,
        position=(RA, DEC),
        startTime=OBSERVED,
        rotationSystem=RotationSystem.SKY,
        cameraAngle=ROT,
        filters="g_6",
        dome=Dome.OPEN,
        duration=30.0,
        nimages=1,
        instrument="ProtoCam",
        survey="benchmark",
        totalCheckpoints=1,
        private_sndStamp=OBSERVED,
        detector=DETECTOR,
    )
