"""When a frame may become the reference view that tells whether a camera was moved.

A reference taken at a bad moment (a person in front, lights off, lens already turned) would make every
later judgement wrong, so it is taken late rather than early, and renewed only where it changes little.
"""

from agent.domain.camera_condition import ConditionState
from agent.domain.condition_limits import LIMITS, ConditionLimits
from agent.domain.detection import FrameStats


def should_adopt_reference(
    state: ConditionState,
    stats: FrameStats,
    people_share: float,
    adopted_at: float | None,
    now: float,
    limits: ConditionLimits = LIMITS,
) -> bool:
    """Whether the present frame may become the view that later ones are compared with.

    The first time (``adopted_at`` is None, or the reference is lost: ``stats.match`` is None) after a
    few good seconds; later only to follow slow changes of light and goods. ``adopted_at`` is when the
    present reference was taken.
    """
    condition = state.condition
    if condition is None or not state.online or state.verdict is not None:
        return False
    if people_share > limits.reference_people or stats.edge_density < limits.blocked_edges:
        return False
    if now - condition.since < limits.reference_after_s - limits.recover_s:
        return False
    if adopted_at is None or stats.match is None:
        return True
    old_enough = now - adopted_at >= limits.refresh_every_s
    in_place = stats.shift_px is not None and abs(stats.shift_px) <= limits.refresh_px
    return old_enough and in_place and stats.match >= limits.refresh_match
