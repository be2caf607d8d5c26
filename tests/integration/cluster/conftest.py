"""What the cluster tests share: workloads to apply, and a Kubernetes API made of recorded answers.

The answers in ``kubernetes_answers/`` were given by a real kube-apiserver and kube-controller-manager.
To record them again, point ``STOREFLEET_RECORD_KUBECONFIG`` at an empty cluster without kubelets (the
recording plays the kubelet) and run these tests.
"""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
import yaml

from contract.signing import Signed
from contract.workload import ModelManifest
from controller.domain.release import Release
from controller.domain.workload import (
    CAMERA_NODE_LABEL,
    PRIORITY_CLASS,
    StoreSite,
    Workload,
    WorkloadSettings,
    build_workload,
)

HERE = Path(__file__).parent
STORE = "berlin-01"
RECORD = os.environ.get("STOREFLEET_RECORD_KUBECONFIG", "")
CONFIG_MAP = re.compile(r"storefleet-agent-[0-9a-f]{16}")

MakeWorkload = Callable[..., Workload]


def rollout(number: int) -> str:
    return str(UUID(int=number))


def make_workload(
    number: int,
    mode: str = "",
    *,
    store: str = STORE,
    release: str = "",
    probe_s: int = 3,
    command: tuple[str, ...] = ("storefleet", "agent"),
) -> Workload:
    """Release ``v{number}``; ``mode`` says how the child program misbehaves, where it is the agent."""
    manifest = ModelManifest(
        digest="sha256:" + "a" * 64,
        size_bytes=3,
        name="shelf",
        version=str(number),
        format="openvino",
        task="detect",
        names=("cola-can", "person"),
        image_size=(320, 320),
    )
    signed = Signed(payload=manifest.model_dump_json(), key_id="0" * 16, signature="c2ln")
    wanted = Release(
        release or f"v{number}",
        f"example.org/agent:{number}",
        manifest,
        signed,
        settings={"CHILD_MODE": mode},
    )
    settings = WorkloadSettings(
        mqtt_url="mqtt://127.0.0.1:1883",
        controller_url="http://127.0.0.1:1",
        command=command,
        grace_s=2,
    )
    built = build_workload(wanted, StoreSite(store, "version: 1\n", "pem"), rollout(number), settings)
    container = built.daemon_set["spec"]["template"]["spec"]["containers"][0]
    container["livenessProbe"] |= {"periodSeconds": 1, "failureThreshold": probe_s}
    return built


@pytest.fixture
def workload(request: pytest.FixtureRequest) -> MakeWorkload:
    """Makes workloads. Where processes run, the agent is the child program."""
    if "kubernetes" in request.node.nodeid:
        return make_workload
    return partial(make_workload, command=(sys.executable, str(HERE / "child_agent.py")))


@pytest.fixture
def rollout_id() -> Callable[[int], str]:
    return rollout


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    directory = tmp_path / "secrets" / "storefleet-agent"
    directory.mkdir(parents=True)
    (directory / "mqtt-password").write_text("hush")
    (directory / "artifact-token").write_text("hush, too")
    return tmp_path / "secrets"


