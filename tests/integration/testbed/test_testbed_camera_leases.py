"""Camera leases on a real API server, with the rights that ``k3s/store/cameras.yaml`` gives and no others."""

import base64
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.adapters.kubernetes_lease import KubernetesLeases
from agent.domain.sharing import NOBODY, Record, Share, Terms
from agent.sharing import LeasedCameras
from k3s.testbed import Options, Store, Testbed
from k3s.testbed.api import Api, ApiError

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces, mounts and containers need root"),
    pytest.mark.timeout(1800),  # the first run on a machine may have to build Kubernetes
]
MANIFESTS = Path(__file__).parents[3] / "k3s" / "store"
CAMERAS = ("aisle-1", "aisle-2")
TERMS = Terms(hold_s=4, lease_s=6, renew_s=1, settle_s=3)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with Testbed(Options(name=f"leases-{os.getpid()}", stores=("berlin-01",), nodes=(1,))) as stores:
        for file in ("namespace.yaml", "cameras.yaml"):
            for document in yaml.safe_load_all((MANIFESTS / file).read_text()):
                stores[0].api.apply(document)
        yield stores[0]


@pytest.fixture(scope="module")
def kubeconfig(store: Store) -> Path:
    return store.service_account_kubeconfig("storefleet", "storefleet-agent")


@pytest.fixture
def agent(kubeconfig: Path, tmp_path: Path) -> tuple[str, Path]:
    """The API's address, and a directory as a pod finds it."""
    config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    if "certificate-authority-data" in cluster:
        authority = base64.b64decode(cluster["certificate-authority-data"])
    else:
        authority = Path(cluster["certificate-authority"]).read_bytes()
    (tmp_path / "ca.crt").write_bytes(authority)
    (tmp_path / "token").write_text(user["token"])
    (tmp_path / "namespace").write_text("storefleet")
    return cluster["server"], tmp_path


def test_leases_are_compared_and_set(agent: tuple[str, Path], store: Store) -> None:
    with (
        closing(KubernetesLeases(*agent, lease_s=12)) as one,
        closing(KubernetesLeases(*agent, lease_s=12)) as other,
    ):
        created = one.write("camera", Record("door", "node-1", 91_000_000))
        assert created is not None
        assert other.write("camera", Record("door", "node-2", 1)) is None
        taken = other.write("camera", Record("door", "node-2", 91_000_001, created.version))
        assert taken is not None
        assert one.write("camera", Record("door", NOBODY, 91_000_000, created.version)) is None
        assert one.read().cameras["door"] == taken
        left = one.write("member", Record("node-9", NOBODY))
        assert left is not None
        assert other.read().members["node-9"] == left
    lease = store.api.get("/apis/coordination.k8s.io/v1/namespaces/storefleet/leases/storefleet-camera-door")
    assert lease["spec"]["holderIdentity"] == "node-2"
    assert lease["spec"]["leaseTransitions"] == 91_000_001


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/namespaces/storefleet/secrets"),
        ("GET", "/api/v1/namespaces/storefleet/pods"),
        ("GET", "/api/v1/namespaces/storefleet/configmaps"),
        ("GET", "/apis/apps/v1/namespaces/storefleet/daemonsets"),
        ("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"),
        ("DELETE", "/apis/coordination.k8s.io/v1/namespaces/storefleet/leases/storefleet-camera-door"),
        ("GET", "/api/v1/nodes"),
    ],
)
def test_an_agent_may_do_nothing_else(kubeconfig: Path, method: str, path: str) -> None:
    with pytest.raises(ApiError) as refused:
        Api.of(kubeconfig).request(method, path)
    assert refused.value.status == 403


def test_two_nodes_share_and_one_takes_over(agent: tuple[str, Path]) -> None:
    shares: dict[str, Share] = {}
    stops = {name: threading.Event() for name in ("node-1", "node-2")}

    def live(name: str) -> None:
        with closing(KubernetesLeases(*agent, lease_s=TERMS.lease_s)) as leases:
            sharing = LeasedCameras(leases, name, TERMS)
            shares[name] = sharing.begin(CAMERAS)
            sharing.run(stops[name], lambda share: shares.update({name: share}), lambda: True)

    def held(name: str) -> set[str]:
        return set(shares[name].epochs or ()) if name in shares else set()

    def within(seconds: float, condition: Any, what: str) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what}: {shares}"
            time.sleep(0.05)

    threads = {name: threading.Thread(target=live, args=(name,)) for name in stops}
    try:
        for thread in threads.values():
            thread.start()
        within(30, lambda: len(held("node-1")) == len(held("node-2")) == 1, "one each")
        before = dict(shares["node-1"].epochs or {})
        stops["node-1"].set()  # dies without a word
        within(20, lambda: held("node-2") == set(CAMERAS), "taken over")
        after = shares["node-2"].epochs or {}
        assert all(after[camera] > epoch for camera, epoch in before.items())
    finally:
        for name, thread in threads.items():
            stops[name].set()
            thread.join()
