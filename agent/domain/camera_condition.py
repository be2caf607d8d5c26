"""Is this camera's picture evidence? Judged from how reading goes and from what the picture shows.

Each frame (or spell of silence) yields a verdict: fine, or a fault with its reason. A fault becomes
the camera's status once verdicts have gone against it for the fault's ``confirm`` time; it ends after
``recover_s`` of good frames. A frame with a verdict against it is *never* evidence, confirmed or not:
that is what keeps a lens going dark from emptying the shelves before the status has caught up.

People are no fault: where they cover much of the view, a picture that does not match its reference
proves nothing, neither that the camera was moved nor, if it was, that it is back.
"""

from dataclasses import dataclass, replace
from typing import Protocol

from agent.domain.condition_limits import LIMITS, ConditionLimits
from agent.domain.detection import FrameStats
from contract.names import CameraStatus


class Reading(Protocol):
    """How reading goes; ``agent.ports.SourceHealth`` is one."""

    @property
    def connected(self) -> bool: ...
    @property
    def last_frame_at(self) -> float | None: ...
    @property
    def decode_errors(self) -> int: ...
    @property
    def error(self) -> str: ...


@dataclass(frozen=True, slots=True)
class CameraCondition:
    status: CameraStatus
    reason: str
    """For an operator; empty only when online."""
    since: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """A fault as one frame or one look at the reading shows it."""

    status: CameraStatus
    reason: str


@dataclass(frozen=True, slots=True)
class ConditionState:
    """``condition`` is None until the first status is certain."""

    condition: CameraCondition | None = None
    verdict: Verdict | None = None
    """The latest one; None is fine."""
    against_since: float | None = None
    """Verdicts have gone against the camera since then, but for flicker."""
    same_since: float | None = None
    """... all with the status of ``verdict``."""
    good_since: float | None = None
    good_frames: int = 0
    frozen_since: float | None = None
    last_frame: float | None = None
    view_moved: bool = False
    """The view left its reference and has not been seen back."""

    @property
    def online(self) -> bool:
        return self.condition is not None and self.condition.status is CameraStatus.ONLINE

    @property
    def moved(self) -> bool:
        """The latest verdict and the status agree on it."""
        return (
            self.condition is not None
            and self.condition.status is CameraStatus.MOVED
            and self.verdict is not None
            and self.verdict.status is CameraStatus.MOVED
        )


@dataclass(frozen=True, slots=True)
class View:
    """One frame as far as the condition is concerned. Sizes are (width, height) in pixels."""

    at: float
    stats: FrameStats
    size: tuple[int, int]
    expected_size: tuple[int, int]
    people_share: float
    """Share of the frame under people, 0 to 1."""
    longest_gap_s: float = 0.0
    """Frames that come further apart than this (and ``silent_s``) come too slowly."""


def judge_frame(
    state: ConditionState,
    view: View,
    reading: Reading,
    now: float,
    limits: ConditionLimits = LIMITS,
) -> tuple[ConditionState, bool]:
    """The state after a new frame, and whether the frame is evidence of what is in front of it."""
    same_picture = view.stats.changed <= limits.frozen_change and state.last_frame is not None
    gap = 0.0 if state.last_frame is None else view.at - state.last_frame
    frozen_since = None
    if same_picture:
        began = state.last_frame if state.frozen_since is None else state.frozen_since
        frozen_since = view.at if began is None else min(began, view.at)
    state = replace(state, frozen_since=frozen_since, last_frame=view.at)
    verdict = _frame_verdict(state, view, reading, gap, limits)
    if verdict is not None and _in_the_way(view, verdict, limits):
        return replace(state, against_since=None, same_since=None, good_since=None, good_frames=0), False
    state = _advance(state, verdict, now, limits, frame=True)
    if state.moved and view.size == view.expected_size:
        state = replace(state, view_moved=True)
    return state, verdict is None and not same_picture and state.online


def _in_the_way(view: View, verdict: Verdict, limits: ConditionLimits) -> bool:
    """With so many people in it, a view that looks like another one proves nothing either way."""
    looks_moved = verdict.status is CameraStatus.MOVED and view.size == view.expected_size
    return looks_moved and view.people_share > limits.people_share


def judge_silence(
    state: ConditionState,
    reading: Reading,
    now: float,
    longest_gap_s: float = 0.0,
    limits: ConditionLimits = LIMITS,
) -> ConditionState:
    """The state while no new frame has come. Silence alone never makes anything better."""
    verdict = _silence_verdict(reading, now, max(limits.silent_s, longest_gap_s))
    return state if verdict is None else _advance(state, verdict, now, limits, frame=False)


