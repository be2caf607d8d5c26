"""Real agent processes with a tiny real model and a video as camera, against a real Mosquitto: from the
picture to the broker, handovers between releases, kill -9, refused models and configurations."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.adapters.mqtt import MqttAddress, MqttBroker, Will
from camera_sims.faults import Fault, apply_to_picture
from contract.events import Event, ZoneKnown, decode_event
from contract.messages import DeviceState, EventAck, Telemetry, decode_state, decode_telemetry
from contract.shadow import ShadowOrder, ShadowTelemetry
from contract.signing import digest_bytes, sign
from contract.topics import FLEET_SUBSCRIPTIONS, Channel, DeviceTopics, parse, shadow_topic
from contract.workload import AgentHealth, Env, ModelManifest, decode_health, decode_signed

SIDE = 64
NAMES = ("cola-can", "person")

CONFIG = """
version: 1
store: berlin-01
planogram:
  - {{sku: cola-can, gtin: "04012345678901", name: Cola}}
cameras:
  - {{id: aisle-1, url: "file:{video}", frame_size: [320, 240], fps: 10}}
policy: {{dwell_s: 1.0}}
zones:
  - {{id: z1, camera: aisle-1, sku: cola-can, capacity: 4, polygon: [[0, 0], [320, 0], [320, 240], [0, 240]]}}
