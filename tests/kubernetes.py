"""Kubernetes manifests as `kubectl kustomize` renders them; it needs no cluster."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
MANIFESTS = ROOT / "deploy" / "kubernetes"

yaml = pytest.importorskip("yaml", reason="PyYAML was not found; run: make .venv/deploy")
validator = pytest.importorskip(
    "kubernetes_validate", reason="kubernetes-validate was not found; run: make .venv/deploy"
)

VERSIONS = ("1.29", validator.latest_version())
"""The oldest Kubernetes that the manifests are for, as native sidecars came with it, and the newest."""


def kubectl() -> str:
    """Where kubectl is; skips the test if it is nowhere."""
    found = shutil.which("kubectl", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("kubectl was not found; run: make .venv/deploy")
    return found


def render(folder: Path) -> list[dict[str, Any]]:
    """The resources that a kustomization makes."""
    rendered = subprocess.run(  # noqa: S603 - kubectl of this environment
        [kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert rendered.returncode == 0, rendered.stderr
    return list(yaml.safe_load_all(rendered.stdout))


def check(resources: Sequence[dict[str, Any]]) -> None:
    """Has the schemas of VERSIONS look at resources; they allow no field that they do not know."""
    for version in VERSIONS:
        for resource in resources:
            validator.validate(resource, version, strict=True)


def only(resources: Sequence[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The one resource of a kind."""
    [resource] = [resource for resource in resources if resource["kind"] == kind]
    return resource


def pod_of(resources: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The PodSpec of the one Deployment."""
    pod: dict[str, Any] = only(resources, "Deployment")["spec"]["template"]["spec"]
    return pod


def saxgw_of(resources: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The container of that pod which is saxgw's."""
    pod = pod_of(resources)
    container: dict[str, Any]
    [container] = [each for each in (*pod.get("initContainers", ()), *pod["containers"]) if each["name"] == "saxgw"]
    return container


def environment(resources: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The variables that saxgw gets, those of its ConfigMap included."""
    container = saxgw_of(resources)
    maps = {each["metadata"]["name"]: each["data"] for each in resources if each["kind"] == "ConfigMap"}
    from_maps = [maps[source["configMapRef"]["name"]] for source in container.get("envFrom", ())]
    own = {variable["name"]: variable["value"] for variable in container["env"]}
    return {name: value for source in (*from_maps, own) for name, value in source.items()}
