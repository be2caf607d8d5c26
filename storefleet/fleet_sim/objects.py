"""The Kubernetes objects of a simulated fleet: every store is a namespace and a node of one cluster.

What a store's own cluster would hold apart from these (Secrets, Services, the content of volumes) only a real
kubelet would miss.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from controller.domain.workload import CAMERA_NODE_LABEL, STORE_LABEL
from k3s.testbed.cli_objects import read_manifests
from storefleet.fleet_sim.pods import ADDRESS, rfc3339
from storefleet.fleet_sim.shops import Shop

Json = dict[str, Any]
Created = tuple[str, Json]
"""Where an object is posted to, and the object."""

STORE_MANIFESTS = Path(__file__).resolve().parents[2] / "k3s" / "store"
CENTRE = "storefleet"
"""Namespace of the controller's account."""
ACCOUNT = "storefleet-controller"
AUDITED_USER = f"system:serviceaccount:{CENTRE}:{ACCOUNT}"
DATA = "storefleet-data"
RBAC = "rbac.authorization.k8s.io"

ARGUMENTS = {
    "controller-manager": (
        "--node-monitor-grace-period=8760h",  # nodes send no heartbeats; one that is lost is said to be lost
        "--controllers=daemonset,namespace,serviceaccount,nodelifecycle,persistentvolume-binder",
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
    ),
    "scheduler": ("--kube-api-qps=1000", "--kube-api-burst=2000"),
}
"""In production every store has a control plane of its own. Here one does the work of all of them, so it goes
without the brakes (20 requests a second for each controller) that are meant for one cluster's work."""


def apiserver_arguments(policy: Path, audit_log: Path) -> tuple[str, ...]:
    return (f"--audit-policy-file={policy}", f"--audit-log-path={audit_log}", "--audit-log-mode=blocking")


def audit_policy() -> Json:
    """What the controller asks for, one line for each request, and nobody else."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "users": [AUDITED_USER]}, {"level": "None"}],
    }


def centre_objects() -> Iterator[Created]:
    """The controller's account, with the rights that ``k3s/store`` gives it in one, in all namespaces."""
    yield "/api/v1/namespaces", _object("v1", "Namespace", CENTRE)
    account = _object("v1", "ServiceAccount", ACCOUNT, CENTRE)
    yield f"/api/v1/namespaces/{CENTRE}/serviceaccounts", account
    role = {**_object(f"{RBAC}/v1", "ClusterRole", ACCOUNT), "rules": _rules()}
    yield f"/apis/{RBAC}/v1/clusterroles", role
    binding = {
        **_object(f"{RBAC}/v1", "ClusterRoleBinding", ACCOUNT),
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": ACCOUNT},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": CENTRE}],
    }
    yield f"/apis/{RBAC}/v1/clusterrolebindings", binding
    for manifest in _store_manifests("PriorityClass"):
        yield "/apis/scheduling.k8s.io/v1/priorityclasses", manifest


def store_objects(shop: Shop, now: datetime) -> Iterator[Created]:
    yield "/api/v1/namespaces", _object("v1", "Namespace", shop.name)
    yield "/api/v1/nodes", node(shop, now)
    volume = {
        "accessModes": ["ReadWriteMany"],
        "capacity": {"storage": "2Gi"},
        "storageClassName": "",
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"namespace": shop.name, "name": DATA},
        "hostPath": {"path": "/var/lib/storefleet"},
    }
    name = f"{shop.name}-data"
    yield "/api/v1/persistentvolumes", {**_object("v1", "PersistentVolume", name), "spec": volume}
    claim = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "",
        "volumeName": name,
        "resources": {"requests": {"storage": "2Gi"}},
    }
    path = f"/api/v1/namespaces/{shop.name}/persistentvolumeclaims"
    yield path, {**_object("v1", "PersistentVolumeClaim", DATA, shop.name), "spec": claim}


def node(shop: Shop, now: datetime) -> Json:
    """As its kubelet would register it; nobody but the fake kubelet is behind it."""
    room = {"cpu": "4", "memory": "8Gi", "pods": "110", "ephemeral-storage": "64Gi"}
    labels = {CAMERA_NODE_LABEL: "true", STORE_LABEL: shop.name, "kubernetes.io/hostname": shop.node}
    return {
        **_object("v1", "Node", shop.node, labels=labels),
        "status": {
            "capacity": room,
            "allocatable": room,
            "conditions": [node_condition(ready=True, at=now)],
            "addresses": [{"type": "InternalIP", "address": ADDRESS}],
            "nodeInfo": {
                **dict.fromkeys(("machineID", "systemUUID", "bootID", "osImage"), "simulated"),
                **dict.fromkeys(("kernelVersion", "containerRuntimeVersion"), "simulated"),
                **dict.fromkeys(("kubeletVersion", "kubeProxyVersion"), "v0.0.0-simulated"),
                "operatingSystem": "linux",
                "architecture": "amd64",
            },
        },
    }


def node_condition(*, ready: bool, at: datetime) -> Json:
    """``ready`` False: as the cluster sees a node that it has not heard of."""
    return {
        "type": "Ready",
        "status": "True" if ready else "Unknown",
        "reason": "KubeletReady" if ready else "NodeStatusUnknown",
        "message": "simulated" if ready else "Kubelet stopped posting node status.",
        "lastHeartbeatTime": rfc3339(at),
        "lastTransitionTime": rfc3339(at),
    }


def _rules() -> list[Json]:
    for role in _store_manifests("Role"):
        if role["metadata"]["name"] == ACCOUNT:
            rules: list[Json] = role["rules"]
            return rules
    raise LookupError(f"no Role {ACCOUNT} in {STORE_MANIFESTS}")


def _store_manifests(kind: str) -> Iterator[Json]:
    for file in sorted(STORE_MANIFESTS.glob("*.yaml")):
        if file.name != "kustomization.yaml":
            yield from (found for found in read_manifests(file) if found["kind"] == kind)


def _object(
    version: str, kind: str, name: str, namespace: str = "", labels: dict[str, str] | None = None
) -> Json:
    metadata: Json = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": metadata | ({"labels": labels} if labels else {}),
    }
