"""``prompt-processing simulate``: observe against a running service."""

from __future__ import annotations

__all__ = ["simulate"]

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from models.errors import InvalidConfiguration, TemporarilyUnavailable

if TYPE_CHECKING:
    from config.instruments import InstrumentConfig
    from models.kafka_access import KafkaAccess
    from simulator.plan import Plan

#: Visits of a simulated night, unless told otherwise.
_VISITS = 3
#: Visits up to which all frames are rendered before the first is announced.
_RENDER_ALL = 10
#: Visits that longer nights are rendered ahead.
_STAGE_AHEAD = 3
#: Options that need another one, by their names here.
_NEEDS = {
    "bucket_topic": "bucket",
    "schema_registry": "visit_topic",
    "collection": "replay",
    "group": "replay",
    "day_obs": "replay",
    "keep_ids": "replay",
}
#: Options that only a simulated sky has.
_OF_THE_SKY = ("transients", "seed", "seed_dir")


def simulate(
    context: typer.Context,
    *,
    url: Annotated[str, typer.Option(help="Where the service listens.")] = "http://127.0.0.1:8080",
    image_dir: Annotated[
        Path | None,
        typer.Option(help="Directory that the service watches for images, its PP_IMAGE_DIRECTORY."),
    ] = None,
    bucket: Annotated[
        str | None,
        typer.Option(
            help="Bucket for images, the service's IMAGE_BUCKET; server and keys: S3_ENDPOINT_URL, AWS_*."
        ),
    ] = None,
    kafka: Annotated[
        str | None,
        typer.Option(
            help="Kafka cluster of the topics below, host:port; user, password and TLS are a fan-out's: "
            "SASL_USERNAME, SASL_PASSWORD, SASL_MECHANISM, SECURITY_PROTOCOL."
        ),
    ] = None,
    bucket_topic: Annotated[
        str, typer.Option(help="Topic on which new objects in the bucket are told of; its BUCKET_TOPIC.")
    ] = "rubin-prompt-processing",
    visit_topic: Annotated[
        str | None,
        typer.Option(
            "--next-visit-topic",
            "--visit-topic",
            help="Topic for nextVisits, a fan-out's NEXT_VISIT_TOPIC, in place of HTTP.",
        ),
    ] = None,
    schema_registry: Annotated[
        str | None, typer.Option(help="Schema registry, for nextVisits as Avro; JSON, if left out.")
    ] = None,
    replay: Annotated[
        str | None,
        typer.Option(
            help="Butler repo whose visits and raws are observed again, instead of a simulated sky."
        ),
    ] = None,
    collection: Annotated[
        list[str] | None,
        typer.Option(help="Where that repo has its raws; INSTRUMENT/raw/all, if left out."),
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="Group of that repo to observe; may be given again.")
    ] = None,
    day_obs: Annotated[
        int | None, typer.Option(help="Day of observation of that repo to observe, YYYYMMDD.")
    ] = None,
    keep_ids: Annotated[
        bool, typer.Option("--keep-ids", help="Keep groups, ids and dates of that repo's visits.")
    ] = False,
    instrument: Annotated[
        str, typer.Option(help="Camera: a name, or an instrument file; the service's RUBIN_INSTRUMENT.")
    ] = "DemoCam",
    visits: Annotated[
        int | None,
        typer.Option(
            "--visits", "--limit", min=1, help="Visits to observe; 3, or all that are replayed, if left out."
        ),
    ] = None,
    detectors: Annotated[
        int | None, typer.Option(min=1, help="Detectors to use, the first so many. All, if left out.")
    ] = None,
    transients: Annotated[
        int, typer.Option(min=0, help="Transients on each detector's part of the sky.")
    ] = 12,
    seed: Annotated[int, typer.Option(help="Seed of the sky, that of the central repo.")] = 1,
    survey: Annotated[
        str | None,
        typer.Option(help="Survey; pipelines may be chosen by it. demo, or the programme that is replayed."),
    ] = None,
    cadence: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Seconds between announcements. If left out, each visit waits for all answers."
        ),
    ] = None,
    lead: Annotated[
        float, typer.Option(min=0.0, help="Seconds from the announcement to the opening of the shutter.")
    ] = 6.0,
    exposure: Annotated[float, typer.Option(min=0.0, help="Seconds for which the shutter is open.")] = 3.0,
    token: Annotated[
        str | None, typer.Option(help="Bearer token, if the service wants one. PP_TOKEN, if left out.")
    ] = None,
    seed_dir: Annotated[
        Path | None,
        typer.Option(help="Write what create-central makes a central repo of this sky from, and exit."),
    ] = None,
) -> None:
    """Observe a simulated sky, or the raws of a repo once more, against a
    running service: announce visits over HTTP or on Kafka, expose, and deliver
    raws into the directory that it watches or into its bucket.

    The service must know this sky: its central repo is made from the
    directory that --seed-dir writes, with the same instrument and seed.

    With a bucket, this also sends the notifications that S3 stores in the
    field send themselves. With a topic of nextVisits, a fan-out service sends
    the visits to the service, which --url names to learn what became of them.

    Exits 0 only when every visit was processed.

    For example, from nothing to a night:

      prompt-processing simulate --seed 7 --seed-dir ./sky

      prompt-processing create-central ./central ./sky --apdb ./apdb.yaml

      prompt-processing init && prompt-processing serve

      prompt-processing simulate --seed 7 --image-dir ./images --visits 5

    On servers, where fan-out and service run (with the fan-out's settings, if
    Kafka wants to know who writes):

      prompt-processing simulate --bucket images --kafka kafka:9092
      --next-visit-topic next-visit --schema-registry http://registry:8081

    A recorded night, or one group of it. Its visits get new groups, exposure
    ids and dates, because a service does not process one twice, unless
    --keep-ids says otherwise or the camera's raws do not allow it:

      prompt-processing simulate --replay /repo/main --instrument mycam.yaml
      --day-obs 20260101 --limit 10 --image-dir ./images

      prompt-processing simulate --replay /repo/main --instrument mycam.yaml
      --group 2026-01-02T03:04:05.678 --bucket images --kafka kafka:9092

    At the pace of a survey, against a service elsewhere:

      prompt-processing simulate --url http://pp.example.org --image-dir /raws
      --visits 100 --cadence 37 --lead 20 --exposure 30
    """
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    _check_options(given)
    from config.environment import apply_library_variables

    # Before the libraries are imported that read them.
    apply_library_variables("service")
    if kafka is not None:
        apply_library_variables("fan-out")
    console = Console()
    camera = _find_instrument(instrument)
    if replay is not None:
        from simulator.io.replay import plan_replay

        plan = plan_replay(
            replay,
            instrument=camera,
            collections=collection or (),
            groups=group or (),
            day_obs=day_obs,
            visits=visits,
            detectors=detectors,
            survey=survey,
        )
        if not keep_ids:
            plan = _renew(console, plan)
    else:
        plan = _plan(
            camera,
            seed=seed,
            visits=visits or _VISITS,
            detectors=detectors,
            transients=transients,
            survey=survey or "demo",
        )
    if seed_dir is not None:
        _write_seed(console, plan, seed_dir)
        return
    # Simulator and HTTP client are heavy; `--help` does without.
    from app.demo.progress import NightProgress
    from app.demo.table import night_table, print_failures, print_groups
    from app.progress import progress_reporter
    from simulator.io.service_client import is_ready
    from simulator.io.surroundings import Surroundings, observatory_in
    from simulator.observing import Timing

    surroundings = Surroundings(
        url=url,
        token=token or _configured("PP_TOKEN"),
        image_dir=image_dir,
        bucket=bucket,
        endpoint_url=_configured("S3_ENDPOINT_URL"),
        bucket_topic=bucket_topic,
        kafka=None if kafka is None else _kafka(kafka),
        visit_topic=visit_topic,
        schema_registry=schema_registry,
    )
    surroundings.check()
    if not is_ready(url):
        raise TemporarilyUnavailable(
            f"no service at {url} is ready to take visits; start one with `prompt-processing serve`, "
            "or name it with --url"
        )
    timing = Timing(
        lead=lead,
        exposure=exposure,
        cadence=cadence,
        stage_ahead=None if len(plan.visits) <= _RENDER_ALL else _STAGE_AHEAD,
    )
    with progress_reporter(console) as report:
        progress = NightProgress(report, plan)
        with observatory_in(surroundings, timing=timing, progress=progress) as observatory:
            reports = observatory.observe(plan)
    console.print(night_table(reports))
    print_groups(console, reports)
    print_failures(console, reports)
    if any(report.status != 200 for report in reports):
        raise typer.Exit(1)