"""


@dataclass
class AgentRig:
    """One node's directory. ``release`` writes what a pod of a release finds, ``start`` runs it."""

    directory: Path
    mqtt_url: str
    video: Path
    build_model: Callable[[float], bytes]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    extra: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.data = self.directory / "data"
        self.data.mkdir()
        self.config = self.directory / "store.yaml"
        self.config.write_text(CONFIG.format(video=self.video))
        self._key = Ed25519PrivateKey.generate()
        (self.directory / "keys.pem").write_bytes(
            self._key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        (self.directory / "mqtt-password").write_text("berlin-01-secret\n")

    def release(self, version: str, *, confidence: float = 0.9, names: tuple[str, ...] = NAMES) -> str:
        """Put a model into the cache and its manifest beside it; returns the model's digest."""
        content = self.build_model(confidence)
        manifest = ModelManifest(
            digest=digest_bytes(content),
            size_bytes=len(content),
            name="tiny",
            version=version,
            format="openvino",
            task="detect",
            names=names,
            image_size=(SIDE, SIDE),
        )
        cache = self.data / "models" / "sha256"
        cache.mkdir(parents=True, exist_ok=True)
        (cache / manifest.digest.removeprefix("sha256:")).write_bytes(content)
        signed = sign(manifest.to_bytes().decode(), self._key)
        (self.directory / f"manifest-{version}.json").write_bytes(signed.to_bytes())
        return manifest.digest

    def environment(self, version: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            Env.STORE: "berlin-01",
            Env.DEVICE: "node-1",
            Env.MQTT_URL: self.mqtt_url,
            Env.MQTT_USERNAME: "berlin-01",
            Env.MQTT_PASSWORD_FILE: str(self.directory / "mqtt-password"),
            Env.CONFIG_FILE: str(self.config),
            Env.MODEL_MANIFEST_FILE: str(self.directory / f"manifest-{version}.json"),
            Env.TRUSTED_KEYS_FILE: str(self.directory / "keys.pem"),
            Env.DATA_DIR: str(self.data),
            Env.HEALTH_FILE: str(self.health_file(version)),
            "STOREFLEET_TELEMETRY_S": "0.5",
            "STOREFLEET_DRAIN_S": "2",
            "STOREFLEET_THREADS": "1",
            **self.extra,
        }

    def with_controller(self) -> None:
        """One that never answers: whatever is needed lies on the disk."""
        (self.directory / "token").write_text("secret-token\n")
        url, token = "http://127.0.0.1:9", str(self.directory / "token")
        self.extra = {Env.CONTROLLER_URL: url, Env.ARTIFACT_TOKEN_FILE: token}

    def shadow_order(self, version: str, **changes: Any) -> bytes:
        """Of the model of ``version``, signed."""
        raw = decode_signed((self.directory / f"manifest-{version}.json").read_bytes()).payload
        until = datetime.now(UTC) + timedelta(hours=1)
        values = {"store": "berlin-01", "cpu_percent": 50.0, "until": until} | changes
        order = ShadowOrder(model=ModelManifest.model_validate_json(raw), **values)
        return sign(order.model_dump_json(), self._key).to_bytes()

    def health_file(self, version: str) -> Path:
        return self.directory / f"health-{version}.json"

    def log_file(self, version: str) -> Path:
        return self.directory / f"agent-{version}.log"

    def start(self, version: str) -> subprocess.Popen[bytes]:
        with self.log_file(version).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "agent", "run"], env=self.environment(version), stderr=log
            )
        self.processes.append(process)
        return process

    def health(self, version: str) -> AgentHealth | None:
        path = self.health_file(version)
        return decode_health(path.read_bytes()) if path.exists() else None

    def phase(self, version: str) -> str:
        health = self.health(version)
        return health.phase if health else ""

    def stop_all(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(10)


class Centre:
    """Listens to everything, stores events once and acknowledges them."""

    def __init__(self, url: str) -> None:
        self.events: dict[str, Event] = {}
        self.states: list[DeviceState] = []
        self.telemetry: list[Telemetry] = []
        address = MqttAddress(url, "centre", username="centre", password="centre-secret", reconnect_max_s=1)
        self._broker = MqttBroker(
            address, will=Will("storefleet/v1/centre/centre/state", b""), subscriptions=FLEET_SUBSCRIPTIONS
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        wait_for(lambda: self._broker.connected, "the centre's connection")

    def order(self, topic: str, payload: bytes) -> None:
        """Publish, retained."""
        assert self._broker.publish(topic, payload, qos=1, retain=True)

    def shadow(self) -> ShadowTelemetry | None:
        """As the newest heartbeat has it."""
        return self.telemetry[-1].shadow if self.telemetry else None

    def kinds(self) -> list[str]:
        return [event.kind for event in sorted(self.events.values(), key=lambda e: e.sequence)]

    def _run(self) -> None:
        while not self._stop.is_set():
            message = self._broker.take(0.05)
            if message is None or not message.topic:
                continue
            match parse(message.topic).channel:
                case Channel.EVENTS:
                    event = decode_event(message.payload)
                    self.events[str(event.id)] = event
                    watermark = max(e.sequence for e in self.events.values())
                    ack = EventAck(stream_id=event.streamid, committed_sequence=watermark)
                    self._broker.publish(DeviceTopics("berlin-01", "node-1").acks, ack.to_bytes(), qos=1)
                case Channel.STATE:
                    self.states.append(decode_state(message.payload))
                case Channel.TELEMETRY:
                    self.telemetry.append(decode_telemetry(message.payload))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._broker.close()


def wait_for(condition: Callable[[], object], what: str, timeout: float = 25.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"{what} not reached in time"
        time.sleep(0.02)


def retained_state(url: str) -> DeviceState:
    """What somebody who connects now is told about the device."""
    done = subprocess.run(
        [
            "mosquitto_sub",
            "-p",
            url.rpartition(":")[2],
            "-u",
            "centre",
            "-P",
            "centre-secret",
            "-V",
            "5",
            "-t",
            DeviceTopics("berlin-01", "node-1").state,
            "-C",
            "1",
            "-W",
            "5",
        ],
        capture_output=True,
        check=True,
    )
    return decode_state(done.stdout)


@pytest.fixture
def rig(
    tmp_path: Path, mosquitto: Any, still_life: Path, tiny_model: Callable[[float], bytes]
) -> Iterator[AgentRig]:
    made = AgentRig(tmp_path, mosquitto.url, still_life, tiny_model)
    yield made
    made.stop_all()


@pytest.fixture
def centre(mosquitto: Any) -> Iterator[Centre]:
    made = Centre(mosquitto.url)
    yield made
    made.close()


def start_active(rig: AgentRig, version: str) -> "subprocess.Popen[bytes]":
    process = rig.start(version)
    wait_for(lambda: rig.phase(version) == "active", f"release {version} active")
    return process


def start_standby(rig: AgentRig, version: str) -> "subprocess.Popen[bytes]":
    process = rig.start(version)
    wait_for(lambda: rig.phase(version) == "standby", f"release {version} in standby")
    return process


def test_camera_to_broker_and_an_orderly_end(rig: AgentRig, centre: Centre, mosquitto: Any) -> None:
    digest = rig.release("1")
    process = start_active(rig, "1")
    wait_for(lambda: "zone_known" in centre.kinds(), "the first zone_known")
    event = next(e for e in centre.events.values() if isinstance(e, ZoneKnown))
    assert (event.store, event.device, event.camera, event.subject) == (
        "berlin-01",
        "node-1",
        "aisle-1",
        "z1",
    )
    assert (event.data.facings, event.modelversion, event.modeldigest) == (2, "1", digest)
    wait_for(lambda: centre.telemetry[-1].outbox.pending == 0, "an empty outbox")
    beat = centre.telemetry[-1]
    assert (beat.model.digest, beat.cameras[0].status, beat.config_error) == (digest, "online", "")
    assert beat.cameras[0].detections_per_class["cola-can"] > 10
    assert beat.cameras[0].frame_age_s is not None
    assert beat.cameras[0].frame_age_s < 1.5
    process.terminate()
    assert process.wait(10) == 0
    state = retained_state(mosquitto.url)
    assert (state.status, state.reason, state.session_id) == ("offline", "stopped", beat.session_id)
    assert "berlin-01-secret" not in rig.log_file("1").read_text()


def test_next_release_takes_over_without_a_gap(
    rig: AgentRig, centre: Centre, mosquitto: Any, record_property: Callable[[str, object], None]
) -> None:
    rig.release("1")
    second = rig.release("2", confidence=0.8)
    old = start_active(rig, "1")
    wait_for(lambda: "zone_known" in centre.kinds(), "the first zone_known")
    start_standby(rig, "2")
    assert rig.phase("1") == "active"
    old.terminate()
    wait_for(lambda: rig.phase("2") == "active", "release 2 active")
    assert old.wait(10) == 0
    wait_for(lambda: centre.telemetry[-1].model.digest == second, "telemetry of release 2")
    wait_for(lambda: centre.telemetry[-1].cameras[0].handover_gap_s is not None, "the measured gap")
    gap = centre.telemetry[-1].cameras[0].handover_gap_s
    assert gap is not None
    record_property("handover_gap_s", gap)
    assert gap < 1.0
    time.sleep(3)
    assert centre.kinds() == ["status_changed", "zone_known"], "the handover must not repeat or unlearn"
    assert [state.status for state in centre.states] == ["online", "online"]
    state = retained_state(mosquitto.url)
    assert (state.status, state.model and state.model.digest) == ("online", second)


def test_killed_release_is_replaced_and_its_late_will_does_not_stay(
    rig: AgentRig, centre: Centre, mosquitto: Any
) -> None:
    rig.release("1")
    second = rig.release("2", confidence=0.8)
    old = start_active(rig, "1")
    wait_for(lambda: "zone_known" in centre.kinds(), "the first zone_known")
    start_standby(rig, "2")
    old.kill()
    wait_for(lambda: centre.telemetry[-1].model.digest == second, "telemetry of release 2")
    time.sleep(1)
    assert "offline" in [state.status for state in centre.states]
    state = retained_state(mosquitto.url)
    assert (state.status, state.model and state.model.digest) == ("online", second)
    sequences = sorted(event.sequence for event in centre.events.values())
    assert sequences == list(range(1, len(sequences) + 1))


def turn_the_camera(video: Path, to: Path) -> None:
    """Write to ``to`` what the camera of ``video`` shows after a knock."""
    reader = cv2.VideoCapture(str(video))
    writer = cv2.VideoWriter(str(to), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (320, 240))
    while (read := reader.read())[0]:
        writer.write(apply_to_picture(np.asarray(read[1], np.uint8), Fault.MOVED, np.random.default_rng(1)))
    reader.release()
    writer.release()


def test_camera_moved_between_a_kill_and_the_restart_is_found_out(rig: AgentRig, centre: Centre) -> None:
    rig.release("1")
    rig.video = Path(shutil.copy(rig.video, rig.directory / "camera.avi"))
    rig.config.write_text(CONFIG.format(video=rig.video))
    knocked, back = rig.directory / "knocked.avi", rig.directory / "back.avi"
    turn_the_camera(rig.video, knocked)
    shutil.copy(rig.video, back)
    first = start_active(rig, "1")
    wait_for(lambda: "zone_known" in centre.kinds(), "the first zone_known")
    wait_for((rig.data / "views" / "aisle-1.pgm").exists, "the stored reference view")
    first.kill()
    first.wait(10)
    knocked.replace(rig.video)
    second = rig.start("1")
    wait_for(lambda: "zone_unknown" in centre.kinds(), "zones of a moved camera unknown")
    wait_for(lambda: centre.telemetry[-1].cameras[0].status == "moved", "the camera reported as moved")
    second.terminate()
    assert second.wait(10) == 0
    back.replace(rig.video)
    rig.start("1")
    wait_for(lambda: centre.kinds().count("zone_known") == 2, "the zone known again")
    assert centre.kinds() == [
        "status_changed", "zone_known", "status_changed", "zone_unknown", "status_changed", "zone_known",
    ]  # fmt: skip


def damage_truncate(rig: AgentRig, digest: str) -> None:
    path = rig.data / "models" / "sha256" / digest.removeprefix("sha256:")
    path.write_bytes(path.read_bytes()[:-100])


def damage_flip(rig: AgentRig, digest: str) -> None:
    path = rig.data / "models" / "sha256" / digest.removeprefix("sha256:")
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def damage_manifest(rig: AgentRig, digest: str) -> None:
    manifest = rig.directory / "manifest-2.json"
    manifest.write_text(manifest.read_text().replace("tiny", "huge"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [(damage_truncate, "truncated"), (damage_flip, "digest"), (damage_manifest, "signature")],
)
def test_unusable_model_leaves_the_node_to_the_release_before(
    rig: AgentRig, centre: Centre, damage: Callable[[AgentRig, str], None], message: str
) -> None:
    first = rig.release("1")
    damage(rig, rig.release("2", confidence=0.8))
    start_active(rig, "1")
    broken = rig.start("2")
    wait_for(lambda: rig.phase("2") == "failed", "release 2 failed")
    health = rig.health("2")
    assert health is not None
    assert message in health.error
    assert rig.phase("1") == "active"
    assert {beat.model.digest for beat in centre.telemetry} <= {first}
    broken.terminate()
    assert broken.wait(10) == 1


def test_configuration_is_reloaded_and_a_broken_one_only_reported(rig: AgentRig, centre: Centre) -> None:
    rig.release("1")
    start_active(rig, "1")
    wait_for(lambda: "zone_known" in centre.kinds(), "the first zone_known")
    good = rig.config.read_text()
    rig.config.write_text(good.replace("sku: cola-can, capacity", "sku: mystery, capacity"))
    wait_for(lambda: "mystery" in centre.telemetry[-1].config_error, "the reported error")
    assert "line 10" in centre.telemetry[-1].config_error
    before = centre.telemetry[-1]
    rig.config.write_text(good.replace("z1", "z2"))
    wait_for(lambda: centre.telemetry[-1].config_digest != before.config_digest, "the new configuration")
    assert centre.telemetry[-1].config_error == ""
    wait_for(lambda: "z2" in [event.subject for event in centre.events.values()], "an event of the new zone")
    assert centre.telemetry[-1].session_id == before.session_id
    assert centre.kinds().count("status_changed") == 1, "the camera was not touched"


def test_model_that_does_not_know_the_planogram_waits_for_one_it_knows(rig: AgentRig) -> None:
    rig.release("1")
    good = rig.config.read_text()
    rig.config.write_text(good.replace("cola-can", "mystery"))
    rig.start("1")
    wait_for(lambda: rig.phase("1") == "failed", "the refusal")
    health = rig.health("1")
    assert health is not None
    assert "does not know mystery" in health.error
    rig.config.write_text(good)
    wait_for(lambda: rig.phase("1") == "active", "the agent active")


@pytest.fixture
def small_disk(rig: AgentRig) -> Iterator[Path]:
    """Puts the node's data directory on a disk of 2 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(rig.data)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    yield rig.data
    rig.stop_all()
    subprocess.run(["umount", "-l", str(rig.data)], check=True)


def test_full_disk_is_reported_and_its_events_come_afterwards(
    rig: AgentRig, centre: Centre, small_disk: Path
) -> None:
    rig.release("1")
    process = start_active(rig, "1")
    wait_for(lambda: "zone_known" in centre.kinds(), "the first zone_known")
    filler = small_disk / "others-data"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    wal = small_disk / "outbox.db-wal"
    used = wal.stat().st_size
    names = iter(range(2, 20))
    while not centre.telemetry[-1].outbox.full:
        rig.config.write_text(rig.config.read_text().replace("id: z", f"id: y{next(names)}-z"))
        assert process.poll() is None
        time.sleep(1.5)
        assert wal.stat().st_size <= used + 1024 * 1024
    filler.unlink()
    wait_for(lambda: not centre.telemetry[-1].outbox.full, "the end of the fullness")
    last = re.findall("id: (y[^,]*),", rig.config.read_text())[-1]
    wait_for(lambda: last in [event.subject for event in centre.events.values()], f"zone {last} known")
    sequences = sorted(event.sequence for event in centre.events.values())
    assert sequences == list(range(1, len(sequences) + 1))


def test_shadow_order_is_obeyed_reported_and_ends_when_it_is_withdrawn(rig: AgentRig, centre: Centre) -> None:
    """The order is retained before the agent is there; the candidate sees the same with other confidence."""
    rig.with_controller()
    running, candidate = rig.release("1"), rig.release("2", confidence=0.7)
    centre.order(shadow_topic("berlin-01"), rig.shadow_order("2"))
    start_active(rig, "1")

    def frames() -> int:
        told = centre.shadow()
        return told.frames if told else 0

    wait_for(lambda: frames() >= 5, "five frames in the shadow", 60.0)
    told = centre.shadow()
    assert told is not None
    assert (told.model, told.state, told.problem) == (candidate, "running", "")
    assert told.matched == told.frames * 2 > told.only_current + told.only_candidate == 0
    assert told.confidence_delta == pytest.approx(-0.2, abs=0.02)
    assert told.classes["cola-can"].matched > 0
    assert centre.telemetry[-1].model.digest == running
    assert centre.telemetry[-1].cameras[0].status == "online"
    centre.order(shadow_topic("berlin-01"), b"")
    wait_for(lambda: (now := centre.shadow()) is not None and now.state == "ended", "its end")
    assert frames() >= 5
