"""Models on their way to a store of two nodes, with everything real: controller, broker, agents, and a link
whose bytes are counted between them."""

import io
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from agent.adapters import model_cache
from agent.adapters.artifact_http import HttpArtifacts
from agent.delivery import Delivery, Limits
from agent.errors import TransientError
from contract.workload import Env, decode_health, decode_manifest, decode_signed
from controller import cli, cli_releases, cli_staging
from controller.models import cli as cli_models
from storefleet.demo.processes import free_port

CONFIG = """\
version: 1
store: {store}
planogram: [{{sku: cola-can, gtin: "04012345678901", name: Cola}}]
cameras: [{{id: aisle-1, url: "file://{video}", frame_size: [320, 240], fps: 5}}]
zones:
  - {{id: a1, camera: aisle-1, sku: cola-can, capacity: 4, polygon: [[9, 9], [310, 9], [310, 230], [9, 230]]}}
"""
HEADERS = 20_000
"""More than all requests of a test send beside the artifacts."""


def wait_for(condition: Callable[[], object], what: str, timeout: float = 30.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"{what} not reached in time"
        time.sleep(0.05)


class Link:
    """The store's line to the centre: a TCP relay that counts what comes down."""

    def __init__(self, port: int) -> None:
        self.bytes_down = 0
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)  # A line holds little.
            for args in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._relay, args=args, daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket, down: bool) -> None:
        with source, target:
            try:
                while data := source.recv(65536):
                    if down:
                        self.bytes_down += len(data)
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)
            except OSError:
                return  # One side went away.

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@dataclass
class Fleet:
    """A controller, its commands, and the nodes of the store berlin-01."""

    directory: Path
    broker: Any
    video: Path
    port: int = field(default_factory=free_port)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    relay: Link | None = None

    def start_controller(self) -> None:
        environment = os.environ | {
            "STOREFLEET_CONTROLLER_DATA_DIR": str(self.data),
            "STOREFLEET_CONTROLLER_API_PORT": str(self.port),
            "STOREFLEET_CONTROLLER_MQTT_URL": self.broker.url,
            "STOREFLEET_CONTROLLER_MQTT_USERNAME": "centre",
            "STOREFLEET_CONTROLLER_MQTT_PASSWORD_FILE": str(self.broker.password_file("centre")),
        }
        self._start("controller", ["controller", "controller", "run"], environment)
        wait_for(self._ready, "the controller")
        self.relay = Link(self.port)

    @property
    def link(self) -> Link:
        assert self.relay is not None
        return self.relay

    @property
    def data(self) -> Path:
        return self.directory / "controller"

    def _ready(self) -> bool:
        try:
            return bool(httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=5).json()["ready"])
        except httpx.TransportError:
            return False

    def _start(self, name: str, words: list[str], env: dict[str, str]) -> "subprocess.Popen[bytes]":
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", *words], env=env, stderr=log, stdout=log)
        self.processes.append(process)
        return process

    def run(self, *words: str, code: int = 0) -> Result:
        root = typer.Typer()
        for module in (cli, cli_releases, cli_staging, cli_models):
            module.register(root)
        env = {
            "STOREFLEET_CONTROLLER_URL": f"http://127.0.0.1:{self.port}",
            "STOREFLEET_API_TOKEN_FILE": str(self.data / "admin.token"),
            "COLUMNS": "200",
        }
        result = CliRunner().invoke(root, words, env=env)
        assert result.exit_code == code, result.output
        return result

    def add_store(self, name: str) -> None:
        file = self.directory / f"{name}.yaml"
        file.write_text(CONFIG.format(store=name, video=self.video))
        self.run("stores", "add", name, "--config", str(file))

    def add_release(self, number: int, artifact: bytes) -> dict[str, Any]:
        """Model ``shelf:N`` and release ``vN``; leaves the signed manifest in a file."""
        file = self.directory / f"model-{number}.zip"
        file.write_bytes(artifact)
        self.run("models", "import", str(file), "--name", "shelf", "--version", str(number))
        self.run(
            "release", "create", f"v{number}", "--model", f"shelf:{number}", "--image", "example.org/agent:1"
        )
        listed = json.loads(self.run("models", "list", "--json").output)["items"]
        model: dict[str, Any] = next(m for m in listed if m["version"] == str(number))
        (self.directory / f"manifest-{number}.json").write_text(json.dumps(model["signed"]))
        return model

    def environment(self, node: str, release: int, **more: str) -> dict[str, str]:
        data = self.directory / node
        data.mkdir(exist_ok=True)
        self.ports.setdefault(node, free_port())
        others = [f"127.0.0.1:{port}" for name, port in self.ports.items() if name != node]
        return {
            "PATH": os.environ["PATH"],
            Env.STORE: "berlin-01",
            Env.DEVICE: node,
            Env.MQTT_URL: self.broker.url,
            Env.MQTT_USERNAME: "berlin-01",
            Env.MQTT_PASSWORD_FILE: str(self.broker.password_file("berlin-01")),
            Env.CONTROLLER_URL: self.link.url,
            Env.ARTIFACT_TOKEN_FILE: str(self.data / "artifact.token"),
            Env.CONFIG_FILE: str(self.directory / "berlin-01.yaml"),
            Env.MODEL_MANIFEST_FILE: str(self.directory / f"manifest-{release}.json"),
            Env.TRUSTED_KEYS_FILE: str(self.data / "keys" / "signing.pub"),
            Env.DATA_DIR: str(data),
            Env.HEALTH_FILE: str(self.health(node)),
            Env.PEER_PORT: str(self.ports[node]),
            Env.PEERS_HOST: ",".join(others),
            "STOREFLEET_TELEMETRY_S": "0.5",
            "STOREFLEET_DRAIN_S": "0",
            "STOREFLEET_THREADS": "1",
            "STOREFLEET_STAGE_SPREAD_S": "4",
            **more,
        }

    def health(self, node: str) -> Path:
        return self.directory / f"{node}-health.json"

    def fetch(self, node: str, release: int, **more: str) -> None:
        env = self.environment(node, release, **more)
        done = self._start(node, ["agent", "fetch"], env)
        assert done.wait(40) == 0, (self.directory / f"{node}.log").read_text()

    def start_agent(self, node: str, release: int, **more: str) -> "subprocess.Popen[bytes]":
        self.health(node).unlink(missing_ok=True)
        process = self._start(node, ["agent", "run"], self.environment(node, release, **more))
        wait_for(lambda: self._phase(node) == "active", f"an active agent on {node}", 40)
        return process

    def _phase(self, node: str) -> str:
        path = self.health(node)
        return decode_health(path.read_bytes()).phase if path.exists() else ""

    def cached(self, node: str, model: dict[str, Any]) -> Path:
        return self.directory / node / "models" / "sha256" / str(model["digest"]).removeprefix("sha256:")

    def close(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(20)
        if self.relay is not None:
            self.relay.close()


@pytest.fixture
def fleet(tmp_path: Path, mosquitto: Any, still_life: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, mosquitto, still_life)
    try:
        made.start_controller()
        made.add_store("berlin-01")
        yield made
    finally:
        made.close()


@pytest.fixture
def bundle(tiny_model: Callable[[float], bytes]) -> Callable[[int], bytes]:
    """A model of about 5 MB; another one for each seed."""

    def build(seed: int) -> bytes:
        buffer = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(tiny_model(0.9))) as small,
            zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as large,
        ):
            for name in small.namelist():
                padding = random.Random(seed).randbytes(5_000_000) if name.endswith(".bin") else b""
                large.writestr(name, small.read(name) + padding)
        return buffer.getvalue()

    return build