def _plan(
    camera: InstrumentConfig, *, seed: int, visits: int, detectors: int | None, transients: int, survey: str
) -> Plan:
    from simulator.schedule import plan_simulated

    try:
        return plan_simulated(
            seed=seed,
            visits=visits,
            detectors=detectors,
            transients=transients,
            instrument=camera,
            start=time.time(),
            survey=survey,
        )
    except ValueError as error:
        raise InvalidConfiguration(str(error)) from error


def _check_options(given: set[str]) -> None:
    """Refuse options that would do nothing without, or beside, others."""
    for name, needed in _NEEDS.items():
        if name in given and needed not in given:
            raise typer.BadParameter(f"needs {_option(needed)}", param_hint=_option(name))
    for name in _OF_THE_SKY:
        if name in given and "replay" in given:
            raise typer.BadParameter("is of a simulated sky; leave out --replay", param_hint=_option(name))
    if "kafka" in given and not given & {"bucket", "visit_topic"}:
        raise typer.BadParameter("needs --bucket or --next-visit-topic", param_hint="--kafka")
    if "kafka" not in given and (needs := given & {"bucket", "visit_topic"}):
        hint = _option(min(needs))
        raise typer.BadParameter("needs a cluster: name it with --kafka HOST:PORT", param_hint=hint)
    if {"image_dir", "bucket"} <= given:
        raise typer.BadParameter("raws go there or to --image-dir, one of them", param_hint="--bucket")
    if not given & {"image_dir", "bucket", "seed_dir"}:
        raise typer.BadParameter(
            "say which directory the service watches, or with --bucket which bucket (or, to make its central "
            "repo, use --seed-dir)",
            param_hint="--image-dir",
        )


