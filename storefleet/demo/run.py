"""The demo's story: broker, cameras, controller; release v1 everywhere, then v2 store by store; a report.

Everything runs as it would in production, as processes of their own that talk over MQTT, HTTP and RTSP;
only the cluster of each store is the ``local`` one, and its cameras are simulated.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from camera_sims.run_info import RunInfo, read_run_info
from camera_sims.truth_file import read_truth
from contract.store_config import load_store_config
from controller.adapters.local.cluster import stop_all
from controller.client import Client
from controller.errors import ControllerError
from storefleet.demo.broker import CENTRE_USER, BrokerFiles, write_broker_files
from storefleet.demo.processes import Child, DemoError, free_port, listens, wait_for
from storefleet.demo.report import Facts, StoreTruth, build_report
from storefleet.demo.view import DemoView

FIRST_UPDATE_AT = 0.4
SECOND_UPDATE_AT = 0.6
"""When release v2 goes to the first store, and to the others, as shares of the duration."""
DRAIN_S = 10.0
"""How long the last events may take into the database after the cameras stopped."""
IMAGE = "storefleet/agent:demo"
"""Named in the releases; the local cluster runs the agent of this very checkout."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    stores: int = 2
    cameras: int = 2
    duration_s: float | None = 120.0
    """None: until Ctrl-C."""
    seed: int = 7
    activity: float = 3.0
    directory: Path = Path(".storefleet/demo")
    """Everything the demo writes; emptied at its start."""


