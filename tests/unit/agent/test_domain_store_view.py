"""All cameras and zones of a store in one value: frames in, facts out, through restarts and new drawings."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain import store_view
from agent.domain.camera_condition import CameraCondition
from agent.domain.detection import PERSON, Detection, FrameStats
from agent.domain.facts import Fact
from agent.domain.store_view import StoreView, fit, on_frame, on_silence, remember, start
from agent.domain.view_codec import dump, load
from contract.events import CameraStatusChanged, EventBase, OutOfStock, ZoneKnown, ZoneUnknown
from contract.names import CameraStatus, StockLevel, UnknownReason
from contract.store_config import Camera, Product, StoreConfig, Zone

SIZE = (1280, 720)
GOOD = FrameStats(luma_mean=120, luma_std=50, edge_density=0.08, changed=1.5, shift_px=0.2, match=0.9)
DARK = FrameStats(luma_mean=2, luma_std=1, edge_density=0.0, changed=0.3, shift_px=None, match=0.0)
MOVED = replace(GOOD, shift_px=80.0)


@dataclass(frozen=True)
class Health:
    connected: bool = True
    last_frame_at: float | None = None
    decode_errors: int = 0
    error: str = ""


def zone(name: str, camera: str = "cam-1", left: float = 100, sku: str = "cola") -> Zone:
    polygon = ((left, 100.0), (left + 300, 100.0), (left + 300, 200.0), (left, 200.0))
    return Zone(id=name, camera=camera, sku=sku, capacity=6, polygon=polygon)


def config(*zones: Zone, cameras: Sequence[str] = ("cam-1", "cam-2")) -> StoreConfig:
    return StoreConfig(
        version=1,
        store="berlin-01",
        planogram=tuple(Product(sku=sku, gtin="04012345678901", name=sku) for sku in ("cola", "chips")),
        cameras=tuple(Camera(id=c, url="file:x", frame_size=SIZE) for c in cameras),
        zones=zones or (zone("a1"), zone("a2", left=500), zone("b1", "cam-2")),
    )


def items(count: int, left: float = 100, sku: str = "cola") -> list[Detection]:
    return [Detection((left + 40 * i, 120, left + 40 * i + 30, 180), 0.9, 0, sku) for i in range(count)]


@dataclass
class Day:
    """Feeds frames to a view, five a second."""

    config: StoreConfig = field(default_factory=config)
    view: StoreView = field(default_factory=lambda: StoreView({}))
    now: float = 1_000.0
    facts: list[Fact] = field(default_factory=list)
    conditions: list[CameraCondition] = field(default_factory=list)
    last: float | None = None

    def __post_init__(self) -> None:
        self.view = self.view if self.view.cameras else start(self.config)

    def frames(
        self,
        seconds: float,
        detections: Sequence[Detection] = (),
        stats: FrameStats = GOOD,
        camera: str = "cam-1",
        age: float = 0.05,
    ) -> "Day":
        for _ in range(round(seconds / 0.2)):
            self.now += 0.2
            self.last = self.now - age
            self.take(
                camera,
                on_frame(
                    self.config, self.view, camera, self.last, detections, stats, SIZE,
                    Health(last_frame_at=self.last), self.now,
                ),
            )  # fmt: skip
            wanted = store_view.wants_reference(
                self.config, self.view, camera, detections, stats, SIZE, self.now
            )
            if wanted:
                self.view = store_view.reference_adopted(self.view, camera, self.now)
        return self

    def silence(self, seconds: float, camera: str = "cam-1", connected: bool = True) -> "Day":
        for _ in range(round(seconds / 0.5)):
            self.now += 0.5
            health = Health(connected, self.last, 0, "" if connected else "refused")
            self.take(camera, on_silence(self.config, self.view, camera, health, self.now))
        return self

    def take(self, camera: str, outcome: store_view.Outcome) -> None:
        self.view, facts, status = outcome
        for fact in facts:
            self.facts.append(fact)
            self.view = remember(self.view, camera, fact, UUID(int=len(self.facts)))
        if status:
            self.conditions.append(status)

    def restart(self) -> "Day":
        self.view = load(dump(self.view), self.config)
        return self

    def of(self, *kinds: type[EventBase]) -> list[Fact]:
        return [fact for fact in self.facts if fact.kind in kinds]

    def level(self, name: str, camera: str = "cam-1") -> StockLevel:
        return self.view.cameras[camera].zones[name].level


FULL = [*items(5), *items(4, 500)]


def test_a_camera_comes_online_and_its_zones_become_known() -> None:
    day = Day().frames(6, FULL)
    assert [fact.kind for fact in day.facts] == [CameraStatusChanged, ZoneKnown, ZoneKnown]
    assert [fact.zone for fact in day.facts] == [None, "a1", "a2"]
    assert [condition.status for condition in day.conditions] == [CameraStatus.ONLINE]
    assert day.level("b1", "cam-2") is StockLevel.UNKNOWN


def test_a_dark_camera_makes_its_zones_unknown_and_empties_nothing() -> None:
    day = Day().frames(8, FULL).frames(20, [], DARK)
    status = day.of(CameraStatusChanged)[-1]
    assert (status.data.status, status.data.previous_status) == (CameraStatus.DARK, CameraStatus.ONLINE)
    assert [(fact.zone, fact.data.reason) for fact in day.of(ZoneUnknown)] == [
        ("a1", UnknownReason.CAMERA_UNHEALTHY),
        ("a2", UnknownReason.CAMERA_UNHEALTHY),
    ]
    assert "dark: brightness" in day.of(ZoneUnknown)[0].data.detail
    day.frames(6, FULL)
    assert day.level("a1") is StockLevel.STOCKED
    assert day.of(OutOfStock) == []


@pytest.mark.parametrize("seconds", [0.4, 1.0, 1.4])
def test_a_short_darkness_is_no_evidence_either(seconds: float) -> None:
    day = Day().frames(8, FULL).frames(seconds, [], DARK).frames(8, FULL)
    assert day.of(OutOfStock, ZoneUnknown) == []


def test_one_camera_does_not_touch_the_other() -> None:
    day = Day().frames(8, FULL).frames(8, items(5), camera="cam-2").silence(10)
    assert day.level("a1") is StockLevel.UNKNOWN
    assert day.level("b1", "cam-2") is StockLevel.STOCKED


@pytest.mark.parametrize(
    ("connected", "status"), [(True, CameraStatus.STALLED), (False, CameraStatus.OFFLINE)]
)
def test_silence_makes_zones_unknown(connected: bool, status: CameraStatus) -> None:
    day = Day().frames(8, FULL).silence(5, connected=connected)
    assert day.conditions[-1].status is status
    assert {fact.zone for fact in day.of(ZoneUnknown)} == {"a1", "a2"}
    assert len(day.of(ZoneUnknown)) == 2


def test_frames_that_are_old_when_looked_at_are_no_evidence() -> None:
    day = Day().frames(8, FULL).frames(1.8, [], age=2.5)
    assert day.of(ZoneUnknown) == []
    day.frames(5, [], age=2.5)
    assert [fact.data.reason for fact in day.of(ZoneUnknown)] == [UnknownReason.STALE_FRAME] * 2
    assert day.of(OutOfStock) == []


def test_a_person_who_fills_the_view_changes_nothing() -> None:
    person = Detection((0, 0, 1200, 720), 0.9, 9, PERSON)
    blank = replace(GOOD, edge_density=0.02, match=0.05, shift_px=None)
    day = Day().frames(8, FULL).frames(30, [person], blank).frames(6, FULL)
    assert [fact.kind for fact in day.facts] == [CameraStatusChanged, ZoneKnown, ZoneKnown]


def test_an_alert_is_remembered_by_the_id_of_its_event() -> None:
    day = Day().frames(8, FULL).frames(8, items(4, 500)).frames(8, FULL)
    alert = day.of(OutOfStock)[0]
    retraction = day.facts[-2]
    assert retraction.data.retracts == UUID(int=day.facts.index(alert) + 1)


def test_a_camera_that_is_not_configured_changes_nothing() -> None:
    view = start(config())
    assert on_frame(config(), view, "cam-9", 1.0, [], GOOD, SIZE, Health(), 1.0).view is view
    assert on_silence(config(), view, "cam-9", Health(), 1.0).view is view


def test_an_adopted_reference_is_followed_and_an_older_one_ignored() -> None:
    day = Day().frames(1.6, FULL, MOVED)
    day.frames(3, FULL, GOOD)
    assert day.view.cameras["cam-1"].reference_at is not None
    day.frames(5, FULL, MOVED)
    assert [c.status for c in day.conditions] == [CameraStatus.ONLINE, CameraStatus.MOVED]


def test_zones_drawn_anew_end_the_move() -> None:
    day = Day().frames(8, FULL).frames(5, FULL, MOVED).restart().frames(5, FULL, MOVED)
    day.config = config(zone("a1", left=180), zone("a2", left=580))
    day.view = fit(day.config, day.view)
    moved_goods = [*items(5, 180), *items(4, 580)]
    day.frames(2, moved_goods, MOVED).frames(8, moved_goods)
    assert [c.status for c in day.conditions] == [
        CameraStatus.ONLINE, CameraStatus.MOVED, CameraStatus.ONLINE,
    ]  # fmt: skip
    assert day.level("a1") is StockLevel.STOCKED


def test_new_configuration_keeps_what_it_does_not_change_and_forgets_what_is_gone() -> None:
    day = Day().frames(8, FULL)
    old = day.view.cameras["cam-1"]
    new = fit(
        config(zone("a1"), zone("a2", left=500, sku="chips"), zone("a3", left=900), cameras=["cam-1"]),
        day.view,
    )
    assert set(new.cameras) == {"cam-1"}
    states = new.cameras["cam-1"].zones
    assert set(states) == {"a1", "a2", "a3"}
    assert states["a1"] is old.zones["a1"]
    assert states["a2"].level is StockLevel.UNKNOWN, "another SKU"
    assert new.cameras["cam-1"].condition is old.condition
    assert fit(config(cameras=["cam-1", "cam-2"]), day.view) == day.view


def test_a_restart_repeats_nothing() -> None:
    day = Day().frames(8, items(5)).restart().frames(8, items(5))
    assert [(f.kind.__name__, f.zone) for f in day.facts] == [
        ("CameraStatusChanged", None), ("ZoneKnown", "a1"), ("ZoneKnown", "a2"), ("OutOfStock", "a2"),
    ]  # fmt: skip


def test_a_change_during_a_long_restart_is_reported_as_a_change() -> None:
    day = Day().frames(8, FULL).restart()
    day.now += 3600
    day.frames(8, items(5))
    names = [(f.kind.__name__, f.data.facings) for f in day.facts if f.zone == "a2"]
    assert names == [
        ("ZoneKnown", 4), ("ZoneUnknown", None), ("ZoneKnown", 0), ("FacingsChanged", 0), ("Picked", 0),
        ("OutOfStock", 0),
    ]  # fmt: skip


def test_dump_is_small_and_reads_back_as_it_was() -> None:
    day = Day().frames(8, items(5)).frames(2, FULL)
    data = dump(day.view)
    assert len(data) < 1500
    again = load(data, day.config)
    assert dump(again) == data
    assert again.cameras["cam-1"].zones["a1"].belief == 5
    assert again.cameras["cam-1"].zones["a2"].alerts == day.view.cameras["cam-1"].zones["a2"].alerts
    assert again.cameras["cam-1"].condition.condition == day.view.cameras["cam-1"].condition.condition


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(None, id="none"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe", id="not text"),
        pytest.param(b'{"version": 2, "cameras": {}}', id="another version"),
        pytest.param(
            b'{"version": 1, "cameras": {"cam-1": {"zones": {"a1": {"belief": -1}}}}}', id="bad count"
        ),
        pytest.param(b'{"version": 1, "cameras": {"cam-1": 5}}', id="wrong shape"),
        pytest.param(b'{"version": 1, "cameras": {"cam-1": {"since": NaN, "zones": {}}}}', id="not a number"),
        pytest.param(b"[" * 100_000, id="nested deeply"),
        pytest.param(b'{"version": 1, "cameras"', id="torn off"),
    ],
)
def test_what_cannot_be_read_starts_afresh(data: bytes | None) -> None:
    assert load(data, config()) == start(config())


@given(st.binary(max_size=300))
def test_any_bytes_load(data: bytes) -> None:
    assert set(load(data, config()).cameras) == {"cam-1", "cam-2"}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_dump_loads_as_something_that_works(data: st.DataObject) -> None:
    raw = bytearray(dump(DAMAGED.view))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    day = Day(config(), load(bytes(raw), config()))
    day.frames(0.4, FULL)
    assert dump(load(dump(day.view), day.config)) == dump(day.view)


DAMAGED = Day().frames(8, items(5))
