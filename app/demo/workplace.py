"""The directory in which a demo takes place, and the settings for it."""

from __future__ import annotations

__all__ = ["Workplace"]

import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml

from config.instruments import InstrumentConfig
from config.settings import PROJECT
from models.errors import InvalidConfiguration

#: File by which a directory is known to be a demo's own.
_MARKER = ".prompt-processing-demo"


@dataclass(frozen=True)
class Workplace:
    """Where everything of a demo lies.

    Attributes
    ----------
    root : `pathlib.Path`
        Absolute.
    """

    root: Path

    @classmethod
    def create(cls, root: Path) -> Workplace:
        """Make an empty workplace; an earlier demo's is replaced.

        Raises
        ------
        models.errors.InvalidConfiguration
            Raised if the directory holds something else, or cannot be
            written.
        """
        root = root.absolute()
        try:
            if root.exists() and any(root.iterdir()):
                if not (root / _MARKER).exists():
                    raise InvalidConfiguration(
                        f"{root} holds something that no demo made; name another directory with --out"
                    )
                shutil.rmtree(root)
            root.mkdir(parents=True, exist_ok=True)
            (root / _MARKER).touch()
            place = cls(root)
            place.images.mkdir()
            place.state.mkdir()
            place.local.mkdir()
        except OSError as error:
            raise InvalidConfiguration(f"the demo cannot write in {root}: {error}") from error
        return place

    @property
    def seed(self) -> Path:
        """Calibrations, reference catalogue and templates, as files."""
        return self.root / "seed"

    @property
    def central(self) -> Path:
        """The central repo."""
        return self.root / "central"

    @property
    def apdb(self) -> Path:
        """Configuration of the APDB."""
        return self.root / "apdb.yaml"

    @property
    def images(self) -> Path:
        """Where raw images arrive."""
        return self.root / "images"

    @property
    def alerts(self) -> Path:
        """Where alerts go."""
        return self.root / "alerts"

    @property
    def batches(self) -> Path:
        """The writer's lists of what it registered."""
        return self.root / "batches"

    @property
    def state(self) -> Path:
        """What the service keeps."""
        return self.root / "state"

    @property
    def local(self) -> Path:
        """Local repos of the slots."""
        return self.root / "local"

    @property
    def log(self) -> Path:
        """The service's log."""
        return self.root / "service.log"

    @property
    def settings_file(self) -> Path:
        """The service's settings."""
        return self.root / "settings.yaml"

    def write_settings(
        self, instrument: InstrumentConfig, *, skymap: str, port: int, slots: int
    ) -> dict[str, str]:
        """Write the settings for the service.

        Returns
        -------
        variables : `dict` [`str`, `str`]
            The same, as environment variables.
        """
        pipelines = PROJECT / "pipelines"
        main = (
            [pipelines / "calibrated" / "ApPipe.yaml", pipelines / "calibrated" / "SingleFrame.yaml"]
            if instrument.raw_form == "calibrated"
            else [pipelines / "ApPipe.yaml", pipelines / "SingleFrame.yaml", pipelines / "Isr.yaml"]
        )
        variables = {
            "RUBIN_INSTRUMENT": instrument.name,
            "PP_INSTRUMENT_PATH": str(self.seed / "instrument.yaml"),
            "SKYMAP": skymap,
            "CENTRAL_REPO": str(self.central),
            "CONFIG_APDB": str(self.apdb),
            "MAIN_PIPELINES_CONFIG": yaml.safe_dump([{"pipelines": [str(p) for p in main]}]),
            "PREPROCESSING_PIPELINES_CONFIG": yaml.safe_dump(
                [{"pipelines": [str(pipelines / "Preprocessing.yaml")]}]
            ),
            "PP_IMAGE_DIRECTORY": str(self.images),
            "PP_ALERT_DIRECTORY": str(self.alerts),
            "PP_STATE_DIR": str(self.state),
            "LOCAL_REPOS": str(self.local),
            "PP_HOST": "127.0.0.1",
            "PP_PORT": str(port),
            "PP_METRICS_PORT": "0",
            "WORKER_COUNT": str(slots),
            "WORKER_TIMEOUT": "300",
        }
        self.settings_file.write_text(yaml.safe_dump(variables, sort_keys=False))
        return variables