@dataclass
class Answers:
    """An HTTP server that gives recorded answers in their order, and complains about any request that
    is not the recorded one: method, path, query, content type and the object's name count."""

    file: Path
    directory: Path
    exchanges: list[dict[str, Any]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)
    _next: int = 0

    @property
    def recording(self) -> bool:
        return bool(RECORD)

    def answer(self, request: dict[str, Any], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self.recording:
            response = real_server().forward(request, body)
            self.exchanges.append({"request": request, "response": response})
        elif self._next >= len(self.exchanges):
            self.complaints.append(f"one request too many: {request}")
            return 599, {}, b"{}"
        else:
            recorded = self.exchanges[self._next]
            self._next += 1
            if self._rename(json.dumps(recorded["request"], sort_keys=True), request) != request:
                self.complaints.append(f"expected {recorded['request']}, got {request}")
            response = self._rename(json.dumps(recorded["response"]), {})
        text = json.dumps(response["body"]).encode()
        return response["status"], response.get("headers", {}), text

    def _rename(self, recorded: str, actual: dict[str, Any]) -> Any:
        """Recorded ConfigMap names hold the hash of what was applied then; use today's."""
        wanted, found = CONFIG_MAP.findall(recorded), CONFIG_MAP.findall(json.dumps(actual, sort_keys=True))
        self._names.update(zip(wanted, found, strict=False))
        return json.loads(
            CONFIG_MAP.sub(lambda match: self._names.get(match.group(), match.group()), recorded)
        )

    def finish(self) -> None:
        if self.recording:
            self.file.write_text(json.dumps(self.exchanges, indent=1, sort_keys=True) + "\n")
            return
        left = len(self.exchanges) - self._next
        assert not self.complaints
        assert not left, f"{left} recorded answers were not asked for"


@dataclass
class KubernetesApi:
    kubeconfig: Path
    answers: Answers
    namespace: str

    def user(self, token: str) -> Path:
        """A kubeconfig for another user."""
        text = self.kubeconfig.read_text().replace("token: admin", f"token: {token}")
        path = self.kubeconfig.with_name(f"kubeconfig-{token}")
        path.write_text(text)
        return path

    def play_kubelet(self, *, ready: bool = True, waiting: dict[str, str] | None = None) -> None:
        """While recording: let the cluster come to rest. Recorded answers are at rest already."""
        if self.answers.recording:
            real_server().play_kubelet(self.namespace, ready=ready, waiting=waiting)

    def change(self, action: Callable[[Any, str], None]) -> None:
        """While recording: do something to the cluster behind the adapter's back."""
        if self.answers.recording:
            action(real_server().connection, self.namespace)


def serve(answers: Answers) -> tuple[ThreadingHTTPServer, threading.Thread]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = {
                "method": self.command,
                "path": url.path,
                "query": {key: values[0] for key, values in sorted(parse_qs(url.query).items())},
                "content_type": self.headers.get("Content-Type"),
                "authorization": self.headers.get("Authorization"),
                "object": _identity(body),
            }
            status, headers, text = answers.answer(request, body)
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PATCH = do_POST = do_DELETE = handle_one  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    return server, thread


def _identity(body: bytes) -> list[str] | None:
    found = json.loads(body) if body else None
    if not isinstance(found, dict) or "metadata" not in found:
        return None
    return [found["apiVersion"], found["kind"], found["metadata"]["name"]]


def write_kubeconfig(path: Path, url: str, token: str) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "store", "cluster": {"server": url}}],
                "users": [{"name": "controller", "user": {"token": token}}],
                "contexts": [{"name": "store", "context": {"cluster": "store", "user": "controller"}}],
                "current-context": "store",
            }
        )
    )
    return path


@pytest.fixture
def kubernetes_api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KubernetesApi]:
    """A Kubernetes API for this one test. Its token is ``admin``; while recording, the real one has the
    users ``admin`` (everything), ``nobody`` (nothing)."""
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    answers = Answers(HERE / "kubernetes_answers" / f"{name}.json", tmp_path)
    if not answers.recording:
        answers.exchanges = json.loads(answers.file.read_text())
    server, thread = serve(answers)
    namespace = "storefleet"
    if answers.recording:
        real_server().reset(namespace)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield KubernetesApi(write_kubeconfig(tmp_path / "kubeconfig", url, "admin"), answers, namespace)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    answers.finish()


def _without_managed_fields(value: Any) -> Any:
    """They make up half of every answer, and nothing here reads them."""
    if isinstance(value, dict):
        return {k: _without_managed_fields(v) for k, v in value.items() if k != "managedFields"}
    return [_without_managed_fields(item) for item in value] if isinstance(value, list) else value


