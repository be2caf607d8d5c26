"""Cameras that are moved while nobody looks: the agent's pipeline, inspector and files on disk through
restarts, on pictures of a simulated shop, in simulated time."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from agent.adapters.ids import new_event_id
from agent.adapters.opencv.inspect import CvInspector
from agent.adapters.outbox import SqliteOutbox
from agent.adapters.reference_files import ReferenceFiles
from agent.domain.detection import Detection
from agent.envelope import Origin
from agent.pipeline import Pipeline
from agent.ports import Frame, Image, ModelInfo, SourceHealth
from camera_sims.appearance import Lighting
from camera_sims.faults import Fault, apply_to_picture
from camera_sims.shop import Shop
from contract.events import Event
from contract.names import CameraStatus, StockLevel
from contract.store_config import StoreConfig

T0 = 1_700_000_000.0
FPS = 5.0
CAMERA = "cam-1"
ORIGIN = Origin("berlin-01", "node-1", "1", "sha256:" + "ab" * 32)
STOCK_EVENTS = {
    "out_of_stock", "low_stock", "restocked", "picked", "put_back", "facings_changed", "misplaced",
    "retracted",
}  # fmt: skip


def take_pictures(lighting: Lighting) -> list[Image]:
    shop = Shop(11, "berlin-01", 1, activity=0, lighting=lighting)
    return [shop.frame(CAMERA, at / FPS) for at in range(4)]


@pytest.fixture(scope="module")
def day() -> list[Image]:
    return take_pictures("day")


@pytest.fixture(scope="module")
def night() -> list[Image]:
    return take_pictures("night")


@dataclass
class Eyes:
    """A detector that sees full shelves, or, of a moved camera, nothing in any zone."""

    config: StoreConfig
    blind: bool = False

    info = ModelInfo(("cola-can", "person"), (320, 320), "detect", "scripted", ORIGIN.model_digest, "1")

    def detect(self, image: Image) -> list[Detection]:
        return (
            [] if self.blind else [box for zone in self.config.zones for box in boxes(zone.polygon, zone.sku)]
        )


def boxes(polygon: tuple[tuple[float, float], ...], sku: str) -> list[Detection]:
    x, y = np.mean(polygon, axis=0)
    return [Detection((x + d - 4, y - 9, x + d + 4, y + 9), 0.9, 0, sku) for d in (-20, -10, 0, 10, 20)]


@dataclass
class Node:
    """A node's directory, and whichever agent process looks after it."""

    directory: Path
    config: StoreConfig
    now: float = T0
    number: int = 0
    told: list[Event] = field(default_factory=list)

    def start(self) -> None:
        self.eyes = Eyes(self.config)
        self.outbox = SqliteOutbox(self.directory, ORIGIN, clock=lambda: self.now)
        self.pipeline = Pipeline(
            self.config,
            self.eyes,
            self.outbox,
            make_inspector=lambda camera: CvInspector(),
            references=ReferenceFiles(self.directory),
            new_id=new_event_id,
        )

    def die(self) -> None:
        """kill -9: nothing is saved any more."""
        self.outbox.close()

    def restart(self, away_s: float = 60.0) -> None:
        self.die()
        self.now += away_s
        self.start()

    def watch(self, pictures: list[Image], seconds: float, *, moved: bool = False) -> list[str]:
        """Look at ``pictures`` in turn; the kinds of the events that they gave."""
        self.eyes.blind = moved
        rng = np.random.default_rng(self.number)
        if moved:
            pictures = [apply_to_picture(picture, Fault.MOVED, rng) for picture in pictures]
        before = len(self.told)
        for _ in range(round(seconds * FPS)):
            self.now += 1 / FPS
            self.number += 1
            frame = Frame(pictures[self.number % len(pictures)], self.now - 0.05, self.number)
            health = SourceHealth(True, FPS, self.now - 0.05, 0)
            self.told += self.pipeline.process(CAMERA, frame, health, self.now)
        return [event.kind for event in self.told[before:]]

    def status(self) -> CameraStatus | None:
        condition = self.pipeline.reports[0].condition
        return condition.status if condition else None

    def levels(self) -> set[StockLevel]:
        return {zone.level for zone in self.pipeline.view.cameras[CAMERA].zones.values()}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    config = Shop(11, "berlin-01", 1, activity=0).config({CAMERA: "file:///simulated"}, fps=FPS)
    made = Node(tmp_path, config)
    made.start()
    yield made
    made.die()


@pytest.fixture
def settled(node: Node, day: list[Image]) -> Node:
    """A node whose camera has been looked at, and whose zones are known."""
    node.watch(day, 10)
    assert node.status() is CameraStatus.ONLINE
    assert StockLevel.UNKNOWN not in node.levels()
    return node


