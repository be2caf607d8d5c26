"""A release on its way with everything real: controller, broker, database, model store, local cluster
and the agent itself, watching a video. The commands are the ones that operators type."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from controller import cli, cli_releases
from controller.adapters.local.cluster import stop_all
from controller.models import cli as cli_models

Run = Callable[..., Result]

CONFIG = """\
version: 1
store: berlin-01
planogram: [{{sku: {sku}, gtin: "04012345678901", name: Cola}}]
cameras: [{{id: aisle-1, url: "file://{video}", frame_size: [320, 240], fps: 5}}]
zones:
  - {{id: a1, camera: aisle-1, sku: {sku}, capacity: 4, polygon: [[9, 9], [310, 9], [310, 230], [9, 230]]}}
"""


class Controller:
    """A controller process on one data directory; may be killed and started again."""

    def __init__(self, directory: Path, broker: Any) -> None:
        self.directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        password = directory / "centre-password"
        password.write_text(broker.password("centre"))
        self._environment = os.environ | {
            "STOREFLEET_CONTROLLER_DATA_DIR": str(directory / "data"),
            "STOREFLEET_CONTROLLER_API_PORT": str(port),
            "STOREFLEET_CONTROLLER_MQTT_URL": broker.url,
            "STOREFLEET_CONTROLLER_MQTT_USERNAME": "centre",
            "STOREFLEET_CONTROLLER_MQTT_PASSWORD_FILE": str(password),
            "STOREFLEET_CONTROLLER_RESYNC_S": "0.5",
        }
        self.process = self.start()

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def start(self) -> "subprocess.Popen[bytes]":
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "controller", "controller", "run"], env=self._environment, stderr=log
            )
        end = time.monotonic() + 30
        while not self._ready():
            assert time.monotonic() < end, (self.directory / "log").read_text()
            time.sleep(0.1)
        return self.process

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def _ready(self) -> bool:
        try:
            return bool(httpx.get(f"{self.url}/health", timeout=5).json()["database"])
        except httpx.TransportError:
            return False


@pytest.fixture
def centre(tmp_path: Path, mosquitto: Any) -> Iterator[Controller]:
    controller = Controller(tmp_path, mosquitto)
    secrets = controller.data / "secrets" / "berlin-01" / "storefleet-agent"
    secrets.mkdir(parents=True)
    (secrets / "mqtt-password").write_text(mosquitto.password("berlin-01"))
    (secrets / "artifact-token").write_text((controller.data / "artifact.token").read_text())
    yield controller
    controller.process.terminate()
    controller.process.wait(20)
    stop_all(controller.data / "clusters", timeout_s=10)


@pytest.fixture
def run(centre: Controller, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("STOREFLEET_CONTROLLER_URL", centre.url)
    monkeypatch.setenv("STOREFLEET_API_TOKEN_FILE", str(centre.data / "admin.token"))
    monkeypatch.setenv("COLUMNS", "200")
    root = typer.Typer()
    for module in (cli, cli_releases, cli_models):
        module.register(root)

    def run(*words: str, code: int = 0) -> Result:
        result = CliRunner().invoke(root, words)
        assert result.exit_code == code, result.output
        return result

    return run


def pids(centre: Controller) -> list[int]:
    file = centre.data / "clusters" / "berlin-01" / "nodes" / "node-1" / "observed.json"
    return [pod["pid"] for pod in json.loads(file.read_text())["pods"]]


def test_release_reaches_the_store_and_outlives_the_controller(
    centre: Controller,
    run: Run,
    tmp_path: Path,
    tiny_model: Callable[[float], bytes],
    still_life: Path,
) -> None:
    artifact = tmp_path / "shelf.zip"
    artifact.write_bytes(tiny_model(0.9))
    run("models", "import", str(artifact), "--name", "shelf", "--version", "1")
    config = tmp_path / "berlin-01.yaml"
    config.write_text(CONFIG.format(sku="cola-can", video=still_life))
    run("stores", "add", "berlin-01", "--config", str(config))
    made = run("release", "create", "v1", "--model", "shelf:1", "--image", "example.org/agent:1", "--json")
    assert json.loads(made.stdout)["model_digest"].startswith("sha256:")
    assert "v1" in run("release", "list").stdout

    shown = run("deploy", "--store", "berlin-01", "--release", "v1", "--wait", "--timeout", "40")
    assert "1 of 1 ready" in shown.stdout
    listed = json.loads(run("deployments", "--json").stdout)["items"]
    assert [(d["store"], d["release"], d["state"]) for d in listed] == [("berlin-01", "v1", "ready")]
    assert "berlin-01" in run("release", "show", "v1").stdout

    agents = pids(centre)
    centre.kill()
    time.sleep(1.5)
    assert pids(centre) == agents
    for pid in agents:
        os.kill(pid, 0)
    centre.start()
    run("release", "create", "v2", "--model", "shelf:1", "--image", "example.org/agent:2", "--notes", "newer")
    run("deploy", "--store", "berlin-01", "--release", "v2", "--wait", "--timeout", "40")
    history = json.loads(run("deployments", "--history", "--json").stdout)["items"]
    assert [(d["release"], d["state"]) for d in history] == [("v2", "ready"), ("v1", "superseded")]
    assert history[0]["detail"]["last_known_good"] == "v1"
    assert pids(centre) != agents
    devices = json.loads(run("fleet", "--json").stdout)["items"][0]["devices"]
    assert devices[0]["rollout_id"] == history[0]["rollout_id"]


def test_release_that_does_not_fit_is_refused_before_anything_happens(
    run: Run, tmp_path: Path, tiny_model: Callable[[float], bytes], still_life: Path
) -> None:
    artifact = tmp_path / "shelf.zip"
    artifact.write_bytes(tiny_model(0.9))
    run("models", "import", str(artifact), "--name", "shelf", "--version", "1")
    config = tmp_path / "berlin-01.yaml"
    config.write_text(CONFIG.format(sku="tea-box", video=still_life))
    run("stores", "add", "berlin-01", "--config", str(config))
    refused = run("release", "create", "v1", "--model", "shelf:2", "--image", "agent:1", code=1)
    assert "no model 'shelf:2'" in refused.stderr
    run("release", "create", "v1", "--model", "shelf:1", "--image", "agent:1")
    refused = run("deploy", "--store", "berlin-01", "--release", "v1", code=1)
    assert "has no class for tea-box" in refused.stderr
    assert "Nothing is deployed" in run("deployments").stdout
