"""Two nodes' real agents share two real RTSP cameras: spread, kill -9, coming back, a node that sleeps."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.adapters.mqtt import MqttAddress, MqttBroker, Will
from camera_sims.options import SimOptions
from camera_sims.runner import SimRun
from camera_sims.scenes import build_shop
from contract.events import Event, decode_event
from contract.messages import DeviceState, EventAck, decode_state
from contract.signing import digest_bytes, sign
from contract.store_config import load_store_config
from contract.topics import FLEET_SUBSCRIPTIONS, Channel, DeviceTopics, parse
from contract.workload import Env, ModelManifest
from controller.domain.stock import ZoneStock, apply

CAMERAS = ("aisle-1", "aisle-2")
NODES = ("node-1", "node-2")
DWELL_S = 1.0


def wait_for(condition: Callable[[], object], what: str, timeout: float) -> float:
    """How long it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < timeout, f"{what} not reached in {timeout:.0f} s"
        time.sleep(0.05)
    return time.monotonic() - start


class Centre:
    """Stores what arrives, once, and acknowledges it per stream, as the controller does."""

    def __init__(self, url: str) -> None:
        self.events: list[Event] = []
        self.cameras: dict[str, tuple[str, ...]] = {}
        address = MqttAddress(url, "centre", username="centre", password="centre-secret", reconnect_max_s=1)
        will = Will("storefleet/v1/centre/centre/state", b"")
        self._broker = MqttBroker(address, will=will, subscriptions=FLEET_SUBSCRIPTIONS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        wait_for(lambda: self._broker.connected, "the centre's connection", 10)

    def _run(self) -> None:
        while not self._stop.is_set():
            message = self._broker.take(0.05)
            if message is None or not message.topic:
                continue
            topic = parse(message.topic)
            if topic.channel is Channel.EVENTS:
                event = decode_event(message.payload)
                if event.id not in {known.id for known in self.events}:
                    self.events.append(event)
                ack = EventAck(stream_id=event.streamid, committed_sequence=event.sequence)
                self._broker.publish(DeviceTopics(topic.store, topic.device).acks, ack.to_bytes(), qos=1)
            elif topic.channel is Channel.STATE:
                state: DeviceState = decode_state(message.payload)
                self.cameras[topic.device] = state.cameras if state.status == "online" else ()

    def known(self, device: str, since: int = 0) -> set[str]:
        """Cameras of which the device has told what their zone holds, not counting the first events."""
        told = [event for event in self.events[since:] if event.kind == "zone_known"]
        return {event.camera for event in told if event.device == device}

    def spread(self) -> bool:
        """Each node says that it watches one camera, and not the same one."""
        here = [self.cameras.get(node, ()) for node in NODES]
        return sorted(camera for cameras in here for camera in cameras) == list(CAMERAS) and all(here)

    def stock(self) -> dict[str, ZoneStock | None]:
        zones: dict[str, ZoneStock | None] = {}
        for event in self.events:
            if event.subject is not None:
                zones[event.subject] = apply(zones.get(event.subject), event)
        return zones

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._broker.close()


class Nodes:
    """Two nodes of one store: own data directories, one directory of leases, one model."""

    def __init__(self, directory: Path, mosquitto: Any, config: str, model: bytes) -> None:
        self._directory = directory
        self._url = mosquitto.url
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.settings = {"STOREFLEET_CAMERA_SETTLE_S": "5"}
        (directory / "store.yaml").write_text(config)
        (directory / "mqtt-password").write_text(mosquitto.password("berlin-01"))
        key = Ed25519PrivateKey.generate()
        pem = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (directory / "keys.pem").write_bytes(pem)
        manifest = ModelManifest(
            digest=digest_bytes(model), size_bytes=len(model), name="tiny", version="1", format="openvino",
            task="detect", names=("cola-can", "person"), image_size=(64, 64),
        )  # fmt: skip
        (directory / "manifest.json").write_bytes(sign(manifest.to_bytes().decode(), key).to_bytes())
        for node in NODES:
            cache = directory / node / "models" / "sha256"
            cache.mkdir(parents=True)
            (cache / manifest.digest.removeprefix("sha256:")).write_bytes(model)

    def start(self, node: str) -> None:
        here = self._directory
        environment = {
            "PATH": os.environ["PATH"],
            Env.STORE: "berlin-01",
            Env.DEVICE: node,
            Env.MQTT_URL: self._url,
            Env.MQTT_USERNAME: "berlin-01",
            Env.MQTT_PASSWORD_FILE: str(here / "mqtt-password"),
            Env.CONFIG_FILE: str(here / "store.yaml"),
            Env.MODEL_MANIFEST_FILE: str(here / "manifest.json"),
            Env.TRUSTED_KEYS_FILE: str(here / "keys.pem"),
            Env.DATA_DIR: str(here / node),
            Env.HEALTH_FILE: str(here / f"health-{node}.json"),
            Env.CAMERA_LEASES: str(here / "leases"),
            "STOREFLEET_TELEMETRY_S": "1",
            "STOREFLEET_THREADS": "1",
            **self.settings,
        }
        with (here / f"{node}.log").open("ab") as log:
            self._processes[node] = subprocess.Popen(
                [sys.executable, "-m", "agent", "run"], env=environment, stderr=log, start_new_session=True
            )

    def signal(self, node: str, number: signal.Signals) -> None:
        """To the agent; SIGSTOP and SIGCONT to its camera workers as well, as when a machine is paused."""
        if number in (signal.SIGSTOP, signal.SIGCONT):
            os.killpg(self._processes[node].pid, number)
        else:
            self._processes[node].send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._processes[node].wait(20)

    def stop_all(self) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(10)


@pytest.fixture(scope="module")
def rtsp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The configuration of a store with two simulated RTSP cameras."""
    options = SimOptions(out=tmp_path_factory.mktemp("sim"), stores=1, cameras=2, activity=0)
    with SimRun(options, build_shop) as running:
        store = running.info.stores[0]
        cameras, zones = "", ""
        seen = load_store_config(store.config.read_bytes()).cameras
        for name, info, camera in zip(CAMERAS, store.cameras, seen, strict=True):
            width, height = camera.frame_size
            corners = [[0, 0], [width, 0], [width, height], [0, height]]
            cameras += f'  - {{id: {name}, url: "{info.url}", frame_size: [{width}, {height}], fps: 3}}\n'
            zones += f"  - {{id: z-{name}, camera: {name}, sku: cola-can, capacity: 4, low_at: 2, "
            zones += f"polygon: {corners}}}\n"
        yield (
            "version: 1\nstore: berlin-01\nplanogram:\n"
            '  - {sku: cola-can, gtin: "04012345678901", name: Cola}\n'
            f"cameras:\n{cameras}policy: {{dwell_s: {DWELL_S}}}\nzones:\n{zones}"
        )


@pytest.fixture
def nodes(tmp_path: Path, mosquitto: Any, rtsp: str, tiny_model: Callable[[float], bytes]) -> Iterator[Nodes]:
    made = Nodes(tmp_path, mosquitto, rtsp, tiny_model(0.9))
    yield made
    made.stop_all()


@pytest.fixture
def centre(mosquitto: Any) -> Iterator[Centre]:
    made = Centre(mosquitto.url)
    yield made
    made.close()


def check_one_voice(centre: Centre) -> None:
    """Every epoch of a camera is one node's, later epochs begin after earlier ones have ended, and in each
    its zone became known, and low, once."""
    told: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in centre.events:
        assert event.cameraepoch is not None
        told[event.camera, event.cameraepoch].append(event)
    ends: dict[str, float] = defaultdict(float)
    for (camera, _), events in sorted(told.items()):
        assert len({event.device for event in events}) == 1
        begin, end = (f(event.time.timestamp() for event in events) for f in (min, max))
        assert begin > ends[camera]
        ends[camera] = end
        kinds = [event.kind for event in events]
        assert kinds.count("zone_known") <= 1 + kinds.count("zone_unknown")
        assert kinds.count("low_stock") <= 1
    for zone in centre.stock().values():
        assert zone is not None
        assert zone.camera_epoch == max(epoch for camera, epoch in told if camera == zone.camera)
        assert (zone.level, zone.facings) == ("low", 2)


@pytest.mark.timeout(170)
def test_cameras_of_a_killed_node_are_taken_over_within_30_s_and_given_back(
    nodes: Nodes, centre: Centre
) -> None:
    for node in NODES:
        nodes.start(node)
    wait_for(centre.spread, "one camera on each node", 50)
    (orphan,) = centre.cameras["node-1"]
    wait_for(lambda: orphan in centre.known("node-1"), "what node-1 sees", 20)
    mark = len(centre.events)
    nodes.signal("node-1", signal.SIGKILL)
    took = wait_for(lambda: orphan in centre.known("node-2", mark), "node-2 in node-1's place", 30)
    print(f"taken over and its zone known again after {took:.1f} s")
    mark = len(centre.events)
    nodes.start("node-1")
    wait_for(centre.spread, "one camera on each node again", 45)
    (mine,) = centre.cameras["node-1"]

    back = wait_for(lambda: mine in centre.known("node-1", mark), f"what node-1 sees of {mine}", 20)
    print(f"given back; zone known {back:.1f} s after the node had said so")
    check_one_voice(centre)


@pytest.mark.timeout(150)
def test_a_node_that_slept_tells_nothing_of_cameras_that_others_took(nodes: Nodes, centre: Centre) -> None:
    nodes.settings["STOREFLEET_CAMERA_LEASE_S"] = "6"
    for node in NODES:
        nodes.start(node)
    wait_for(centre.spread, "one camera on each node", 50)
    (orphan,) = centre.cameras["node-1"]
    wait_for(lambda: orphan in centre.known("node-1"), "what node-1 sees", 20)
    mark = len(centre.events)
    nodes.signal("node-1", signal.SIGSTOP)
    wait_for(lambda: orphan in centre.known("node-2", mark), "node-2 in node-1's place", 25)
    asleep = len(centre.events)
    nodes.signal("node-1", signal.SIGCONT)
    time.sleep(3)
    assert [e for e in centre.events[asleep:] if e.device == "node-1"] == []
    wait_for(centre.spread, "one camera on each node again", 30)
    time.sleep(4)
    check_one_voice(centre)


@pytest.mark.timeout(120)
def test_a_node_that_is_told_to_stop_leaves_its_camera_to_the_others_at_once(
    nodes: Nodes, centre: Centre
) -> None:
    for node in NODES:
        nodes.start(node)
    wait_for(centre.spread, "one camera on each node", 50)
    (orphan,) = centre.cameras["node-1"]
    mark = len(centre.events)
    nodes.signal("node-1", signal.SIGTERM)
    wait_for(lambda: orphan in centre.known("node-2", mark), "node-2 in node-1's place", 12)
    check_one_voice(centre)
