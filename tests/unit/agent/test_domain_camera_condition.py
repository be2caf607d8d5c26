"""The status of a camera, from what its picture shows and how reading goes."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.camera_condition import ConditionState, View, judge_frame, judge_silence
from agent.domain.condition_limits import LIMITS
from agent.domain.detection import FrameStats
from agent.domain.reference_view import should_adopt_reference
from contract.names import CameraStatus

TICK = 0.2
SIZE = (1280, 720)
GOOD = FrameStats(luma_mean=120, luma_std=50, edge_density=0.08, changed=1.5, shift_px=0.3, match=0.9)
DARK = replace(GOOD, luma_mean=4, luma_std=2, edge_density=0.0, shift_px=None, match=0.0)
NIGHT = replace(GOOD, luma_mean=42, luma_std=22, edge_density=0.05, match=0.6)
COVERED = replace(GOOD, luma_mean=60, luma_std=6, edge_density=0.001, shift_px=None, match=0.02)
SHIFTED = replace(GOOD, shift_px=60.0, match=0.5)
ELSEWHERE = replace(GOOD, shift_px=None, match=0.03)
FROZEN = replace(GOOD, changed=0.0)
NO_REFERENCE = replace(GOOD, shift_px=None, match=None)


@dataclass(frozen=True)
class Health:
    connected: bool = True
    last_frame_at: float | None = None
    decode_errors: int = 0
    error: str = ""


@dataclass
class Filmed:
    """Plays frames and silences to the classifier, five a second."""

    state: ConditionState = field(default_factory=ConditionState)
    now: float = 1_000.0
    last_frame_at: float | None = None
    statuses: list[tuple[float, CameraStatus]] = field(default_factory=list)
    evidence: list[bool] = field(default_factory=list)

    def frame(
        self,
        stats: FrameStats = GOOD,
        size: tuple[int, int] = SIZE,
        people: float = 0.0,
        errors: int = 0,
    ) -> None:
        self.now += TICK
        self.last_frame_at = self.now
        view = View(self.now, stats, size, SIZE, people, longest_gap_s=0.5)
        health = Health(True, self.now, errors)
        self.state, is_evidence = judge_frame(self.state, view, health, self.now)
        self.evidence.append(is_evidence)
        self._note()

    def silence(self, connected: bool = True, error: str = "") -> None:
        self.now += TICK
        health = Health(connected, self.last_frame_at, 0, error)
        self.state = judge_silence(self.state, health, self.now)
        self._note()

    def repeat(self, what: Callable[[], None], seconds: float) -> "Filmed":
        for _ in range(round(seconds / TICK)):
            what()
        return self

    def _note(self) -> None:
        condition = self.state.condition
        if condition and (not self.statuses or self.statuses[-1][1] is not condition.status):
            self.statuses.append((self.now, condition.status))
            assert bool(condition.reason) == (condition.status is not CameraStatus.ONLINE)

    @property
    def status(self) -> CameraStatus | None:
        return self.state.condition.status if self.state.condition else None

    @property
    def reason(self) -> str:
        return self.state.condition.reason if self.state.condition else ""


def healthy(seconds: float = 10) -> Filmed:
    film = Filmed()
    film.repeat(film.frame, seconds)
    assert film.status is CameraStatus.ONLINE
    return film


def every_four_seconds(film: Filmed) -> None:
    film.repeat(film.silence, 3.8)
    film.frame()


FAULTS: list[object] = [
    pytest.param(lambda f: f.frame(DARK), CameraStatus.DARK, "brightness 4 of 255", id="black"),
    pytest.param(lambda f: f.frame(COVERED), CameraStatus.BLOCKED, "edges on 0.1%", id="lens covered"),
    pytest.param(
        lambda f: f.frame(replace(COVERED, match=None)),
        CameraStatus.BLOCKED,
        "edges",
        id="covered, no reference",
    ),
    pytest.param(lambda f: f.frame(SHIFTED), CameraStatus.MOVED, "60 px", id="pushed aside"),
    pytest.param(lambda f: f.frame(ELSEWHERE), CameraStatus.MOVED, "by 3% only", id="turned away"),
    pytest.param(
        lambda f: f.frame(size=(640, 480)),
        CameraStatus.MOVED,
        "frames are 640x480, the zones were drawn on 1280x720",
        id="another resolution",
    ),
    pytest.param(lambda f: f.frame(FROZEN), CameraStatus.STALLED, "frozen picture", id="frozen"),
    pytest.param(
        lambda f: f.frame(errors=14), CameraStatus.STALLED, "14 decode errors", id="corrupted stream"
    ),
    pytest.param(lambda f: f.silence(), CameraStatus.STALLED, "no new picture for 2", id="no frames"),
    pytest.param(every_four_seconds, CameraStatus.STALLED, "no new picture", id="one frame in four seconds"),
    pytest.param(
        lambda f: f.silence(False, "connection refused"),
        CameraStatus.OFFLINE,
        "refused",
        id="connection lost",
    ),
]


@pytest.mark.parametrize(("fault", "status", "reason"), FAULTS)
def test_fault_is_found_within_five_seconds_and_so_is_its_end(
    fault: Callable[[Filmed], None], status: CameraStatus, reason: str
) -> None:
    film = healthy()
    began = film.now
    while film.now < began + 30:
        fault(film)
    ended = film.now
    film.repeat(film.frame, 6)
    assert [s for _, s in film.statuses] == [CameraStatus.ONLINE, status, CameraStatus.ONLINE]
    assert film.statuses[1][0] - began < 4
    assert film.statuses[2][0] - ended < 4


@pytest.mark.parametrize(("fault", "status", "reason"), FAULTS)
def test_the_reason_says_what_an_operator_should_look_for(
    fault: Callable[[Filmed], None], status: CameraStatus, reason: str
) -> None:
    film = healthy()
    film.repeat(lambda: fault(film), 4)
    assert film.status is status
    assert reason in film.reason


@pytest.mark.parametrize("stats", [DARK, COVERED, SHIFTED, ELSEWHERE, FROZEN], ids=lambda s: f"{s.luma_mean}")
def test_no_frame_of_a_fault_is_evidence_not_even_before_it_is_confirmed(stats: FrameStats) -> None:
    film = healthy()
    film.evidence.clear()
    film.repeat(lambda: film.frame(stats), 10)
    assert not any(film.evidence)


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(lambda f, _: f.frame(NIGHT), id="night"),
        pytest.param(lambda f, i: f.frame(NIGHT if i % 100 < 50 else GOOD), id="lights on and off"),
        pytest.param(lambda f, i: f.frame(DARK if i % 25 == 0 else GOOD), id="a black frame now and then"),
        pytest.param(lambda f, i: f.frame(FROZEN if i % 8 else GOOD), id="an encoder that repeats frames"),
        pytest.param(lambda f, i: f.frame(SHIFTED if i % 12 < 3 else GOOD), id="a shake"),
        pytest.param(
            lambda f, _: f.frame(replace(ELSEWHERE, match=0.05), people=0.5), id="a person in front"
        ),
        pytest.param(
            lambda f, i: f.frame(COVERED, people=0.9) if i % 20 < 8 else f.frame(),
            id="people passing right in front of the lens",
        ),
        pytest.param(lambda f, _: f.frame(errors=2), id="a lost packet now and then"),
        pytest.param(lambda f, i: f.frame() if i % 6 == 0 else f.silence(), id="one frame in 1.2 s"),
        pytest.param(lambda f, _: f.frame(NO_REFERENCE), id="no reference yet"),
    ],
)
def test_harmless_trouble_leaves_the_camera_online(trouble: Callable[[Filmed, int], None]) -> None:
    film = healthy()
    for i in range(500):
        trouble(film, i)
    assert [s for _, s in film.statuses] == [CameraStatus.ONLINE]


def test_noise_around_a_limit_does_not_make_the_status_flap() -> None:
    rng = random.Random(3)
    film = healthy()
    for _ in range(3000):
        film.frame(replace(GOOD, shift_px=rng.gauss(LIMITS.moved_px, 4)))
    assert len(film.statuses) <= 2


def test_a_short_reconnect_is_not_offline() -> None:
    film = healthy()
    film.repeat(lambda: film.silence(False), 1.4)
    film.repeat(film.frame, 5)
    assert [s for _, s in film.statuses] == [CameraStatus.ONLINE]


def test_a_camera_that_never_came_is_offline_with_the_newest_reason() -> None:
    film = Filmed()
    film.repeat(lambda: film.silence(False), 4)
    assert (film.status, film.reason) == (CameraStatus.OFFLINE, "not connected")
    film.repeat(lambda: film.silence(False, "401 Unauthorized: check the password"), 2)
    assert film.reason.startswith("401")


def test_a_camera_that_accepts_and_never_answers_is_stalled() -> None:
    film = Filmed()
    film.repeat(film.silence, 4)
    assert (film.status, film.reason) == (CameraStatus.STALLED, "connected, but no picture has come yet")


def test_people_in_front_of_a_moved_camera_do_not_move_it_back() -> None:
    film = healthy()
    film.repeat(lambda: film.frame(ELSEWHERE), 5)
    film.repeat(lambda: film.frame(ELSEWHERE, people=0.5), 10)
    film.repeat(lambda: film.frame(ELSEWHERE), 5)
    assert [s for _, s in film.statuses] == [CameraStatus.ONLINE, CameraStatus.MOVED]


def test_one_fault_replaces_another_only_when_it_holds() -> None:
    film = healthy()
    film.repeat(lambda: film.frame(DARK), 5)
    film.repeat(lambda: film.frame(SHIFTED), 0.6)
    film.repeat(lambda: film.frame(DARK), 5)
    film.repeat(lambda: film.silence(False), 5)
    assert [s for _, s in film.statuses] == [CameraStatus.ONLINE, CameraStatus.DARK, CameraStatus.OFFLINE]


def test_a_clock_set_back_does_not_hold_a_fault_up() -> None:
    film = healthy()
    film.repeat(lambda: film.frame(DARK), 1)
    film.now -= 3600
    film.repeat(lambda: film.frame(DARK), 3)
    assert film.reason.startswith("brightness")
    film.now -= 3600
    film.repeat(film.frame, 3)
    assert film.status is CameraStatus.ONLINE


def test_moved_and_then_without_reference_is_still_moved() -> None:
    """A restart must not turn the wrong view into the right one."""
    film = healthy()
    film.repeat(lambda: film.frame(SHIFTED), 5)
    film.state = ConditionState(film.state.condition, view_moved=film.state.view_moved)
    film.repeat(lambda: film.frame(NO_REFERENCE), 10)
    film.repeat(film.frame, 3)
    film.repeat(lambda: film.frame(NO_REFERENCE), 10)
    assert [s for _, s in film.statuses] == [CameraStatus.ONLINE, CameraStatus.MOVED, CameraStatus.ONLINE]
    assert film.statuses[2][0] > film.now - 13, "back only when seen back"


stats_values = st.sampled_from([GOOD, DARK, COVERED, SHIFTED, ELSEWHERE, FROZEN, NIGHT, NO_REFERENCE])
steps = st.one_of(
    st.tuples(st.just("frame"), stats_values, st.integers(0, 20)),
    st.tuples(st.just("silence"), st.booleans(), st.integers(0, 40)),
    st.tuples(st.just("jump"), st.floats(-1e4, 1e4), st.just(1)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=25))
def test_whatever_happened_good_frames_bring_it_online(history: list[tuple[str, object, int]]) -> None:
    film = Filmed()
    for what, value, times in history:
        for _ in range(times):
            if isinstance(value, FrameStats):
                film.frame(value)
            elif isinstance(value, bool):
                film.silence(value)
            elif isinstance(value, float):
                film.now += value
        assert what in {"frame", "silence", "jump"}
    film.repeat(film.frame, 4)
    assert film.status is CameraStatus.ONLINE
    assert film.reason == ""
    assert film.evidence[-1]


@pytest.mark.parametrize(
    ("stats", "people", "adopted_s_ago", "expected"),
    [
        pytest.param(NO_REFERENCE, 0.0, None, True, id="the first one"),
        pytest.param(GOOD, 0.0, None, True, id="an older one that is not ours"),
        pytest.param(NO_REFERENCE, 0.0, 5.0, True, id="a lost one"),
        pytest.param(NO_REFERENCE, 0.2, None, False, id="not with a person in front"),
        pytest.param(replace(NO_REFERENCE, edge_density=0.005), 0.0, None, False, id="not of nothing"),
        pytest.param(GOOD, 0.0, 60.0, False, id="not renewed at once"),
        pytest.param(GOOD, 0.0, 700.0, True, id="renewed after a while"),
        pytest.param(replace(GOOD, shift_px=2.0), 0.0, 700.0, False, id="never renewed when it has slid"),
        pytest.param(replace(GOOD, match=0.2), 0.0, 700.0, False, id="never renewed when it looks different"),
    ],
)
def test_reference(stats: FrameStats, people: float, adopted_s_ago: float | None, expected: bool) -> None:
    film = healthy()
    adopted_at = None if adopted_s_ago is None else film.now - adopted_s_ago
    assert should_adopt_reference(film.state, stats, people, adopted_at, film.now) is expected


def test_no_reference_is_taken_from_a_camera_that_is_not_well_or_not_yet() -> None:
    film = Filmed()
    film.repeat(film.frame, 2)
    assert not should_adopt_reference(film.state, NO_REFERENCE, 0.0, None, film.now)
    film.repeat(film.frame, 3)
    assert should_adopt_reference(film.state, NO_REFERENCE, 0.0, None, film.now)
    film.frame(DARK)
    assert not should_adopt_reference(film.state, NO_REFERENCE, 0.0, None, film.now)
