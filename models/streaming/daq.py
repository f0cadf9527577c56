"""What a simulated DAQ is told to do."""

from __future__ import annotations

__all__ = ["DaqParameters", "DaqWorkflow"]

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


#: A time span in seconds; whole numbers stay whole, as ticks show them.
Seconds = Annotated[int | float, BeforeValidator(_no_flag), Field(ge=0, le=1e7, allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(_no_flag), Field(ge=0, le=100_000_000)]


class DaqParameters(BaseModel):
    """Timing and extent of a run.

    Names and defaults are those of ``daq_state_machine.toml``.

    Attributes
    ----------
    no_beam_not_ready_delay, beam_not_ready_delay, beam_ready_delay : `float`
        How long each state before the run lasts.
    beam_not_ready_end_delay : `float`
        How long the state after the run lasts.
    broadcast_delay : `float`
        What is waited after a change of state was broadcast, beyond the 0.1 s
        that every message costs.
    stf_interval : `float`
        Between the end of one file and the begin of the next, so a gap and
        not a period.
    stf_generation_time : `float`
        What each file takes after it was announced.
    stf_count : `int`
        Files in each physics period. 0: as many as fit into
        `physics_period_duration`.
    physics_period_count : `int`
        0: periods follow each other until the run is stopped.
    standby_duration : `float`
        Between two periods.
    realtime : `bool`
        A simulated second lasts a second; otherwise as fast as possible.
    duration : `float`
        Where the run is ended, in simulated seconds; 0: where it ends by
        itself.
    container : `pathlib.Path`
        Folder in which each run has one of its own; absolute.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    no_beam_not_ready_delay: Seconds = 5
    beam_not_ready_delay: Seconds = 5
    beam_ready_delay: Seconds = 2
    beam_not_ready_end_delay: Seconds = 5
    broadcast_delay: Seconds = 1
    stf_interval: Seconds = 2.0
    stf_generation_time: Seconds = 0.1
    stf_count: Count = 0
    physics_period_duration: Seconds = 10
    physics_period_count: Count = 2
    standby_duration: Seconds = 2
    realtime: bool = True
    duration: Seconds = 0
    container: Path = Path("/tmp")  # noqa: S108 (the field's default)

    @field_validator("stf_count", "duration", mode="before")
    @classmethod
    def _none_is_zero(cls, value: Any) -> Any:
        return 0 if value is None else value

    @field_validator("container")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        if not value.is_absolute():
            raise ValueError("must be an absolute path")
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise ValueError(f"must be UTF-8, as messages that name it are, not {str(value)!a}") from None
        return value

    @model_validator(mode="after")
    def _comes_to_something(self) -> Self:
        endless = not self.physics_period_count and not self.duration and not self.realtime
        if endless and not self.stf_count and not self.physics_period_duration:
            raise ValueError(
                "physics_period_count, stf_count, physics_period_duration and duration are all 0: as fast "
                "as possible, there would be periods without files and no end of them; give one of them"
            )
        return self


class DaqWorkflow(BaseModel):
    """A workflow, ready to be run.

    Attributes
    ----------
    namespace : `str`
        Whose messages these are.
    name, version, description : `str`
        Of the workflow, as in its configuration.
    parameters : `DaqParameters`
    parameter_values : `dict`
        The configuration in effect, for the record; JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str = Field(min_length=1, max_length=100)
    name: str = Field(min_length=1, max_length=80)
    version: str = Field(default="1.0", min_length=1, max_length=50)
    description: str = ""
    parameters: DaqParameters = DaqParameters()
    parameter_values: dict[str, Any] = Field(default_factory=dict)
