"""Reading cameras through real worker processes: files, MJPEG over HTTP, and everything that goes wrong."""

import base64
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import psutil
import pytest

from agent.adapters.opencv.source import CameraSource, ReadingLimits
from agent.ports import Frame

PASSWORD = "hush%40:me"
BOUNDARY = b"--picture\r\nContent-Type: image/jpeg\r\n\r\n"


def within(seconds: float, condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.02)


def frame_within(seconds: float, source: CameraSource, after: int = 0) -> Frame:
    end = time.monotonic() + seconds
    while (frame := source.latest(after)) is None:
        assert time.monotonic() < end, f"no frame within {seconds} s: {source.health()}"
        time.sleep(0.02)
    return frame


def says(source: CameraSource, text: str) -> Callable[[], bool]:
    return lambda: text in source.health().error


def has_other_worker(source: CameraSource, pid: int) -> Callable[[], bool]:
    return lambda: source.worker_pid not in (pid, None)


def value_of(frame: Frame) -> int:
    """The number that ``numbered`` painted into a picture: 6 bits as black and white bars."""
    bars = frame.image[frame.image.shape[0] // 2].mean(axis=1).reshape(8, -1).mean(axis=1) > 127
    return int(np.packbits(bars)[0])


def numbered(number: int, width: int = 320, height: int = 240) -> np.ndarray:
    bars = np.unpackbits(np.array([number % 256], np.uint8)) * 235 + 10
    row = np.repeat(bars, width // 8)
    return np.repeat(np.tile(row, (height, 1))[..., None], 3, axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds at 20 frames a second; each picture shows its number."""
    path = tmp_path_factory.mktemp("video") / "shop.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (320, 240))
    for number in range(40):
        writer.write(numbered(number))
    writer.release()
    return path


class Camera(http.server.ThreadingHTTPServer):
    """MJPEG over HTTP behind a password. ``rate`` pictures a second of ``size``; ``silent``: none, though
    the connection stays; ``cut``: connections end. Any other path than ``/live`` is not a video."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), CameraHandler)
        self.rate = 20.0
        self.size = (320, 240)
        self.silent = threading.Event()
        self.cut = threading.Event()
        self.sent = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, path: str = "/live", credentials: str = "viewer:${CAM_PASSWORD}@") -> str:
        return f"http://{credentials}127.0.0.1:{self.server_address[1]}{path}"


class CameraHandler(http.server.BaseHTTPRequestHandler):
    server: Camera

    def do_GET(self) -> None:
        right = base64.b64encode(f"viewer:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {right}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        if self.path != "/live":
            self.send_response(404 if self.path == "/none" else 200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>The camera's settings</html>" * 50)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        self.end_headers()
        camera = self.server
        while not camera.cut.is_set():
            if not camera.silent.is_set():
                camera.sent += 1
                jpeg = cv2.imencode(".jpg", numbered(camera.sent, *camera.size))[1].tobytes()
                try:
                    self.wfile.write(BOUNDARY + jpeg + b"\r\n")
                except OSError:
                    return
            time.sleep(1 / camera.rate)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def camera() -> Iterator[Camera]:
    server = Camera()
    yield server
    server.cut.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def open_camera() -> Iterator[Callable[..., CameraSource]]:
    sources: list[CameraSource] = []

    def open_one(url: str, fps: float = 10.0, **options: object) -> CameraSource:
        environment = {"CAM_PASSWORD": PASSWORD}
        sources.append(CameraSource(url, fps, environment=environment, **options))  # type: ignore[arg-type]
        return sources[-1]

    yield open_one
    pids = [source.worker_pid for source in sources]
    for source in sources:
        source.close()
    assert not any(pid and psutil.pid_exists(pid) for pid in pids)


Open = Callable[..., CameraSource]


def test_a_file_plays_at_its_own_speed_and_ends(video: Path, open_camera: Open) -> None:
    source = open_camera(f"file:{video}", fps=30, loop=False)
    first = frame_within(8, source)
    within(5, lambda: source.ended, "the end")
    last = source.latest(first.number)
    assert last is not None
    assert (last.number, value_of(last)) == (40, 39)
    assert 1.7 < last.captured_at - first.captured_at + (first.number - 1) / 20 < 2.6
    assert not source.health().connected
    assert source.health().error == "the file has ended"


def test_a_file_plays_again_and_only_wanted_frames_are_converted(video: Path, open_camera: Open) -> None:
    source = open_camera(f"file:{video}", fps=5)
    frame_within(8, source)
    time.sleep(3.2)
    health = source.health()
    assert health.connected
    assert health.fps_read == pytest.approx(20, abs=3)
    newest = source.latest(0)
    assert newest is not None
    assert 14 <= newest.number <= 20
    assert not source.ended


def test_a_live_camera_gives_its_newest_picture(camera: Camera, open_camera: Open) -> None:
    source = open_camera(camera.url())
    number = frame_within(8, source).number
    for _ in range(5):
        time.sleep(0.3)  # several pictures come and go meanwhile
        frame = frame_within(1, source, number)
        assert (camera.sent - value_of(frame)) % 256 <= 4
        assert time.time() - frame.captured_at < 0.4
        number = frame.number
    assert source.health().connected
    assert source.health().decode_errors == 0


def test_a_new_picture_size_arrives(camera: Camera, open_camera: Open) -> None:
    source = open_camera(camera.url())
    frame_within(8, source)
    camera.size = (640, 480)
    within(5, lambda: (f := source.latest(0)) and f.image.shape == (480, 640, 3), "the new size")


def test_a_camera_that_falls_silent_is_opened_again(camera: Camera, open_camera: Open) -> None:
    source = open_camera(camera.url(), limits=ReadingLimits(open_s=3, read_s=1.5))
    within(8, lambda: source.health().connected, "the connection")
    number = frame_within(1, source).number
    camera.silent.set()
    within(4, lambda: not source.health().connected, "noticing the silence")
    assert "no frame for" in source.health().error
    camera.silent.clear()
    assert frame_within(5, source, number).number > number


def test_a_camera_that_cuts_the_connection_is_back_soon(camera: Camera, open_camera: Open) -> None:
    source = open_camera(camera.url())
    within(8, lambda: source.health().connected, "the connection")
    camera.cut.set()
    within(3, lambda: not source.health().connected, "noticing the cut")
    time.sleep(2)
    newest = source.latest(0)
    assert newest is not None
    number = newest.number
    camera.cut.clear()
    assert frame_within(5, source, number).number == number + 1


@pytest.mark.parametrize(
    ("path", "credentials", "said"),
    [
        ("/live", "viewer:wrong@", "wrong user name or password"),
        ("/live", "", "wrong user name or password"),
        ("/none", "viewer:${CAM_PASSWORD}@", "no such stream"),
        ("/settings", "viewer:${CAM_PASSWORD}@", "not a video"),
    ],
)
def test_what_a_camera_refuses_is_put_into_words(
    camera: Camera, open_camera: Open, path: str, credentials: str, said: str
) -> None:
    source = open_camera(camera.url(path, credentials))
    within(8, lambda: said in source.health().error, said)
    assert not source.health().connected
    assert source.latest(0) is None


def closed_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
@pytest.mark.parametrize(
    ("host", "said"), [("127.0.0.1", "connection refused"), ("no-such-camera.invalid", "cannot be resolved")]
)
def test_a_camera_that_is_not_there_is_put_into_words(
    open_camera: Open, scheme: str, host: str, said: str
) -> None:
    source = open_camera(f"{scheme}://viewer:${{CAM_PASSWORD}}@{host}:{closed_port()}/stream")
    within(8, lambda: said in source.health().error, said)
    assert "viewer" not in source.health().error


def test_files_that_are_no_video_are_put_into_words(tmp_path: Path, open_camera: Open) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("this is no video")
    bad, missing = open_camera(f"file:{text}"), open_camera(f"file:{tmp_path}/none.mp4")
    within(8, lambda: "not a video" in bad.health().error, "the text file")
    within(8, lambda: "no such file" in missing.health().error, "the missing file")


def test_frames_above_4k_are_refused(tmp_path: Path, open_camera: Open) -> None:
    path = tmp_path / "huge.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (4096, 2304))
    writer.write(np.zeros((2304, 4096, 3), np.uint8))
    writer.release()
    source = open_camera(f"file:{path}")
    within(8, lambda: "4096x2304 are larger than 3840x2160" in source.health().error, "the refusal")


def test_a_camera_that_never_answers_delays_no_other(camera: Camera, open_camera: Open) -> None:
    with closing(socket.create_server(("127.0.0.1", 0), backlog=50)) as mute:
        port = mute.getsockname()[1]
        limits = ReadingLimits(open_s=1.0)
        hung = [open_camera(f"rtsp://127.0.0.1:{port}/{i}", limits=limits) for i in range(2)]
        good = open_camera(camera.url())
        number = frame_within(8, good).number
        ages = []
        end = time.monotonic() + 3
        while time.monotonic() < end:
            frame = frame_within(1, good, number)
            number = frame.number
            ages.append(time.time() - frame.captured_at)
        assert max(ages) < 0.5
        for source in hung:
            within(8, says(source, "does not answer"), "the hung camera's error")
        started = time.monotonic()
        for source in hung:
            source.close()
        assert time.monotonic() - started < 4


def test_a_worker_that_hangs_is_killed_and_one_that_crashes_is_replaced(
    camera: Camera, open_camera: Open
) -> None:
    source = open_camera(camera.url(), limits=ReadingLimits(open_s=3, read_s=1.0))
    number = frame_within(8, source).number
    for fault in (signal.SIGSTOP, signal.SIGKILL, signal.SIGSEGV):
        pid = source.worker_pid
        assert pid
        os.kill(pid, fault)
        within(5, has_other_worker(source, pid), f"another worker after {fault.name}")
        number = frame_within(6, source, number).number
        assert not psutil.pid_exists(pid)


def test_credentials_are_in_no_command_line_environment_or_text(camera: Camera, open_camera: Open) -> None:
    source = open_camera(camera.url())
    frame_within(8, source)
    assert source.worker_pid
    worker = psutil.Process(source.worker_pid)
    seen = json.dumps([worker.cmdline(), worker.environ(), repr(source), source.health().error])
    assert "hush" not in seen
    assert "viewer" not in seen


def test_closing_is_quick_and_leaves_no_process(camera: Camera, open_camera: Open) -> None:
    source = open_camera(camera.url())
    frame_within(8, source)
    pid = source.worker_pid
    started = time.monotonic()
    source.close()
    assert time.monotonic() - started < 2
    assert pid
    assert not psutil.pid_exists(pid)
    assert source.latest(0) is not None  # what was read is still there
    source.close()


PARENT = """
import sys, time
from agent.adapters.opencv.source import CameraSource
source = CameraSource(sys.argv[1], environment={"CAM_PASSWORD": sys.argv[2]})
while source.latest(0) is None:
    time.sleep(0.05)
print(source.worker_pid, flush=True)
time.sleep(60)
"""


def test_no_worker_outlives_a_killed_agent(camera: Camera) -> None:
    assert urlsplit(camera.url()).hostname == "127.0.0.1"
    command = [sys.executable, "-c", PARENT, camera.url(), PASSWORD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    within(3, lambda: not psutil.pid_exists(pid), "the worker's end")
