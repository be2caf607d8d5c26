"""The deployer on a real cluster, with the rights that its manifests give it and no others."""

import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.deployment import DesiredState, ReportedState, decode_reported, pack
from contract.signing import Signed, sign
from contract.workload import ModelManifest
from controller.adapters.deployer_shelf import DeployerShelf
from controller.adapters.kubernetes_cluster import KubernetesCluster
from controller.deployer import Deployer
from controller.domain.release import Release
from controller.domain.workload import StoreSite, Workload, WorkloadSettings, build_workload
from controller.errors import PermanentError
from k3s.testbed import Options, Store, Testbed
from k3s.testbed.api import Api, ApiError

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces, mounts and containers need root"),
    pytest.mark.timeout(1800),  # the first run on a machine may have to build Kubernetes
]
ROOT = Path(__file__).parents[3]
STORE = "berlin-01"
KEY = Ed25519PrivateKey.generate()
DAEMON_SET = "/apis/apps/v1/namespaces/storefleet/daemonsets/storefleet-agent"


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    command = ["kubectl", "kustomize", str(ROOT / "k3s" / "store-behind-nat")]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    every = [document for document in yaml.safe_load_all(text) if document]
    found = [d for d in every if d["kind"] == "Namespace" or "deployer" in d["metadata"]["name"]]
    return sorted(found, key=lambda document: document["kind"] != "Namespace")


@pytest.fixture(scope="module")
def store(manifests: list[dict[str, Any]]) -> Iterator[Store]:
    with Testbed(Options(name=f"deployer-{os.getpid()}", stores=(STORE,), nodes=(1,))) as stores:
        for document in manifests:
            if document["kind"] not in ("Deployment", "PersistentVolumeClaim"):  # no image, no volumes here
                stores[0].api.apply(document)
        yield stores[0]


@pytest.fixture(scope="module")
def kubeconfig(store: Store) -> Path:
    """With the deployer's own service account."""
    return store.service_account_kubeconfig("storefleet", "storefleet-deployer")


@dataclass
class Wire:
    reports: list[ReportedState] = field(default_factory=list)

    def take(self, wait_s: float) -> bytes | None:
        return None

    def report(self, payload: bytes) -> bool:
        self.reports.append(decode_reported(payload))
        return True


@dataclass
class Deploying:
    deployer: Deployer
    wire: Wire


@pytest.fixture
def deploying(kubeconfig: Path, tmp_path: Path) -> Deploying:
    wire = Wire()
    deployer = Deployer(
        STORE,
        "storefleet",
        cluster=KubernetesCluster(kubeconfig=kubeconfig),
        channel=wire,
        shelf=DeployerShelf(tmp_path),
        trusted=lambda: [KEY.public_key()],
        clock=lambda: datetime.now(UTC),
        chance=random.random,
    )
    return Deploying(deployer, wire)


def workload(number: int) -> Workload:
    manifest = ModelManifest(
        digest="sha256:" + "a" * 64,
        size_bytes=3,
        name="shelf",
        version=str(number),
        format="openvino",
        task="detect",
        names=("cola-can",),
        image_size=(320, 320),
    )
    signed = Signed(payload=manifest.model_dump_json(), key_id="0" * 16, signature="c2ln")
    release = Release(f"v{number}", f"example.org/agent:{number}", manifest, signed)
    settings = WorkloadSettings(mqtt_url="mqtt://127.0.0.1:1883", controller_url="http://127.0.0.1:1")
    rollout = f"00000000-0000-0000-0000-00000000000{number}"
    return build_workload(release, StoreSite(STORE, "version: 1\n", "pem"), rollout, settings)


def message(number: int, generation: int, nothing: bool = False) -> bytes:
    wanted = workload(number)
    state = DesiredState.model_validate(
        {
            "store": STORE,
            "generation": generation,
            "namespace": "storefleet",
            "issued_at": datetime.now(UTC),
            "rollout_id": None if nothing else wanted.rollout_id,
            "daemon_set": None if nothing else wanted.daemon_set,
            "config_map": None if nothing else wanted.config_map,
        }
    )
    return sign(pack(state), KEY).to_bytes()


def test_server_accepts_every_manifest(store: Store, manifests: list[dict[str, Any]]) -> None:
    for document in manifests:
        store.api.apply(document, dry_run=True)


def test_signed_state_is_applied_repaired_and_taken_away_with_the_rights_of_the_manifests(
    store: Store, deploying: Deploying
) -> None:
    deploying.deployer.look(message(1, 1))
    assert deploying.wire.reports[-1].trouble is None
    assert image(store.api) == "example.org/agent:1"

    store.api.request(
        "PATCH",
        DAEMON_SET,
        {"spec": {"template": {"spec": {"containers": [{"name": "agent", "image": "evil:1"}]}}}},
        content_type="application/strategic-merge-patch+json",
    )
    deploying.deployer.look()
    assert "evil:1" in deploying.wire.reports[-1].workload.drift[0]
    assert image(store.api) == "example.org/agent:1"

    store.api.request("DELETE", DAEMON_SET)
    deploying.deployer.look()
    assert image(store.api) == "example.org/agent:1"

    deploying.deployer.look(message(2, 2))
    assert image(store.api) == "example.org/agent:2"
    deploying.deployer.look(message(2, 3, nothing=True))
    deploying.deployer.look()
    assert deploying.wire.reports[-1].workload.rollout_id is None
    with pytest.raises(ApiError, match="not found"):
        store.api.get(DAEMON_SET)


def image(api: Api) -> str:
    return str(api.get(DAEMON_SET)["spec"]["template"]["spec"]["containers"][0]["image"])


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/storefleet/secrets",
        "/api/v1/namespaces/kube-system/configmaps",
        "/apis/apps/v1/namespaces/kube-system/daemonsets",
        "/apis/apps/v1/namespaces/storefleet/deployments",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/storefleet/roles",
        "/api/v1/nodes",
    ],
)
def test_deployer_may_not_look_elsewhere(kubeconfig: Path, path: str) -> None:
    with pytest.raises(ApiError) as caught:
        Api.of(kubeconfig).get(path)
    assert caught.value.status == 403


def test_client_certificates_count_until_they_expire(store: Store) -> None:
    good = store.certificate_kubeconfig("operator", ["system:masters"])
    assert KubernetesCluster(kubeconfig=good).observe("paris-02").rollout_id is None
    late = store.certificate_kubeconfig("operator", ["system:masters"], expired=True)
    with pytest.raises(PermanentError, match="client certificate of the kubeconfig expired"):
        KubernetesCluster(kubeconfig=late).observe(STORE)
