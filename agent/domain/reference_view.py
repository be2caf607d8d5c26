"""When a frame may become the reference view that tells whether a camera was moved, and how long that
view may serve.

A reference taken at a bad moment (a person in front, lights off, lens already turned) would make every
later judgement wrong, so it is taken late rather than early, and renewed only where it changes little.
It serves the zones that were drawn on it, whatever process looks: a camera that was moved while nobody
looked must not pass for one whose shelves were emptied.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.domain.camera_condition import ConditionState
from agent.domain.condition_limits import LIMITS, ConditionLimits
from agent.domain.detection import FrameStats
from agent.domain.zone_state import outline_of
from contract.store_config import Camera, StoreConfig


@dataclass(frozen=True, slots=True)
class Drawing:
    """The zones of one camera as drawn on its view."""

    frame_size: tuple[int, int]
    """Width and height in pixels."""
    outlines: Mapping[str, int]
    """``zone_state.outline_of`` each zone, by its id."""

    def replaces(self, before: "Drawing") -> bool:
        """Whether these zones were drawn on another view than those of ``before``."""
        return self.frame_size != before.frame_size or drawn_anew(before.outlines, self.outlines)


def drawing_of(config: StoreConfig, camera: Camera) -> Drawing:
    return Drawing(camera.frame_size, {zone.id: outline_of(zone) for zone in config.zones_of(camera.id)})


def drawn_anew(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    """Whether a camera's zones (outlines by zone id) were drawn anew on what it shows now.

    They were when an outline changed, or when none is left of the former ones. Zones that were only added,
    removed or renamed say nothing about the others, which may still wait for a moved camera to come back.
    """
    if any(after[zone] != outline for zone, outline in before.items() if zone in after):
        return True
    return bool(after) and before.keys().isdisjoint(after) and set(before.values()).isdisjoint(after.values())


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
