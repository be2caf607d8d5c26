"""``agent golden`` as the pod runs it: a real model, a real set, a real broker."""

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any
from uuid import UUID

import paho.mqtt.client as mqtt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from paho.mqtt.enums import CallbackAPIVersion

from camera_sims.golden import golden_set
from contract.golden import (
    GoldenArchive,
    GoldenContent,
    GoldenManifest,
    GoldenReport,
    decode_golden_report,
    pack,
)
from contract.signing import digest_bytes, sign
from contract.topics import DeviceTopics
from contract.workload import Env, ModelManifest
from controller.adapters.local.pod import spoken

TOPICS = DeviceTopics("berlin-01", "node-1")
ROLLOUT = UUID(int=7)


class Listener:
    """Keeps the newest message of the golden topic."""

    def __init__(self, mosquitto: Any) -> None:
        self.came = threading.Event()
        self.payload = b""
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.username_pw_set("centre", mosquitto.password("centre"))
        self._client.on_message = self._take
        self._client.on_connect = lambda client, *_: client.subscribe(TOPICS.golden, 1)
        self._client.connect("127.0.0.1", mosquitto.port)
        self._client.loop_start()

    def _take(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        self.payload = bytes(message.payload)
        self.came.set()

    def report(self, timeout: float = 20.0) -> GoldenReport:
        assert self.came.wait(timeout)
        self.came.clear()
        return decode_golden_report(self.payload)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture(scope="module")
def small_set() -> bytes:
    content, pictures = golden_set(900_001, clips=2, frames=2)
    return pack(content, pictures)


class Node:
    """A node's disk and what the pod's volumes hold."""

    def __init__(self, root: Path, golden: bytes, mosquitto: Any) -> None:
        self.root = root
        self.data = root / "data"
        self.key = Ed25519PrivateKey.generate()
        self.env: dict[str, str] = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.env["PYTHONPATH"] = str(Path.cwd())
        with as_file(files("shipped_model") / "shelf.zip") as path:
            model = path.read_bytes()
        info = json.loads((files("shipped_model") / "metrics.json").read_text())["artifacts"]["shelf.zip"][
            "info"
        ]
        self.keep(model)
        self.golden_digest = self.keep(golden)
        content = GoldenArchive(io.BytesIO(golden)).content
        manifest = ModelManifest(
            digest=digest_bytes(model), size_bytes=len(model), name="shelf", version="1", format="openvino",
            task="detect", names=info["names"], image_size=info["image_size"],
        )  # fmt: skip
        self.manifest = GoldenManifest(
            digest=self.golden_digest, size_bytes=len(golden), name="shelf", version="1",
            frames=sum(1 for _ in content.frames), counts=content.counts,
        )  # fmt: skip
        (root / "model.json").write_text(sign(manifest.model_dump_json(), self.key).model_dump_json())
        self.sign_golden(self.manifest, self.key)
        pem = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (root / "keys.pem").write_bytes(pem)
        self.env |= {
            Env.STORE: TOPICS.store, Env.DEVICE: TOPICS.device, Env.ROLLOUT_ID: str(ROLLOUT),
            Env.MQTT_URL: mosquitto.url, Env.MQTT_USERNAME: TOPICS.store,
            Env.MQTT_PASSWORD_FILE: str(mosquitto.password_file(TOPICS.store)),
            Env.CONFIG_FILE: str(root / "store.yaml"),
            Env.MODEL_MANIFEST_FILE: str(root / "model.json"), Env.TRUSTED_KEYS_FILE: str(root / "keys.pem"),
            Env.DATA_DIR: str(self.data), Env.HEALTH_FILE: str(root / "health.json"),
            Env.GOLDEN_MANIFEST_FILE: str(root / "golden.json"), "STOREFLEET_THREADS": "1",
        }  # fmt: skip

    def keep(self, artifact: bytes) -> str:
        """As ``agent fetch`` does."""
        digest = digest_bytes(artifact)
        place = self.data / "models" / "sha256" / digest.removeprefix("sha256:")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(artifact)
        return digest

    def sign_golden(self, manifest: GoldenManifest, key: Ed25519PrivateKey) -> None:
        (self.root / "golden.json").write_text(sign(manifest.model_dump_json(), key).model_dump_json())

    def run(self, **env: str) -> tuple[int, str]:
        """Exit status, and the last words as operators see them."""
        done = subprocess.run(
            [sys.executable, "-m", "storefleet", "agent", "golden"],
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        lines = done.stderr.strip().splitlines() if done.returncode else done.stdout.strip().splitlines()
        return done.returncode, spoken(lines[-1]) if lines else ""


@pytest.fixture
def node(tmp_path: Path, small_set: bytes, mosquitto: Any) -> Node:
    return Node(tmp_path, small_set, mosquitto)


@pytest.fixture
def listener(mosquitto: Any) -> Iterator[Listener]:
    listening = Listener(mosquitto)
    yield listening
    listening.close()


def spoiled() -> bytes:
    """A set that expects jam where tea stands: no model can pass it."""
    content, pictures = golden_set(900_001, clips=1, frames=1)
    raw = json.loads(content.to_bytes())
    for frame in raw["clips"][0]["frames"]:
        for detection in frame["detections"]:
            if detection["label"] == raw["classes"][0]:
                detection["label"] = raw["classes"][1]
    raw["classes"] = raw["classes"][1:]
    return pack(GoldenContent.model_validate(raw), pictures)


def test_good_model_passes_is_told_and_not_replayed_after_a_restart(node: Node, listener: Listener) -> None:
    status, words = node.run()
    assert status == 0, words
    first = listener.report()
    assert (first.passed, first.rollout_id, first.golden) == (True, ROLLOUT, node.golden_digest)
    assert first.frames == 4
    assert min(c.recall for c in first.classes.values()) >= 0.9
    assert first.inference_ms_p95 >= first.inference_ms_p50 > 0
    status, words = node.run(STOREFLEET_ROLLOUT_ID=str(UUID(int=8)))
    again = listener.report()
    assert (status, again.rollout_id) == (0, UUID(int=8))
    assert again.replayed_at == first.replayed_at
    assert again.at > first.at


def test_refusal_is_told_and_its_last_words_say_why(
    tmp_path: Path, mosquitto: Any, listener: Listener
) -> None:
    node = Node(tmp_path, spoiled(), mosquitto)
    status, words = node.run()
    assert status == 1
    assert "the golden set is not passed: recall of" in words
    report = listener.report()
    assert not report.passed
    assert report.reason in words
    assert node.run(STOREFLEET_GOLDEN_MIN_RECALL="0", STOREFLEET_GOLDEN_MAX_COUNT_ERROR="99")[0] == 0
    assert listener.report().passed, "the thresholds are not part of what is kept"


def test_broker_that_is_away_does_not_hold_up_a_release(node: Node, mosquitto: Any) -> None:
    mosquitto.stop()
    status, words = node.run()
    assert status == 0, words


def test_without_a_set_there_is_nothing_to_pass(node: Node) -> None:
    del node.env[Env.GOLDEN_MANIFEST_FILE]
    assert node.run() == (0, "no golden set is configured")


def _stranger(node: Node) -> None:
    node.sign_golden(node.manifest, Ed25519PrivateKey.generate())


def _damage(node: Node) -> None:
    path = node.data / "models" / "sha256" / node.golden_digest.removeprefix("sha256:")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))


def _model_for_set(node: Node) -> None:
    """A model's signed manifest is no golden set's, whatever key signed it."""
    (node.root / "golden.json").write_bytes((node.root / "model.json").read_bytes())


def _other_counts(node: Node) -> None:
    counts = {name: count + 1 for name, count in node.manifest.counts.items()}
    node.sign_golden(node.manifest.model_copy(update={"counts": counts}), node.key)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_stranger, "not trusted here"),
        (_damage, "fetch it again"),
        (_model_for_set, "is not one"),
        (_other_counts, "does not hold what its manifest says"),
    ],
)
def test_nothing_unproven_is_used(node: Node, spoil: Callable[[Node], None], words: str) -> None:
    spoil(node)
    status, said = node.run()
    assert status == 1
    assert words in said
