"""From frames to durable events: inspect, detect, fold into the store view, commit to the outbox.

The order matters. The new view becomes the present one only after the outbox has committed it together
with its events; when the disk refuses, the old view stays, so the same change is found again in a later
frame. Nothing is published here, and nothing waits for the network.

There is no thread and no clock in here: ``now`` (seconds since the epoch, or of a simulation) comes
with every call, so that a benchmark drives it faster than real time exactly as the loop does live.
One thread calls the methods; ``CameraReport`` objects may be read by others.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from agent.domain import store_view, view_codec
from agent.domain.camera_condition import CameraCondition
from agent.domain.detection import Detection
from agent.domain.facts import Fact
from agent.domain.sharing import ALL_CAMERAS, Share
from agent.domain.store_view import StoreView
from agent.errors import TransientError
from agent.meter import CameraMeter
from agent.ports import Detector, EventDraft, Frame, Inspector, Outbox, ReferenceViews, Shadow, SourceHealth
from agent.references import References
from agent.sharing import Solo, Tenure
from contract.events import Event
from contract.names import CameraStatus
from contract.store_config import Camera, StoreConfig

SAVE_EVERY_S = 1.0
"""How often the state is stored when there are no events: the most that a kill -9 forgets."""

MakeInspector = Callable[[Camera], Inspector]

SOLO = Solo()

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class CameraReport:
    """What others may know about one camera."""

    camera: str
    meter: CameraMeter
    condition: CameraCondition | None = None
    """None until the first status is certain."""
    detections: Sequence[Detection] = ()
    """Of the last frame."""


@dataclass(slots=True)
class _Desk:
    """What belongs to one configured camera and goes with it."""

    camera: Camera
    inspector: Inspector
    report: CameraReport
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class SavedState:
    """What outlives a process: the view, when each camera was last looked at, and in which epoch."""

    view: bytes | None = None
    looked_at: dict[str, float] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """A line of JSON, then the view as it is."""
        header = {"looked_at": self.looked_at, "epochs": self.epochs}
        return json.dumps(header).encode() + b"\n" + (self.view or b"")

    @classmethod
    def from_bytes(cls, state: bytes | None) -> "SavedState":
        """An unreadable state is as good as none: zones then start ``unknown``."""
        if not state:
            return cls()
        header, _, view = state.partition(b"\n")
        try:
            saved = json.loads(header)
            looked_at = {str(camera): float(at) for camera, at in saved["looked_at"].items()}
            epochs = {str(camera): int(epoch) for camera, epoch in saved.get("epochs", {}).items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            _log.warning("stored state is unreadable; all zones start unknown")
            return cls()
        return cls(view or None, looked_at, epochs)


class Pipeline:
    """Raises ``PermanentError`` out of any method when the outbox is damaged; everything that one frame
    can do wrong is counted against its camera only.

    ``references`` keeps the reference views for the next process; without it they end with this object.
    ``share`` says which cameras are ours and ``tenure`` whether they still are, at the moment of reporting;
    what is seen of a camera that is not is thrown away. A camera that comes back in a new epoch was another
    node's meanwhile: nothing is known of it any more.
    """

    def __init__(
        self,
        config: StoreConfig,
        detector: Detector,
        outbox: Outbox,
        *,
        make_inspector: MakeInspector,
        references: ReferenceViews | None = None,
        new_id: Callable[[], UUID],
        timer: Callable[[], float] = time.perf_counter,
        share: Share = ALL_CAMERAS,
        tenure: Tenure = SOLO,
        shadow: Shadow | None = None,
    ) -> None:
        self.outbox_full = False
        """True while the disk refuses events."""
        self._detector = detector
        self._outbox = outbox
        self._make_inspector = make_inspector
        self._references = References(references)
        self._new_id = new_id
        self._timer = timer
        saved = SavedState.from_bytes(outbox.status().state)
        self._looked_at = dict(saved.looked_at)
        self._epochs = dict(saved.epochs)
        self._share = share
        self._tenure = tenure
        self._shadow = shadow
        self._view: StoreView = view_codec.load(saved.view, config)
        self._unsaved = False
        self._saved_at: float | None = None
        self._config = config
        self._desks: dict[str, _Desk] = {}
        self._fit_desks()

    @property
    def reports(self) -> list[CameraReport]:
        """One per configured camera that is ours."""
        return [desk.report for desk in self._desks.values()]

    @property
    def config(self) -> StoreConfig:
        """The configuration in force."""
        return self._config

    @property
    def view(self) -> StoreView:
        return self._view

    def process(self, camera: str, frame: Frame, health: SourceHealth, now: float) -> list[Event]:
        """Look at a new frame; the events that it proved, already stored. Raises ``KeyError`` for a camera
        that is not configured or not ours."""
        desk = self._desks[camera]
        started = self._timer()
        try:
            stats = desk.inspector.inspect(frame.image)
            detections = self._detector.detect(frame.image)
        except Exception as error:  # noqa: BLE001 - one bad frame must not stop the other cameras
            self._failed(desk, error)
            return self.silence(camera, health, now)
        took_ms = (self._timer() - started) * 1000
        meter = desk.report.meter
        meter.note(detections, took_ms=took_ms, captured_at=frame.captured_at, now=now)
        desk.report.detections = detections
        self._looked_at[camera] = now
        height, width = frame.image.shape[:2]
        size = (width, height)
        try:
            view, facts, condition = store_view.on_frame(
                self._config, self._view, camera, frame.captured_at, detections, stats, size, health, now
            )
            if store_view.wants_reference(self._config, view, camera, detections, stats, size, now):
                self._references.adopted(camera, desk.inspector.adopt_reference(frame.image), now)
                view = store_view.reference_adopted(view, camera, now)
        except Exception as error:  # noqa: BLE001 - one camera's trouble is its own
            self._failed(desk, error)
            return []
        events = self._keep(desk, view, facts, condition, now)
        seen = desk.report.condition
        if self._shadow is not None and seen is not None and seen.status is CameraStatus.ONLINE:
            self._shadow.offer(camera, frame.image, detections)
        return events

    def silence(self, camera: str, health: SourceHealth, now: float) -> list[Event]:
        """There is no new frame, or none that could be used. Call it about twice a second then."""
        desk = self._desks[camera]
        meter = desk.report.meter
        if meter.last_error:  # frames that the detector cannot read are no evidence of anything
            health = replace(health, last_frame_at=meter.last_frame_at)
        try:
            view, facts, condition = store_view.on_silence(self._config, self._view, camera, health, now)
        except Exception as error:  # noqa: BLE001 - one camera's trouble is its own
            self._failed(desk, error)
            return []
        return self._keep(desk, view, facts, condition, now)

    def configure(self, config: StoreConfig) -> None:
        """Go on under another configuration; cameras and zones that did not change keep their state."""
        self._config = config
        self._view = store_view.fit(config, self._view)
        self._unsaved = True
        self._fit_desks()

    def reassign(self, share: Share) -> None:
        """Go on with other cameras."""
        self._share = share
        self._unsaved = True
        self._fit_desks()

    def save(self, now: float) -> bool:
        """Store the state without events, and new reference views; False when the disk refuses."""
        kept = self._references.save()
        return self._append([], self._view, now) is not None and kept

    def _keep(
        self,
        desk: _Desk,
        view: StoreView,
        facts: Sequence[Fact],
        condition: CameraCondition | None,
        now: float,
    ) -> list[Event]:
        """Make ``view`` the present one, after its events (if any) are stored."""
        with self._tenure.while_held(desk.camera.id, desk.epoch) as ours:
            return self._store(desk, view, facts, condition, now) if ours else []

    def _store(
        self,
        desk: _Desk,
        view: StoreView,
        facts: Sequence[Fact],
        condition: CameraCondition | None,
        now: float,
    ) -> list[Event]:
        drafts = []
        for fact in facts:
            draft = EventDraft(
                self._new_id(), fact.kind, desk.camera.id, fact.zone, fact.at, fact.data, desk.epoch
            )
            view = store_view.remember(view, desk.camera.id, fact, draft.id)
            drafts.append(draft)
        events: list[Event] = []
        if drafts:
            stored = self._append(drafts, view, now)
            if stored is None:
                told = desk.report.condition
                if condition is not None and (told is None or told.status is not condition.status):
                    _tell_condition(desk, condition)  # A full disk must not hide it from operations.
                return []
            events = stored
        self._unsaved = self._unsaved or view is not self._view
        self._view = view
        if condition is not None:
            _tell_condition(desk, condition)
        unsaved = self._unsaved or self._references.unsaved
        if unsaved and (self._saved_at is None or not 0 <= now - self._saved_at < SAVE_EVERY_S):
            self.save(now)
        return events

    def _append(self, drafts: Sequence[EventDraft], view: StoreView, now: float) -> list[Event] | None:
        self._saved_at = now
        try:
            events = self._outbox.append(
                drafts, SavedState(view_codec.dump(view), self._looked_at, self._epochs).to_bytes()
            )
        except TransientError as error:
            if not self.outbox_full:
                _log.error("outbox refuses; events wait until it takes them", extra={"detail": str(error)})
            self.outbox_full = True
            return None
        self.outbox_full = False
        self._unsaved = False
        return events

    def _failed(self, desk: _Desk, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if text != desk.report.meter.last_error:
            _log.error(
                "frame could not be used", extra={"camera": desk.camera.id, "detail": text}, exc_info=error
            )
        desk.report.meter.failed(text)

    def _fit_desks(self) -> None:
        self._references.fit(self._config)
        desks = {}
        for camera in self._config.cameras:
            if not self._share.has(camera.id):
                continue
            epoch = self._share.epoch(camera.id)
            desk = self._desks.get(camera.id)
            if epoch != self._epochs.get(camera.id):
                self._begin_anew(camera.id, epoch)
                desk = None
            if desk is None:
                condition = self._view.cameras[camera.id].condition.condition
                meter = CameraMeter(self._looked_at.get(camera.id))
                report = CameraReport(camera.id, meter, condition)
                desk = _Desk(camera, self._new_inspector(camera), report, epoch)
            elif desk.camera != camera:
                desk = replace(desk, camera=camera, inspector=self._new_inspector(camera))
            desks[camera.id] = desk
        self._desks = desks
        configured = {camera.id for camera in self._config.cameras}
        self._looked_at = {camera: at for camera, at in self._looked_at.items() if camera in configured}
        self._epochs = {camera: epoch for camera, epoch in self._epochs.items() if camera in configured}

    def _begin_anew(self, camera: str, epoch: int | None) -> None:
        self._view = store_view.begin_anew(self._config, self._view, camera)
        self._looked_at.pop(camera, None)
        self._epochs.pop(camera, None)
        if epoch is not None:
            self._epochs[camera] = epoch

    def _new_inspector(self, camera: Camera) -> Inspector:
        """One that knows the view on which the camera's zones were drawn, if that has been kept."""
        inspector = self._make_inspector(camera)
        adopted_at = self._references.restore(camera.id, inspector)
        if adopted_at is not None:
            self._view = store_view.reference_adopted(self._view, camera.id, adopted_at)
        return inspector


def _tell_condition(desk: _Desk, condition: CameraCondition) -> None:
    desk.report.condition = condition
    _log.info(
        "camera status",
        extra={"camera": desk.camera.id, "status": condition.status, "reason": condition.reason},
    )
