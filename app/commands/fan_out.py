"""``prompt-processing fan-out``: from nextVisits to one visit a detector."""

from __future__ import annotations

__all__ = ["fan_out"]


def fan_out() -> None:
    """Read nextVisits from Kafka; send each active detector its copy.

    Copies go out over HTTP as CloudEvents (PLATFORM=knative), or into Redis
    streams (PLATFORM=keda). Settings come from the environment and from the
    section fan-out of the YAML file that PP_SETTINGS_FILE names;
    INSTRUMENT_CONFIG_FILE says where each instrument's visits go. SIGTERM,
    SIGHUP or Ctrl-C ends it: nothing more is read, and open requests are given
    PP_FAN_OUT_GRACE_PERIOD seconds.

    For example:

      PP_SETTINGS_FILE=settings.yaml prompt-processing fan-out
    """
    # Kafka's and HTTP's clients take a moment to import; `--help` does without.
    from app.fan_out_factory import run_fan_out
    from config.environment import apply_library_variables
    from config.fan_out_settings import load_fan_out_settings

    apply_library_variables("fan-out")
    run_fan_out(load_fan_out_settings())
