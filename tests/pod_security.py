"""The Pod Security Standard "restricted", which Kubernetes keeps to in namespaces that ask for it.

Each check is one of https://kubernetes.io/docs/concepts/security/pod-security-standards/, under its name there; those
of "baseline" are part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"),
}
_SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
_SYSCTLS = {
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"),
    *("net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports"),
    *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl"),
    *("net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"),
}
_CONFINED = {"RuntimeDefault", "Localhost"}


def violations(pod: Mapping[str, Any]) -> list[str]:
    """What in a PodSpec the standard forbids: the name of the check, and where."""
    found = [f"{check}: pod" for check in _of_pod(pod)]
    context = pod.get("securityContext", {})
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod.get(kind, ()):
            found += [f"{check}: {container['name']}" for check in _of_container(container, context)]
    return found


def _of_pod(pod: Mapping[str, Any]) -> Iterator[str]:
    context = pod.get("securityContext", {})
    if any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
        yield "Host Namespaces"
    for volume in pod.get("volumes", ()):
        if not set(volume) - {"name"} <= _VOLUMES:
            yield "Volume Types"
    if {sysctl["name"] for sysctl in context.get("sysctls", ())} - _SYSCTLS:
        yield "Sysctls"
    yield from _of_context(context)


def _of_container(container: Mapping[str, Any], pod_context: Mapping[str, Any]) -> Iterator[str]:
    context = container.get("securityContext", {})
    capabilities = context.get("capabilities", {})
    if context.get("privileged"):
        yield "Privileged Containers"
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield "Host Ports"
    if context.get("procMount", "Default") != "Default":
        yield "/proc Mount Type"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "Privilege Escalation"
    if "ALL" not in capabilities.get("drop", ()) or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "Capabilities"
    if context.get("runAsNonRoot", pod_context.get("runAsNonRoot")) is not True:
        yield "Running as Non-root"
    if context.get("seccompProfile", pod_context.get("seccompProfile", {})).get("type") not in _CONFINED:
        yield "Seccomp"
    hooks = container.get("lifecycle", {}).values()
    probes = (container[name] for name in ("livenessProbe", "readinessProbe", "startupProbe") if name in container)
    for handler in (*hooks, *probes):
        if any(handler.get(kind, {}).get("host") for kind in ("httpGet", "tcpSocket")):
            yield "Host Probes / Lifecycle Hooks"
    yield from _of_context(context)


def _of_context(context: Mapping[str, Any]) -> Iterator[str]:
    """What is forbidden in either's security context."""
    selinux = context.get("seLinuxOptions", {})
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "HostProcess"
    if selinux.get("type", "") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield "SELinux"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in _CONFINED:
        yield "AppArmor"
    if context.get("runAsUser") == 0:
        yield "Running as Non-root user"
    if context.get("seccompProfile", {}).get("type", "RuntimeDefault") not in _CONFINED:
        yield "Seccomp"