def stagings(fleet: Fleet, *words: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(fleet.run("stagings", "--json", *words).output)
    return answer


def test_new_model_crosses_the_link_of_a_store_with_two_nodes_once(
    fleet: Fleet, bundle: Callable[[int], bytes], record_property: Callable[[str, object], None]
) -> None:
    first, second = (fleet.add_release(n, bundle(n)) for n in (1, 2))
    sizes = first["size_bytes"], second["size_bytes"]
    fleet.fetch("node-1", 1)
    fleet.environment("node-2", 1)  # so that node-1 knows its address
    fleet.start_agent("node-1", 1)
    fleet.fetch("node-2", 1)
    assert sizes[0] <= fleet.link.bytes_down <= sizes[0] + HEADERS, "node-2 fetched from its neighbour"
    fleet.start_agent("node-2", 1)
    wait_for(lambda: len(stages_nodes(fleet)) == 2, "both nodes reporting")

    began = time.monotonic()
    staged = json.loads(fleet.run("stage", "--release", "v2", "--wait", "--timeout", "60", "--json").output)
    record_property("staging_s", time.monotonic() - began)
    assert (staged["percent"], staged["nodes"], staged["nodes_staged"]) == (100.0, 2, 2)
    assert fleet.cached("node-1", second).read_bytes() == fleet.cached("node-2", second).read_bytes()
    total = sum(sizes)
    record_property("link_bytes", fleet.link.bytes_down)
    record_property("artifact_bytes", total)
    assert total <= fleet.link.bytes_down <= total + HEADERS, "each model crossed the link once"

    def told() -> tuple[int, int]:
        nodes = stagings(fleet)["items"][0]["nodes"]
        return sum(n["centre_bytes"] for n in nodes), sum(n["peer_bytes"] for n in nodes)

    wait_for(lambda: told() == (total, total), "the nodes telling the same")
    fleet.fetch("node-1", 2)
    assert fleet.link.bytes_down <= total + HEADERS, "a staged release costs the link nothing"
    assert "v2: 100 % staged, 2 of 2 nodes" in fleet.run("stagings", "--release", "v2").output
    assert "release.stage" in fleet.run("audit").output


def stages_nodes(fleet: Fleet) -> list[Any]:
    devices = json.loads(fleet.run("fleet", "--store", "berlin-01", "--json").output)["items"][0]["devices"]
    return [device for device in devices if device["cached_models"]]


def test_store_that_never_answers_holds_up_nobody_and_gets_its_order_later(
    fleet: Fleet, bundle: Callable[[int], bytes]
) -> None:
    fleet.add_store("paris-02")
    fleet.add_release(1, bundle(1))
    second = fleet.add_release(2, bundle(2))
    words = fleet.run("stage", "--release", "v2", "--wait", "--timeout", "1", code=1).output
    assert "no node of this store has reported yet" in words
    fleet.fetch("node-1", 1)
    fleet.start_agent("node-1", 1)
    wait_for(fleet.cached("node-1", second).exists, "the order that waited at the broker, obeyed")
    words = fleet.run("stage", "--release", "v2", "--wait", "--timeout", "4", code=1).output
    assert "v2 is not staged in 1 of 2 stores" in words
    assert "paris-02: no node of this store has reported yet" in words
    by_store = {item["store"]: item["percent"] for item in stagings(fleet)["items"]}
    assert by_store == {"berlin-01": 100.0, "paris-02": 0.0}
    assert "release 'v9' does not exist" in fleet.run("stage", "--release", "v9", code=1).output
    refused = fleet.run("stage", "--release", "v2", "--store", "rome", "--store", "berlin-01", code=1).output
    assert "store 'rome' does not exist" in refused


def test_order_survives_a_broker_that_forgot_it(fleet: Fleet, bundle: Callable[[int], bytes]) -> None:
    fleet.add_release(1, bundle(1))
    second = fleet.add_release(2, bundle(2))
    fleet.run("stage", "--release", "v2")
    time.sleep(2)
    fleet.broker.kill()
    for database in (fleet.directory / "mosquitto").glob("mosquitto.db*"):
        database.unlink()
    fleet.broker.start()
    fleet.fetch("node-1", 1)
    fleet.start_agent("node-1", 1)
    wait_for(fleet.cached("node-1", second).exists, "the model of the order")


def test_damaged_model_on_disk_is_fetched_again_when_it_is_loaded(
    fleet: Fleet, bundle: Callable[[int], bytes]
) -> None:
    first = fleet.add_release(1, bundle(1))
    fleet.fetch("node-1", 1)
    agent = fleet.start_agent("node-1", 1)
    agent.kill()
    agent.wait(10)
    path = fleet.cached("node-1", first)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    agent = fleet.start_agent("node-1", 1)
    assert path.read_bytes() == good
    agent.kill()
    agent.wait(10)
    path.unlink()
    fleet.start_agent("node-1", 1)
    assert path.read_bytes() == good


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mount)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_disk_that_fills_up_during_a_download_is_cleared_of_old_models(
    fleet: Fleet, bundle: Callable[[int], bytes], small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [fleet.add_release(n, bundle(n)) for n in (1, 2, 3)]
    manifests = [
        decode_manifest(decode_signed((fleet.directory / f"manifest-{n}.json").read_bytes()).payload.encode())
        for n in (1, 2, 3)
    ]
    monkeypatch.setattr(model_cache, "RESERVE_BYTES", -(10**12))  # Nothing is noticed before it is full.
    cache = model_cache.ModelCache(small_disk)
    token = (fleet.data / "artifact.token").read_text().strip()
    delivery = Delivery(
        cache,
        HttpArtifacts.centre(fleet.link.url, token),
        list,
        limits=Limits(),
        count=lambda centre, peer: None,
        monotonic=time.monotonic,
        pause=threading.Event().wait,
    )
    delivery.bring(manifests[0])
    with pytest.raises(TransientError, match="is full; 1 other models were removed"):
        delivery.bring(manifests[1])
    delivery.bring(manifests[1])
    cache.mark_good(manifests[1])
    with pytest.raises(TransientError, match="is full; 0 other models were removed; free disk space there"):
        delivery.bring(manifests[2])
    assert cache.digests() == [models[1]["digest"]], "the last good one stays"
    assert cache.holds(manifests[1])
    sizes = sum(model["size_bytes"] for model in models)
    assert fleet.link.bytes_down < sizes + 1_000_000, "and no byte was paid for twice"


def test_rate_is_kept_and_a_killed_fetch_goes_on_where_it_was(
    fleet: Fleet, bundle: Callable[[int], bytes]
) -> None:
    model = fleet.add_release(1, bundle(1))
    env = fleet.environment("node-1", 1, STOREFLEET_FETCH_RATE="2000000")
    process = fleet._start("node-1", ["agent", "fetch"], env)
    part = fleet.cached("node-1", model).with_suffix(".part")
    wait_for(lambda: part.exists() and part.stat().st_size > 1_000_000, "the first megabyte")
    process.kill()
    process.wait(10)
    have = part.stat().st_size
    began = time.monotonic()
    fleet.fetch("node-1", 1, STOREFLEET_FETCH_RATE="2000000")
    assert time.monotonic() - began > (model["size_bytes"] - have) / 2_000_000 - 0.3
    assert model["size_bytes"] <= fleet.link.bytes_down < model["size_bytes"] + 600_000
