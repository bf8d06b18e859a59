"""The manifests for Kubernetes: valid, confined, and true of the gateway that they start."""

from __future__ import annotations

import copy
import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from saxgw import __version__
from saxgw.devcell import DevCell
from saxgw.settings import Settings, environment_variable
from tests.docs import code_blocks
from tests.kubernetes import (
    MANIFESTS,
    ROOT,
    check,
    environment,
    only,
    pod_of,
    render,
    saxgw_of,
    validator,
    yaml,
)
from tests.pod_security import violations
from tests.process import run, running

Resources = list[dict[str, Any]]

FOLDERS = ("base", "example", "guarded")
DOCKERFILE = (ROOT / "Dockerfile").read_text()

OF_THE_IMAGE = dict(re.findall(r"(SAXGW_\w+)=(\S+)", DOCKERFILE))
"""The variables that the image sets."""


@pytest.fixture(scope="module")
def rendered() -> dict[str, Resources]:
    """What each of FOLDERS makes."""
    return {name: render(MANIFESTS / name) for name in FOLDERS}


@pytest.fixture(params=FOLDERS)
def resources(request: pytest.FixtureRequest, rendered: dict[str, Resources]) -> Resources:
    """What one of FOLDERS makes; tests that use it run once for each."""
    return rendered[request.param]


@pytest.fixture
def base(rendered: dict[str, Resources]) -> Resources:
    """The gateway by itself."""
    return rendered["base"]


def test_valid(resources: Resources) -> None:
    """Kubernetes takes them, and knows each of their fields."""
    check(resources)


def test_an_unknown_field_is_found(base: Resources) -> None:
    """A field that Kubernetes does not know is an error."""
    broken = copy.deepcopy(base)
    saxgw_of(broken)["livenesProbe"] = {}
    with pytest.raises(validator.ValidationError, match="livenesProbe"):
        check(broken)


def test_restricted(resources: Resources) -> None:
    """Pods pass the Pod Security Standard "restricted"."""
    assert violations(pod_of(resources)) == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("hostPID",), True, "Host Namespaces: pod"),
        (("volumes",), [{"name": "host", "hostPath": {"path": "/"}}], "Volume Types: pod"),
        (("securityContext", "sysctls"), [{"name": "kernel.msgmax", "value": "1"}], "Sysctls: pod"),
        (("securityContext", "runAsNonRoot"), False, "Running as Non-root: saxgw"),
        (("securityContext", "runAsUser"), 0, "Running as Non-root user: pod"),
        (("securityContext", "seccompProfile"), {"type": "Unconfined"}, "Seccomp: saxgw"),
        (("containers", 0, "securityContext", "seccompProfile"), {"type": "Unconfined"}, "Seccomp: saxgw"),
        (("containers", 0, "securityContext", "runAsNonRoot"), False, "Running as Non-root: saxgw"),
        (("containers", 0, "securityContext", "allowPrivilegeEscalation"), True, "Privilege Escalation: saxgw"),
        (("containers", 0, "securityContext", "privileged"), True, "Privileged Containers: saxgw"),
        (("containers", 0, "securityContext", "capabilities", "drop"), ["KILL"], "Capabilities: saxgw"),
        (("containers", 0, "securityContext", "capabilities", "add"), ["SYS_ADMIN"], "Capabilities: saxgw"),
        (("containers", 0, "securityContext", "procMount"), "Unmasked", "/proc Mount Type: saxgw"),
        (("containers", 0, "securityContext", "appArmorProfile"), {"type": "Unconfined"}, "AppArmor: saxgw"),
        (("containers", 0, "securityContext", "seLinuxOptions"), {"role": "x"}, "SELinux: saxgw"),
        (("containers", 0, "securityContext", "windowsOptions"), {"hostProcess": True}, "HostProcess: saxgw"),
        (("containers", 0, "ports"), [{"containerPort": 1, "hostPort": 1}], "Host Ports: saxgw"),
        (("containers", 0, "livenessProbe", "httpGet", "host"), "x", "Host Probes / Lifecycle Hooks: saxgw"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_what_is_not_restricted_is_found(
    base: Resources, path: tuple[str | int, ...], value: object, said: str
) -> None:
    """Each thing that the standard forbids is noticed."""
    pod = copy.deepcopy(pod_of(base))
    parent: Any = pod
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    assert said in violations(pod)


def test_more_than_restricted(resources: Resources) -> None:
    """The root file system is read-only, no token of the cluster is there, and what is needed of it is said."""
    container = saxgw_of(resources)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod_of(resources)["automountServiceAccountToken"] is False
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]


