"""Simulated RTSP cameras with faults, read by real workers: what becomes of each, and how soon it ends."""

import time
from collections.abc import Callable, Iterator

import pytest

from agent.adapters.opencv.inspect import CvInspector
from agent.adapters.opencv.source import CameraSource
from agent.ports import Frame
from camera_sims.faults import Fault
from camera_sims.options import SimOptions
from camera_sims.runner import SimRun
from camera_sims.scenes import build_shop

STORE, CAMERA = "sim-1", "cam-1"
RECOVERY_S = 5.0


def within(seconds: float, condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.02)


class Watched:
    """A camera, and what was seen of it; looks whenever it is asked."""

    def __init__(self, source: CameraSource) -> None:
        self.source = source
        self.inspector = CvInspector()
        self.frame: Frame | None = None
        self.oldest_s = 0.0

    def look(self) -> Frame | None:
        """A frame that was not seen yet."""
        frame = self.source.latest(self.frame.number if self.frame else 0)
        if frame is not None:
            self.frame = frame
        if self.frame is not None:
            self.oldest_s = max(self.oldest_s, time.time() - self.frame.captured_at)
        return frame

    def healthy(self) -> bool:
        frame = self.look()
        if frame is None or not self.source.health().connected:
            return False
        stats = self.inspector.inspect(frame.image)
        return stats.match is not None and stats.match > 0.5 and (stats.shift_px or 0.0) < 10


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimRun]:
    options = SimOptions(out=tmp_path_factory.mktemp("sim"), stores=1, cameras=2, activity=0)
    with SimRun(options, build_shop) as running:
        yield running


@pytest.fixture(scope="module")
def cameras(run: SimRun) -> Iterator[list[Watched]]:
    watched = [Watched(CameraSource(info.url, 5.0)) for info in run.info.stores[0].cameras]
    for camera in watched:
        within(20, camera.look, "the first picture")
        assert camera.frame
        camera.inspector.adopt_reference(camera.frame.image)
    yield watched
    for camera in watched:
        camera.source.close()


def moved(camera: Watched) -> bool:
    return (frame := camera.look()) is not None and (camera.inspector.inspect(frame.image).match or 0) < 0.12


def covered(camera: Watched) -> bool:
    return (frame := camera.look()) is not None and camera.inspector.inspect(frame.image).edge_density < 0.012


def dark(camera: Watched) -> bool:
    return (frame := camera.look()) is not None and camera.inspector.inspect(frame.image).luma_mean < 16


def frozen(camera: Watched) -> bool:
    return (frame := camera.look()) is not None and camera.inspector.inspect(frame.image).changed == 0.0


def damaged(camera: Watched) -> bool:
    camera.look()
    return camera.source.health().decode_errors >= 5


def of_another_size(camera: Watched) -> bool:
    camera.look()
    return camera.frame is not None and camera.frame.image.shape == (480, 640, 3)


def late(camera: Watched) -> bool:
    camera.look()
    return time.time() - (camera.source.health().last_frame_at or 0) > 2.0


def gone(camera: Watched) -> bool:
    camera.look()
    return not camera.source.health().connected and "refused" in camera.source.health().error


@pytest.mark.parametrize(
    ("fault", "shows"),
    [
        (Fault.BLACK, dark),
        (Fault.BLOCKED, covered),
        (Fault.MOVED, moved),
        (Fault.FREEZE, frozen),
        (Fault.CORRUPT, damaged),
        (Fault.RESOLUTION, of_another_size),
        (Fault.SLOW, late),
        (Fault.HANG, late),
        (Fault.DROP, gone),
    ],
)
def test_a_fault_shows_harms_no_other_camera_and_ends_within_5_s(
    run: SimRun, cameras: list[Watched], fault: Fault, shows: Callable[[Watched], bool]
) -> None:
    faulty, other = cameras
    within(10, faulty.healthy, "a healthy start")
    other.look()
    other.oldest_s = 0.0
    run.set_fault(STORE, CAMERA, fault)
    within(5, lambda: (other.look(), shows(faulty))[1], f"noticing {fault.value}")
    run.set_fault(STORE, CAMERA, Fault.NONE)
    within(RECOVERY_S, lambda: (other.look(), faulty.healthy())[1], f"the end of {fault.value}")
    assert other.oldest_s < 1.5


def test_frames_stay_fresh_and_at_the_wanted_rate(cameras: list[Watched]) -> None:
    camera = cameras[1]
    within(5, camera.look, "a picture")
    camera.oldest_s = 0.0
    assert camera.frame
    first, started = camera.frame.number, time.monotonic()
    while time.monotonic() < started + 4:
        camera.look()
        time.sleep(0.01)
    assert camera.frame.number - first == pytest.approx(20, abs=4)
    assert camera.oldest_s < 0.8
    assert camera.source.health().fps_read == pytest.approx(10, abs=2)
