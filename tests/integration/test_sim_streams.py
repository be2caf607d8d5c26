"""Simulated cameras read by plain clients: RTSP, MJPEG over HTTP, files."""

import http.client
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from camera_sims.errors import SimulatorError
from camera_sims.faults import Fault
from camera_sims.options import SimOptions
from camera_sims.recording import record
from camera_sims.run_info import read_run_info
from camera_sims.runner import SimRun
from camera_sims.scenes import build_shop
from camera_sims.schedule import PlannedFault
from camera_sims.truth_file import read_truth
from contract.store_config import load_store_config

QUICK_OPEN = "rtsp_transport;tcp|fpsprobesize;0"
TIMEOUTS = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 8000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 3000)


@pytest.fixture(autouse=True)
def quick_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", QUICK_OPEN)


@pytest.fixture(scope="module")
def rtsp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimRun]:
    options = SimOptions(
        out=tmp_path_factory.mktemp("rtsp"), stores=2, cameras=1, username="viewer", password="open sesame"
    )
    with SimRun(options, build_shop) as run:
        yield run


def open_stream(url: str) -> cv2.VideoCapture:
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, TIMEOUTS)


def read(capture: cv2.VideoCapture) -> np.ndarray:
    ok, picture = capture.read()
    assert ok
    return np.asarray(picture)


def url_of(run: SimRun, store: int = 0, password: str = "open%20sesame") -> str:
    return run.info.stores[store].cameras[0].url.replace("${CAMERA_PASSWORD}", password)


def test_rtsp_gives_whole_pictures_at_the_frame_rate(rtsp: SimRun) -> None:
    capture = open_stream(url_of(rtsp))
    for _ in range(12):  # what gathered while opening
        assert read(capture).shape == (720, 1280, 3)
    begun = time.monotonic()
    for _ in range(15):
        read(capture)
    rate = 15 / (time.monotonic() - begun)
    capture.release()
    assert 5 < rate < 15, f"{rate:.1f} pictures a second instead of 10"


def test_many_may_watch_one_camera_and_it_rests_when_nobody_does(rtsp: SimRun) -> None:
    first, second = open_stream(url_of(rtsp, 1)), open_stream(url_of(rtsp, 1))
    assert read(first).shape == read(second).shape == (720, 1280, 3)
    state = {one.store: one for one in rtsp.state().cameras}
    assert state["sim-2"].watched
    first.release()
    assert read(second).any()
    second.release()
    end = time.monotonic() + 5
    while rtsp.state().cameras[1].watched:
        assert time.monotonic() < end
        time.sleep(0.05)
    count = rtsp.state().cameras[1].pictures
    time.sleep(0.4)
    assert rtsp.state().cameras[1].pictures == count


@pytest.mark.parametrize("password", ["wrong", ""])
def test_rtsp_refuses_wrong_credentials(rtsp: SimRun, password: str) -> None:
    assert not open_stream(url_of(rtsp, password=password)).isOpened()


def test_stores_show_different_scenes(rtsp: SimRun) -> None:
    captures = [open_stream(url_of(rtsp, store)) for store in (0, 1)]
    first, second = (read(capture).astype(int) for capture in captures)
    for capture in captures:
        capture.release()
    assert np.abs(first - second).mean() > 10


def test_the_password_is_neither_in_the_files_nor_in_the_arguments(rtsp: SimRun) -> None:
    info = rtsp.info
    directory = info.stores[0].config.parent.parent
    written = [path.read_text() for path in directory.rglob("*") if path.is_file()]
    arguments = [Path(f"/proc/{pid}/cmdline").read_text() for pid in info.pids]
    assert not any("sesame" in text for text in [*written, *arguments, repr(rtsp._options)])
    assert "${CAMERA_PASSWORD}" in info.stores[0].config.read_text()


def test_each_store_has_a_valid_configuration(rtsp: SimRun) -> None:
    for store in read_run_info(rtsp.info.stores[0].config.parent.parent).stores:
        config = load_store_config(store.config.read_text())
        assert config.store == store.store
        assert [(one.id, one.url) for one in config.cameras] == [(one.id, one.url) for one in store.cameras]
        assert config.zones


@pytest.fixture(scope="module")
def mjpeg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimRun]:
    options = SimOptions(
        out=tmp_path_factory.mktemp("mjpeg"),
        stores=1,
        cameras=1,
        protocol="mjpeg",
        username="viewer",
        password="open sesame",
        activity=0,
    )
    with SimRun(options, build_shop) as run:
        yield run


