"""What the Kubernetes benchmark and its tests play on: real stores of the testbed, with everything real in
them, and the centre beside them.

Broker and controller run on this machine as in the demo; each store is a cluster of its own, its cameras
stream inside its network, and its agents are containers of the image that the ``Dockerfile`` makes. The
controller reaches a store with the rights that ``k3s/store`` gives it and no others.

    with KubernetesStage(KubernetesOptions(name="mine", directory=Path("run")), print) as stage:
        stage.deploy("v1", stage.names)
        stage.await_ready()
"""

import contextlib
import os
import re
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Self

from controller.client import Client
from controller.errors import ControllerError
from k3s.images import build_images, reference
from k3s.testbed import Options, Progress, Store, Testbed, TestbedError
from k3s.testbed.cli_objects import read_manifests
from k3s.testbed.commands import run
from storefleet.demo.broker import CENTRE_USER, BrokerFiles, write_broker_files
from storefleet.demo.processes import Child, free_port, listens, wait_for
from storefleet.demo.stage import RELEASES

NAMESPACE = "storefleet"
MANIFESTS = Path(__file__).resolve().parents[1] / "k3s"
STORE_MANIFESTS = (
    *("namespace.yaml", "limits.yaml", "priority.yaml", "data.yaml", "network.yaml"),
    *("peers.yaml", "cameras.yaml", "controller-account.yaml"),
)
"""In the order of ``k3s/store/kustomization.yaml``."""
AGENT = "storefleet-agent"
NODE_DATA = "/var/lib/storefleet"
SMALL_DISK = "128m"
"""Of the first store's node, so that it can be filled: models, outbox and the agent's reserve fit."""
POLL_S = 0.2

Json = dict[str, Any]


class StageError(Exception):
    """What was waited for did not come; the text says what there was instead."""


@dataclass(frozen=True, slots=True)
class KubernetesOptions:
    name: str
    """Of the testbed; must be nobody else's."""
    directory: Path
    stores: tuple[str, ...] = ("berlin-01", "paris-02", "rome-03")
    nodes: tuple[int, ...] = (1, 1, 2)
    """Of each store, which has as many cameras; several nodes share them."""
    seed: int = 401
    activity: float = 8.0
    fps: float = 2.0
    """A machine with two cores runs three stores with everything in them."""
    resync_s: float = 5.0
    """How often the controller looks for drift; a minute in production."""
    image: Path | None = None
    """Archive of an agent image; default: built from this checkout."""


