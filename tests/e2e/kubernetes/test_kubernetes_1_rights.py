"""What the stores' manifests allow, asked of real API servers before anything is deployed."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.kubernetes_stage import MANIFESTS, NAMESPACE, KubernetesStage
from contract.signing import Signed
from contract.workload import ModelManifest
from controller.domain.accelerator import ACCELERATORS
from controller.domain.release import Release
from controller.domain.workload import (
    StoreSite,
    WorkloadSettings,
    build_workload,
    for_server,
    with_last_applied,
)
from k3s.testbed.api import Api, ApiError

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces, mounts and containers need root"),
    pytest.mark.timeout(1800),  # the first run on a machine may have to build Kubernetes and the image
]

INSIDE = f"/api/v1/namespaces/{NAMESPACE}"
WORKLOADS = f"/apis/apps/v1/namespaces/{NAMESPACE}"
RIGHTS = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"

FORBIDDEN_TO_ALL = (
    ("GET", f"{INSIDE}/secrets"),
    ("GET", f"{INSIDE}/secrets/storefleet-agent"),
    ("POST", f"{INSIDE}/pods"),
    ("GET", f"{INSIDE}/pods/any/log"),
    ("POST", f"{INSIDE}/pods/any/exec"),
    ("DELETE", f"{INSIDE}/pods/any"),
    ("POST", f"{INSIDE}/serviceaccounts/default/token"),
    ("POST", f"{RIGHTS}/roles"),
    ("POST", f"{RIGHTS}/rolebindings"),
    ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ("POST", f"{WORKLOADS}/deployments"),
    ("GET", "/api/v1/nodes"),
    ("GET", "/api/v1/secrets"),
    ("GET", "/api/v1/pods"),
    ("GET", "/api/v1/namespaces"),
    ("DELETE", f"/api/v1/namespaces/{NAMESPACE}"),
    ("GET", "/api/v1/namespaces/kube-system/configmaps"),
    ("POST", "/apis/apps/v1/namespaces/kube-system/daemonsets"),
    ("POST", "/api/v1/persistentvolumes"),
    ("POST", f"{INSIDE}/persistentvolumeclaims"),
    ("POST", "/apis/scheduling.k8s.io/v1/priorityclasses"),
    ("DELETE", f"{INSIDE}/resourcequotas/storefleet"),
    (
        "DELETE",
        f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies/storefleet-nobody-comes-in",
    ),
)
FORBIDDEN = {
    "storefleet-controller": (*FORBIDDEN_TO_ALL, ("GET", LEASES)),
    "storefleet-agent": (
        *FORBIDDEN_TO_ALL,
        ("GET", f"{INSIDE}/pods"),
        ("GET", f"{INSIDE}/configmaps"),
        ("GET", f"{WORKLOADS}/daemonsets/storefleet-agent"),
        ("DELETE", f"{LEASES}/any"),
        ("GET", "/apis/coordination.k8s.io/v1/leases"),
        ("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"),
    ),
    "default": (
        *FORBIDDEN_TO_ALL,
        ("GET", f"{INSIDE}/pods"),
        ("GET", f"{INSIDE}/configmaps"),
        ("GET", LEASES),
    ),
}


@pytest.mark.parametrize("account", list(FORBIDDEN))
def test_an_account_of_the_store_may_do_nothing_beyond_its_work(stage: KubernetesStage, account: str) -> None:
    api = Api.of(next(iter(stage.stores.values())).service_account_kubeconfig(NAMESPACE, account))
    allowed = []
    for method, path in FORBIDDEN[account]:
        try:
            api.request(method, path, body={} if method == "POST" else None)
        except ApiError as error:
            if error.status == 403:
                continue
            allowed.append(f"{method} {path}: HTTP {error.status} {error}")
        else:
            allowed.append(f"{method} {path}")
    assert allowed == []


NEWER = {("policy/v1", "PodDisruptionBudget")}
"""Since Kubernetes 1.21, and the older version of it is gone since 1.25; the testbed's server may be 1.20."""


@pytest.mark.parametrize(
    ("folder", "kinds"),
    [
        ("store", {"Role", "RoleBinding", "PersistentVolume", "PersistentVolumeClaim", "PriorityClass"}),
        ("store-behind-nat", {"Deployment", "LimitRange", "ResourceQuota"}),
        ("store-egress", {"NetworkPolicy"}),
        ("central/base", {"Deployment", "Service", "PersistentVolumeClaim", "PodDisruptionBudget"}),
        ("central/gke", {"Ingress"}),
        ("central/eks", {"Ingress"}),
    ],
)
def test_a_server_accepts_every_manifest(stage: KubernetesStage, folder: str, kinds: set[str]) -> None:
    api = stage.stores[stage.names[1]].api
    manifests = kustomized(MANIFESTS / folder)
    assert {"Namespace", "ServiceAccount", *kinds} <= {each["kind"] for each in manifests}
    has_newer = "policy/v1" in {
        version["groupVersion"] for group in api.get("/apis")["groups"] for version in group["versions"]
    }
    for manifest in manifests:
        if manifest["kind"] == "Namespace":
            api.apply(manifest)  # what lies in it is refused without it, also when nothing is kept
        elif has_newer or (manifest["apiVersion"], manifest["kind"]) not in NEWER:
            assert api.apply(manifest, dry_run=True)["kind"] == manifest["kind"]


def test_the_directory_of_each_node_is_bound_to_the_agents_claim(stage: KubernetesStage) -> None:
    def bound() -> bool:  # by a controller of the cluster, some time after both are made
        claims = [
            store.api.get(f"{INSIDE}/persistentvolumeclaims/storefleet-data")
            for store in stage.stores.values()
        ]
        assert {claim["spec"]["volumeName"] for claim in claims} == {"storefleet-data"}
        return all(claim["status"]["phase"] == "Bound" for claim in claims)

    stage.wait("every claim bound", bound, 60)


@pytest.mark.parametrize("accelerator", [None, *ACCELERATORS])
@pytest.mark.parametrize("leases", ["", "kubernetes"])
def test_a_store_accepts_the_workload_of_a_release(
    stage: KubernetesStage, leases: Any, accelerator: str | None
) -> None:
    store = stage.stores[stage.names[1]]
    manifest = ModelManifest(
        digest="sha256:" + "a" * 64,
        size_bytes=3,
        name="shelf",
        version="1",
        format="openvino",
        task="detect",
        names=("cola-can",),
        image_size=(320, 320),
    )
    signed = Signed(payload=manifest.model_dump_json(), key_id="0" * 16, signature="c2ln")
    release = Release("v1", "example.org/agent:1", manifest, signed)
    settings = WorkloadSettings(
        "mqtt://127.0.0.1:1883",
        "http://127.0.0.1:1",
        camera_leases=leases,
        accelerator=ACCELERATORS[accelerator] if accelerator else None,
    )
    workload = build_workload(release, StoreSite(store.name, "version: 1\n", "pem"), "r-1", settings)
    daemon_set, degraded = for_server(workload.daemon_set, (1, 20))
    assert degraded, "this server has no surge, and says so"
    for wanted in (workload.config_map, with_last_applied(daemon_set)):
        kept = store.api.apply(wanted, dry_run=True)
        assert kept["metadata"]["name"] == wanted["metadata"]["name"]


def kustomized(folder: Path) -> list[dict[str, Any]]:
    command = ["kubectl", "kustomize", str(folder)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [document for document in yaml.safe_load_all(text) if document]
