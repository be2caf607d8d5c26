import numpy as np
import pytest

from camera_sims.faults import Fault, FaultBoard, FaultChange, Image
from camera_sims.feed import StoreFeed

KEY = "sim-1/cam-1"


class Numbered:
    """A scene whose pictures show their time, in tenths of a second, as their grey level."""

    def __init__(self) -> None:
        self.made = 0

    def frame(self, camera: str, at: float) -> Image:
        self.made += 1
        return np.full((48, 64, 3), round(at * 10), np.uint8)


class Recorder:
    """A streamer that remembers what it was given: grey level, ``fresh``, ``damage``; or a repetition."""

    def __init__(self) -> None:
        self.watchers = 1
        self.sent: list[tuple[int, bool, bool] | str] = []

    def audience(self, camera: str) -> int:
        return self.watchers

    def send(self, camera: str, image: Image, *, fresh: bool = False, damage: bool = False) -> None:
        self.sent.append((int(image[0, 0, 0]), fresh, damage))

    def repeat(self, camera: str) -> None:
        self.sent.append("repeat")

    def close(self) -> None:
        pass


class Rig:
    def __init__(self) -> None:
        self.scene, self.streamer, self.board = Numbered(), Recorder(), FaultBoard((KEY,))
        self.changes: list[tuple[str, FaultChange, float]] = []
        self.feed = StoreFeed(
            "sim-1",
            ("cam-1",),
            self.scene,
            self.streamer,
            self.board,
            {},
            lambda camera, change, at: self.changes.append((camera, change, at)),
        )
        self.now = 0.0

    def tick(self, times: int = 1) -> list[tuple[int, bool, bool] | str]:
        """Tick every tenth of a second; returns what was streamed by it."""
        self.streamer.sent.clear()
        for _ in range(times):
            self.feed.tick(self.now, self.now)
            self.now = round(self.now + 0.1, 3)
        return list(self.streamer.sent)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_only_the_first_picture_of_an_audience_must_stand_alone(rig: Rig) -> None:
    assert rig.tick(2) == [(0, True, False), (1, False, False)]
    rig.streamer.watchers = 2
    assert rig.tick(2) == [(2, True, False), (3, False, False)]


def test_nothing_is_drawn_while_nobody_watches_and_time_goes_on(rig: Rig) -> None:
    rig.streamer.watchers = 0
    assert rig.tick(5) == []
    assert rig.scene.made == 0
    rig.streamer.watchers = 1
    assert rig.tick() == [(5, True, False)]
    assert rig.feed.pictures() == {KEY: 1}
    assert rig.feed.watched() == [KEY]


def test_a_frozen_camera_repeats_its_first_picture_even_to_a_new_audience(rig: Rig) -> None:
    rig.tick(3)
    rig.board.ask(KEY, Fault.FREEZE, rig.now)
    assert rig.tick(3) == [(3, True, False), "repeat", "repeat"]
    rig.streamer.watchers = 2
    assert rig.tick(2) == [(3, True, False), "repeat"]
    rig.board.ask(KEY, Fault.NONE, rig.now)
    assert rig.tick() == [(8, True, False)]


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.HANG])
def test_an_unreachable_camera_streams_nothing_and_starts_afresh(rig: Rig, fault: Fault) -> None:
    rig.tick()
    rig.board.ask(KEY, fault, rig.now)
    assert rig.tick(3) == []
    rig.board.ask(KEY, Fault.NONE, rig.now)
    assert rig.tick(2) == [(4, True, False), (5, False, False)]


def test_a_slow_camera_streams_every_four_seconds(rig: Rig) -> None:
    rig.tick()
    rig.board.ask(KEY, Fault.SLOW, rig.now)
    assert [one[0] for one in rig.tick(90) if one != "repeat"] == [40, 80]


def test_a_corrupt_stream_is_damaged_while_it_lasts(rig: Rig) -> None:
    rig.board.ask(KEY, Fault.CORRUPT, rig.now, seconds=0.2)
    assert rig.tick(4) == [(0, True, True), (1, False, True), (2, True, False), (3, False, False)]


def test_changes_are_told_with_the_scene_time(rig: Rig) -> None:
    rig.board.ask(KEY, Fault.BLACK, rig.now, seconds=0.2)
    rig.tick(4)
    assert [(camera, change.fault, change.began, at) for camera, change, at in rig.changes] == [
        ("cam-1", Fault.BLACK, True, 0.0),
        ("cam-1", Fault.BLACK, False, 0.2),
    ]
