"""The parts of reading a camera that need no camera: waiting, choosing frames, sharing them."""

import os
import resource
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.opencv import shared_frames
from agent.adapters.opencv.backoff import EARLY_S, LATE_CAP_S, Backoff
from agent.adapters.opencv.shared_frames import FrameReader, FrameWriter
from agent.adapters.opencv.source import CameraSource
from agent.adapters.opencv.worker import Schedule
from agent.errors import CameraError


def failing(backoff: Backoff, seconds: float) -> list[tuple[float, float]]:
    """When it fails (at once, every time) and how long it then waits, for ``seconds``."""
    now, waits = 0.0, []
    while now < seconds:
        wait = backoff.failed(now, now)
        waits.append((now, wait))
        now += wait
    return waits


@pytest.mark.parametrize("luck", [0.0, 0.5, 0.999])
def test_a_young_failure_is_tried_again_soon_and_an_old_one_rarely(luck: float) -> None:
    waits = failing(Backoff(lambda: luck), 3600)
    assert waits[0][1] <= 0.2
    assert max(wait for at, wait in waits if at < EARLY_S) <= 1.5
    assert LATE_CAP_S / 2 <= waits[-1][1] <= LATE_CAP_S
    assert len(waits) < 600


def test_jitter_spreads_cameras_that_failed_together() -> None:
    assert Backoff(lambda: 0.1).failed(0, 0) != Backoff(lambda: 0.9).failed(0, 0)


def test_a_slow_attempt_counts_as_waiting() -> None:
    backoff = Backoff(lambda: 1.0)
    for _ in range(5):
        backoff.failed(0.0, 0.0)
    assert backoff.failed(10.0, 15.0) == pytest.approx(0.05)


def test_success_ends_the_streak() -> None:
    backoff = Backoff(lambda: 1.0)
    failing(backoff, 600)
    assert not backoff.early(600)
    backoff.succeeded()
    assert backoff.early(600)
    assert backoff.failed(700, 700) <= 0.2


@given(
    stream_fps=st.floats(1, 60),
    wanted_fps=st.floats(0.5, 30),
    jitter=st.lists(st.floats(-0.2, 0.2), min_size=50, max_size=50),
)
def test_the_wanted_rate_is_kept_as_far_as_the_stream_gives_it(
    stream_fps: float, wanted_fps: float, jitter: list[float]
) -> None:
    schedule = Schedule(wanted_fps)
    count = max(200, int(10 * stream_fps / wanted_fps))
    times = [1e9 + (i + jitter[i % 50]) / stream_fps for i in range(count)]
    taken = sum(schedule.wants(at, caught_up=True) for at in times)
    possible = min(stream_fps, wanted_fps) * count / stream_fps
    assert possible * 0.75 - 2 <= taken <= possible * 1.35 + 2


def test_queued_old_frames_are_skipped_but_for_signs_of_life() -> None:
    schedule = Schedule(5.0)
    assert schedule.wants(100.0, caught_up=True)
    backlog = [100.0 + i * 0.005 for i in range(1, 165)]
    assert sum(schedule.wants(at, caught_up=False) for at in backlog) == 2
    assert schedule.wants(101.0, caught_up=True)


@pytest.fixture
def fd() -> Iterator[int]:
    descriptor = shared_frames.create()
    yield descriptor
    os.close(descriptor)


def picture(value: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_a_reader_gets_the_newest_frame_once(fd: int) -> None:
    reader, writer = FrameReader(fd), FrameWriter(fd)
    assert reader.latest(0) is None
    for value in range(1, 6):
        writer.publish(picture(value), captured_at=100.0 + value)
    frame = reader.latest(after=2)
    assert frame is not None
    assert (frame.number, frame.captured_at, int(frame.image[0, 0, 0])) == (5, 105.0, 5)
    assert reader.latest(after=5) is None


def test_a_frame_is_the_readers_own(fd: int) -> None:
    reader, writer = FrameReader(fd), FrameWriter(fd)
    writer.publish(picture(1), 1.0)
    first = reader.latest(0)
    for value in range(2, 8):
        writer.publish(picture(value), 2.0)
    assert first is not None
    assert (first.image == 1).all()


def test_a_new_size_arrives_with_its_frame(fd: int) -> None:
    reader, writer = FrameReader(fd), FrameWriter(fd)
    writer.publish(picture(1), 1.0)
    writer.publish(picture(2, width=1280, height=720), 2.0)
    frame = reader.latest(1)
    assert frame is not None
    assert frame.image.shape == (720, 1280, 3)


def test_a_worker_killed_while_writing_leaves_no_torn_frame_and_its_successor_carries_on(fd: int) -> None:
    reader, writer = FrameReader(fd), FrameWriter(fd)
    writer.publish(picture(1), 1.0)
    slot = shared_frames._PAGE + 2 * shared_frames._STRIDE  # the next one to be written
    os.pwrite(fd, (1).to_bytes(8, "little"), slot)  # odd: being written
    os.pwrite(fd, (2).to_bytes(8, "little"), 0)  # and claimed to be the newest
    assert reader.latest(1) is None
    os.pwrite(fd, (1).to_bytes(8, "little"), 0)
    FrameWriter(fd).publish(picture(9), 2.0)
    frame = reader.latest(1)
    assert frame is not None
    assert (frame.number, int(frame.image[0, 0, 0])) == (2, 9)


def test_empty_slots_take_no_memory(fd: int) -> None:
    FrameWriter(fd).publish(picture(1, 1280, 720), 1.0)
    assert os.fstat(fd).st_blocks * 512 < 4 * 1024**2


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        ((3840, 2160), True),
        ((2160, 3840), True),
        ((3841, 2160), False),
        ((7680, 4320), False),
        ((0, 5), False),
    ],
)
def test_frames_above_4k_do_not_fit(size: tuple[int, int], fits: bool) -> None:
    assert shared_frames.fits(*size) is fits


def test_a_camera_for_which_no_descriptor_is_left_is_refused_and_harms_no_other() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (5, hard))
    try:
        with pytest.raises(CameraError, match="open files"):
            CameraSource("rtsp://127.0.0.1:9/x", environment={})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