class Demo:
    """One run. ``run`` returns the report; every process is gone when it returns or raises ``DemoError``."""

    def __init__(self, options: DemoOptions, console: Console) -> None:
        self._options = options
        self._console = console
        self._root = options.directory.absolute()
        self._children: list[Child] = []
        self._stop = False

    def run(self) -> dict[str, Any]:
        self._prepare()
        with contextlib.ExitStack() as stack:
            stack.callback(self._stop_everything)
            stack.enter_context(self._signals())
            started = time.monotonic()
            broker = self._start_broker()
            sim = self._start_cameras()
            client = stack.enter_context(self._start_controller(broker))
            info = self._await_cameras(sim)
            self._register_stores(client, info)
            self._deploy(client, "v1", [store.store for store in info.stores])
            self._await_agents(client, "v1", len(info.stores))
            ready_s = time.monotonic() - started
            self._say(f"everything runs after {ready_s:.1f} s; logs are in {self._options.directory}")
            self._watch(client, [store.store for store in info.stores])
            ended_at = time.time()
            self._say("stopping the agents; the last events go into the database")
            stop_all(self._root / "clusters")
            sim.stop()
            self._await_delivery(client)
            report = build_report(_truths(info), _facts(client), ended_at)
        return {"seed": self._options.seed, "start_s": round(ready_s, 2), **report}

    def _prepare(self) -> None:
        marker = self._root / "demo"
        if self._root.exists() and any(self._root.iterdir()) and not marker.exists():
            raise DemoError(f"{self._root} is not empty and was not made by the demo; choose another --dir")
        stop_all(self._root / "clusters")  # of an earlier demo that was killed
        shutil.rmtree(self._root, ignore_errors=True)
        self._root.mkdir(parents=True, mode=0o700)
        marker.touch()

    def _start(self, name: str, command: list[str], env: dict[str, str] | None = None) -> Child:
        child = Child(name, command, self._root / f"{name}.log", env or {})
        self._children.append(child)
        return child

    def _start_broker(self) -> BrokerFiles:
        names = [f"sim-{number + 1}" for number in range(self._options.stores)]
        broker = write_broker_files(self._root / "broker", names, free_port())
        child = self._start("mosquitto", broker.command)
        wait_for("the broker", lambda: listens(broker.port), [child], 10)
        self._say(f"Mosquitto listens on port {broker.port}")
        return broker

    def _start_cameras(self) -> Child:
        options = self._options
        arguments = {
            "--out": str(self._root / "sim"),
            "--stores": str(options.stores),
            "--cameras": str(options.cameras),
            "--seed": str(options.seed),
            "--activity": str(options.activity),
        }
        command = [sys.executable, "-m", "storefleet", "sim", "run"]
        return self._start("cameras", command + [word for pair in arguments.items() for word in pair])

    def _await_cameras(self, sim: Child) -> RunInfo:
        directory = self._root / "sim"
        wait_for("the simulated stores", (directory / "sim.json").exists, [sim], 30)
        info = read_run_info(directory)
        self._say(f"{len(info.stores)} simulated stores stream {self._options.cameras} RTSP cameras each")
        return info

    @contextlib.contextmanager
    def _start_controller(self, broker: BrokerFiles) -> Iterator[Client]:
        data = self._root / "controller"
        secrets = self._root / "secrets"
        port = free_port()
        (self._root / "centre.password").touch(mode=0o600)
        (self._root / "centre.password").write_text(broker.passwords[CENTRE_USER])
        env = {
            "STOREFLEET_CONTROLLER_DATA_DIR": str(data),
            "STOREFLEET_CONTROLLER_MQTT_URL": broker.url,
            "STOREFLEET_CONTROLLER_MQTT_USERNAME": CENTRE_USER,
            "STOREFLEET_CONTROLLER_MQTT_PASSWORD_FILE": str(self._root / "centre.password"),
            "STOREFLEET_CONTROLLER_API_PORT": str(port),
        }
        child = self._start("controller", [sys.executable, "-m", "storefleet", "controller", "run"], env)
        token = data / "admin.token"
        wait_for("the controller's token", token.exists, [child], 30)
        url = f"http://127.0.0.1:{port}"
        with Client(url, token.read_text().strip()) as client:
            wait_for("the controller", lambda: _healthy(client), [child], 30)
            self._say(f"the controller answers at {url}")
            self._write_secrets(secrets, data, broker)
            yield client

    def _write_secrets(self, secrets: Path, data: Path, broker: BrokerFiles) -> None:
        """One directory a store, holding what a Kubernetes Secret would hold there."""
        artifact_token = (data / "artifact.token").read_text()
        for user, password in broker.passwords.items():
            if user != CENTRE_USER:
                directory = secrets / user / "storefleet-agent"
                directory.mkdir(parents=True, mode=0o700)
                for key, value in (("mqtt-password", password), ("artifact-token", artifact_token)):
                    (directory / key).touch(mode=0o600)
                    (directory / key).write_text(value)

    def _register_stores(self, client: Client, info: RunInfo) -> None:
        for store in info.stores:
            cluster = {
                "kind": "local",
                "secrets": str(self._root / "secrets" / store.store),
                "owner_pid": os.getpid(),
            }
            body = {"name": store.store, "config": store.config.read_text(), "cluster": cluster}
            client.post("/v1/stores", body)
        with as_file(files("shipped_model")) as shipped:
            for version, file in (("1", "shelf.onnx"), ("2", "shelf.zip")):
                model = client.upload("/v1/models", shipped / file, name="shelf", version=version)
                self._say(
                    f"model shelf:{version} ({file}, {model['size_bytes'] / 1e6:.1f} MB) is in the store"
                )
                settings = {"STOREFLEET_TELEMETRY_S": "1", "STOREFLEET_THREADS": "1"}
                body = {"model": model["digest"], "image": IMAGE, "notes": file, "settings": settings}
                client.post("/v1/releases", {"name": f"v{version}", **body})

    def _deploy(self, client: Client, release: str, stores: list[str]) -> None:
        client.post("/v1/deployments", {"release": release, "stores": stores})
        self._say(f"release {release} is on its way to {', '.join(stores)}")

    def _await_agents(self, client: Client, version: str, stores: int) -> None:
        def all_watched() -> bool:
            fleet = client.pages("/v1/fleet")
            devices = [device for store in fleet for device in store["devices"]]
            return len(devices) == stores and all(
                len(device["cameras"]) == self._options.cameras
                and all(camera["status"] == "online" for camera in device["cameras"])
                for device in devices
            )

        wait_for("an agent in every store", all_watched, self._children, 60)
        self._say(f"the agents of release {version} see all cameras")

    def _watch(self, client: Client, stores: list[str]) -> None:
        """Show what happens until the time is up; send release v2 in two steps meanwhile."""
        duration = self._options.duration_s
        view = DemoView(duration)
        span = duration if duration is not None else 60.0
        steps = [(span * FIRST_UPDATE_AT, stores[:1]), (span * SECOND_UPDATE_AT, stores[1:])]
        began = time.monotonic()
        last_id = 0
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while not self._stop:
                elapsed = time.monotonic() - began
                if duration is not None and elapsed >= duration:
                    break
                for child in self._children:
                    child.check()
                while steps and elapsed >= steps[0][0]:
                    chosen = steps.pop(0)[1]
                    if chosen:
                        self._deploy(client, "v2", chosen)
                        view.stage = f"release v2 goes to {', '.join(chosen)}"
                fresh = list(client.pages("/v1/events", after=last_id))
                last_id = max((event["id"] for event in fresh), default=last_id)
                view.update(list(client.pages("/v1/fleet")), list(client.pages("/v1/stock")), fresh)
                if self._console.is_terminal:
                    live.update(view.render(elapsed), refresh=True)
                else:
                    view.lines(self._console, elapsed)
                time.sleep(0.5)

    def _await_delivery(self, client: Client) -> None:
        """Wait until the database holds everything that the outboxes of the stopped agents numbered."""
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline:
            health = client.health()
            devices = [device for store in client.pages("/v1/fleet") for device in store["devices"]]
            if health["ready"] and all(device["outbox_pending"] == 0 for device in devices):
                return
            time.sleep(0.3)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the watching, not the report."""

        def stop(*_: object) -> None:
            if self._stop:
                raise DemoError("interrupted twice; no report")
            self._stop = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop_everything(self) -> None:
        stop_all(self._root / "clusters")
        for child in reversed(self._children):
            child.stop()

    def _say(self, words: str) -> None:
        self._console.print(f"[dim]{time.strftime('%H:%M:%S')}[/]  {words}", highlight=False)


def _healthy(client: Client) -> bool:
    try:
        return bool(client.health()["ready"])
    except ControllerError:
        return False


def _truths(info: RunInfo) -> list[StoreTruth]:
    return [
        StoreTruth(load_store_config(store.config.read_text()), read_truth(store.truth))
        for store in info.stores
    ]


def _facts(client: Client) -> Facts:
    def pages(path: str) -> list[dict[str, Any]]:
        return list(client.pages(path))

    return Facts(
        events=pages("/v1/events"),
        fleet=pages("/v1/fleet"),
        gaps=pages("/v1/gaps"),
        handovers=pages("/v1/handovers"),
        dead_letters=pages("/v1/dead-letters"),
    )
