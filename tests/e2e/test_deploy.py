"""What is shipped for containers, Kubernetes and systemd: read by the tools that read it where it is used.

The Dockerfile is built in test_image.py, nginx runs in test_proxy.py.
"""

import functools
import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import jsonschema
import pytest
import referencing
import yaml

from embeddings_project import settings
from tests.e2e.server import REPOSITORY

pytestmark = pytest.mark.sqlite_only("what manifests say")

TOOLS = REPOSITORY / ".tools" / "deploy"
DEPLOY = REPOSITORY / "deploy"
CHART = DEPLOY / "helm" / "embeddings-server"
GIVEN = {"publicUrl": "https://host.example/emb", "secretName": "shared"}
EVERYTHING = {
    "ingress.enabled": "true",
    "ingress.tlsSecretName": "tls",
    "networkPolicy.from[0].namespaceSelector.matchLabels.name": "ingress",
    "worker.replicas": "3",
    "imagePullSecrets[0].name": "registry",
    "nodeSelector.disk": "ssd",
}
WITHOUT_SCHEMA = "ScaledObject"  # KEDA's


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_dockerfile_passes_hadolint():
    assert not run(
        TOOLS / "hadolint", "--failure-threshold", "style", REPOSITORY / "Dockerfile"
    )


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((REPOSITORY / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def ours(compose):
    """The services that are this server."""
    services = compose["services"].items()
    return {name: one for name, one in services if one["image"] == "embeddings-server"}


def test_compose_file_is_one(compose):
    with zipfile.ZipFile(next(TOOLS.glob("check_jsonschema*.whl"))) as wheel:
        name = next(
            one for one in wheel.namelist() if one.endswith("vendor/compose-spec.json")
        )
        jsonschema.validate(compose, json.loads(wheel.read(name)))


def test_compose_publishes_the_proxy_alone(compose):
    services = compose["services"]
    assert [name for name, one in services.items() if "ports" in one] == ["proxy"]
    closed = {
        name for name, one in compose["networks"].items() if one and one["internal"]
    }
    assert (
        set(services["postgres"]["networks"]) | set(services["redis"]["networks"])
        <= closed
    )


def test_containers_of_compose_have_no_rights_and_limits(compose):
    for name, service in compose["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, (
            name
        )


def test_compose_gives_the_server_settings_that_it_has(compose, ours):
    assert ours.keys() == {"web", "worker"}
    for service in ours.values():
        files = {f"/run/secrets/{name}" for name in service["secrets"]}
        for name, value in service["environment"].items():
            assert name.removesuffix("_FILE") in settings.env.known
            assert not name.endswith("_FILE") or value in files
        assert set(service["secrets"]) <= compose["secrets"].keys()


def test_files_that_compose_mounts_are_there(compose):
    for config in compose["configs"].values():
        assert (REPOSITORY / config["file"]).is_file()
    for service in compose["services"].values():
        for kind in ("configs", "secrets"):
            for one in service.get(kind, []):
                name = one if isinstance(one, str) else one["source"]
                assert name in compose[kind]


def test_compose_stops_the_server_only_after_it_has_drained(ours):
    for service in ours.values():
        seconds = int(service["stop_grace_period"].removesuffix("s"))
        assert seconds >= settings.HTTP_FRONT.drain_seconds + 5


def test_nodes_of_compose_are_reached_as_those_of_nginx_s_own_file():
    shipped = (DEPLOY / "nginx" / "embeddings-nodes.conf").read_text()
    of_compose = (DEPLOY / "compose-nodes.conf").read_text()
    assert "max_fails=1 fail_timeout=5s" in of_compose

    def common(text):
        lines = [line.partition("#")[0].strip() for line in text.splitlines()]
        return [
            line
            for line in lines
            if line and not line.startswith(("server ", "resolver "))
        ]

    assert common(of_compose) == common(shipped)


def helm(*words: str | Path, **values: str) -> str:
    named = [
        word for name, value in values.items() for word in ("--set", f"{name}={value}")
    ]
    return run(TOOLS / "helm", *words, *named)


def rendered(**values: str) -> dict[str, dict]:
    """Return what the chart makes, by kind and name."""
    text = helm("template", "release", CHART, **{**GIVEN, **values})
    return {
        f"{one['kind']}/{one['metadata']['name']}": one
        for one in yaml.load_all(text, yaml.CSafeLoader)
        if one
    }


@functools.cache
def kubernetes(version: str, kind: str, of: str) -> jsonschema.Draft202012Validator:
    """Return what checks a kind as Kubernetes' own schema of a version has it; fields it does not know are errors."""
    group, _, number = of.rpartition("/")
    parts = (kind.lower(), group.partition(".")[0], number)
    name = "-".join(part for part in parts if part)
    return jsonschema.Draft202012Validator(
        schema_of(version, name), registry=definitions(version)
    )


@functools.cache
def definitions(version: str) -> referencing.Registry:
    schema = schema_of(version, "_definitions")
    return referencing.Resource.from_contents(schema) @ referencing.Registry()


def schema_of(version: str, name: str) -> dict:
    with zipfile.ZipFile(next(TOOLS.glob("kubernetes_validate*.whl"))) as wheel:
        folder = f"kubernetes_validate/kubernetes-json-schema/v{version}.0-local-strict"
        content: dict = json.loads(wheel.read(f"{folder}/{name}.json"))
    return content


@pytest.mark.parametrize("version", ["1.25", "1.37"])
@pytest.mark.parametrize(
    "values",
    [{}, EVERYTHING, {"autoscaling.by": "cpu"}, {"autoscaling.by": "queue"}],
    ids=["defaults", "everything", "cpu", "queue"],
)
def test_chart_makes_what_kubernetes_takes(values, version):
    made = rendered(**values)
    assert len(made) >= 9
    for place, one in made.items():
        if one["kind"] == WITHOUT_SCHEMA:
            continue
        validator = kubernetes(version, one["kind"], one["apiVersion"])
        assert not [f"{place}: {e.message}" for e in validator.iter_errors(one)]


def test_chart_passes_helm_s_own_lint():
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, **GIVEN)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"publicUrl": ""}, "publicUrl"),
        ({"secretName": ""}, "secretName"),
        ({"web.replicaCount": "3"}, "replicaCount"),
        ({"settings.PORT": "9"}, "settings"),
        ({"autoscaling.by": "moon"}, "autoscaling"),
    ],
)
def test_chart_refuses_values_that_make_no_sense(values, named):
    with pytest.raises(AssertionError, match=named):
        rendered(**values)