class RealServer:
    """The cluster that answers are recorded from."""

    def __init__(self, kubeconfig: str) -> None:
        from kubernetes.config import new_client_from_config

        self.connection: Any = new_client_from_config(kubeconfig)  # type: ignore[no-untyped-call]
        self.host = self.connection.configuration.host

    def forward(self, request: dict[str, Any], body: bytes) -> dict[str, Any]:
        import httpx

        headers = {"Authorization": request["authorization"]}
        if request["content_type"]:
            headers["Content-Type"] = request["content_type"]
        response = httpx.request(
            request["method"],
            self.host + request["path"],
            params=request["query"],
            headers=headers,
            content=body,
            verify=False,
        )
        return {"status": response.status_code, "body": _without_managed_fields(response.json())}

    def reset(self, namespace: str) -> None:
        from kubernetes import client

        core: Any = client.CoreV1Api(self.connection)
        apps: Any = client.AppsV1Api(self.connection)
        if any(n.metadata.name == namespace for n in core.list_namespace().items):
            apps.delete_collection_namespaced_daemon_set(namespace)
            core.delete_collection_namespaced_config_map(namespace)
            core.delete_namespace(namespace)
        self._until(lambda: not any(n.metadata.name == namespace for n in self._purge(core, namespace)))
        scheduling: Any = client.SchedulingV1Api(self.connection)
        if all(each.metadata.name != PRIORITY_CLASS for each in scheduling.list_priority_class().items):
            scheduling.create_priority_class({"metadata": {"name": PRIORITY_CLASS}, "value": 100000})
        for node in core.list_node().items:
            core.delete_node(node.metadata.name)
        core.create_node({"metadata": {"name": "node-1", "labels": {CAMERA_NODE_LABEL: "true"}}})
        core.patch_node("node-1", {"spec": {"taints": None}})  # not-ready, as there is no kubelet

    def _purge(self, core: Any, namespace: str) -> Any:
        for pod in core.list_namespaced_pod(namespace).items:
            core.delete_namespaced_pod(pod.metadata.name, namespace, grace_period_seconds=0)
        return core.list_namespace().items

    def play_kubelet(self, namespace: str, *, ready: bool, waiting: dict[str, str] | None) -> None:
        from kubernetes import client

        core: Any = client.CoreV1Api(self.connection)
        apps: Any = client.AppsV1Api(self.connection)
        seen: list[Any] = []

        def at_rest() -> bool:
            desired = sum(CAMERA_NODE_LABEL in (n.metadata.labels or {}) for n in core.list_node().items)
            for pod in core.list_namespaced_pod(namespace).items:
                self._run(core, pod, namespace, ready, waiting)
            live = apps.read_namespaced_daemon_set("storefleet-agent", namespace)
            status = live.status
            seen.append((live.metadata.generation, status.to_dict()))
            if len(seen) < 2:
                return False
            return (
                status.observed_generation == live.metadata.generation
                and (status.updated_number_scheduled or 0) == status.desired_number_scheduled
                and (status.number_ready or 0) == (status.desired_number_scheduled if ready else 0)
                and status.desired_number_scheduled == desired
                and seen[-1] == seen[-2]
            )

        self._until(at_rest)

    def _run(self, core: Any, pod: Any, namespace: str, ready: bool, waiting: dict[str, str] | None) -> None:
        name = pod.metadata.name
        if pod.metadata.deletion_timestamp:
            core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)
            return
        if not pod.spec.node_name:
            binding = {"metadata": {"name": name}, "target": {"kind": "Node", "name": "node-1"}}
            core.create_namespaced_pod_binding(name, namespace, binding, _preload_content=False)
        image = pod.spec.containers[0].image
        state = {"waiting": waiting} if waiting else {"running": {}}
        container = {
            "name": "agent",
            "image": image,
            "imageID": "",
            "ready": ready,
            "restartCount": 0,
            "state": state,
        }
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        body = {
            "status": {
                "phase": "Pending" if waiting else "Running",
                "conditions": [condition],
                "containerStatuses": [container],
            }
        }
        core.patch_namespaced_pod_status(name, namespace, body)

    def _until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, "the cluster does not come to rest"
            time.sleep(0.3)


_real: list[RealServer] = []


def real_server() -> RealServer:
    if not _real:
        _real.append(RealServer(RECORD))
    return _real[0]
