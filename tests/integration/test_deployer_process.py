"""A store behind NAT with everything real: controller, broker with the demo's access list, the deployer as
a process of its own, and an agent watching a video. Then the broker is stopped, the deployer killed, and a
stranger writes to its topics."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from contract.deployment import ReportedState, decode_reported
from contract.topics import DeployerTopics
from controller.adapters.local.cluster import stop_all
from controller.adapters.local.layout import StoreDir, read_json, write_json
from controller.client import Client
from storefleet.demo.broker import CENTRE_USER, BrokerFiles, write_broker_files
from storefleet.demo.processes import free_port, listens

STORE = "berlin-01"
TOPICS = DeployerTopics(STORE)
CONFIG = """\
version: 1
store: berlin-01
planogram: [{{sku: cola-can, gtin: "04012345678901", name: Cola}}]
cameras: [{{id: aisle-1, url: "file://{video}", frame_size: [320, 240], fps: 5}}]
zones:
  - {{id: a1, camera: aisle-1, sku: cola-can, capacity: 4, polygon: [[9, 9], [310, 9], [310, 230], [9, 230]]}}
"""


def until(condition: Callable[[], object], what: str, timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.1)


class World:
    """Starts and ends the programs by name; ends them all in the end."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.broker: BrokerFiles = write_broker_files(root / "broker", [STORE, "paris-02"], free_port())
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for user, password in self.broker.passwords.items():
            (root / f"{user}.password").write_text(password)
        self.start_broker()
        self.start("controller", ["controller", "run"], self._controller_settings())
        url = f"http://127.0.0.1:{self.port}"
        until(lambda: _answers(url), "the controller")
        self.client = Client(url, (root / "data" / "admin.token").read_text().strip())
        secrets = root / "secrets" / "storefleet-agent"
        secrets.mkdir(parents=True)
        (secrets / "mqtt-password").write_text(self.broker.passwords[STORE])
        (secrets / "artifact-token").write_text((root / "data" / "artifact.token").read_text())

    @property
    def directory(self) -> StoreDir:
        return StoreDir(self.root / "run" / STORE)

    def start_broker(self) -> None:
        with (self.root / "broker.log").open("ab") as log:
            self.processes["broker"] = subprocess.Popen(self.broker.command, stderr=log)
        until(lambda: listens(self.broker.port), "the broker")

    def start(self, name: str, words: list[str], settings: dict[str, str]) -> None:
        with (self.root / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "storefleet", *words], env={**os.environ, **settings}, stderr=log
            )

    def start_deployer(self) -> None:
        settings = {
            "STORE": STORE,
            "MQTT_URL": self.broker.url,
            "MQTT_PASSWORD_FILE": str(self.root / f"{STORE}.password"),
            "TRUSTED_KEYS_FILE": str(self.root / "data" / "keys" / "signing.pub"),
            "DATA_DIR": str(self.root / "deployer"),
            "CLUSTER": "local",
            "LOCAL_RUN_DIR": str(self.root / "run"),
            "LOCAL_SECRETS": str(self.root / "secrets"),
            "REPORT_S": "1",
            "RESYNC_S": "1",
            "ALIVE_FILE": str(self.root / "alive"),
        }
        named = {f"STOREFLEET_DEPLOYER_{key}": value for key, value in settings.items()}
        self.start("deployer", ["deployer", "run"], named)

    def end(self, name: str, number: int = signal.SIGKILL) -> None:
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(20)

    def deployment(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/v1/deployments/current")["items"][0]
        return found

    def state(self) -> str:
        return str(self.deployment()["state"])

    def runs(self) -> str | None:
        desired = read_json(self.directory.desired)
        found = desired and desired["daemon_set"]["metadata"]["annotations"]["storefleet.io/release"]
        return str(found) if found else None

    def image(self) -> str:
        desired = read_json(self.directory.desired)
        assert desired is not None
        return str(desired["daemon_set"]["spec"]["template"]["spec"]["containers"][0]["image"])

    def close(self) -> None:
        self.client.close()
        for name in list(self.processes):
            self.end(name, signal.SIGTERM)
        stop_all(self.root / "run", timeout_s=10)

    def _controller_settings(self) -> dict[str, str]:
        settings = {
            "DATA_DIR": str(self.root / "data"),
            "API_PORT": str(self.port),
            "MQTT_URL": self.broker.url,
            "MQTT_USERNAME": CENTRE_USER,
            "MQTT_PASSWORD_FILE": str(self.root / f"{CENTRE_USER}.password"),
            "RESYNC_S": "1",
        }
        return {f"STOREFLEET_CONTROLLER_{key}": value for key, value in settings.items()}


def _answers(url: str) -> bool:
    try:
        return bool(httpx.get(f"{url}/health", timeout=5).json()["database"])
    except httpx.TransportError:
        return False


@pytest.fixture
def world(tmp_path: Path, tiny_model: Callable[[float], bytes], still_life: Path) -> Iterator[World]:
    world = World(tmp_path)
    try:
        artifact = tmp_path / "shelf.zip"
        artifact.write_bytes(tiny_model(0.9))
        model = world.client.upload("/v1/models", artifact, name="shelf", version="1")
        config = CONFIG.format(video=still_life)
        body = {"name": STORE, "config": config, "cluster": {"kind": "deployer"}}
        world.client.post("/v1/stores", body)
        for number in (1, 2):
            release = {"name": f"v{number}", "model": model["digest"], "image": f"example.org/agent:{number}"}
            world.client.post("/v1/releases", release)
        yield world
    finally:
        world.close()


def deploy(world: World, release: str) -> None:
    world.client.post("/v1/deployments", {"release": release, "stores": [STORE]})


@pytest.mark.timeout(180)
def test_store_behind_nat_is_released_to_and_keeps_itself_while_cut_off(world: World) -> None:
    deploy(world, "v1")
    until(lambda: "has never reported" in world.deployment()["message"], "an absent deployer is named")
    assert world.state() == "unreachable"

    world.start_deployer()
    until(lambda: world.state() == "ready", "v1 is ready", 60)
    until(lambda: world.image() == "example.org/agent:1", "v1 in the store")

    # Cut off: drift is repaired, and the deployer, killed and started again, still knows what shall run.
    world.end("broker")
    tamper(world)
    until(lambda: world.image() == "example.org/agent:1", "drift is repaired without a connection")
    world.end("deployer")
    tamper(world)
    world.start_deployer()
    until(lambda: world.image() == "example.org/agent:1", "repaired after a restart without a connection")

    # The release that was deployed meanwhile arrives when the connection does.
    world.start_broker()
    deploy(world, "v2")
    until(lambda: world.runs() == "v2", "v2 reaches the store", 60)
    until(lambda: world.state() == "ready", "v2 is ready", 60)

    # Neither a stranger nor another store nor the store itself can tell the deployer anything.
    before = (world.root / "deployer" / "desired.json").read_bytes()
    for user in ("paris-02", STORE):
        publish(world, user, TOPICS.desired, b"{}")
    publish(world, "paris-02", TOPICS.reported, _report(world, "paris-02 was here"))
    publish(world, CENTRE_USER, TOPICS.desired, b'{"payload": "x"}')  # a stolen password is not a key
    time.sleep(2)
    assert (world.root / "deployer" / "desired.json").read_bytes() == before
    assert (world.runs(), world.state()) == ("v2", "ready")

    world.end("deployer", signal.SIGTERM)
    until(lambda: "was stopped" in world.deployment()["message"], "the end of the deployer is told")
    assert world.state() == "unreachable"


def tamper(world: World) -> None:
    desired = read_json(world.directory.desired)
    assert desired is not None
    desired["daemon_set"]["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"
    write_json(world.directory.desired, {**desired, "generation": desired["generation"] + 1})


def publish(world: World, user: str, topic: str, payload: bytes) -> None:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.username_pw_set(user, world.broker.passwords[user])
    client.connect("127.0.0.1", world.broker.port)
    client.loop_start()
    client.publish(topic, payload, qos=1, retain=True).wait_for_publish(5)
    client.disconnect()
    client.loop_stop()


def _report(world: World, words: str) -> bytes:
    now = decode_reported(
        json.dumps({"store": STORE, "at": "2026-01-01T00:00:00Z", "interval_s": 1, "refusal": words}).encode()
    )
    assert isinstance(now, ReportedState)
    return now.to_bytes()
