import random

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from camera_sims.errors import SimulatorError
from camera_sims.faults import (
    LOW_RESOLUTION,
    MOVED_BY,
    Fault,
    FaultBoard,
    FaultChange,
    Image,
    apply_to_picture,
)
from camera_sims.gate import GateMode
from camera_sims.h264_server import damage
from camera_sims.schedule import PlannedFault, Schedule

CAMERA = "sim-1/cam-1"


@pytest.fixture(scope="module")
def shelf() -> Image:
    """A textured picture of a camera's size."""
    coarse = np.random.default_rng(3).integers(0, 255, (36, 64, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (1280, 720), interpolation=cv2.INTER_CUBIC), np.uint8)


def shown(shelf: Image, fault: Fault, seed: int = 0) -> Image:
    return apply_to_picture(shelf, fault, np.random.default_rng(seed))


def test_black_is_dark_with_a_level_of_noise(shelf: Image) -> None:
    picture = shown(shelf, Fault.BLACK)
    assert picture.shape == shelf.shape
    assert 0 < picture.mean() < 3


def test_blocked_is_nearly_uniform_but_neither_black_nor_still(shelf: Image) -> None:
    first, second = shown(shelf, Fault.BLOCKED, 0), shown(shelf, Fault.BLOCKED, 1)
    assert first.shape == shelf.shape
    assert 25 < first.mean() < 110
    assert cv2.GaussianBlur(first, (31, 31), 0).std(axis=(0, 1)).max() < 12
    assert np.abs(first.astype(int) - second).mean() > 1


def test_moved_shifts_the_view_far_beyond_jitter(shelf: Image) -> None:
    grey = [
        cv2.cvtColor(p, cv2.COLOR_BGR2GRAY).astype(np.float32) for p in (shelf, shown(shelf, Fault.MOVED))
    ]
    turn = cv2.getRotationMatrix2D((640, 360), 6.0, 1.0)
    turned = cv2.warpAffine(grey[0], turn, (1280, 720), borderMode=cv2.BORDER_REFLECT_101)
    (dx, dy), _ = cv2.phaseCorrelate(turned, grey[1], cv2.createHanningWindow((1280, 720), cv2.CV_32F))
    assert (dx, dy) == pytest.approx(MOVED_BY, abs=3)


def test_resolution_makes_the_picture_smaller(shelf: Image) -> None:
    assert shown(shelf, Fault.RESOLUTION).shape == (LOW_RESOLUTION[1], LOW_RESOLUTION[0], 3)


@pytest.mark.parametrize(
    "fault", [Fault.NONE, Fault.DROP, Fault.HANG, Fault.FREEZE, Fault.CORRUPT, Fault.SLOW]
)
def test_faults_of_the_stream_leave_the_picture_alone(shelf: Image, fault: Fault) -> None:
    assert shown(shelf, fault) is shelf


@pytest.mark.parametrize("fault", list(Fault))
def test_only_drop_and_hang_touch_connections(fault: Fault) -> None:
    special = {Fault.DROP: GateMode.REFUSE, Fault.HANG: GateMode.HANG}
    assert fault.gate is special.get(fault, GateMode.OPEN)


def test_a_fault_begins_when_asked_and_ends_by_itself() -> None:
    board = FaultBoard((CAMERA,))
    assert board.advance(CAMERA, 0.0) == (Fault.NONE, [])
    board.ask(CAMERA, Fault.BLACK, now=1.0, seconds=10)
    assert board.advance(CAMERA, 1.1) == (Fault.BLACK, [FaultChange(CAMERA, Fault.BLACK, True, 1.1)])
    assert board.advance(CAMERA, 5.0) == (Fault.BLACK, [])
    assert board.advance(CAMERA, 11.05) == (Fault.NONE, [FaultChange(CAMERA, Fault.BLACK, False, 11.0)])
    assert board.advance(CAMERA, 12.0) == (Fault.NONE, [])


def test_a_new_fault_replaces_the_old_one() -> None:
    board = FaultBoard((CAMERA,))
    board.ask(CAMERA, Fault.BLACK, now=0.0)
    board.advance(CAMERA, 0.0)
    board.ask(CAMERA, Fault.DROP, now=1.0)
    assert board.advance(CAMERA, 1.0) == (
        Fault.DROP,
        [FaultChange(CAMERA, Fault.BLACK, False, 1.0), FaultChange(CAMERA, Fault.DROP, True, 1.0)],
    )
    board.ask(CAMERA, Fault.NONE, now=2.0)
    assert board.advance(CAMERA, 2.0) == (Fault.NONE, [FaultChange(CAMERA, Fault.DROP, False, 2.0)])


def test_an_unknown_camera_is_refused() -> None:
    with pytest.raises(KeyError):
        FaultBoard((CAMERA,)).ask("sim-1/cam-9", Fault.BLACK, now=0.0)


asks = st.lists(
    st.tuples(
        st.sampled_from(list(Fault)),
        st.none() | st.floats(0.1, 20),
        st.floats(0.01, 15),
    ),
    max_size=20,
)


@given(asks)
def test_every_fault_that_begins_ends_before_the_next_begins(
    asked: list[tuple[Fault, float | None, float]],
) -> None:
    board = FaultBoard((CAMERA,))
    now, active, last = 0.0, Fault.NONE, 0.0
    for fault, seconds, wait in [*asked, (Fault.NONE, None, 1.0)]:
        board.ask(CAMERA, fault, now, seconds)
        for moment in (now, now + wait):
            current, changes = board.advance(CAMERA, moment)
            for change in changes:
                assert last <= change.at <= moment
                assert (active is Fault.NONE) == change.began
                assert change.began or change.fault is active
                active, last = (change.fault if change.began else Fault.NONE), change.at
            assert current is active
        now += wait
    assert active is Fault.NONE


def test_planned_faults_are_asked_for_in_time() -> None:
    board = FaultBoard((CAMERA,))
    planned = (PlannedFault(CAMERA, Fault.DROP, 20, 5), PlannedFault(CAMERA, Fault.BLACK, 10, 5))
    schedule = Schedule(planned, board)
    seen: list[tuple[Fault, bool, float]] = []
    for elapsed in range(30):
        schedule.advance(elapsed, 100.0 + elapsed)
        _, changes = board.advance(CAMERA, 100.0 + elapsed)
        seen.extend((change.fault, change.began, change.at - 100) for change in changes)
    assert seen == [
        (Fault.BLACK, True, 10),
        (Fault.BLACK, False, 15),
        (Fault.DROP, True, 20),
        (Fault.DROP, False, 25),
    ]


def test_a_planned_fault_is_read() -> None:
    assert PlannedFault.parse("sim-1/cam-1:black:20:10") == PlannedFault(CAMERA, Fault.BLACK, 20, 10)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cam-1:black:1:1",
        "s/c:black:1",
        "s/c:sparks:1:1",
        "s/c:none:1:1",
        "s/c:black:-1:1",
        "s/c:black:1:0",
        "s/c:black:nan:1",
        "s/c:black:1:inf",
    ],
)
def test_a_badly_planned_fault_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SimulatorError, match="sim-1/cam-1:black:20:10"):
        PlannedFault.parse(text)


@given(st.binary(min_size=0, max_size=400))
def test_damage_keeps_length_and_everything_before_the_last_slice(payload: bytes) -> None:
    head = b"\x00\x00\x00\x01\x67parameters\x00\x00\x01\x65"
    whole = head + payload.replace(b"\x00\x00\x01", b"\x00\x00\x02")
    broken = damage(whole, random.Random(1))
    assert len(broken) == len(whole)
    assert broken.startswith(head)