class KubernetesStage:
    """A context manager; when it closes, stores and processes are gone."""

    def __init__(self, options: KubernetesOptions, say: Callable[[str], None]) -> None:
        self.options = options
        self._say = say
        self._root = options.directory.absolute()
        self._stack = contextlib.ExitStack()
        self._children: dict[str, Child] = {}
        self._configs: dict[str, str] = {}
        self._client: Client | None = None
        self.stores: dict[str, Store] = {}
        self.kubeconfigs: dict[str, Path] = {}
        """The controller's, by store."""
        self.digests: dict[str, str] = {}
        """Of the models, by release."""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            archive = self.options.image or build_images(("agent",), progress=Progress())["agent"]
            testbed = Options(name=self.options.name, stores=self.options.stores, nodes=self.options.nodes)
            for store in stack.enter_context(Testbed(testbed, Progress())):
                self.stores[store.name] = store
            stack.callback(self._stop)
            self._say("loading the agent's image into every node")
            with ThreadPoolExecutor(3) as pool:
                list(pool.map(lambda store: store.load_image(archive), self.stores.values()))
            self._start_cameras()
            self._start_centre()
            for store in self.stores.values():
                self._prepare(store)
            self._register()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def names(self) -> list[str]:
        return list(self.stores)

    @property
    def client(self) -> Client:
        if self._client is None:
            raise StageError("the stage is not open")
        return self._client

    @property
    def admin_environment(self) -> dict[str, str]:
        """For the ``storefleet`` command."""
        token = self._root / "controller" / "admin.token"
        return {"STOREFLEET_CONTROLLER_URL": self._url, "STOREFLEET_API_TOKEN_FILE": str(token)}

    def config_of(self, store: str, name: str = "") -> str:
        """The store's configuration (YAML), for a store that is called ``name``."""
        return re.sub(r"(?m)^store: .*$", f"store: {name or store}", self._configs[store])

    def add_release(self, name: str, like: str, **changes: Any) -> None:
        """A release with the model of another one."""
        settings = {"STOREFLEET_TELEMETRY_S": "1", "STOREFLEET_THREADS": "1"}
        body: Json = {"name": name, "model": self.digests[like], "image": reference("agent")}
        settings |= changes.pop("settings", {})
        self.client.post("/v1/releases", body | changes | {"settings": settings})
        self.digests[name] = self.digests[like]

    def add_store(self, name: str, like: str, **cluster: Any) -> None:
        """Register one more store, with the configuration of another one, in a cluster of the testbed."""
        body = {"name": name, "config": self.config_of(like, name)}
        self.client.post("/v1/stores", {**body, "cluster": {"kind": "kubernetes", **cluster}})

    def add_disk(self, store: str, namespace: str) -> None:
        """What ``k3s/store/data.yaml`` makes, for agents in another namespace of the store's cluster."""
        api = self.stores[store].api
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        volume, claim = read_manifests(MANIFESTS / "store" / "data.yaml")
        volume["metadata"]["name"] = claim["spec"]["volumeName"] = f"{namespace}-data"
        volume["spec"]["claimRef"]["namespace"] = claim["metadata"]["namespace"] = namespace
        for manifest in (volume, claim):
            api.apply(manifest)

    def deploy(self, release: str, stores: Sequence[str]) -> dict[str, Json]:
        """The deployments, by store."""
        made = self.client.post("/v1/deployments", {"release": release, "stores": list(stores)})["items"]
        return {item["store"]: item for item in made}

    def current(self) -> dict[str, Json]:
        """The current deployments, by store."""
        return {item["store"]: item for item in self.client.get("/v1/deployments/current")["items"]}

    def devices(self) -> dict[tuple[str, str], Json]:
        """What the fleet says of every device, by store and device."""
        return {
            (store["store"], device["device"]): device
            for store in self.client.pages("/v1/fleet")
            for device in store["devices"]
        }

    def events(self) -> list[Json]:
        return list(self.client.pages("/v1/events"))

    def await_ready(self, stores: Iterable[str] | None = None, timeout_s: float = 240) -> dict[str, Json]:
        """Until the current deployments are ready and every camera of their devices is watched."""
        names = list(stores or self.names)

        def ready() -> bool:
            current, devices = self.current(), self.devices()
            return all(
                current[name]["state"] == "ready"
                and len(mine := [d for (store, _), d in devices.items() if store == name])
                == len(self.stores[name].nodes)
                and all(watches(device, current[name]["rollout_id"]) for device in mine)
                and watched(mine) == len(mine)
                for name in names
            )

        self.wait(f"{', '.join(names)} ready", ready, timeout_s)
        return self.current()

    def wait(self, what: str, ready: Callable[[], bool], timeout_s: float) -> float:
        """Seconds until ``ready``. Raises ``StageError`` that tells what the centre knows instead."""
        began = time.monotonic()
        while not ready():
            for child in self._children.values():
                child.check()
            if time.monotonic() - began > timeout_s:
                raise StageError(f"not within {timeout_s:g} s: {what}\n{self._situation()}")
            time.sleep(POLL_S)
        return time.monotonic() - began

    def on_node(self, store: str, *command: str, node: int = 0) -> str:
        """Output of a command that root runs on a node."""
        return run(self.stores[store].nodes[node].inside(list(command)))

    def model_path(self, digest: str) -> str:
        """Where a model lies on a node."""
        return f"{NODE_DATA}/models/sha256/{digest.removeprefix('sha256:')}"

    def agent_pids(self, store: str, node: int = 0) -> list[str]:
        """Process ids on the node of the agents that run there."""
        machine = self.stores[store].nodes[node]
        wanted = 'labels."io.kubernetes.container.name"==agent'
        containers = set(machine.ctr("containers", "list", "-q", wanted).split())
        tasks = [line.split() for line in machine.ctr("tasks", "list").splitlines()[1:]]
        return [pid for container, pid, status in tasks if container in containers and status == "RUNNING"]

    def _start_cameras(self) -> None:
        for number, (name, store) in enumerate(self.stores.items()):
            out = self._root / "cameras" / name
            out.mkdir(parents=True)
            command = [
                *(sys.executable, "-m", "storefleet", "sim", "run", "--out", out, "--stores", "1"),
                *("--cameras", len(store.nodes), "--seed", self.options.seed + number),
                *("--activity", self.options.activity, "--fps", self.options.fps, "--bind", store.ip),
            ]
            self._start(f"cameras-{name}", store.in_network([str(word) for word in command]))
        for name in self.stores:
            out = self._root / "cameras" / name
            wait_for(f"cameras of {name}", (out / "sim.json").exists, list(self._children.values()), 60)
            self._configs[name] = next(out.glob("*/store.yaml")).read_text()
        self._say("the cameras stream")

    def _start_centre(self) -> None:
        port = free_port()
        self._broker = write_broker_files(self._root / "broker", self.names, port, "0.0.0.0")  # noqa: S104
        child = self._start("mosquitto", self._broker.command)
        wait_for("the broker", lambda: listens(port), [child], 10)
        api = free_port()
        self._url = f"http://127.0.0.1:{api}"
        client = self._start_controller(api, self._broker)
        wait_for("the controller", lambda: _healthy(client), list(self._children.values()), 30)
        self._client = client

    def _start_controller(self, port: int, broker: BrokerFiles) -> Client:
        data = self._root / "controller"
        password = self._root / "centre.password"
        password.touch(mode=0o600)
        password.write_text(broker.passwords[CENTRE_USER])
        centre = next(iter(self.stores.values())).controller_ip
        env = {
            "DATA_DIR": str(data),
            "MQTT_URL": broker.url,
            "MQTT_USERNAME": CENTRE_USER,
            "MQTT_PASSWORD_FILE": str(password),
            "AGENT_MQTT_URL": f"mqtt://{centre}:{broker.port}",
            "API_HOST": "0.0.0.0",  # noqa: S104 - stores reach it by the testbed's addresses
            "API_PORT": str(port),
            "PUBLIC_URL": f"http://{centre}:{port}",
            "RESYNC_S": str(self.options.resync_s),
        }
        command = [sys.executable, "-m", "storefleet", "controller", "run"]
        child = self._start("controller", command, {f"STOREFLEET_CONTROLLER_{k}": v for k, v in env.items()})
        token = data / "admin.token"
        wait_for("the controller's token", token.exists, [child], 30)
        return Client(self._url, token.read_text().strip())

    def _prepare(self, store: Store) -> None:
        """What k3s/README.md asks of whoever sets up a store. In addition, all stores know the centre by the
        address that it has for the first."""
        centre = next(iter(self.stores.values())).controller_ip
        for node in store.nodes:
            run(node.inside(["install", "-d", "-m", "0750", "-o", "10001", "-g", "10001", NODE_DATA]))
            if store.controller_ip != centre:
                run(node.inside(["ip", "route", "replace", f"{centre}/32", "via", str(store.controller_ip)]))
        if store.name == self.names[0]:
            options = f"size={SMALL_DISK},uid=10001,gid=10001,mode=0750"
            for node in store.nodes:
                run(node.inside(["mount", "-t", "tmpfs", "-o", options, "storefleet", NODE_DATA]))
        for file in STORE_MANIFESTS:
            for manifest in read_manifests(MANIFESTS / "store" / file):
                store.api.apply(manifest)
        self.give_secret(store.name, NAMESPACE)
        account = store.service_account_kubeconfig(NAMESPACE, "storefleet-controller")
        self.kubeconfigs[store.name] = account

    def give_secret(self, store: str, namespace: str) -> None:
        """What the store's agents need to reach the centre, into a namespace of its cluster."""
        secrets = {
            "mqtt-password": self._broker.passwords[store],
            "artifact-token": (self._root / "controller" / "artifact.token").read_text(),
        }
        self.stores[store].api.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": AGENT, "namespace": namespace},
                "data": {key: b64encode(value.encode()).decode() for key, value in secrets.items()},
            }
        )

    def _register(self) -> None:
        for name, kubeconfig in self.kubeconfigs.items():
            sharing = len(self.stores[name].nodes) > 1
            self.add_store(name, name, kubeconfig=str(kubeconfig), share_cameras=sharing)
        with as_file(files("shipped_model")) as shipped:
            for version, file in RELEASES:
                model = self.client.upload("/v1/models", shipped / file, name="shelf", version=version)
                self.digests[f"v{version}"] = model["digest"]
                self.add_release(f"v{version}", f"v{version}")

    def _start(self, name: str, command: list[str], env: Mapping[str, str] | None = None) -> Child:
        self._root.mkdir(parents=True, exist_ok=True)
        child = Child(name, command, self._root / f"{name}.log", env or {})
        self._children[name] = child
        return child

    def _stop(self) -> None:
        if self._client is not None:
            self._client.close()
        for child in reversed(self._children.values()):
            child.stop()

    def _situation(self) -> str:
        """For whoever has to find out why something did not come."""
        lines = [f"{name}: {d['release']} {d['state']}: {d['message']}" for name, d in self.current().items()]
        for (store, device), row in self.devices().items():
            cameras = [(c["camera"], c["status"], c["reason"]) for c in row["cameras"]]
            lines.append(f"{store} {device}: online {row['online']}, rollout {row['rollout_id']}, {cameras}")
        for cluster in self.stores.values():
            for pod in cluster.pods(NAMESPACE):
                name = pod["metadata"]["name"]
                lines.append(f"{cluster.name} {name}: {pod['status'].get('phase')}")
                lines += [_log(cluster, name, container) for container in ("fetch-model", "agent")]
        return "\n".join(lines)


def watches(device: Json, rollout_id: str) -> bool:
    """Whether a device is online with this rollout."""
    return bool(device["online"]) and device["rollout_id"] == rollout_id


def watched(devices: Iterable[Json]) -> int:
    """How many cameras of a store are seen through."""
    seen = {
        camera["camera"]
        for device in devices
        if device["online"]
        for camera in device["cameras"]
        if camera["status"] == "online"
    }
    return len(seen)


def slowness() -> float:
    """How many programs wait for each processor, at least 1: so many times longer may things take."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _log(store: Store, pod: str, container: str, lines: int = 8) -> str:
    """The end of a container's log, or why there is none."""
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/log"
    try:
        return store.api.text(path, container=container, tailLines=str(lines))
    except TestbedError as error:
        return f"{container}: {error}"


def storefleet(stage: KubernetesStage, *arguments: str) -> str:
    """What the command line prints, wide enough that no word is broken."""
    done = subprocess.run(
        [sys.executable, "-m", "storefleet", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **stage.admin_environment, "COLUMNS": "2000"},
        timeout=60,
    )
    return done.stdout + done.stderr


def _healthy(client: Client) -> bool:
    try:
        return bool(client.health()["ready"])
    except ControllerError:
        return False
