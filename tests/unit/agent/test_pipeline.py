"""The pipeline in simulated time: real domain code, scripted detector and inspector."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

import numpy as np
import pytest

from agent.adapters.memory import MemoryOutbox
from agent.domain.detection import Detection, FrameStats
from agent.envelope import Origin
from agent.errors import ModelError
from agent.pipeline import Pipeline, SavedState
from agent.ports import Frame, Image, ModelInfo, SourceHealth, Thumbnail
from contract.events import Event, EventBase
from contract.names import CameraStatus
from contract.store_config import StoreConfig, load_store_config

T0 = 1_700_000_000.0
FPS = 5.0
CONFIG = """
version: 1
store: berlin-01
planogram:
  - {sku: cola-can, gtin: "04012345678901", name: Cola}
cameras:
  - {id: aisle-1, url: "rtsp://10.0.0.1/a", frame_size: [640, 480]}
  - {id: aisle-2, url: "rtsp://10.0.0.2/a", frame_size: [640, 480]}
zones:
  - {id: z1, camera: aisle-1, sku: cola-can, capacity: 4, polygon: [[0, 0], [640, 0], [640, 200], [0, 200]]}
"""


@dataclass
class Eyes:
    """Detector and inspector in one: sees ``facings`` cans in zone z1 of a healthy camera."""

    facings: int = 4
    broken: str = ""
    adopted: int = 0
    looked: int = 0

    info = ModelInfo(("cola-can", "person"), (320, 320), "detect", "scripted", "sha256:" + "ab" * 32, "1")

    def detect(self, image: Image) -> list[Detection]:
        if self.broken:
            raise ModelError(self.broken)
        self.looked += 1
        return [Detection((100 * i, 50, 100 * i + 60, 150), 0.9, 0, "cola-can") for i in range(self.facings)]

    def inspect(self, image: Image) -> FrameStats:
        return FrameStats(120.0, 40.0, 0.1, 3.0, 0.0 if self.adopted else None, 0.9 if self.adopted else None)

    def adopt_reference(self, image: Image) -> Thumbnail:
        self.adopted += 1
        return np.zeros((180, 320), np.uint8)

    def restore_reference(self, thumbnail: Thumbnail) -> bool:
        return True


@dataclass
class Shop:
    """Drives a pipeline frame by frame."""

    eyes: Eyes
    outbox: MemoryOutbox
    config: StoreConfig
    now: float = T0
    number: int = 0
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.pipeline = Pipeline(
            self.config, self.eyes, self.outbox, make_inspector=lambda camera: self.eyes, new_id=uuid4
        )

    def watch(self, seconds: float, cameras: Sequence[str] = ("aisle-1",), age: float = 0.05) -> list[str]:
        """Frames of ``cameras`` for ``seconds``; the kinds of the events they gave."""
        before = len(self.events)
        for _ in range(round(seconds * FPS)):
            self.now += 1 / FPS
            self.number += 1
            frame = Frame(np.zeros((480, 640, 3), np.uint8), self.now - age, self.number)
            health = SourceHealth(True, FPS, self.now - age, 0)
            for camera in cameras:
                self.events += self.pipeline.process(camera, frame, health, self.now)
        return [event.kind for event in self.events[before:]]


@pytest.fixture
def shop(origin: Origin) -> Shop:
    outbox = MemoryOutbox(origin, clock=lambda: T0, new_id=uuid4)
    return Shop(Eyes(), outbox, load_store_config(CONFIG))


def test_changes_on_the_shelf_become_stored_events(shop: Shop) -> None:
    assert shop.watch(8) == ["status_changed", "zone_known"]
    shop.eyes.facings = 0
    kinds = shop.watch(9)
    assert "out_of_stock" in kinds
    assert shop.outbox.pending(0, 100) == shop.events


def test_reference_is_adopted_once_the_camera_is_known_to_be_well(shop: Shop) -> None:
    shop.watch(8)
    assert shop.eyes.adopted == 1


def test_restart_repeats_no_event(shop: Shop) -> None:
    shop.watch(8)
    shop.pipeline.save(shop.now)
    shop.restart()
    assert shop.watch(8) == []


def test_change_during_a_restart_is_found_afterwards(shop: Shop) -> None:
    shop.watch(8)
    shop.pipeline.save(shop.now)
    shop.eyes.facings = 0
    shop.restart()
    assert "out_of_stock" in shop.watch(8)


def test_full_disk_holds_events_back_and_loses_none(shop: Shop) -> None:
    shop.watch(8)
    shop.outbox.full = True
    shop.eyes.facings = 0
    assert shop.watch(10) == []
    told = [shop.pipeline.outbox_full]
    shop.outbox.full = False
    assert "out_of_stock" in shop.watch(9)
    told.append(shop.pipeline.outbox_full)
    assert told == [True, False]
    sequences = [event.sequence for event in shop.outbox.pending(0, 100)]
    assert sequences == list(range(1, len(sequences) + 1))


def test_full_disk_does_not_hide_that_a_camera_went_offline(shop: Shop) -> None:
    shop.watch(8)
    shop.outbox.full = True
    gone = SourceHealth(False, 0.0, shop.now, 0, "unplugged")
    told = []
    for _ in range(12):
        shop.now += 0.5
        shop.pipeline.silence("aisle-1", gone, shop.now)
        told.append(shop.pipeline.reports[0].condition)
    final = told[-1]
    assert final is not None
    assert (final.status, final.reason) == (CameraStatus.OFFLINE, "unplugged")
    assert len({condition.since for condition in told if condition == final}) == 1
    shop.outbox.full = False
    shop.now += 0.5
    events = shop.pipeline.silence("aisle-1", gone, shop.now)
    assert [event.kind for event in events] == ["status_changed", "zone_unknown"]


def test_failing_detector_is_counted_and_turns_stock_unknown_not_empty(shop: Shop) -> None:
    shop.watch(8)
    shop.eyes.broken = "inference failed"
    kinds = shop.watch(9)
    assert kinds == ["status_changed", "zone_unknown"]
    meter = shop.pipeline.reports[0].meter
    assert (meter.errors, meter.last_error) == (45, "ModelError: inference failed")
    shop.eyes.broken = ""
    assert shop.watch(8) == ["status_changed", "zone_known"]


def test_stale_frames_are_no_evidence(shop: Shop) -> None:
    shop.watch(8)
    shop.eyes.facings = 0
    kinds = shop.watch(9, age=30.0)
    assert "out_of_stock" not in kinds
    assert "zone_unknown" in kinds


def test_silent_camera_harms_only_itself(shop: Shop) -> None:
    shop.watch(8, ("aisle-1", "aisle-2"))
    gone = SourceHealth(False, 0, shop.now, 0, "connection refused")
    for _ in range(10):
        shop.now += 0.5
        shop.pipeline.silence("aisle-2", gone, shop.now)
    by_camera = {report.camera: report.condition for report in shop.pipeline.reports}
    first, second = by_camera["aisle-1"], by_camera["aisle-2"]
    assert first is not None
    assert second is not None
    assert (first.status, second.status, second.reason) == ("online", "offline", "connection refused")


def test_reconfiguring_keeps_what_is_known_of_unchanged_cameras(shop: Shop) -> None:
    shop.watch(8, ("aisle-1", "aisle-2"))
    meter = shop.pipeline.reports[0].meter
    shop.pipeline.configure(load_store_config(CONFIG.replace("10.0.0.2", "10.0.0.99")))
    assert shop.pipeline.reports[0].meter is meter
    assert shop.watch(8) == []


def test_removed_camera_leaves_nothing_behind(shop: Shop) -> None:
    shop.watch(2, ("aisle-1", "aisle-2"))
    lines = [line for line in CONFIG.splitlines() if "aisle-2" not in line]
    shop.pipeline.configure(load_store_config("\n".join(lines)))
    shop.pipeline.save(shop.now)
    saved = SavedState.from_bytes(shop.outbox.status().state)
    assert list(saved.looked_at) == ["aisle-1"]
    assert [report.camera for report in shop.pipeline.reports] == ["aisle-1"]


def test_gap_since_the_previous_process_is_measured_once(shop: Shop) -> None:
    shop.watch(4)
    shop.pipeline.save(shop.now)
    shop.now += 1.3
    shop.restart()
    shop.watch(2)
    assert shop.pipeline.reports[0].meter.handover_gap_s == pytest.approx(1.5)
    assert shop.pipeline.reports[1].meter.handover_gap_s is None


def test_state_is_stored_about_once_a_second_without_events(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.watch(8)
    calls = 0
    append: Callable[..., list[Event]] = shop.outbox.append

    def counting(*args: object) -> list[Event]:
        nonlocal calls
        calls += 1
        return append(*args)

    monkeypatch.setattr(shop.outbox, "append", counting)
    shop.watch(10)
    assert 8 <= calls <= 11


@pytest.mark.parametrize(
    "state", [None, b"", b"{", b"[]\nx", b'{"looked_at": 3}\n', b"\xff\xfe\n", b'{"looked_at": {"a": "b"}}\n']
)
def test_unreadable_state_means_starting_afresh(state: bytes | None) -> None:
    assert SavedState.from_bytes(state) == SavedState()


def test_state_survives_its_bytes() -> None:
    state = SavedState(b"\x00view\n\xff", {"aisle-1": T0 + 0.5})
    assert SavedState.from_bytes(state.to_bytes()) == state


def test_every_event_is_attributed(shop: Shop, origin: Origin) -> None:
    shop.watch(8)
    event: EventBase = shop.events[-1]
    assert (event.store, event.camera, event.modeldigest) == ("berlin-01", "aisle-1", origin.model_digest)
