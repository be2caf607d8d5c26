"""All that an agent believes about its store: the condition of each camera, the stock of each zone.

The pipeline owns one ``StoreView`` value and replaces it with what these functions return; nothing
here remembers anything by itself. Times are seconds since the epoch: ``at`` is a frame's capture time,
``now`` the agent's clock.

    view = load(outbox.status().state, config)           # agent.domain.view_codec; or start(config)
    while True:
        frame = source.latest(after=number)
        if frame is None:
            view, facts, status = on_silence(config, view, camera, source.health(), now)
        else:
            detections, stats = detector.detect(frame.image), inspector.inspect(frame.image)
            view, facts, status = on_frame(config, view, camera, frame.captured_at, detections, stats,
                                           (width, height), source.health(), now)
            if wants_reference(config, view, camera, detections, stats, (width, height), now):
                inspector.adopt_reference(frame.image)
                view = reference_adopted(view, camera, now)
        for fact in facts:                               # EventDraft(id, fact.kind, camera, fact.zone, ...)
            view = remember(view, camera, fact, draft.id)  # so that an alert can be retracted later
        if facts:
            outbox.append(drafts, dump(view))
    view = fit(config, view)                             # after the configuration changed

``status`` is the camera's ``CameraCondition`` when it changed (publish it, retained), else None; the
``CameraStatusChanged`` fact, if the status itself changed, is the first of ``facts``. Call
``on_silence`` about twice a second for every camera without a new frame. A camera that is not in
``config`` changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from uuid import UUID

from agent.domain import alerts, shelf, zones
from agent.domain.camera_condition import (
    CameraCondition,
    ConditionState,
    Reading,
    View,
    judge_frame,
    judge_silence,
)
from agent.domain.condition_limits import LIMITS, ConditionLimits
from agent.domain.detection import PERSON, Detection, FrameStats
from agent.domain.facts import Fact
from agent.domain.geometry import frame_share
from agent.domain.reference_view import drawn_anew, should_adopt_reference
from agent.domain.zone_state import ZoneRule, ZoneState, new_state, outline_of
from contract.events import CameraStatusChanged, CameraStatusData
from contract.names import UnknownReason
from contract.store_config import Camera, StoreConfig, Zone

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, slots=True)
class CameraView:
    zones: Mapping[str, ZoneState]
    """By zone id; exactly the camera's zones of the configuration that the view fits."""
    condition: ConditionState = field(default_factory=ConditionState)
    fresh_at: float | None = None
    """When (by the agent's clock) a frame last was no older than ``stale_s`` as it came out of the
    detector."""
    reference_at: float | None = None
    """When the reference view was adopted. While None, what the picture says about an older reference
    is ignored."""


@dataclass(frozen=True, slots=True)
class StoreView:
    cameras: Mapping[str, CameraView]


class Outcome(NamedTuple):
    view: StoreView
    facts: tuple[Fact, ...] = ()
    status: CameraCondition | None = None


def start(config: StoreConfig) -> StoreView:
    """Nothing is known yet."""
    return fit(config, StoreView({}))


def fit(config: StoreConfig, view: StoreView) -> StoreView:
    """``view`` for a new ``config``: cameras and zones that are gone are forgotten; new ones, and zones
    whose SKU, camera or outline changed, start as unknown.

    Zones drawn anew were drawn on what the camera shows now: its reference view is to be adopted anew.
    """
    cameras: dict[str, CameraView] = {}
    by_camera: dict[str, list[Zone]] = {camera.id: [] for camera in config.cameras}
    for zone in config.zones:
        by_camera[zone.camera].append(zone)
    for name, drawn in by_camera.items():
        old = view.cameras.get(name, CameraView({}))
        states: dict[str, ZoneState] = {}
        for zone in drawn:
            fresh = new_state(zone)
            state = old.zones.get(zone.id, fresh)
            same = (state.sku, state.outline) == (fresh.sku, fresh.outline)
            states[zone.id] = state if same else fresh
        camera = replace(old, zones=states)
        before = {name: state.outline for name, state in old.zones.items()}
        if drawn_anew(before, {zone.id: outline_of(zone) for zone in drawn}):
            camera = replace(
                camera,
                reference_at=None,
                condition=replace(camera.condition, view_moved=False),
            )
        cameras[name] = camera
    return StoreView(cameras)


def begin_anew(config: StoreConfig, view: StoreView, camera: str) -> StoreView:
    """Nothing is known of ``camera`` any more: another node watched it meanwhile."""
    others = {name: known for name, known in view.cameras.items() if name != camera}
    return fit(config, StoreView(others))


def on_frame(
    config: StoreConfig,
    view: StoreView,
    camera: str,
    at: float,
    detections: Sequence[Detection],
    stats: FrameStats,
    size: Size,
    health: Reading,
    now: float,
    limits: ConditionLimits = LIMITS,
) -> Outcome:
    """Take in a frame of ``camera`` that was captured ``at`` and measures ``size``."""
    settings, old = _camera(config, camera), view.cameras.get(camera)
    if settings is None or old is None:
        return Outcome(view)
    if old.reference_at is None:
        stats = replace(stats, shift_px=None, match=None)
    seen = View(
        at,
        stats,
        size,
        settings.frame_size,
        _people_share(detections, size),
        2.5 / settings.fps,
    )
    condition, is_evidence = judge_frame(old.condition, seen, health, now, limits)
    new, facts, status = _take_condition(config, old, settings, condition, at)
    fresh = now - at <= config.policy.stale_s
    if fresh or new.fresh_at is None or now < new.fresh_at:
        new = replace(new, fresh_at=now)
    if is_evidence and fresh:
        new, more = _look(config, new, settings, detections, at)
        facts += more
    elif new.fresh_at is not None and now - new.fresh_at > config.policy.stale_s:
        late = f"frames are {now - at:.1f} s old when they have been looked at"
        new, more = _lose(config, new, settings, at, UnknownReason.STALE_FRAME, late)
        facts += more
    return Outcome(StoreView({**view.cameras, camera: new}), facts, status)


