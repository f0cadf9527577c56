"""The Kubernetes manifests: well formed, complete, and of one configuration.

Kubernetes' own kinds are checked against its schemas. Those of Knative and
KEDA are in no package; the schemas beside this file were written by hand from
their documentation and know only what the manifests use.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from app.cli import _COMMANDS
from config.environment import LIBRARY_VARIABLES
from config.fan_out_settings import FanOutSettings, load_fan_out_settings
from config.settings import PROJECT, ServiceSettings, load_service_settings
from config.stream_settings import StreamSettings, load_stream_settings
from config.writer_settings import WriterSettings, load_writer_settings
from tests.deploy.manifests import DEPLOY, OVERLAYS, one, overlay, pods

SCHEMAS = Path(__file__).parent / "schemas"
KUBERNETES = "1.31"
#: Variables that are neither settings nor in the settings file: credentials
#: for libraries, and what the container itself needs.
PASSED_THROUGH = {
    "PP_SETTINGS_FILE",
    "HOME",
    "LSST_DB_AUTH_CREDENTIALS",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
}
INITIALIZERS = ("prompt-processing-init", "prompt-processing-init-daily")

files = pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.yaml")), ids=lambda p: p.name)
overlays = pytest.mark.parametrize("name", OVERLAYS)


def settings_file(objects: list[dict[str, Any]]) -> str:
    return str(one(objects, "ConfigMap", "prompt-processing-settings")["data"]["settings.yaml"])


def platform(objects: list[dict[str, Any]]) -> dict[str, str]:
    return dict(one(objects, "ConfigMap", "prompt-processing-platform")["data"])


def secret() -> dict[str, str]:
    return dict(yaml.safe_load((DEPLOY / "secret.example.yaml").read_text())["stringData"])


def workers(name: str) -> str:
    """Name of what processes visits."""
    return {"knative": "prompt-processing", "keda": "prompt-processing-worker"}[name]


@files
def test_lint(path: Path) -> None:
    config = YamlLintConfig(file=str(PROJECT / ".yamllint.yaml"))
    assert [str(problem) for problem in linter.run(path.read_text(), config)] == []


@overlays
def test_kubernetes_would_take_them(name: str) -> None:
    for item in [*overlay(name), yaml.safe_load((DEPLOY / "secret.example.yaml").read_text())]:
        if "." in item["apiVersion"].split("/")[0] and not item["apiVersion"].startswith("batch"):
            jsonschema.validate(item, json.loads((SCHEMAS / f"{item['kind']}.json").read_text()))
        else:
            kubernetes_validate.validate(item, KUBERNETES, strict=True)


@overlays
def test_pods_are_pods(name: str) -> None:
    knative = {"containerConcurrency", "timeoutSeconds", "responseStartTimeoutSeconds", "idleTimeoutSeconds"}
    for owner, pod in pods(overlay(name)).items():
        spec = {k: v for k, v in pod["spec"].items() if k not in knative}
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": owner}, "spec": spec},
            KUBERNETES,
            strict=True,
        )


def test_the_scaled_job_is_a_job() -> None:
    target = one(overlay("keda"), "ScaledJob", "prompt-processing-worker")["spec"]["jobTargetRef"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": target}
    kubernetes_validate.validate(job, KUBERNETES, strict=True)


@overlays
def test_every_component_is_there(name: str) -> None:
    commands = {pod["spec"]["containers"][0]["args"][0] for pod in pods(overlay(name)).values()}
    assert commands == {"init", "writer", "fan-out", {"knative": "serve", "keda": "worker"}[name]}
    assert commands <= _COMMANDS.keys()


@overlays
def test_all_share_one_image_and_configuration(name: str) -> None:
    shared = []
    for pod in pods(overlay(name)).values():
        (container,) = pod["spec"]["containers"]
        volume = next(v for v in pod["spec"]["volumes"] if v["name"] == "settings")
        mount = next(v for v in container["volumeMounts"] if v["name"] == "settings")
        shared.append((container["image"], container["env"], container["envFrom"], volume, mount))
    assert all(other == shared[0] for other in shared), shared
    assert shared[0][0].startswith("registry.example.org/prompt-processing:")


@overlays
def test_what_is_referred_to_exists(name: str) -> None:
    objects = overlay(name)
    have = {(o["kind"], o["metadata"]["name"]) for o in objects} | {("Secret", "prompt-processing")}
    for pod in pods(objects).values():
        (container,) = pod["spec"]["containers"]
        for source in container["envFrom"]:
            ((kind, reference),) = source.items()
            assert ({"configMapRef": "ConfigMap", "secretRef": "Secret"}[kind], reference["name"]) in have
        volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
        assert {m["name"] for m in container["volumeMounts"]} == volumes.keys()
        for volume in volumes.values():
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in have
    assert len({o["metadata"]["namespace"] for o in objects}) == 1


@overlays
def test_every_variable_is_a_known_setting(name: str) -> None:
    objects = overlay(name)
    classes = (ServiceSettings, StreamSettings, FanOutSettings, WriterSettings)
    known = {*LIBRARY_VARIABLES, *(variable for c in classes for variable in c.variables())}
    named = {*platform(objects), *secret()}
    for pod in pods(objects).values():
        named |= {e["name"] for e in pod["spec"]["containers"][0]["env"]}
    assert named <= known | PASSED_THROUGH


@overlays
def test_every_component_can_read_its_settings(name: str, tmp_path: Path) -> None:
    objects = overlay(name)
    file = tmp_path / "settings.yaml"
    file.write_text(settings_file(objects))
    env = {**platform(objects), **secret()}
    # A name in the file that nobody knows is a fault, too.
    settings = load_service_settings(env, file)
    assert settings.platform == name
    assert (settings.image_bucket, settings.use_kafka_butler_writer) == ("raw-images", True)
    assert settings.ledger_url == secret()["PP_LEDGER_URL"]
    assert settings.ap_kafka_producer_password.get_secret_value() == "change-me"
    stream = load_stream_settings(env, file)
    assert stream.redis_stream_password.get_secret_value() == "change-me"
    fan_out, writer = load_fan_out_settings(env, file), load_writer_settings(env, file)
    assert fan_out.platform == name
    # What one sends, the other expects.
    assert (writer.kafka_cluster, writer.kafka_topic) == (
        settings.butler_writer_kafka_cluster,
        settings.butler_writer_kafka_topic,
    )
    assert writer.butler_repository == settings.central_repo
    assert settings.token == fan_out.token
    assert (fan_out.redis_host, fan_out.message_expiration) == (
        stream.redis_stream_host,
        settings.message_expiration,
    )


def test_the_service_fits_its_settings(tmp_path: Path) -> None:
    objects = overlay("knative")
    file = tmp_path / "settings.yaml"
    file.write_text(settings_file(objects))
    settings = load_service_settings({**platform(objects), **secret()}, file)
    template = one(objects, "Service", "prompt-processing")["spec"]["template"]
    assert template["spec"]["containerConcurrency"] == settings.worker_count
    longest = settings.queue_timeout + settings.worker_timeout + settings.worker_grace_period
    for kind in ("timeoutSeconds", "responseStartTimeoutSeconds", "idleTimeoutSeconds"):
        assert template["spec"][kind] >= longest
    annotations = template["metadata"]["annotations"]
    assert int(annotations["autoscaling.knative.dev/max-scale"]) * settings.worker_count >= 2 * 189
    (container,) = template["spec"]["containers"]
    assert container["ports"][0]["containerPort"] == settings.port
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": settings.port}
    assert container["livenessProbe"]["httpGet"] == {"path": "/health", "port": settings.port}


def test_the_trigger_fits_the_settings(tmp_path: Path) -> None:
    objects = overlay("keda")
    file = tmp_path / "settings.yaml"
    file.write_text(settings_file(objects))
    settings = load_stream_settings({**platform(objects), **secret()}, file)
    job = one(objects, "ScaledJob", "prompt-processing-worker")["spec"]
    (trigger,) = job["triggers"]
    assert trigger["metadata"]["address"] == str(settings.redis_stream_host)
    assert trigger["metadata"]["stream"] == settings.redis_stream_name
    assert trigger["metadata"]["consumerGroup"] == settings.redis_stream_consumer_group
    assert trigger["metadata"]["enableTLS"] == str(settings.redis_stream_tls).lower()
    authentication = one(objects, "TriggerAuthentication", trigger["authenticationRef"]["name"])
    for target in authentication["spec"]["secretTargetRef"]:
        assert target["name"] == "prompt-processing" and target["key"] in secret()
    # Without a living worker nobody takes over the visits of a dead one.
    assert job["minReplicaCount"] >= 1
    assert (
        job["jobTargetRef"]["template"]["spec"]["terminationGracePeriodSeconds"]
        > settings.worker_grace_period
    )


def test_the_fan_out_waits_for_its_answers(tmp_path: Path) -> None:
    objects = overlay("knative")
    file = tmp_path / "settings.yaml"
    file.write_text(settings_file(objects))
    env = {**platform(objects), **secret()}
    fan_out = load_fan_out_settings(env, file)
    deployment = one(objects, "Deployment", "prompt-processing-fan-out")["spec"]
    assert deployment["template"]["spec"]["terminationGracePeriodSeconds"] > fan_out.grace_period
    service = one(objects, "Service", "prompt-processing")["spec"]["template"]["spec"]
    assert fan_out.answer_timeout >= service["timeoutSeconds"]
    # A new one listens before the old one ends.
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_the_fan_outs_routes() -> None:
    objects = overlay("knative")
    data = one(objects, "ConfigMap", "prompt-processing-settings")["data"]
    fan_out, routes = (
        yaml.safe_load(data["settings.yaml"])["fan-out"],
        yaml.safe_load(data["instruments.yaml"]),
    )
    assert fan_out["INSTRUMENT_CONFIG_FILE"] == "/etc/prompt-processing/instruments.yaml"
    for instrument in fan_out["SUPPORTED_INSTRUMENTS"].split():
        assert routes["knative-urls"][instrument].endswith("/next-visit")
        assert all(routes["detectors"][instrument].values())
    stream = yaml.safe_load(data["settings.yaml"])["service"]["REDIS_STREAM_NAME"]
    assert list(routes["redis-streams"].values()) == [stream]
    assert one(objects, "Service", "prompt-processing")


@overlays
def test_initializer_and_service_are_the_same(name: str) -> None:
    templates = pods(overlay(name))
    service = templates[workers(name)]["spec"]["containers"][0]
    for initializer in INITIALIZERS:
        container = templates[initializer]["spec"]["containers"][0]
        for field in ("image", "env", "envFrom", "volumeMounts"):
            assert container[field] == service[field]


def test_both_initializers_are_the_same() -> None:
    objects = overlay("knative")
    job = one(objects, "Job", INITIALIZERS[0])["spec"]
    daily = one(objects, "CronJob", INITIALIZERS[1])["spec"]["jobTemplate"]["spec"]
    assert daily.pop("ttlSecondsAfterFinished") > 86400
    assert job == daily
    # Settings that are wrong (exit code 2) are no better the next time.
    assert (
        job["podFailurePolicy"]["rules"][0]["onExitCodes"]["containerName"]
        == (job["template"]["spec"]["containers"][0]["name"])
    )


def test_the_daily_initializer_runs_after_the_date_has_changed() -> None:
    cron = one(overlay("knative"), "CronJob", INITIALIZERS[1])["spec"]
    minute, hour, *rest = cron["schedule"].split()
    assert (cron["timeZone"], rest) == ("Etc/UTC", ["*", "*", "*"])
    # The date of a night changes at 12:00 TAI; nights begin in the evening.
    assert (int(hour), int(minute)) >= (12, 0) and int(hour) < 20


def test_one_writer() -> None:
    writer = one(overlay("knative"), "Deployment", "prompt-processing-writer")["spec"]
    assert (writer["replicas"], writer["strategy"]["type"]) == (1, "Recreate")


@overlays
def test_every_pod_is_confined_and_watched(name: str) -> None:
    for owner, pod in pods(overlay(name)).items():
        (container,) = pod["spec"]["containers"]
        context = {**pod["spec"].get("securityContext", {}), **container["securityContext"]}
        assert context["runAsNonRoot"] and context["runAsUser"] == 1000
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not context["allowPrivilegeEscalation"] and context["readOnlyRootFilesystem"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        mounted = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
        empty = {v["name"] for v in pod["spec"]["volumes"] if "emptyDir" in v}
        assert mounted["/tmp"] in empty
        if container["args"][0] in ("serve", "worker", "init"):
            file = yaml.safe_load(settings_file(overlay(name)))
            assert mounted[file["LOCAL_REPOS"]] in empty and mounted[file["PP_STATE_DIR"]] in empty
        if owner not in INITIALIZERS:
            annotations = pod["metadata"]["annotations"]
            assert annotations["prometheus.io/scrape"] == "true"
            assert annotations["prometheus.io/port"] == str(
                yaml.safe_load(settings_file(overlay(name)))["PP_METRICS_PORT"]
            )
            assert "livenessProbe" in container


def test_the_image_runs_as_the_same_user() -> None:
    dockerfile = (PROJECT / "Dockerfile").read_text()
    assert re.search(r"useradd .*--uid 1000", dockerfile) and "USER 1000" in dockerfile
    assert 'ENTRYPOINT ["prompt-processing"]' in dockerfile


def test_the_image_starts_without_compiling() -> None:
    # Its user may not write where Python would keep what it compiles.
    build = (PROJECT / "Dockerfile").read_text().partition("FROM python")[2].partition("\nFROM ")[0]
    assert "UV_COMPILE_BYTECODE=1" in build
    assert build.index("COPY . .") < build.index("-m compileall")


def test_no_secret_and_no_servers_in_the_image() -> None:
    ignored = (PROJECT / ".dockerignore").read_text().split()
    # The playbook's name for the filled-in copy.
    assert "kubectl apply -f secret.yaml" in (PROJECT / "docs" / "playbook.md").read_text()
    assert {".servers", "secret.yaml", "**/secret.yaml"} <= set(ignored)
    assert "secret.yaml" in (PROJECT / ".gitignore").read_text().split()
