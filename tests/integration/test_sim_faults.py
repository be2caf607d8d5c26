"""Every fault of a simulated camera as a plain OpenCV reader sees it, over real RTSP, and its end."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import pytest

from camera_sims.faults import Fault
from camera_sims.options import SimOptions
from camera_sims.runner import SimRun
from camera_sims.scenes import build_shop
from camera_sims.truth_file import read_truth

STORE, CAMERA = "sim-1", "cam-1"
QUICK_OPEN = "rtsp_transport;tcp|fpsprobesize;0|fflags;nobuffer"
TIMEOUTS = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 2000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 1500)

HELD_BACK = 3
"""FFmpeg decodes on several threads: so many pictures can still come when none arrive any more."""


@dataclass(frozen=True)
class Look:
    """One picture as it arrived; ``picture`` is None when the reader failed."""

    at: float
    picture: np.ndarray | None


class Reader:
    """Reads a camera and opens it again when it fails, remembering the last looks."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._looks: list[Look] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.wait(0.1):
            capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, TIMEOUTS)
            ok = capture.isOpened()
            while ok and not self._stop.is_set():
                ok, picture = capture.read()
                self._looks.append(Look(time.monotonic(), picture if ok else None))
                del self._looks[:-200]
            capture.release()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def pictures(self, since: float) -> list[np.ndarray]:
        return [look.picture for look in list(self._looks) if look.at >= since and look.picture is not None]

    def failures(self, since: float) -> int:
        return sum(look.picture is None for look in list(self._looks) if look.at >= since)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimRun]:
    options = SimOptions(out=tmp_path_factory.mktemp("sim"), stores=1, cameras=2, activity=0)
    with SimRun(options, build_shop) as running:
        yield running


@pytest.fixture(scope="module")
def reader(run: SimRun) -> Iterator[Reader]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", QUICK_OPEN)
        reading = Reader(run.info.stores[0].cameras[0].url)
        yield reading
        reading.close()


@pytest.fixture(scope="module")
def shelf(reader: Reader) -> np.ndarray:
    """The camera's view without a fault (nobody is in the shop)."""
    return picture_within(reader, 15)


def picture_within(reader: Reader, seconds: float) -> np.ndarray:
    since = time.monotonic()
    while not (found := reader.pictures(since)):
        assert time.monotonic() < since + seconds, f"no picture within {seconds} s"
        time.sleep(0.02)
    return found[-1]


def unlike(first: np.ndarray, second: np.ndarray) -> float:
    """Mean difference of blurred pictures, in grey levels: blind to noise."""
    if first.shape != second.shape:
        return 255.0
    small = [
        cv2.resize(one, (160, 90), interpolation=cv2.INTER_AREA).astype(float) for one in (first, second)
    ]
    return float(np.abs(small[0] - small[1]).mean())


def liveliness(pictures: list[np.ndarray]) -> float:
    """Median difference of successive pictures, sensor noise included; 0 for fewer than two."""
    steps = [float(np.abs(a.astype(int) - b).mean()) for a, b in pairwise(pictures)]
    return float(np.median(steps)) if steps else 0.0


def give(run: SimRun, fault: Fault) -> float:
    """Set the fault; returns a time by which every new picture shows it."""
    run.set_fault(STORE, CAMERA, fault)
    time.sleep(0.6)
    return time.monotonic()


def assert_recovers(run: SimRun, reader: Reader, shelf: np.ndarray, within: float = 1.0) -> None:
    run.set_fault(STORE, CAMERA, Fault.NONE)
    end = time.monotonic() + within
    while not any(unlike(one, shelf) < 6 for one in reader.pictures(end - within)):
        assert time.monotonic() < end, f"not back within {within} s"
        time.sleep(0.02)