def test_image(resources: Resources) -> None:
    """Dockerfile and manifests are of this version of the package."""
    assert saxgw_of(resources)["image"] == f"saxgw:{__version__}"
    assert set(re.findall(r"^ARG VERSION=(.*)$", DOCKERFILE, re.MULTILINE)) == {__version__}


def test_settings(resources: Resources) -> None:
    """What the environment sets are settings."""
    settings = {environment_variable(field.name) for field in dataclasses.fields(Settings)}
    assert set(environment(resources)) | set(OF_THE_IMAGE) <= settings | {"SAX_ROOT"}


def test_ports(base: Resources) -> None:
    """What the Services name are ports of the container, and those are what the image listens on."""
    ports = {port["name"]: port["containerPort"] for port in saxgw_of(base)["ports"]}
    given = {**OF_THE_IMAGE, **environment(base)}
    assert ports == {name: int(given[f"SAXGW_{name.upper()}_PORT"]) for name in ("http", "grpc", "admin")}
    for service in (each for each in base if each["kind"] == "Service"):
        for port in service["spec"]["ports"]:
            assert port["port"] == ports[port["targetPort"]]
    for rule in only(base, "NetworkPolicy")["spec"]["ingress"]:
        assert {port["port"] for port in rule["ports"]} <= set(ports)


async def test_the_gateway_starts(resources: Resources, cell: DevCell, tmp_path: Path) -> None:
    """In the environment of its pod, but for ports and cell, the gateway starts and its admin server answers probes.

    What its Secrets would have is made here.
    """
    container = saxgw_of(resources)
    mounts = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", ())}
    if mounts:
        keys = tmp_path / "keys" / "keys.jsonl"
        keys.parent.mkdir()
        assert (await run("keys", "add", "app", "--scope", "read", "--file", str(keys)))[0] == 0
        certificate = trustme.CA().issue_cert("localhost")
        (tmp_path / "tls").mkdir()
        certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "tls" / "tls.crt")
        certificate.private_key_pem.write_to_path(tmp_path / "tls" / "tls.key")
    given = {**OF_THE_IMAGE, **environment(resources), "SAX_ROOT": cell.root}
    for name, path in mounts.items():
        given = {key: value.replace(path, str(tmp_path / name)) for key, value in given.items()}
    probes = [container[name]["httpGet"] for name in container if name.endswith("Probe")]
    assert probes
    async with running("serve", "--admin-port", "0", environment=given) as gateway, aiohttp.ClientSession() as session:
        assert gateway.http_address.startswith(given["SAXGW_HOST"])
        [port] = re.findall(r"metrics at http://0\.0\.0\.0:(\d+)/", gateway.serving)
        for probe in probes:
            assert probe["port"] == "admin"
            async with session.get(f"http://127.0.0.1:{port}{probe['path']}") as answer:
                assert answer.status == 200


def test_only_the_admin_port_of_a_sidecar_can_be_reached(rendered: dict[str, Resources]) -> None:
    """Both doors of a sidecar are on loopback, where the application is."""
    given = environment(rendered["example"])
    assert (given["SAXGW_HOST"], given["SAXGW_ADMIN_HOST"]) == ("127.0.0.1", "0.0.0.0")  # noqa: S104 - in its pod
    assert [port["name"] for port in saxgw_of(rendered["example"])["ports"]] == ["admin"]