def pods(made: dict[str, dict]) -> dict[str, dict]:
    return {
        name: one["spec"]["template"]["spec"]
        for name, one in made.items()
        if one["kind"] == "Deployment"
    }


def test_pods_run_as_the_image_s_user_and_may_nothing():
    uid, gid = re.findall(
        r"^USER (\d+):(\d+)$", (REPOSITORY / "Dockerfile").read_text(), re.M
    )[0]
    for pod in pods(rendered()).values():
        assert pod["securityContext"]["runAsUser"] == int(uid)
        assert pod["securityContext"]["fsGroup"] == int(gid)
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        assert not pod[
            "enableServiceLinks"
        ]  # their variables would be unknown settings
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            may = container["securityContext"]
            assert may["readOnlyRootFilesystem"]
            assert may["capabilities"] == {"drop": ["ALL"]}


def test_probes_ask_what_the_server_answers_and_a_stop_waits_for_its_drain():
    made = rendered(**{"web.drainSeconds": "60"})
    pod = pods(made)["Deployment/release-embeddings-web"]
    (web,) = pod["containers"]
    assert web["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert web["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert web["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert pod["terminationGracePeriodSeconds"] >= 60 + 5 + 5
    assert made["ConfigMap/release-embeddings"]["data"]["DRAIN_SECONDS"] == "60"


def test_chart_gives_the_server_settings_that_it_has():
    made = rendered()
    names = {*made["ConfigMap/release-embeddings"]["data"]}
    for pod in pods(made).values():
        for container in pod["containers"]:
            names |= {one["name"] for one in container.get("env", [])}
    assert names <= settings.env.known


def test_budgets_and_policies_select_the_pods():
    made = rendered(**EVERYTHING)
    for part in ("web", "worker"):
        deployment = made[f"Deployment/release-embeddings-{part}"]
        labels = deployment["spec"]["template"]["metadata"]["labels"].items()
        budget = made[f"PodDisruptionBudget/release-embeddings-{part}"]["spec"]
        policy = made[f"NetworkPolicy/release-embeddings-{part}"]["spec"]
        assert budget["selector"]["matchLabels"].items() <= labels
        assert policy["podSelector"]["matchLabels"].items() <= labels
    service = made["Service/release-embeddings"]["spec"]["selector"].items()
    web = made["Deployment/release-embeddings-web"]["spec"]["template"]["metadata"]
    assert service <= web["labels"].items()


def test_ingress_has_the_host_and_path_of_the_public_address():
    spec = rendered(**EVERYTHING)["Ingress/release-embeddings"]["spec"]
    assert spec["rules"][0]["host"] == "host.example"
    assert spec["rules"][0]["http"]["paths"][0]["path"] == "/emb"
    assert spec["tls"] == [{"hosts": ["host.example"], "secretName": "tls"}]


@pytest.mark.parametrize("by", ["cpu", "queue"])
def test_number_of_pods_is_left_to_what_scales_them(by):
    made = rendered(**{"autoscaling.by": by})
    assert "replicas" not in made["Deployment/release-embeddings-web"]["spec"]


def test_queue_that_scales_is_a_gauge_that_the_server_has():
    spec = rendered(**{"autoscaling.by": "queue"})[
        "ScaledObject/release-embeddings-web"
    ]["spec"]
    gauge = re.findall(r"sum\((\w+)\{", spec["triggers"][0]["metadata"]["query"])[0]
    assert f'"{gauge}"' in (REPOSITORY / "providers" / "metrics.py").read_text()


def test_chart_is_of_the_server_s_version():
    from embeddings_project import __version__

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    """A system's root with the units, the programs that they start, and systemd's own units."""
    root = tmp_path_factory.mktemp("systemd")
    shutil.copytree(DEPLOY / "systemd", root / "etc/systemd/system")
    shutil.copytree(
        "/usr/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True
    )
    for program in ("opt/embeddings/bin/embeddings-server", "bin/kill"):
        (root / program).parent.mkdir(parents=True)
        shutil.copy("/bin/true", root / program)
    return root


UNITS = ["embeddings-server.service", "embeddings-worker.service"]


def test_systemd_finds_nothing_wrong_with_the_units(units):
    assert not run(
        "systemd-analyze",
        "verify",
        f"--root={units}",
        "--man=no",
        "--recursive-errors=no",
        *UNITS,
    )


@pytest.mark.parametrize("unit", UNITS)
def test_units_leave_little_to_be_attacked(units, unit):
    said = run(
        "systemd-analyze",
        "security",
        "--offline=yes",
        f"--root={units}",
        "--threshold=20",
        unit,
    )
    assert "Overall exposure level" in said
