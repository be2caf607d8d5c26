"""Everything the demo plays on: broker, simulated cameras, controller and the agents of each store.

Everything runs as it would in production, as processes of their own that talk over MQTT, HTTP and RTSP;
only the cluster of each store is the ``local`` one, and its cameras are simulated. The end-to-end tests
use the same stage and break it.

Example::

    with Stage(StageOptions(stores=1), say=print) as stage:
        stage.register_stores()
        stage.deploy("v1", stage.stores)
        stage.await_agents()
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Self

from camera_sims.run_info import RunInfo, read_run_info
from camera_sims.truth_file import read_truth
from contract.store_config import load_store_config
from controller.client import Client
from controller.errors import ControllerError
from storefleet.demo.broker import CENTRE_USER, BrokerFiles, write_broker_files
from storefleet.demo.processes import Child, DemoError, free_port, listens, wait_for
from storefleet.demo.report import Facts, StoreTruth

RELEASES = (("1", "shelf.onnx"), ("2", "shelf.zip"))
"""Version and shipped artifact of the releases v1 and v2: the same network, then in the faster runtime."""
IMAGE = "storefleet/agent:demo"
"""Named in the releases; the local cluster runs the agent of this very checkout."""
DELIVERY_S = 15.0
"""How long the last events may take into the database after the agents stopped."""


@dataclass(frozen=True, slots=True)
class StageOptions:
    stores: int = 2
    cameras: int = 2
    seed: int = 7
    activity: float = 3.0
    directory: Path = Path(".storefleet/demo")
    """Everything the stage writes; emptied when it opens."""
    database_url: str | None = None
    """Default: the controller's embedded database."""