def test_a_camera_moved_while_the_agent_was_down_is_moved_not_empty(settled: Node, day: list[Image]) -> None:
    settled.restart()
    kinds = settled.watch(day, 20, moved=True)
    assert settled.status() is CameraStatus.MOVED
    assert settled.levels() == {StockLevel.UNKNOWN}
    assert set(kinds) == {"status_changed", "zone_unknown"}
    kinds = settled.watch(day, 10)
    assert settled.status() is CameraStatus.ONLINE
    assert set(kinds) == {"status_changed", "zone_known"}


def test_a_moved_camera_that_comes_back_after_a_restart_is_online_again(
    settled: Node, day: list[Image]
) -> None:
    settled.watch(day, 5, moved=True)
    assert settled.status() is CameraStatus.MOVED
    settled.restart()
    assert settled.watch(day, 10, moved=True) == []
    assert settled.status() is CameraStatus.MOVED
    kinds = settled.watch(day, 10)
    assert settled.status() is CameraStatus.ONLINE
    assert not STOCK_EVENTS & set(kinds)


def test_a_camera_knocked_in_the_moment_of_a_kill_is_found_out(settled: Node, day: list[Image]) -> None:
    settled.watch(day, 0.6, moved=True)  # too short to be certain of
    settled.restart(away_s=2.0)
    kinds = settled.watch(day, 20, moved=True)
    assert settled.status() is CameraStatus.MOVED
    assert not STOCK_EVENTS & set(kinds)


def test_a_restart_by_night_is_not_a_move(settled: Node, night: list[Image]) -> None:
    settled.restart()
    kinds = settled.watch(night, 20)
    assert not {"status_changed", *STOCK_EVENTS} & set(kinds)
    assert settled.status() is CameraStatus.ONLINE


def test_a_reference_taken_by_night_serves_by_day(node: Node, day: list[Image], night: list[Image]) -> None:
    node.watch(night, 10)
    node.restart()
    kinds = node.watch(day, 20)
    assert not {"status_changed", *STOCK_EVENTS} & set(kinds)
    node.watch(day, 5, moved=True)
    assert node.status() is CameraStatus.MOVED


def test_a_damaged_event_store_does_not_take_the_reference_with_it(settled: Node, day: list[Image]) -> None:
    settled.die()
    (settled.directory / "outbox.db").write_bytes(b"no database" * 500)
    settled.start()
    kinds = settled.watch(day, 20, moved=True)
    assert settled.status() is CameraStatus.MOVED
    assert kinds == ["status_changed"]


def test_zones_drawn_anew_while_the_agent_was_down_take_a_new_reference(
    settled: Node, day: list[Image]
) -> None:
    settled.watch(day, 5, moved=True)
    right = [
        zone.model_copy(update={"polygon": tuple((x + 9.0, y) for x, y in zone.polygon)})
        for zone in settled.config.zones
    ]
    settled.config = settled.config.model_copy(update={"zones": tuple(right)})
    settled.restart()
    pictures = [apply_to_picture(picture, Fault.MOVED, np.random.default_rng(1)) for picture in day]
    settled.watch(pictures, 10)
    assert settled.status() is CameraStatus.ONLINE
    settled.restart()
    settled.watch(day, 5)
    assert settled.status() is CameraStatus.MOVED, "the new view is the one that counts now"


def test_a_zone_added_to_a_moved_camera_does_not_make_it_fit(settled: Node, day: list[Image]) -> None:
    settled.watch(day, 5, moved=True)
    extra = settled.config.zones[0].model_copy(update={"id": "extra"})
    settled.config = settled.config.model_copy(update={"zones": (*settled.config.zones, extra)})
    settled.pipeline.configure(settled.config)
    settled.watch(day, 2, moved=True)
    for _ in range(2):
        settled.restart()
        settled.watch(day, 8, moved=True)
        assert settled.status() is CameraStatus.MOVED
    settled.watch(day, 5)
    assert settled.status() is CameraStatus.ONLINE


def test_another_address_of_a_camera_must_show_the_same_view(settled: Node, day: list[Image]) -> None:
    (camera,) = settled.config.cameras
    other = camera.model_copy(update={"url": "file:///another"})
    settled.pipeline.configure(settled.config.model_copy(update={"cameras": (other,)}))
    assert not STOCK_EVENTS & set(settled.watch(day, 10, moved=True))
    assert settled.status() is CameraStatus.MOVED


def test_a_camera_that_leaves_the_configuration_is_forgotten(settled: Node) -> None:
    kept = settled.directory / "views"
    assert [file.name for file in kept.iterdir()] == [f"{CAMERA}.pgm"]
    settled.pipeline.configure(settled.config.model_copy(update={"cameras": (), "zones": ()}))
    assert list(kept.iterdir()) == []


def test_a_view_that_could_not_be_stored_is_stored_later(node: Node, day: list[Image]) -> None:
    blocker = node.directory / "views"
    blocker.write_text("in the way")
    node.watch(day, 10)
    assert node.status() is CameraStatus.ONLINE
    blocker.unlink()
    node.watch(day, 2)
    assert ReferenceFiles(node.directory).load(CAMERA) is not None
