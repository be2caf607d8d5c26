"""Where a camera's picture stops being fine. One value, so that it can be tuned against measurements."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from contract.names import CameraStatus


def _confirm_times() -> Mapping[CameraStatus, float]:
    return MappingProxyType(
        {
            CameraStatus.OFFLINE: 2.0,
            CameraStatus.STALLED: 0.4,
            CameraStatus.DARK: 1.5,
            CameraStatus.BLOCKED: 2.0,
            CameraStatus.MOVED: 2.0,
        }
    )


@dataclass(frozen=True, slots=True)
class ConditionLimits:
    """Where fine ends. Together they find a fault within 5 s and its end within 5 s."""

    silent_s: float = 2.0
    """No new frame for this long is a stall: real cameras send at least one a second."""
    frozen_s: float = 1.5
    """An unchanged picture for this long is frozen: an encoder may repeat a still picture for a few
    frames, a live sensor's noise gets through sooner than this."""
    frozen_change: float = 0.01
    """Grey levels of mean change up to which a picture is the same one, decoded again."""
    decode_errors: int = 5
    """Complaints in 2 s: one lost packet costs one to three until the next key frame; a corrupted
    stream complains on nearly every frame."""
    dark_luma: float = 16.0
    """Video black is 16 of 255 (ITU-R BT.601); a shop's night lighting stays well above."""
    dark_std: float = 10.0
    """A dark scene with lit spots in it still shows something."""
    blocked_edges: float = 0.012
    """A covered lens shows next to no edges; a shelf has them on several per cent of its pixels."""
    blocked_match: float = 0.3
    """... and does not look like the reference view."""
    moved_px: float = 15.0
    """Shift against the reference view: about a quarter of a narrow facing, so that centres begin to
    fall into the neighbouring zone."""
    lost_match: float = 0.4
    """Below this the view is another one, though there is plenty to see: other views of simulated shops
    match by 0.29 at most, the same one with other goods, people or night lighting by 0.8 or more."""
    people_share: float = 0.3
    """With more of the frame under people, a view that does not match proves nothing."""
    confirm_s: Mapping[CameraStatus, float] = field(default_factory=_confirm_times)
    """How long verdicts must go against the camera. Offline waits longer, since a reconnect often
    succeeds at once; stalls have already waited, darkness may be a light switch."""
    forgive_s: float = 0.6
    """Good frames for this long clear a suspicion; shorter ones are flicker within a fault."""
    switch_s: float = 1.0
    """How long another fault must hold before it replaces the present one."""
    ease: float = 1.4
    """A faulty camera's picture must be better than the limits by this factor: a view that trembles
    around a limit would else be reported again and again."""
    recover_s: float = 1.2
    """Good frames for this long end a fault."""
    recover_frames: int = 3
    """... and at least this many, so that a trickle of frames does not count."""
    reference_after_s: float = 3.0
    """A first reference view is taken after this long without a fault."""
    reference_people: float = 0.05
    """... with at most this share of the frame under people."""
    refresh_every_s: float = 600.0
    """A reference ages with light and goods; it is renewed at most this often ..."""
    refresh_px: float = 1.0
    """... and only while the view is where it was, or a slow slide would go unseen ..."""
    refresh_match: float = 0.6
    """... and is plainly the same one."""


LIMITS = ConditionLimits()