class Stage:
    """A context manager; when it closes, every process is gone. Raises ``DemoError`` when a part fails."""

    def __init__(self, options: StageOptions, say: Callable[[str], None]) -> None:
        self.options = options
        self.root = options.directory.absolute()
        self._say = say
        self._stack = contextlib.ExitStack()
        self._children: dict[str, Child] = {}
        self._broker: BrokerFiles | None = None
        self._info: RunInfo | None = None
        self._client: Client | None = None
        self._port = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self._stop_everything)
            self._prepare()
            self.start_broker()
            self._start_cameras()
            self._port = free_port()
            self.start_controller()
            self._await_cameras()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def client(self) -> Client:
        if self._client is None:
            raise DemoError("the stage is not open")
        return self._client

    @property
    def info(self) -> RunInfo:
        if self._info is None:
            raise DemoError("the stage is not open")
        return self._info

    @property
    def stores(self) -> list[str]:
        return [store.store for store in self.info.stores]

    @property
    def clusters(self) -> Path:
        """The run directory of the local clusters."""
        return self.root / "controller" / "clusters"

    def child(self, name: str) -> Child:
        """``mosquitto``, ``cameras`` or ``controller``."""
        return self._children[name]

    def check(self) -> None:
        """Raise ``DemoError`` if one of the programs ended."""
        for child in self._children.values():
            child.check()

    def start_broker(self) -> None:
        """Start Mosquitto, or start it again on the same port after it was killed."""
        if self._broker is None:
            names = [f"sim-{number + 1}" for number in range(self.options.stores)]
            self._broker = write_broker_files(self.root / "broker", names, free_port())
        broker = self._broker
        child = self._start("mosquitto", broker.command)
        wait_for("the broker", lambda: listens(broker.port), [child], 10)
        self._say(f"Mosquitto listens on port {broker.port}")

    def start_controller(self) -> None:
        """Start the controller, or start it again on the same port and data after it was killed."""
        data = self.root / "controller"
        password = self.root / "centre.password"
        if self._broker is None:
            raise DemoError("the broker has not been started")
        password.touch(mode=0o600)
        password.write_text(self._broker.passwords[CENTRE_USER])
        env = {
            "STOREFLEET_CONTROLLER_DATA_DIR": str(data),
            "STOREFLEET_CONTROLLER_MQTT_URL": self._broker.url,
            "STOREFLEET_CONTROLLER_MQTT_USERNAME": CENTRE_USER,
            "STOREFLEET_CONTROLLER_MQTT_PASSWORD_FILE": str(password),
            "STOREFLEET_CONTROLLER_API_PORT": str(self._port),
        }
        if self.options.database_url is not None:
            env["STOREFLEET_CONTROLLER_DATABASE_URL"] = self.options.database_url
        child = self._start("controller", [sys.executable, "-m", "storefleet", "controller", "run"], env)
        token = data / "admin.token"
        wait_for("the controller's token", token.exists, [child], 30)
        url = f"http://127.0.0.1:{self._port}"
        if self._client is None:
            self._client = Client(url, token.read_text().strip())
        client = self._client
        wait_for("the controller", lambda: _ready(client), [child], 30)
        self._say(f"the controller answers at {url}")

    def register_stores(self) -> None:
        """Tell the controller of the stores, the shipped model and the releases v1 and v2."""
        self._write_secrets()
        for store in self.info.stores:
            cluster = {
                "kind": "local",
                "secrets": str(self.root / "secrets" / store.store),
                "owner_pid": os.getpid(),
            }
            body = {"name": store.store, "config": store.config.read_text(), "cluster": cluster}
            self.client.post("/v1/stores", body)
        with as_file(files("shipped_model")) as shipped:
            for version, file in RELEASES:
                model = self.client.upload("/v1/models", shipped / file, name="shelf", version=version)
                size = model["size_bytes"] / 1e6
                self._say(f"model shelf:{version} ({file}, {size:.1f} MB) is in the model store")
                settings = {"STOREFLEET_TELEMETRY_S": "1", "STOREFLEET_THREADS": "1"}
                body = {"model": model["digest"], "image": IMAGE, "notes": file, "settings": settings}
                self.client.post("/v1/releases", {"name": f"v{version}", **body})

    def deploy(self, release: str, stores: Sequence[str]) -> None:
        self.client.post("/v1/deployments", {"release": release, "stores": list(stores)})
        self._say(f"release {release} is on its way to {', '.join(stores)}")

    def cameras(self) -> list[dict[str, Any]]:
        """Every camera that an online device reports, with its store and the device's rollout."""
        return [
            {**camera, "store": store["store"], "rollout_id": device["rollout_id"]}
            for store in self.client.pages("/v1/fleet")
            for device in store["devices"]
            for camera in device["cameras"]
            if device["online"]
        ]

    def await_agents(self, timeout_s: float = 60) -> None:
        """Wait until every camera of every store is online."""

        def all_online() -> bool:
            seen = self.cameras()
            wanted = self.options.stores * self.options.cameras
            return len(seen) == wanted and all(camera["status"] == "online" for camera in seen)

        try:
            wait_for("an agent in every store", all_online, list(self._children.values()), timeout_s)
        except DemoError as error:
            current = self.client.get("/v1/deployments/current")["items"]
            words = [f"{d['store']}: {d['state']}: {d['message']}" for d in current]
            raise DemoError("\n".join([str(error), *words])) from error

    def stop_agents(self) -> None:
        """Stop the agents as a node that shuts down would; then wait until all they reported is stored."""
        _stop_clusters(self.clusters)
        deadline = time.monotonic() + DELIVERY_S
        while time.monotonic() < deadline:
            devices = [d for store in self.client.pages("/v1/fleet") for d in store["devices"]]
            if all(device["outbox_pending"] == 0 for device in devices):
                return
            time.sleep(0.3)

    def truths(self) -> list[StoreTruth]:
        return [
            StoreTruth(load_store_config(store.config.read_text()), read_truth(store.truth))
            for store in self.info.stores
        ]

    def facts(self) -> Facts:
        """What the centre knows now."""
        paths = ("events", "fleet", "gaps", "handovers", "dead-letters")
        return Facts(*(list(self.client.pages(f"/v1/{path}")) for path in paths))

    def _prepare(self) -> None:
        marker = self.root / "made-by-storefleet-demo"
        if self.root.exists() and any(self.root.iterdir()) and not marker.exists():
            raise DemoError(f"{self.root} is not empty and was not made by the demo; choose another --dir")
        _stop_clusters(self.clusters)  # of an earlier demo that was killed
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True, mode=0o700)
        marker.touch()

    def _start(self, name: str, command: list[str], env: dict[str, str] | None = None) -> Child:
        child = Child(name, command, self.root / f"{name}.log", env or {})
        self._children[name] = child
        return child

    def _start_cameras(self) -> None:
        arguments = {
            "--out": str(self.root / "sim"),
            "--stores": str(self.options.stores),
            "--cameras": str(self.options.cameras),
            "--seed": str(self.options.seed),
            "--activity": str(self.options.activity),
        }
        command = [sys.executable, "-m", "storefleet", "sim", "run"]
        self._start("cameras", command + [word for pair in arguments.items() for word in pair])

    def _await_cameras(self) -> None:
        directory = self.root / "sim"
        ready = (directory / "sim.json").exists
        wait_for("the simulated stores", ready, [self._children["cameras"]], 30)
        self._info = read_run_info(directory)
        self._say(f"{len(self.stores)} simulated stores stream {self.options.cameras} RTSP cameras each")

    def _write_secrets(self) -> None:
        """One directory a store, holding what a Kubernetes Secret would hold there."""
        if self._broker is None:
            raise DemoError("the broker has not been started")
        artifact_token = (self.root / "controller" / "artifact.token").read_text()
        for store in self.stores:
            directory = self.root / "secrets" / store / "storefleet-agent"
            directory.mkdir(parents=True, mode=0o700)
            values = {"mqtt-password": self._broker.passwords[store], "artifact-token": artifact_token}
            for key, value in values.items():
                (directory / key).touch(mode=0o600)
                (directory / key).write_text(value)

    def _stop_everything(self) -> None:
        if self._client is not None:
            self._client.close()
        _stop_clusters(self.clusters)
        for child in reversed(self._children.values()):
            child.stop()


def _stop_clusters(directory: Path) -> None:
    """End every agent and supervisor under a local cluster's run directory."""
    if directory.exists():
        command = [sys.executable, "-m", "controller.adapters.local.cluster", str(directory)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)


def _ready(client: Client) -> bool:
    try:
        return bool(client.health()["ready"])
    except ControllerError:
        return False