def on_silence(
    config: StoreConfig,
    view: StoreView,
    camera: str,
    health: Reading,
    now: float,
    limits: ConditionLimits = LIMITS,
) -> Outcome:
    """``camera`` has no new frame."""
    settings, old = _camera(config, camera), view.cameras.get(camera)
    if settings is None or old is None:
        return Outcome(view)
    condition = judge_silence(old.condition, health, now, 2.5 / settings.fps, limits)
    if condition is old.condition:
        return Outcome(view)
    new, facts, status = _take_condition(config, old, settings, condition, now)
    return Outcome(StoreView({**view.cameras, camera: new}), facts, status)


def remember(view: StoreView, camera: str, fact: Fact, event_id: UUID) -> StoreView:
    """``fact`` is stored as the event ``event_id``. Only alerts are worth remembering."""
    old = view.cameras.get(camera)
    state = old.zones.get(fact.zone) if old and fact.zone is not None else None
    if old is None or state is None or fact.zone is None:
        return view
    named = alerts.remember(state, fact, event_id)
    if named is state:
        return view
    new = replace(old, zones={**old.zones, fact.zone: named})
    return StoreView({**view.cameras, camera: new})


def wants_reference(
    config: StoreConfig,
    view: StoreView,
    camera: str,
    detections: Sequence[Detection],
    stats: FrameStats,
    size: Size,
    now: float,
    limits: ConditionLimits = LIMITS,
) -> bool:
    """Whether the frame just given to ``on_frame`` should become the camera's reference view."""
    old, settings = view.cameras.get(camera), _camera(config, camera)
    if old is None or settings is None or size != settings.frame_size:
        return False
    share = _people_share(detections, size)
    return should_adopt_reference(old.condition, stats, share, old.reference_at, now, limits)


def reference_adopted(view: StoreView, camera: str, now: float) -> StoreView:
    """The camera's frames are compared with a view that was taken at ``now``."""
    old = view.cameras[camera]
    return StoreView({**view.cameras, camera: replace(old, reference_at=now)})


def _camera(config: StoreConfig, camera: str) -> Camera | None:
    return next((c for c in config.cameras if c.id == camera), None)


def _people_share(detections: Sequence[Detection], size: Size) -> float:
    people = [d.xyxy for d in detections if d.label == PERSON and d.confidence >= zones.PERSON_CONFIDENCE]
    return frame_share(people, size)


def _take_condition(
    config: StoreConfig,
    old: CameraView,
    settings: Camera,
    state: ConditionState,
    at: float,
) -> tuple[CameraView, tuple[Fact, ...], CameraCondition | None]:
    """Adopt the new condition and report its change; zones of a faulty camera become unknown."""
    before, condition = old.condition.condition, state.condition
    new = replace(old, condition=state)
    if condition is None:
        return new, (), None
    facts: tuple[Fact, ...] = ()
    if before is None or before.status is not condition.status:
        data = CameraStatusData(
            status=condition.status,
            previous_status=before.status if before else None,
            reason=condition.reason,
        )
        facts = (Fact(CameraStatusChanged, None, at, data),)
    if not state.online:
        detail = f"{condition.status}: {condition.reason}"
        new, lost = _lose(config, new, settings, at, UnknownReason.CAMERA_UNHEALTHY, detail)
        facts += lost
    return new, facts, condition if condition != before else None


def _zones(config: StoreConfig, view: CameraView, camera: Camera) -> list[Zone]:
    return [zone for zone in config.zones if zone.camera == camera.id and zone.id in view.zones]


def _look(
    config: StoreConfig,
    old: CameraView,
    camera: Camera,
    detections: Sequence[Detection],
    at: float,
) -> tuple[CameraView, tuple[Fact, ...]]:
    watched = _zones(config, old, camera)
    looks = zones.look_at(watched, detections, at)
    states, facts = dict(old.zones), list[Fact]()
    for zone in watched:
        rule = ZoneRule.of(zone, camera)
        states[zone.id], found = shelf.step(rule, config.policy, states[zone.id], looks[zone.id])
        facts += found
    return replace(old, zones=states), tuple(facts)


def _lose(
    config: StoreConfig,
    old: CameraView,
    camera: Camera,
    at: float,
    reason: UnknownReason,
    detail: str,
) -> tuple[CameraView, tuple[Fact, ...]]:
    states, facts = dict(old.zones), list[Fact]()
    for zone in _zones(config, old, camera):
        rule = ZoneRule.of(zone, camera)
        states[zone.id], found = shelf.lose(rule, states[zone.id], at, reason, detail)
        facts += found
    return replace(old, zones=states), tuple(facts)
