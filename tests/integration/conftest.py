"""Real parts for integration tests: a Mosquitto with one credential per store."""

import io
import shutil
import socket
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storefleet.demo.processes import free_port

STORES = ("berlin-01", "paris-02")
CENTRE = "centre"


def wait_for(condition: Callable[[], object], timeout: float = 10.0, what: str = "condition") -> None:
    """Poll ``condition()`` until it is true; fails the test after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"{what} not reached within {timeout:.0f} s")
        time.sleep(0.02)


class Mosquitto:
    """A broker on a free local port. Each store may use only its own prefix; ``centre`` sees all.

    The password of user X is ``X-secret``. Stop, kill and start it as often as needed: port,
    credentials and persistent sessions stay.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._log = directory / "mosquitto.log"
        self._config = directory / "mosquitto.conf"
        self._process: subprocess.Popen[bytes] | None = None
        users = (CENTRE, *STORES)
        passwords = directory / "passwords"
        passwords.write_text("".join(f"{user}:{self.password(user)}\n" for user in users))
        subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, capture_output=True)
        acl = directory / "acl"
        rules = [f"user {CENTRE}\ntopic readwrite storefleet/v1/#\n"]
        rules += [f"user {store}\ntopic readwrite storefleet/v1/{store}/#\n" for store in STORES]
        acl.write_text("\n".join(rules))
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\n"
            f"user root\nallow_anonymous false\npassword_file {passwords}\nacl_file {acl}\n"
            f"persistence true\npersistence_location {directory}/\nautosave_interval 1\n"
            "max_queued_messages 100000\nmax_packet_size 262144\n"
        )

    @staticmethod
    def password(user: str) -> str:
        return f"{user}-secret"

    def password_file(self, user: str) -> Path:
        path = self._config.with_name(f"{user}.password")
        path.write_text(self.password(user))
        return path

    @property
    def pid(self) -> int:
        """Of the running broker."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(["mosquitto", "-c", str(self._config)], stdout=log, stderr=log)
        wait_for(self._listens, what="a listening Mosquitto")

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def kill(self) -> None:
        """kill -9: sessions and messages not yet saved are lost."""
        if self._process:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    if shutil.which("mosquitto") is None:
        pytest.fail("mosquitto is not installed: run scripts/setup.sh test")
    directory = tmp_path / "mosquitto"
    directory.mkdir()
    broker = Mosquitto(directory)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def tiny_model() -> Callable[[float], bytes]:
    """Builds an OpenVINO bundle that always sees two cans, with the given confidence, whatever the
    picture: classes ``cola-can`` and ``person``, input 64x64."""
    import numpy as np
    import openvino as ov
    from openvino import opset13 as ops

    def build(confidence: float) -> bytes:
        picture = ops.parameter([1, 3, 64, 64], ov.Type.f32, name="images")
        boxes = np.zeros((1, 300, 6), np.float32)
        boxes[0, 0] = (5, 20, 15, 40, confidence, 0)
        boxes[0, 1] = (20, 20, 30, 40, confidence, 0)
        nothing = ops.multiply(
            ops.reduce_mean(picture, np.array([0, 1, 2, 3]), keep_dims=False), np.float32(0)
        )
        network = ov.Model([ops.add(ops.constant(boxes), nothing)], [picture], "tiny")
        with tempfile.TemporaryDirectory() as folder:
            xml = Path(folder) / "model.xml"
            ov.save_model(network, str(xml), compress_to_fp16=False)
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as bundle:
                bundle.write(xml, "model.xml")
                bundle.write(xml.with_suffix(".bin"), "model.bin")
                bundle.writestr(
                    "metadata.yaml",
                    "task: detect\nimgsz: [64, 64]\nend2end: true\nnames: {0: cola-can, 1: person}\n",
                )
        return buffer.getvalue()

    return build


@pytest.fixture(scope="session")
def still_life(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 8 s, 320x240 at 10 frames a second: a still scene with a camera's noise."""
    import cv2
    import numpy as np

    path = tmp_path_factory.mktemp("video") / "aisle-1.avi"
    rng = np.random.default_rng(7)
    scene = rng.integers(40, 200, (24, 32, 3), np.uint8).repeat(10, axis=0).repeat(10, axis=1)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (320, 240))
    for _ in range(80):
        noise = rng.integers(-8, 9, scene.shape, np.int16)
        writer.write(np.clip(scene.astype(np.int16) + noise, 0, 255).astype(np.uint8))
    writer.release()
    return path