def _option(name: str) -> str:
    return "--next-visit-topic" if name == "visit_topic" else f"--{name.replace('_', '-')}"


def _renew(console: Console, plan: Plan) -> Plan:
    from models.times import tai_from_unix
    from simulator.renewal import renew_ids

    try:
        return renew_ids(plan, tai_from_unix(time.time()))
    except ValueError as error:
        console.print(
            f"The visits keep their groups and exposure ids, because {error}; a service that has processed "
            "them does not do so again.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        return plan


def _find_instrument(instrument: str) -> InstrumentConfig:
    from config.instruments import find_instrument_file, load_instrument

    path = Path(instrument)
    return load_instrument(path if path.is_file() else find_instrument_file(instrument))


def _write_seed(console: Console, plan: Plan, directory: Path) -> None:
    from app.progress import progress_reporter

    with progress_reporter(console) as report:
        plan.write_seed_directory(directory, report)
    console.print(
        f"{directory} is ready for `prompt-processing create-central`.", highlight=False, soft_wrap=True
    )


def _kafka(bootstrap: str) -> KafkaAccess:
    """Return the cluster, and how a fan-out would log in there."""
    from config.kafka_login import load_kafka_login
    from models.kafka_access import KafkaAccess

    login = load_kafka_login()
    return KafkaAccess(
        bootstrap,
        username=login.sasl_username,
        password=login.sasl_password.get_secret_value() or None,
        security_protocol=login.security_protocol,
        mechanism=login.sasl_mechanism,
        verify=login.kafka_verify_tls,
    )


def _configured(variable: str) -> str | None:
    """Return a setting of the service."""
    from config.loading import merge_variables

    environment, from_file = merge_variables("service")
    value = environment.get(variable) or from_file.get(variable)
    return str(value) if value else None
