"""What only Kubernetes can answer: refusals, trouble with pods, and servers that do not answer."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from controller.adapters.kubernetes_cluster import KubernetesCluster
from controller.domain.workload import CAMERA_NODE_LABEL, Workload
from controller.errors import PermanentError, TransientError

STORE = "berlin-01"
MakeWorkload = Callable[..., Workload]


@pytest.fixture
def cluster(kubernetes_api: Any) -> KubernetesCluster:
    return KubernetesCluster(namespace=kubernetes_api.namespace, kubeconfig=kubernetes_api.kubeconfig)


def test_old_server_is_named_with_what_it_cannot_do(
    cluster: KubernetesCluster, workload: MakeWorkload
) -> None:
    degraded = cluster.apply(workload(1)).degraded
    assert len(degraded) == 1
    assert "cannot start the new agent beside the old one" in degraded[0]


def test_user_without_rights_is_told_which(kubernetes_api: Any, workload: MakeWorkload) -> None:
    cluster = KubernetesCluster(kubeconfig=kubernetes_api.user("nobody"))
    with pytest.raises(PermanentError, match=r'User "nobody" cannot get resource "daemonsets".*403.*grant'):
        cluster.apply(workload(1))


def test_wrong_token_is_named(kubernetes_api: Any) -> None:
    cluster = KubernetesCluster(kubeconfig=kubernetes_api.user("guess"))
    with pytest.raises(PermanentError, match=r"401.*wrong or have expired"):
        cluster.observe(STORE)


def test_invalid_object_is_refused_in_the_servers_words(
    cluster: KubernetesCluster, workload: MakeWorkload
) -> None:
    with pytest.raises(PermanentError, match=r"is invalid: metadata.labels.*422"):
        cluster.apply(workload(1, release="no label"))


def test_namespace_of_another_store_is_left_alone(cluster: KubernetesCluster, workload: MakeWorkload) -> None:
    cluster.apply(workload(1))
    with pytest.raises(PermanentError, match="holds the agents of store 'berlin-01' already"):
        cluster.apply(workload(1, store="paris-02"))
    assert cluster.observe("paris-02").rollout_id is None


def test_removed_config_map_is_drift_and_comes_back(
    cluster: KubernetesCluster, kubernetes_api: Any, workload: MakeWorkload
) -> None:
    wanted = workload(1)
    cluster.apply(wanted)
    name = wanted.config_map["metadata"]["name"]

    def delete(connection: Any, namespace: str) -> None:
        core: Any = client.CoreV1Api(connection)
        for item in core.list_namespaced_config_map(namespace).items:
            if item.metadata.name.startswith("storefleet-agent-"):
                core.delete_namespaced_config_map(item.metadata.name, namespace)

    kubernetes_api.change(delete)
    assert cluster.observe(STORE).drift == (f"ConfigMap {name} was removed",)
    cluster.apply(wanted)
    assert cluster.observe(STORE).drift == ()


def test_config_maps_older_than_the_release_before_are_deleted(
    cluster: KubernetesCluster, kubernetes_api: Any, workload: MakeWorkload
) -> None:
    for number in (1, 2, 3):
        cluster.apply(workload(number))
    deleted = [
        e["request"]["path"] for e in kubernetes_api.answers.exchanges if e["request"]["method"] == "DELETE"
    ]
    assert len(deleted) == 1


def test_store_without_camera_node_says_how_to_mark_one(
    cluster: KubernetesCluster, kubernetes_api: Any, workload: MakeWorkload
) -> None:
    def unmark(connection: Any, _namespace: str) -> None:
        core: Any = client.CoreV1Api(connection)
        core.patch_node("node-1", {"metadata": {"labels": {CAMERA_NODE_LABEL: None}}})

    kubernetes_api.change(unmark)
    cluster.apply(workload(1))
    kubernetes_api.play_kubelet()
    seen = cluster.observe(STORE)
    assert seen.desired == 0
    assert "kubectl label node NAME storefleet.io/camera-node=true" in seen.problems[0]


def test_image_that_cannot_be_pulled_is_named(
    cluster: KubernetesCluster, kubernetes_api: Any, workload: MakeWorkload
) -> None:
    cluster.apply(workload(1))
    waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "example.org/agent:1"'}
    kubernetes_api.play_kubelet(ready=False, waiting=waiting)
    seen = cluster.observe(STORE)
    assert (seen.ready, seen.updated) == (0, 0)
    assert seen.problems == (
        f"node node-1: image example.org/agent:1 cannot be pulled (ImagePullBackOff): {waiting['message']}",
    )


def test_exceeded_quota_is_named(
    cluster: KubernetesCluster, kubernetes_api: Any, workload: MakeWorkload
) -> None:
    def limit(connection: Any, namespace: str) -> None:
        core: Any = client.CoreV1Api(connection)
        core.create_namespace({"metadata": {"name": namespace}})
        quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
        core.create_namespaced_resource_quota(namespace, quota)
        time.sleep(2)

    kubernetes_api.change(limit)
    cluster.apply(workload(1))
    kubernetes_api.change(lambda _connection, _namespace: time.sleep(4))
    assert any("exceeded quota: none" in problem for problem in cluster.observe(STORE).problems)


def test_namespace_that_is_being_deleted_is_waited_for(
    cluster: KubernetesCluster, kubernetes_api: Any, workload: MakeWorkload
) -> None:
    def delete(connection: Any, namespace: str) -> None:
        core: Any = client.CoreV1Api(connection)
        core.create_namespace({"metadata": {"name": namespace}})
        held = {"metadata": {"name": "held", "finalizers": ["example.org/hold"]}}
        core.create_namespaced_config_map(namespace, held)
        core.delete_namespace(namespace)

    def release(connection: Any, namespace: str) -> None:
        core: Any = client.CoreV1Api(connection)
        core.patch_namespaced_config_map("held", namespace, {"metadata": {"finalizers": None}})

    kubernetes_api.change(delete)
    try:
        with pytest.raises(TransientError, match="being terminated"):
            cluster.apply(workload(1))
    finally:
        kubernetes_api.change(release)


# What follows needs no recording: it is about HTTP, not about Kubernetes.


def kubeconfig(path: Path, port: int, scheme: str = "http") -> Path:
    server = f"{scheme}://127.0.0.1:{port}"
    text = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(text))
    return path


@contextmanager
def answering(status: int, body: bytes, headers: dict[str, str]) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "headers", "after"),
    [
        (429, b'{"message": "slow down"}', {"Retry-After": "7"}, 7.0),
        (503, b'{"message": "etcd is gone"}', {}, 2.0),
        (409, b'{"message": "changed meanwhile"}', {}, 2.0),
        (500, b"oops", {}, 2.0),
        (200, b"<html>a captive portal</html>", {}, 1.0),
    ],
)
def test_trouble_of_the_server_is_transient(
    tmp_path: Path, status: int, body: bytes, headers: dict[str, str], after: float
) -> None:
    with answering(status, body, headers) as port:
        cluster = KubernetesCluster(kubeconfig=kubeconfig(tmp_path / "k", port))
        with pytest.raises(TransientError) as caught:
            cluster.observe(STORE)
    assert caught.value.retry_after == after


def test_server_that_never_answers_costs_no_more_than_the_timeout(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        config = kubeconfig(tmp_path / "k", listener.getsockname()[1])
        cluster = KubernetesCluster(kubeconfig=config, read_timeout_s=0.5)
        began = time.monotonic()
        with pytest.raises(TransientError, match="timed out"):
            cluster.observe(STORE)
    assert time.monotonic() - began < 3


def test_closed_port_is_transient(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TransientError, match="refused"):
        KubernetesCluster(kubeconfig=kubeconfig(tmp_path / "k", port)).observe(STORE)


@pytest.mark.parametrize("text", [None, "", "{", "clusters: []\n", "- a\n"])
def test_unusable_kubeconfig_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PermanentError, match="kubeconfig"):
        KubernetesCluster(kubeconfig=path).observe(STORE)


def test_unknown_context_is_named(tmp_path: Path) -> None:
    config = kubeconfig(tmp_path / "kubeconfig", 1)
    with pytest.raises(PermanentError, match="elsewhere"):
        KubernetesCluster(kubeconfig=config, context="elsewhere").observe(STORE)