@pytest.mark.parametrize("fault", [Fault.BLACK, Fault.BLOCKED, Fault.MOVED, Fault.RESOLUTION])
def test_a_fault_of_the_picture_shows_and_ends(
    run: SimRun, reader: Reader, shelf: np.ndarray, fault: Fault
) -> None:
    give(run, fault)
    time.sleep(1.2)
    last = picture_within(reader, 4)
    match fault:
        case Fault.BLACK:
            assert last.mean() < 6
        case Fault.BLOCKED:
            assert 20 < last.mean() < 110
            assert last.std(axis=(0, 1)).max() < 20
        case Fault.RESOLUTION:
            assert last.shape == (480, 640, 3)
        case _:
            assert unlike(last, shelf) > 12
    # After a new size the reader must open the stream again, which takes it a while.
    assert_recovers(run, reader, shelf, within=4.0 if fault is Fault.RESOLUTION else 1.0)


def test_a_corrupt_stream_gives_rubbish_or_repeats(run: SimRun, reader: Reader, shelf: np.ndarray) -> None:
    healthy = liveliness(reader.pictures(time.monotonic() - 1.0))
    since = give(run, Fault.CORRUPT)
    time.sleep(2.0)
    pictures = reader.pictures(since)
    rubbish = max((unlike(one, shelf) for one in pictures), default=255.0)
    assert rubbish > 12 or liveliness(pictures) < healthy / 2
    assert_recovers(run, reader, shelf)


def test_a_frozen_camera_repeats_one_picture_exactly(run: SimRun, reader: Reader, shelf: np.ndarray) -> None:
    moving = reader.pictures(time.monotonic() - 1.0)
    assert any((one != moving[0]).any() for one in moving)
    since = give(run, Fault.FREEZE)
    time.sleep(1.2)
    pictures = reader.pictures(since)
    assert len(pictures) >= 4
    assert all((one == pictures[0]).all() for one in pictures)
    assert unlike(pictures[0], shelf) < 6
    run.set_fault(STORE, CAMERA, Fault.NONE)
    time.sleep(0.6)
    later = picture_within(reader, 1)
    assert (later != pictures[0]).any()


def test_a_slow_camera_hardly_sends_pictures(run: SimRun, reader: Reader, shelf: np.ndarray) -> None:
    since = give(run, Fault.SLOW)
    time.sleep(3.0)
    assert len(reader.pictures(since)) <= HELD_BACK + 1
    assert_recovers(run, reader, shelf, within=4.0)  # the reader itself may have to open it again


def test_a_dropped_camera_is_cut_and_refuses(run: SimRun, reader: Reader, shelf: np.ndarray) -> None:
    port = _port(run)
    begun = time.monotonic()
    since = give(run, Fault.DROP)
    assert reader.failures(begun) >= 1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    assert len(reader.pictures(since)) <= HELD_BACK
    run.set_fault(STORE, CAMERA, Fault.NONE)
    assert _answers_within(port, 1.0)
    assert unlike(picture_within(reader, 6), shelf) < 6


def test_a_hanging_camera_accepts_and_never_answers(run: SimRun, reader: Reader, shelf: np.ndarray) -> None:
    port = _port(run)
    since = give(run, Fault.HANG)
    assert not _answers_within(port, 1.5)
    assert len(reader.pictures(since)) <= HELD_BACK
    run.set_fault(STORE, CAMERA, Fault.NONE)
    assert _answers_within(port, 1.0)
    assert unlike(picture_within(reader, 6), shelf) < 6


def test_a_fault_ends_by_itself_and_is_in_the_truth(run: SimRun, reader: Reader, shelf: np.ndarray) -> None:
    run.set_fault(STORE, "cam-2", Fault.BLACK, seconds=0.5)
    time.sleep(1.6)
    records = [one for one in read_truth(run.info.stores[0].truth) if one["record"] == "fault"]
    began, ended = (one for one in records if one["camera"] == "cam-2")
    assert (began["began"], ended["began"], began["fault"]) == (True, False, "black")
    assert ended["time"] - began["time"] == pytest.approx(0.5, abs=0.25)
    assert run.state().cameras[1].fault is Fault.NONE


def _port(run: SimRun) -> int:
    return int(run.info.stores[0].cameras[0].url.split(":")[2].split("/")[0])


def _answers_within(port: int, seconds: float) -> bool:
    """Whether the RTSP server answers an OPTIONS request, trying as often as needed."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=left) as connection:
                connection.sendall(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")
                if connection.recv(100).startswith(b"RTSP/1.0 200"):
                    return True
        except OSError:
            time.sleep(0.05)
    return False
