"""The agent's commands as a user runs them."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.signing import digest_bytes, sign
from contract.store_config import load_store_config
from contract.workload import AgentHealth, Env, ModelManifest, Phase

GOOD = """\
version: 1
store: berlin-01
planogram:
  - {sku: cola-can, gtin: "04012345678901", name: Cola}
cameras:
  - {id: aisle-1, url: "rtsp://10.0.0.1/a", frame_size: [640, 480]}
zones:
  - {id: z1, camera: aisle-1, sku: cola-can, capacity: 4, polygon: [[0, 0], [640, 0], [640, 200], [0, 200]]}
"""


def storefleet(*words: str, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "storefleet", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        env=env,
    )


@pytest.fixture
def model(tmp_path: Path, tiny_model: Callable[[float], bytes]) -> Path:
    path = tmp_path / "tiny.zip"
    path.write_bytes(tiny_model(0.9))
    return path


@pytest.fixture
def artifact_server(model: Path) -> Iterator[str]:
    """Serves the model as the controller does; returns the base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = model.read_bytes()
            wanted = self.path == f"/v1/artifacts/{digest_bytes(content)}"
            allowed = self.headers["Authorization"] == "Bearer t0ken"
            self.send_response(200 if wanted and allowed else 404)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_good_configuration_has_no_problems(tmp_path: Path, model: Path) -> None:
    file = tmp_path / "store.yaml"
    file.write_text(GOOD)
    done = storefleet("agent", "check-config", str(file), "--model", str(model))
    assert (done.returncode, done.stdout) == (0, f"{file}: no problems\n")


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (("version: 1", "version: ["), 3, "not valid YAML"),
        (("sku: cola-can, capacity", "sku: cola-cant, capacity"), 8, "'cola-cant' is not in the planogram"),
        (("[640, 200]", "[6400, 200]"), 8, "polygon leaves the 640x480 frame"),
        (("[640, 0], [640, 200]", "[640, 200], [640, 0]"), 8, "crosses itself"),
        (("rtsp://10", "rtsp://me:s3cr3t@10"), 6, "holds a password"),
        (("04012345678901", "04012345678902"), 4, "check digit"),
    ],
)
def test_problems_are_told_with_their_line(
    tmp_path: Path, change: tuple[str, str], line: int, message: str
) -> None:
    file = tmp_path / "store.yaml"
    file.write_text(GOOD.replace(*change))
    done = storefleet("agent", "check-config", str(file), "--json")
    assert done.returncode == 1
    (problem, *_) = json.loads(done.stdout)["problems"]
    assert message in problem["message"]
    assert problem["line"] == line
    assert "s3cr3t" not in done.stdout + done.stderr


def test_every_problem_is_told_not_only_the_first(tmp_path: Path) -> None:
    file = tmp_path / "store.yaml"
    second = '  - {id: aisle-1, url: "gopher://x", frame_size: [640, 480]}\nzones:'
    file.write_text(GOOD.replace("zones:", second).replace("capacity: 4", "capacity: 4, low_at: 9"))
    done = storefleet("agent", "check-config", str(file))
    assert done.returncode == 1
    for text in ("'aisle-1' is used 2 times", "unknown scheme 'gopher'", "low_at must be below"):
        assert text in done.stderr


def test_file_too_large_for_a_configuration_is_not_read_whole() -> None:
    done = storefleet("agent", "check-config", "/dev/zero")
    assert done.returncode == 1
    assert "larger than" in done.stderr


def test_model_that_lacks_a_class_is_a_problem(tmp_path: Path, model: Path) -> None:
    file = tmp_path / "store.yaml"
    file.write_text(GOOD.replace("cola-can", "tea-box"))
    done = storefleet("agent", "check-config", str(file), "--model", str(model))
    assert done.returncode == 1
    assert "does not know tea-box" in done.stderr


@pytest.mark.parametrize(
    ("phase", "age_s", "live", "ready"),
    [
        ("starting", 1, 0, 1),
        ("standby", 1, 0, 0),
        ("active", 1, 0, 0),
        ("active", 30, 1, 1),
        ("failed", 1, 0, 1),
        ("draining", 1, 0, 1),
    ],
)
def test_probes_answer_by_exit_status(
    tmp_path: Path, phase: Phase, age_s: float, live: int, ready: int
) -> None:
    file = tmp_path / "health.json"
    health = AgentHealth(pid=1, at=datetime.now(UTC) - timedelta(seconds=age_s), phase=phase, error="why")
    file.write_bytes(health.to_bytes())
    assert storefleet("agent", "health", "--live", "--file", str(file)).returncode == live
    assert storefleet("agent", "health", "--ready", "--file", str(file)).returncode == ready