def _silence_verdict(reading: Reading, now: float, patience_s: float) -> Verdict | None:
    if not reading.connected:
        return Verdict(CameraStatus.OFFLINE, reading.error or "not connected")
    if reading.last_frame_at is None:
        return Verdict(CameraStatus.STALLED, "connected, but no picture has come yet")
    age = now - reading.last_frame_at
    if age > patience_s:
        return Verdict(CameraStatus.STALLED, f"no new picture for {age:.1f} s")
    return None


def _frame_verdict(
    state: ConditionState,
    view: View,
    reading: Reading,
    gap: float,
    limits: ConditionLimits,
) -> Verdict | None:
    stats = view.stats
    if view.size != view.expected_size:
        have, want = (f"{width}x{height}" for width, height in (view.size, view.expected_size))
        return Verdict(CameraStatus.MOVED, f"frames are {have}, the zones were drawn on {want}")
    if gap > max(limits.silent_s, view.longest_gap_s):
        return Verdict(CameraStatus.STALLED, f"pictures come {gap:.1f} s apart")
    if reading.decode_errors >= limits.decode_errors:
        return Verdict(
            CameraStatus.STALLED,
            f"corrupted stream: {reading.decode_errors} decode errors in 2 s",
        )
    ease = limits.ease if state.condition is not None and not state.online else 1.0
    if stats.luma_mean < limits.dark_luma * ease and stats.luma_std < limits.dark_std * ease:
        return Verdict(CameraStatus.DARK, f"brightness {stats.luma_mean:.0f} of 255")
    if state.frozen_since is not None and view.at - state.frozen_since >= limits.frozen_s:
        return Verdict(
            CameraStatus.STALLED,
            f"frozen picture for {view.at - state.frozen_since:.1f} s",
        )
    if (
        stats.edge_density < limits.blocked_edges * ease
        and (stats.match or 0.0) < limits.blocked_match * ease
    ):
        return Verdict(CameraStatus.BLOCKED, f"edges on {stats.edge_density:.1%} of the picture")
    if stats.match is None and state.view_moved:
        return Verdict(
            CameraStatus.MOVED,
            "moved, and its reference view is lost: draw its zones anew",
        )
    if stats.match is not None and stats.match < limits.lost_match * ease:
        return Verdict(
            CameraStatus.MOVED,
            f"the view matches its reference by {stats.match:.0%} only",
        )
    if stats.shift_px is not None and abs(stats.shift_px) > limits.moved_px / ease:
        return Verdict(
            CameraStatus.MOVED,
            f"the view is {abs(stats.shift_px):.0f} px from its reference",
        )
    return None


def _advance(
    state: ConditionState,
    verdict: Verdict | None,
    now: float,
    limits: ConditionLimits,
    *,
    frame: bool,
) -> ConditionState:
    against, same, good = (_past(t, now) for t in (state.against_since, state.same_since, state.good_since))
    if verdict is None:
        good = now if good is None else good
        frames = state.good_frames + frame
        if now - good >= limits.forgive_s:
            against = None
        recovered = now - good >= limits.recover_s and frames >= limits.recover_frames
        condition = state.condition
        if recovered and not state.online:
            condition = CameraCondition(CameraStatus.ONLINE, "", now)
        return replace(
            state,
            condition=condition,
            view_moved=state.view_moved and not recovered,
            verdict=None,
            against_since=against,
            same_since=None,
            good_since=good,
            good_frames=min(frames, limits.recover_frames),
        )
    against = now if against is None else against
    if same is None or state.verdict is None or state.verdict.status is not verdict.status:
        same = now
    return replace(
        state,
        condition=_fault(state.condition, verdict, now - against, now - same, now, limits),
        verdict=verdict,
        against_since=against,
        same_since=same,
        good_since=None,
        good_frames=0,
    )


def _fault(
    old: CameraCondition | None,
    verdict: Verdict,
    against_s: float,
    same_s: float,
    now: float,
    limits: ConditionLimits,
) -> CameraCondition | None:
    """The condition with ``verdict`` against the camera. Being offline keeps its newest reason: the
    first is often only "not connected", the one that helps comes later."""
    if old is None or old.status is CameraStatus.ONLINE:
        confirmed = against_s >= limits.confirm_s[verdict.status]
        return CameraCondition(verdict.status, verdict.reason, now) if confirmed else old
    if old.status is not verdict.status and same_s >= limits.switch_s:
        return CameraCondition(verdict.status, verdict.reason, now)
    if old.status is verdict.status is CameraStatus.OFFLINE and same_s >= limits.switch_s:
        return replace(old, reason=verdict.reason)
    return old


def _past(time: float | None, now: float) -> float | None:
    """``time``, or ``now`` if the clock was set back to before it."""
    return time if time is None else min(time, now)
