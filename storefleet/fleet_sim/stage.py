"""A whole simulated fleet: one real control plane, a broker, a real controller, and everybody else pretended.

Example::

    with FleetStage(FleetOptions(stores=100, seed=7), print) as stage:
        stage.start_rollout({"name": "spring", "release": "v2"})
        print(stage.client.get("/v1/rollouts/spring"))
"""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Self

from controller.client import Client
from controller.domain.workload import STORE_LABEL
from controller.errors import ControllerError
from k3s.testbed import Options, Progress, Testbed
from k3s.testbed.kubeconfig import read_kubeconfig
from storefleet.demo.broker import CENTRE_USER
from storefleet.demo.processes import Child, DemoError, free_port, listens, wait_for
from storefleet.demo.stage import RELEASES
from storefleet.fleet_sim.cluster import audit_log, fill, testbed_options
from storefleet.fleet_sim.failures import NONE, Character, Failures, draw_characters
from storefleet.fleet_sim.kubelet import FakeKubelet
from storefleet.fleet_sim.links import Links
from storefleet.fleet_sim.mishaps import Mishaps
from storefleet.fleet_sim.mqtt import FleetBroker, FleetLink, write_fleet_broker
from storefleet.fleet_sim.shops import Shop, draw_shops
from storefleet.fleet_sim.voices import Voices

IMAGE = "storefleet/agent:simulated"
MARKER = "made-by-storefleet-sim-fleet"
POLL_S = 0.25
READY_TIMEOUT_S = 900.0

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FleetOptions:
    stores: int = 100
    seed: int = 7
    failures: Failures = NONE
    name: str = "fleet"
    """Of the testbed; must be nobody else's."""
    directory: Path = Path(".storefleet/fleet")
    """Everything that is written; emptied at the start."""
    start_s: float = 2.0
    """Median time from a pod's place on its node until it is Ready."""
    stop_s: float = 1.0
    heartbeat_s: float = 10.0
    workers: int = 16
    """Stores that the controller brings up to date at the same time."""
    resync_s: float = 60.0
    environment: Mapping[str, str] = field(default_factory=dict)
    """More settings of the controller."""