def test_probe_without_health_file_fails(tmp_path: Path) -> None:
    done = storefleet("agent", "health", "--file", str(tmp_path / "none.json"))
    assert (done.returncode, done.stdout) == (1, "no agent has written its health yet\n")


def test_missing_settings_are_named(tmp_path: Path) -> None:
    done = storefleet("agent", "run", env={"PATH": ""})
    assert done.returncode == 1
    assert "STOREFLEET_DATA_DIR: Field required" in done.stderr
    assert "Traceback" not in done.stderr


def test_fetch_brings_the_model_onto_the_node(tmp_path: Path, model: Path, artifact_server: str) -> None:
    key = Ed25519PrivateKey.generate()
    content = model.read_bytes()
    manifest = ModelManifest(
        digest=digest_bytes(content),
        size_bytes=len(content),
        name="tiny",
        version="1",
        format="openvino",
        task="detect",
        names=("cola-can", "person"),
        image_size=(64, 64),
    )
    files = {"manifest": sign(manifest.to_bytes().decode(), key).to_bytes(), "token": b"t0ken\n"}
    files["keys"] = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    env = {
        "PATH": "",
        Env.DATA_DIR.value: str(tmp_path / "data"),
        Env.MODEL_MANIFEST_FILE.value: str(tmp_path / "manifest"),
        Env.TRUSTED_KEYS_FILE.value: str(tmp_path / "keys"),
        Env.ARTIFACT_TOKEN_FILE.value: str(tmp_path / "token"),
        Env.CONTROLLER_URL.value: artifact_server,
    }
    done = storefleet("agent", "fetch", env=env)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == content
    assert "t0ken" not in done.stderr
    (tmp_path / "keys").write_bytes(
        Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    refused = storefleet("agent", "fetch", env=env)
    assert refused.returncode == 1
    assert "not trusted" in refused.stderr


def test_try_proposes_zones_writes_a_configuration_and_runs_with_it(
    tmp_path: Path, still_life: Path, model: Path
) -> None:
    config, frames = tmp_path / "first.yaml", tmp_path / "frames"
    first = storefleet(
        "try", str(still_life), "--model", str(model), "--write-config", str(config),
        "--save", str(frames), "--json",
    )  # fmt: skip
    assert first.returncode == 0, first.stderr
    written = load_store_config(config.read_text())
    assert [(zone.sku, zone.capacity) for zone in written.zones] == [("cola-can", 2)]
    assert written.cameras[0].frame_size == (320, 240)
    assert len(list(frames.glob("*.jpg"))) > 10
    second = storefleet("try", str(still_life), "--model", str(model), "--config", str(config), "--json")
    lines = [json.loads(line) for line in second.stdout.splitlines()]
    kinds = [line["event"]["type"].split(".")[-2] for line in lines if "event" in line]
    assert kinds == ["status_changed", "zone_known"]
    assert lines[-1]["zones"] == [{"zone": "cola-can-1", "sku": "cola-can", "facings": 2, "level": "stocked"}]


def test_try_shows_a_live_view(still_life: Path, model: Path) -> None:
    done = storefleet("try", str(still_life), "--model", str(model), "--duration", "6")
    assert done.returncode == 0, done.stderr
    assert "cola-can-1" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no-such-file.mp4"], "the file 'no-such-file.mp4' does not exist"),
        (["rtsp://me:s3cr3t@127.0.0.1:9/x"], "no picture"),
        (["{video}", "--model", "{video}"], "neither an ONNX file nor an OpenVINO bundle"),
        (["{video}", "--config", "none.yaml"], "cannot read none.yaml"),
        (["rtps://me:s3cr3t@127.0.0.1:9/x"], "neither a file nor a camera"),
        (["{video}", "--save", "{video}/x.mp4"], "cannot write annotated frames"),
        (["{video}", "--save", "/proc/x.mp4"], "cannot write a video to /proc/x.mp4"),
        (["{video}", "--save", "/proc"], "cannot write"),
        (["{video}", "--write-config", "/proc/x.yaml"], "cannot write /proc/x.yaml"),
    ],
)
def test_try_says_what_is_wrong(
    words: list[str], message: str, still_life: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = [word.format(video=still_life) for word in words]
    if "--model" not in filled:
        filled += ["--model", str(model)]
    done = storefleet("try", *filled, "--json")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "s3cr3t" not in done.stdout + done.stderr