def test_secrets(rendered: dict[str, Resources]) -> None:
    """Keys and certificates come from Secrets, are mounted where the settings look for them, and cannot be changed."""
    container = saxgw_of(rendered["guarded"])
    secrets = {each["name"]: each["secret"]["secretName"] for each in pod_of(rendered["guarded"])["volumes"]}
    assert secrets == {"keys": "saxgw-keys", "tls": "saxgw-tls"}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert all(mount["readOnly"] for mount in mounts.values())
    given = environment(rendered["guarded"])
    assert given["SAXGW_API_KEYS"] == f"{mounts['keys']['mountPath']}/keys.jsonl"
    assert given["SAXGW_TLS_CERTIFICATE"] == f"{mounts['tls']['mountPath']}/tls.crt"
    assert given["SAXGW_TLS_KEY"] == f"{mounts['tls']['mountPath']}/tls.key"


def test_selectors(base: Resources) -> None:
    """Whatever selects pods selects those of the Deployment, and callers are others."""
    deployment = only(base, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    policy = only(base, "NetworkPolicy")["spec"]
    selectors = [
        deployment["selector"]["matchLabels"],
        deployment["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
        only(base, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        policy["podSelector"]["matchLabels"],
        *(each["spec"]["selector"] for each in base if each["kind"] == "Service"),
    ]
    assert all(selector == labels for selector in selectors)
    assert policy["ingress"][0]["from"] == [{"podSelector": {"matchLabels": {"saxgw-caller": "true"}}}]
    target = only(base, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", only(base, "Deployment")["metadata"]["name"])


def test_there_is_time_to_leave(base: Resources) -> None:
    """A pod is killed only after the gateway should have ended by itself."""
    given = environment(base)
    needed_s = float(given["SAXGW_SHUTDOWN_DELAY"]) + float(given["SAXGW_DRAIN_TIMEOUT"])
    assert pod_of(base)["terminationGracePeriodSeconds"] >= needed_s + 2


@pytest.mark.parametrize("number", range(3), ids=["sidecar", "service", "guarded"])
def test_documented(number: int, tmp_path: Path) -> None:
    """What docs/deployment.md has operators write makes valid and restricted resources, with all that it changes."""
    overlay = code_blocks((ROOT / "docs" / "deployment.md").read_text(), "yaml")[number]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(overlay)
    shutil.copy(MANIFESTS / "example" / "application.yaml", mine)
    shutil.copytree(MANIFESTS, tmp_path / "saxgw" / "deploy" / "kubernetes")
    resources = render(mine)
    check(resources)
    assert violations(pod_of(resources)) == []
    assert environment(resources)["SAX_ROOT"] == "gs://my-bucket/sax-root"
    assert saxgw_of(resources)["image"] == f"images.example/saxgw:{__version__}"
    if number:
        assert {each["metadata"]["namespace"] for each in resources} == {"sax"}
    if number == 1:
        assert only(resources, "HorizontalPodAutoscaler")["spec"]["maxReplicas"] == 10


def test_the_sidecar_starts_first(tmp_path: Path) -> None:
    """An application's own init containers find the sidecar running, and other Deployments get none."""
    [application] = yaml.safe_load_all((MANIFESTS / "example" / "application.yaml").read_text())
    application["spec"]["template"]["spec"]["initContainers"] = [{"name": "own", "image": "own"}]
    other = {**copy.deepcopy(application), "metadata": {"name": "other"}}
    (tmp_path / "applications.yaml").write_text(yaml.safe_dump_all([application, other]))
    shutil.copytree(MANIFESTS / "sidecar", tmp_path / "sidecar")
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "resources": ["applications.yaml"],
                "components": ["sidecar"],
                "configMapGenerator": [{"name": "saxgw", "literals": ["SAX_ROOT=/cell"]}],
            }
        )
    )
    deployments = {each["metadata"]["name"]: each for each in render(tmp_path) if each["kind"] == "Deployment"}
    first = {
        name: [container["name"] for container in each["spec"]["template"]["spec"]["initContainers"]]
        for name, each in deployments.items()
    }
    assert first == {"application": ["saxgw", "own"], "other": ["own"]}