class FleetStage:
    """A context manager; when it closes, processes, networks and the cluster are gone."""

    def __init__(self, options: FleetOptions, say: Callable[[str], None]) -> None:
        self.options = options
        self.root = options.directory.absolute()
        self.shops = draw_shops(options.stores, options.seed)
        self.characters: dict[str, Character] = draw_characters(
            [shop.name for shop in self.shops],
            options.seed,
            options.failures,
            options.start_s,
            options.stop_s,
        )
        self._say = say
        self._stack = contextlib.ExitStack()
        self._children: dict[str, Child] = {}
        self._api_port = free_port()
        self._client: Client | None = None

    def __enter__(self) -> Self:
        clear(self.options)
        self.root.mkdir(parents=True, mode=0o700)
        (self.root / MARKER).touch()
        with contextlib.ExitStack() as stack:
            testbed = Testbed(testbed_options(self.options.name, self.root), Progress())
            (self._cluster,) = stack.enter_context(testbed)
            began = time.monotonic()
            self._account = fill(self._cluster, self.shops)
            self._say(f"{len(self.shops)} stores lie in the cluster ({time.monotonic() - began:.1f} s)")
            stack.callback(self._stop_children)
            self._broker = self._start_broker()
            self._start_simulators(stack)
            self.start_controller()
            self._register()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def names(self) -> list[str]:
        return [shop.name for shop in self.shops]

    @property
    def client(self) -> Client:
        if self._client is None:
            raise DemoError("the stage is not open")
        return self._client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._api_port}"

    @property
    def token_file(self) -> Path:
        return self.root / "controller" / "admin.token"

    @property
    def audit_log(self) -> Path:
        """Of the apiserver: one line of JSON for each request of the controller."""
        return audit_log(self.root)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's of the cluster."""
        return self._cluster.kubeconfig

    @property
    def controller(self) -> Child:
        return self._children["controller"]

    def start_controller(self) -> None:
        """Start the controller, or start it again on the same port and data after it was killed."""
        data, password = self.root / "controller", self.root / "centre.password"
        password.touch(mode=0o600)
        password.write_text(self._broker.files.passwords[CENTRE_USER])
        settings = {
            "DATA_DIR": str(data),
            "MQTT_URL": self._broker.files.url,
            "MQTT_USERNAME": CENTRE_USER,
            "MQTT_PASSWORD_FILE": str(password),
            "API_PORT": str(self._api_port),
            "RECONCILE_WORKERS": str(self.options.workers),
            "RESYNC_S": str(self.options.resync_s),
            **self.options.environment,
        }
        command = [sys.executable, "-m", "storefleet", "controller", "run"]
        self._start(
            "controller", command, {f"STOREFLEET_CONTROLLER_{key}": text for key, text in settings.items()}
        )

    def await_controller(self) -> None:
        wait_for("the controller's token", self.token_file.exists, [self.controller], 60)
        if self._client is None:
            self._client = Client(self.url, self.token_file.read_text().strip())
        wait_for("the controller", self._is_healthy, [self.controller], 60)

    def deploy(self, release: str) -> None:
        """To every store at once, without a rollout."""
        self.client.post("/v1/deployments", {"release": release, "stores": self.names})

    def await_ready(self, release: str) -> float:
        """Seconds until every store runs ``release``. Raises ``DemoError`` that says which do not."""
        began = time.monotonic()
        while True:
            current = self.client.get("/v1/deployments/current")["items"]
            waiting = [one for one in current if (one["release"], one["state"]) != (release, "ready")]
            if len(current) == len(self.shops) and not waiting:
                return time.monotonic() - began
            self.check()
            if time.monotonic() - began > READY_TIMEOUT_S:
                shown = "; ".join(f"{one['store']}: {one['state']}: {one['message']}" for one in waiting[:5])
                raise DemoError(f"{len(waiting)} stores do not run {release}: {shown}")
            time.sleep(POLL_S)

    def arm(self) -> None:
        """From now on things go wrong as the stores' characters say."""
        self._mishaps.arm(self.kubelet)

    def check(self) -> None:
        """Raise ``DemoError`` if one of the programs ended."""
        for child in self._children.values():
            child.check()

    def start_rollout(self, spec: Mapping[str, Any]) -> Json:
        """Make a rollout and start it. Raises ``ControllerError`` for one that does not fit the fleet."""
        self.client.post("/v1/rollouts", {"spec": dict(spec)})
        return self.client.post(f"/v1/rollouts/{spec['name']}/start", {})

    def _is_healthy(self) -> bool:
        try:
            return bool(self.client.health()["ready"])
        except ControllerError:
            return False

    def _start_broker(self) -> FleetBroker:
        broker = write_fleet_broker(self.root / "broker", free_port())
        child = self._start("mosquitto", broker.files.command)
        wait_for("the broker", lambda: listens(broker.files.port), [child], 10)
        return broker

    def _start_simulators(self, stack: contextlib.ExitStack) -> None:
        self.links = Links(self._account, self.characters, self.root / "kubeconfigs")
        stack.callback(self.links.close)
        link = FleetLink(self._broker)
        link.start()
        stack.callback(link.close)
        self.voices = Voices(
            self.shops,
            self.characters,
            link.publish,
            self.options.heartbeat_s,
            lambda store, rollout_id: self.kubelet.armed(store, rollout_id),  # noqa: PLW0108 - made below
        )
        self._mishaps = Mishaps(self.shops, self.characters, self.links, self.voices)
        self.kubelet = FakeKubelet(
            read_kubeconfig(self._cluster.kubeconfig),
            self.characters,
            self.voices.ready,
            self.voices.ended,
            lambda store: self._mishaps.begin(self.kubelet, store),
            self.links.is_cut,
        )
        self.kubelet.start()
        stack.callback(self.kubelet.close)
        self.voices.start()
        stack.callback(self.voices.close)

    def _register(self) -> None:
        self.await_controller()
        began = time.monotonic()
        with as_file(files("shipped_model")) as shipped:
            for version, file in RELEASES:
                model = self.client.upload("/v1/models", shipped / file, name="shelf", version=version)
                body = {"name": f"v{version}", "model": model["digest"], "image": IMAGE}
                self.client.post("/v1/releases", body)
        for shop in self.shops:
            self.client.post("/v1/stores", self._registration(shop))
        self._say(f"{len(self.shops)} stores are registered ({time.monotonic() - began:.1f} s)")

    def _registration(self, shop: Shop) -> Json:
        cluster = {
            "kind": "kubernetes",
            "kubeconfig": str(self.links.kubeconfig_of(shop.name)),
            "namespace": shop.name,
            "node_selector": {STORE_LABEL: shop.name},
        }
        return {
            "name": shop.name,
            "config": shop.config.to_yaml(),
            "labels": dict(shop.labels),
            "cluster": cluster,
        }

    def _start(self, name: str, command: list[str], env: Mapping[str, str] | None = None) -> Child:
        child = Child(name, command, self.root / f"{name}.log", env or {})
        self._children[name] = child
        return child

    def _stop_children(self) -> None:
        if self._client is not None:
            self._client.close()
        for child in reversed(self._children.values()):
            child.stop()


def clear(options: FleetOptions) -> None:
    """Remove what an earlier simulation left, however it ended. Raises ``DemoError`` for a directory that no
    simulation made."""
    root = options.directory.absolute()
    if root.exists() and any(root.iterdir()) and not (root / MARKER).exists():
        raise DemoError(f"{root} is not empty and was not made by sim fleet; choose another --dir")
    Testbed(Options(name=options.name, directory=root / "testbed")).down()
    shutil.rmtree(root, ignore_errors=True)
