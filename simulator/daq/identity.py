"""Which run it is."""

from __future__ import annotations

__all__ = ["RunIdentity"]

from dataclasses import dataclass

from models.streaming.names import dataset_name


@dataclass(frozen=True)
class RunIdentity:
    """Whose run it is, and which.

    Attributes
    ----------
    run_id : `str`
        Digits.
    sender : `str`
        The agent that signs the run's messages.
    """

    namespace: str
    execution_id: str
    run_id: str
    sender: str

    @property
    def dataset(self) -> str:
        """Name of the run's dataset, and of its folder."""
        return dataset_name(self.run_id)

    @property
    def labels(self) -> dict[str, str]:
        """What lines of the log about the run are labelled with."""
        return {"execution_id": self.execution_id, "run_id": self.run_id}
