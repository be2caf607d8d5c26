"""Every pod that the project builds or ships is one that a restricted namespace admits.

The rules are those of https://kubernetes.io/docs/concepts/security/pod-security-standards/, of the levels
"baseline" and "restricted".
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
import yaml

from contract.signing import Signed
from contract.workload import ModelManifest
from controller.domain.accelerator import ACCELERATORS, Accelerator
from controller.domain.release import Release
from controller.domain.workload import StoreSite, WorkloadSettings, build_workload, for_server

K3S = Path(__file__).parents[3] / "k3s"
VOLUMES = frozenset(
    (
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    )
)
SYSCTLS = frozenset(
    (
        *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"),
        *("net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports"),
        *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl"),
        *("net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"),
    )
)
SELINUX = frozenset(("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"))
PROFILES = ("RuntimeDefault", "Localhost")

Json = dict[str, Any]


def breaches(template: Json) -> list[str]:
    """What a restricted namespace refuses in a pod template."""
    spec = template["spec"]
    pod = spec.get("securityContext", {})
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    for volume in spec.get("volumes", ()):
        found += [f"volume {kind}" for kind in volume.keys() - VOLUMES - {"name"}]
    found += [f"sysctl {each['name']}" for each in pod.get("sysctls", ()) if each["name"] not in SYSCTLS]
    annotations = template.get("metadata", {}).get("annotations", {})
    found += [
        name
        for name, value in annotations.items()
        if name.startswith("container.apparmor.security.beta.kubernetes.io/")
        and not value.startswith(("runtime/default", "localhost/"))
    ]
    found += of_context(pod)
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind, ()):
            found += [f"{container['name']}: {breach}" for breach in of_container(container, pod)]
    return found


def of_container(container: Json, pod: Json) -> Iterator[str]:
    own = container.get("securityContext", {})
    yield from of_context(own)
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()):
        yield "capabilities not dropped"
    if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "capabilities added"
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot"
    if own.get("seccompProfile", pod.get("seccompProfile", {})).get("type") not in PROFILES:
        yield "seccompProfile"
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield "hostPort"
    handlers = [container.get(f"{kind}Probe", {}) for kind in ("liveness", "readiness", "startup")]
    handlers += container.get("lifecycle", {}).values()
    if any(handler.get(how, {}).get("host") for handler in handlers for how in ("httpGet", "tcpSocket")):
        yield "a probe of another host"


def of_context(context: Json) -> Iterator[str]:
    """What is judged alike in the pod and in its containers."""
    if context.get("runAsUser") == 0:
        yield "runAsUser"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess"
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type", "") not in SELINUX or selinux.get("user") or selinux.get("role"):
        yield "seLinuxOptions"
    if context.get("seccompProfile", {}).get("type", "RuntimeDefault") not in PROFILES:
        yield "seccompProfile"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in PROFILES:
        yield "appArmorProfile"


def shipped() -> dict[str, Json]:
    """Pod templates in the manifests, by file and kind."""
    return {
        f"{file.relative_to(K3S)}-{document['kind']}": document["spec"]["template"]
        for file in sorted(K3S.rglob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text())
        if document and "template" in document.get("spec", {})
    }


def agents(**changes: Any) -> Json:
    manifest = ModelManifest(
        digest="sha256:" + "a" * 64, size_bytes=3, name="shelf", version="1", format="openvino",
        task="detect", names=("cola-can",), image_size=(320, 320),
    )  # fmt: skip
    signed = Signed(payload=manifest.model_dump_json(), key_id="0" * 16, signature="c2ln")
    release = Release("v1", "example.org/agent:1", manifest, signed)
    settings = replace(WorkloadSettings("mqtts://b:8883", "https://c"), **changes)
    made = build_workload(release, StoreSite("berlin-01", "version: 1\n", "PEM"), str(UUID(int=7)), settings)
    template: Json = for_server(made.daemon_set, (1, 30))[0]["spec"]["template"]
    return template


ACCELERATED: list[Accelerator | None] = [
    None,
    *ACCELERATORS.values(),
    replace(ACCELERATORS["intel"], device_group=109),
]
LEASES = get_args(WorkloadSettings.__annotations__["camera_leases"])


@pytest.mark.parametrize("accelerator", ACCELERATED, ids=repr)
@pytest.mark.parametrize("leases", LEASES)
def test_a_restricted_namespace_admits_agents(leases: str, accelerator: Accelerator | None) -> None:
    template = agents(camera_leases=leases, accelerator=accelerator, peers=True, mqtt_ca_in_secret=True)
    assert breaches(template) == []


@pytest.mark.parametrize("template", shipped().values(), ids=shipped())
def test_a_restricted_namespace_admits_what_the_manifests_start(template: Json) -> None:
    assert breaches(template) == []


def test_the_manifests_start_the_deployer_and_the_controller() -> None:
    assert list(shipped()) == [
        "central/base/controller.yaml-Deployment",
        "store/deployer/deployment.yaml-Deployment",
    ]


def put(path: str, value: Any) -> Callable[[Json], None]:
    """Sets one field; a number in the path is an index."""

    def change(template: Json) -> None:
        *parents, last = path.split(".")
        place: Any = template["spec"]
        for name in parents:
            place = place[int(name)] if name.isdigit() else place.setdefault(name, {})
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "breach"),
    [
        (put("hostNetwork", True), "hostNetwork"),
        (put("hostPID", True), "hostPID"),
        (put("volumes", [{"name": "x", "hostPath": {"path": "/"}}]), "volume hostPath"),
        (put("volumes", [{"name": "x", "nfs": {}}]), "volume nfs"),
        (put("securityContext.runAsNonRoot", False), "fetch-model: runAsNonRoot"),
        (put("securityContext.runAsUser", 0), "runAsUser"),
        (put("securityContext.seccompProfile.type", "Unconfined"), "seccompProfile"),
        (put("securityContext.sysctls", [{"name": "kernel.msgmax"}]), "sysctl kernel.msgmax"),
        (put("containers.0.securityContext.privileged", True), "agent: privileged"),
        (put("containers.0.securityContext", {}), "agent: allowPrivilegeEscalation"),
        (put("containers.0.securityContext.capabilities", {}), "agent: capabilities not dropped"),
        (put("containers.0.securityContext.capabilities.add", ["SYS_ADMIN"]), "agent: capabilities added"),
        (put("containers.0.securityContext.runAsNonRoot", False), "agent: runAsNonRoot"),
        (put("containers.0.securityContext.procMount", "Unmasked"), "agent: procMount"),
        (put("containers.0.securityContext.seLinuxOptions", {"type": "spc_t"}), "agent: seLinuxOptions"),
        (put("containers.0.ports", [{"hostPort": 8471}]), "agent: hostPort"),
        (put("containers.0.livenessProbe.httpGet", {"host": "x"}), "agent: a probe of another host"),
        (put("initContainers.0.securityContext", {}), "fetch-model: allowPrivilegeEscalation"),
    ],
)  # fmt: skip
def test_what_it_refuses_is_noticed(change: Callable[[Json], None], breach: str) -> None:
    template = copy.deepcopy(agents())
    change(template)
    assert breach in breaches(template)
