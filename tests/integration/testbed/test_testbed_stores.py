"""Three real stores on this machine, one of two nodes: they run pods, and can be cut, killed and mended."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from k3s.testbed import PAUSE_IMAGE, Node, Options, Store, Testbed, TestbedError
from k3s.testbed.api import Api, ApiError
from k3s.testbed.cli_objects import read_manifests
from k3s.testbed.layout import netns_prefix
from k3s.testbed.ledger import Ledger
from k3s.testbed.network import leftovers
from k3s.testbed.pause_image import oci_archive
from k3s.testbed.processes import all_pids
from k3s.testbed.status import read_status

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces, mounts and containers need root"),
    pytest.mark.timeout(1800),  # the first run on a machine may have to build Kubernetes
]
NAMESPACE = "default"
STORE_MANIFESTS = Path(__file__).parents[3] / "k3s/store"
FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=2).read().decode())"


@pytest.fixture(scope="module")
def options() -> Options:
    return Options(name=f"test-{os.getpid()}", stores=("berlin-01", "paris-02", "rome-03"), nodes=(1, 1, 2))


@pytest.fixture(scope="module")
def stores(options: Options) -> Iterator[list[Store]]:
    with Testbed(options) as stores:
        for store in stores:
            store.api.apply(daemon_set("probe", PAUSE_IMAGE))
        for store in stores:
            eventually(
                lambda store=store: running(store, "probe") == len(store.nodes), f"pods in {store.name}"
            )
        yield stores


@pytest.fixture
def centre(stores: list[Store]) -> Iterator[str]:
    """A web server that the first store reaches over its uplink; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"centre")

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the tests' output is for the tests."""

    with ThreadingHTTPServer((str(stores[0].controller_ip), 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{stores[0].controller_ip}:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_every_node_of_every_store_is_ready_and_runs_its_pod(stores: list[Store]) -> None:
    status = read_status(stores, memory=True)
    assert [(each["name"], each["ready"], len(each["nodes"])) for each in status] == [
        ("berlin-01", True, 1),
        ("paris-02", True, 1),
        ("rome-03", True, 2),
    ]
    assert all(all(each["nodes"].values()) for each in status)
    assert all(pod["ready"] for each in status for pod in each["pods"])
    assert sum(each["memory_mb"] for each in status) < 4000


def test_pod_reaches_the_centre_until_its_store_is_cut_and_again_when_it_is_healed(
    stores: list[Store], centre: str
) -> None:
    store, node = stores[0], stores[0].nodes[0]
    assert fetch_from_pod(node, centre) == "centre"
    with cut(store):
        assert fetch_from_pod(node, centre) == ""
        assert not store.api.ready()
        (status,) = read_status([store])
        assert (status["link"], status["ready"]) == ("cut", False)
        assert reaches_own_apiserver(store), "inside the store all goes on"
        assert stores[1].api.ready(), "other stores notice nothing"
    eventually(store.api.ready, "the apiserver")
    eventually(lambda: fetch_from_pod(node, centre) == "centre", "the centre")


@pytest.mark.parametrize("program", ["kubelet", "containerd"])
def test_containers_outlive_a_killed_program_of_their_node(stores: list[Store], program: str) -> None:
    store, node = stores[1], stores[1].nodes[0]
    before = containers(store)
    node.kill(program)
    (status,) = read_status([store])
    assert status["trouble"] == f"not running: {node.name}/{program}"
    node.start(program)
    eventually(lambda: store.ready_nodes()[node.name], "the node")
    store.api.apply(daemon_set(f"after-{program}", PAUSE_IMAGE))
    eventually(lambda: running(store, f"after-{program}") == 1, "a new pod")
    assert before <= containers(store)


def test_pulled_plug_ends_everything_on_a_node_and_it_comes_back(stores: list[Store]) -> None:
    store = stores[2]
    stays, goes = store.nodes
    on_disk = goes.host_path("/var/lib/storefleet/note")
    on_disk.parent.mkdir(parents=True, exist_ok=True)
    on_disk.write_text("kept")
    processes = goes.machine.pids()
    goes.kill("node")
    assert not any(namespace_of(pid, "pid") for pid in processes)
    assert store.programs()[f"{stays.name}/kubelet"]
    assert store.programs()[f"{goes.name}/kubelet"] is None
    goes.start("node")
    eventually(lambda: restarts(store, goes) >= 1 and running(store, "probe") == 2, "both pods")
    assert on_disk.read_text() == "kept"


def test_bringing_up_again_mends_what_died_and_leaves_the_rest_alone(
    stores: list[Store], options: Options
) -> None:
    before = stores[0].programs()
    stores[0].kill("scheduler")
    stores[0].nodes[0].kill("kubelet")
    Testbed(options).up()
    after = stores[0].programs()
    changed = {key for key in after if after[key] != before.get(key)}
    assert changed == {"berlin-01/scheduler", "berlin-01-node-1/kubelet"}


def test_loaded_image_runs(stores: list[Store], tmp_path: Path) -> None:
    name = "storefleet.io/testbed/other:1"
    program = Path(stores[0].nodes[0].machine.power_switch).read_bytes()
    archive = tmp_path / "image.tar"
    archive.write_bytes(oci_archive(name, {"other": program}, ["/other"]))
    stores[0].load_image(archive)
    assert name in stores[0].nodes[0].images()
    stores[0].api.apply(daemon_set("other", name))
    eventually(lambda: running(stores[0], "other") == 1, "the pod")


def test_restricted_pod_with_limits_and_volumes_runs(stores: list[Store]) -> None:
    store, node = stores[0], stores[0].nodes[0]
    manifest = daemon_set("restricted", PAUSE_IMAGE)
    spec = manifest["spec"]["template"]["spec"]
    spec["securityContext"] = {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    spec["volumes"] = [
        {"name": "data", "hostPath": {"path": "/var/lib/restricted", "type": "DirectoryOrCreate"}},
        {"name": "shared", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
    ]
    spec["containers"][0] |= {
        "resources": {"requests": {"cpu": "10m"}, "limits": {"cpu": "100m", "memory": "32Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "shared", "mountPath": "/dev/shm"}],
    }
    store.api.apply(manifest)
    eventually(lambda: running(store, "restricted") == 1, "the pod")
    assert node.host_path("/var/lib/restricted").is_dir()
    assert not Path("/var/lib/restricted").exists(), "a node's disk is its own"
    (pod,) = pods_of(store, "restricted")
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    assert memory_limit(container) == 32 * 1024 * 1024


def test_control_plane_from_kubebuilder_assets_has_no_nodes(
    stores: list[Store], options: Options, tmp_path: Path
) -> None:
    kubernetes = Ledger.load(options.place).kubernetes
    assert kubernetes is not None
    assert kubernetes.apiserver is not None
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "kube-apiserver").symlink_to(kubernetes.apiserver)
    environment = {**os.environ, "KUBEBUILDER_ASSETS": str(assets)}
    bare = Options(name=f"bare-{os.getpid()}", stores=("lima-04",), nodes=(2,), environment=environment)
    with Testbed(bare) as (store,):
        assert set(store.programs()) == {"lima-04/etcd", "lima-04/apiserver"}
        assert store.ready_nodes() == {}
        assert store.ip not in {other.ip for other in stores}


def test_others_than_the_administrator_have_their_own_rights_only(stores: list[Store]) -> None:
    store = stores[0]
    account = Api.of(store.service_account_kubeconfig(NAMESPACE, "default"))
    assert refusal(account, "/api/v1/nodes") == 403
    assert refusal(Api.of(store.certificate_kubeconfig("eve", ["guests"])), "/api/v1/nodes") == 403
    assert refusal(Api.of(store.certificate_kubeconfig("eve", expired=True)), "/api/v1/nodes") == 401
    assert {path.stat().st_mode & 0o777 for path in store.kubeconfig.parent.glob("kubeconfig*")} == {0o600}


def test_controllers_account_may_do_what_a_release_takes_and_no_more(stores: list[Store]) -> None:
    store, namespace = stores[1], "storefleet"
    for file in ("namespace.yaml", "controller-account.yaml"):
        for manifest in read_manifests(STORE_MANIFESTS / file):
            store.api.apply(manifest)
    controller = Api.of(store.service_account_kubeconfig(namespace, "storefleet-controller"))
    manifest = daemon_set("agent", PAUSE_IMAGE)
    assert refused(lambda: controller.apply(manifest)) == 403, "not outside its namespace"
    manifest["metadata"]["namespace"] = namespace
    controller.apply(manifest)
    assert refusal(controller, f"/api/v1/namespaces/{namespace}/secrets") == 403
    assert refusal(controller, "/api/v1/nodes") == 403


def test_cluster_named_by_kubeconfig_is_only_looked_at(stores: list[Store], tmp_path: Path) -> None:
    named = Options(name="named", kubeconfigs=(stores[0].kubeconfig,), directory=tmp_path / "named")
    with Testbed(named) as (found,):
        assert found.ready_nodes() == {"berlin-01-node-1": True}
        with pytest.raises(TestbedError, match="only looks at it"):
            found.cut()
    assert stores[0].api.ready()


def test_control_plane_that_cannot_run_is_named_at_once_with_its_last_words(tmp_path: Path) -> None:
    program = tmp_path / "kube-apiserver"
    program.write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo Kubernetes v1.30.1 && exit\necho no luck; exit 1\n"
    )
    program.chmod(0o755)
    environment = {**os.environ, "KUBEBUILDER_ASSETS": str(tmp_path)}
    name = f"ended-{os.getpid()}"
    with pytest.raises(TestbedError, match=r"store-1/apiserver has ended: see .*apiserver\.log") as caught:
        Testbed(Options(name=name, environment=environment)).__enter__()
    assert "    no luck" in "".join(caught.value.__notes__)
    assert leftovers(name) == ([], [])


def test_nothing_is_left_after_a_crash_in_the_middle_and_down() -> None:
    name = f"crash-{os.getpid()}"
    program = f"from k3s.testbed import *; Testbed(Options(name={name!r})).up()"
    bringing_up = subprocess.Popen([sys.executable, "-c", program])
    try:
        eventually(lambda: len(processes_of(name)) >= 3, "its first processes")
    finally:
        bringing_up.kill()
        bringing_up.wait()
    Testbed(Options(name=name)).down()
    assert leftovers(name) == ([], [])
    assert processes_of(name) == []
    assert name not in Path("/proc/self/mounts").read_text()
    assert not Options(name=name).place.exists()


def daemon_set(name: str, image: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": name}
    container = {"name": name, "image": image, "imagePullPolicy": "Never"}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "nodeSelector": {"storefleet.io/camera-node": "true"},
                    "terminationGracePeriodSeconds": 1,
                    "containers": [container],
                },
            },
        },
    }


def memory_limit(container: str) -> int:
    """In bytes, of either kind of control groups."""
    for pattern in (f"memory/k8s.io/{container}/memory.limit_in_bytes", f"k8s.io/{container}/memory.max"):
        for path in Path("/sys/fs/cgroup").glob(pattern):
            return int(path.read_text())
    pytest.fail(f"container {container} has no control group")


def pods_of(store: Store, name: str) -> list[dict[str, Any]]:
    return [
        pod
        for pod in store.pods(NAMESPACE)
        if pod["metadata"]["labels"]["app.kubernetes.io/name"] == name
        and all(entry["ready"] for entry in pod["status"].get("containerStatuses", [{"ready": False}]))
    ]


def running(store: Store, name: str) -> int:
    return len(pods_of(store, name))


def containers(store: Store) -> set[str]:
    return {pod["status"]["containerStatuses"][0]["containerID"] for pod in pods_of(store, "probe")}


def restarts(store: Store, node: Node) -> int:
    return sum(
        pod["status"]["containerStatuses"][0]["restartCount"]
        for pod in pods_of(store, "probe")
        if pod["spec"]["nodeName"] == node.name
    )


def fetch_from_pod(node: Node, url: str) -> str:
    """What ``url`` gives in the network of a pod on ``node``; empty if it is out of reach."""
    own = namespace_of(node.machine.pid, "net")
    inside = next(pid for pid in node.machine.pids() if namespace_of(pid, "net") not in ("", own))
    return fetch(["nsenter", f"--net=/proc/{inside}/ns/net"], url)


def fetch(prefix: list[str], url: str) -> str:
    command = [*prefix, sys.executable, "-c", FETCH, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout.strip()


def reaches_own_apiserver(store: Store) -> bool:
    probe = f"import socket; socket.create_connection(('{store.ip}', 443), 2).close()"
    return (
        subprocess.run(store.in_network([sys.executable, "-c", probe]), timeout=20, check=False).returncode
        == 0
    )


def namespace_of(pid: int, kind: str) -> str:
    """Empty if there is no such process."""
    try:
        return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
    except OSError:
        return ""


def refusal(api: Api, path: str) -> int:
    return refused(lambda: api.get(path))


def refused(action: Callable[[], object]) -> int:
    with pytest.raises(ApiError) as caught:
        action()
    return caught.value.status


def processes_of(testbed: str) -> list[int]:
    """Whatever runs in the testbed's network namespaces."""
    spaces = [path.stat().st_ino for path in Path("/run/netns").glob(f"{netns_prefix(testbed)}*")]
    return [pid for pid in all_pids() if any(str(space) in namespace_of(pid, "net") for space in spaces)]


@contextmanager
def cut(store: Store) -> Iterator[None]:
    store.cut()
    try:
        yield
    finally:
        store.heal()


def eventually(condition: Callable[[], object], what: str, timeout_s: float = 120) -> None:
    """Poll until it is true; an apiserver that does not answer yet is no failure."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            if condition():
                return
        except ApiError as error:
            if error.status not in (0, 500, 503):
                raise
        if time.monotonic() > end:
            pytest.fail(f"{what} not there within {timeout_s:.0f} s")
        time.sleep(0.2)