def test_mjpeg_is_read_and_shows_faults(mjpeg: SimRun) -> None:
    shelf = _look(mjpeg)
    assert shelf is not None
    assert shelf.shape == (720, 1280, 3)
    for fault in (Fault.BLACK, Fault.CORRUPT, Fault.RESOLUTION, Fault.NONE):
        mjpeg.set_fault("sim-1", "cam-1", fault)
        end = time.monotonic() + 8
        while not _shows(fault, _look(mjpeg), shelf):
            assert time.monotonic() < end, f"{fault} does not show"


def _look(run: SimRun) -> np.ndarray | None:
    """The fourth picture of a new connection, or None where a reader gives up before."""
    capture = open_stream(url_of(run))
    looks = [capture.read() for _ in range(4)]
    capture.release()
    return looks[-1][1] if looks[-1][0] else None


def _shows(fault: Fault, picture: np.ndarray | None, shelf: np.ndarray) -> bool:
    if picture is None:
        return fault is Fault.CORRUPT
    if fault is Fault.RESOLUTION or picture.shape != shelf.shape:
        return fault is Fault.RESOLUTION and picture.shape == (480, 640, 3)
    brightness = float(picture.mean())
    unlike = float(np.abs(picture.astype(int) - shelf).mean())
    return {
        Fault.BLACK: brightness < 6,
        Fault.CORRUPT: brightness >= 6 and unlike > 12,
        Fault.NONE: unlike < 8,
    }[fault]


def test_mjpeg_freezes_to_the_byte(mjpeg: SimRun) -> None:
    mjpeg.set_fault("sim-1", "cam-1", Fault.FREEZE)
    time.sleep(0.4)
    connection, parts = _raw_parts(url_of(mjpeg))
    first, second, third = (next(parts) for _ in range(3))
    connection.close()
    mjpeg.set_fault("sim-1", "cam-1", Fault.NONE)
    assert first.startswith(b"\xff\xd8")
    assert first == second == third


def _raw_parts(url: str) -> tuple[http.client.HTTPConnection, Iterator[bytes]]:
    address = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=5)
    connection.request("GET", address.path, headers={"Authorization": "Basic dmlld2VyOm9wZW4gc2VzYW1l"})
    answer = connection.getresponse()
    assert answer.status == 200

    def parts() -> Iterator[bytes]:
        while True:
            head = [answer.readline() for _ in range(4)]
            length = int(head[2].split(b":")[1])
            yield answer.read(length)
            answer.readline()

    return connection, parts()


@pytest.mark.parametrize("authorization", ["", "Basic dmlld2VyOndyb25n"])
def test_mjpeg_refuses_wrong_credentials(mjpeg: SimRun, authorization: str) -> None:
    address = urlsplit(url_of(mjpeg))
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=5)
    connection.request("GET", address.path, headers={"Authorization": authorization})
    answer = connection.getresponse()
    assert answer.status == 401
    assert answer.getheader("WWW-Authenticate", "").startswith("Basic")
    connection.close()


def test_files_are_recorded_faster_than_real_time_with_planned_faults(tmp_path: Path) -> None:
    planned = (PlannedFault("sim-1/cam-1", Fault.BLACK, 2, 1),)
    options = SimOptions(out=tmp_path, stores=1, cameras=1, protocol="file", faults=planned, activity=2)
    info = record(options, 4, build_shop)
    url = info.stores[0].cameras[0].url
    assert url.startswith("file:///")
    capture = open_stream(urlsplit(url).path)
    pictures = []
    while (found := capture.read())[0]:
        pictures.append(found[1])
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert {one.shape for one in pictures} == {(720, 1280, 3)}
    assert len(pictures) == 40
    assert [one.mean() < 6 for one in pictures] == [False] * 20 + [True] * 10 + [False] * 10
    truth = read_truth(info.stores[0].truth)
    faults = [one for one in truth if one["record"] == "fault"]
    assert [round(one["time"] - info.scene_start, 1) for one in faults] == [2.0, 3.0]
    assert any(one["record"] == "zone" for one in truth)


def test_a_planned_fault_of_an_unknown_camera_is_refused(tmp_path: Path) -> None:
    planned = (PlannedFault("sim-1/cam-9", Fault.BLACK, 2, 1),)
    with (
        pytest.raises(SimulatorError, match="sim-1/cam-9"),
        SimRun(SimOptions(out=tmp_path, stores=1, cameras=1, faults=planned), build_shop),
    ):
        pass
