"""The pipeline of a node that shares its store's cameras: what it tells of whom, and when not any more."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import numpy as np
import pytest

from agent.adapters.memory import MemoryOutbox
from agent.domain.detection import Detection, FrameStats
from agent.domain.sharing import ALL_CAMERAS, Share
from agent.envelope import Origin
from agent.loop import Loop
from agent.pipeline import Pipeline
from agent.ports import Frame, Image, ModelInfo, SourceHealth, Thumbnail
from agent.sources import Sources
from contract.events import Event
from contract.store_config import Camera, load_store_config

CONFIG = load_store_config("""
version: 1
store: berlin-01
planogram:
  - {sku: cola-can, gtin: "04012345678901", name: Cola}
cameras:
  - {id: aisle-1, url: "rtsp://10.0.0.1/a", frame_size: [640, 480]}
  - {id: aisle-2, url: "rtsp://10.0.0.2/a", frame_size: [640, 480]}
zones:
  - {id: z1, camera: aisle-1, sku: cola-can, capacity: 4, polygon: [[0, 0], [640, 0], [640, 200], [0, 200]]}
""")


class Eyes:
    """Detector and inspector of a shelf that is full and stays so."""

    info = ModelInfo(("cola-can", "person"), (320, 320), "detect", "scripted", "sha256:" + "ab" * 32, "1")

    def detect(self, image: Image) -> list[Detection]:
        return [Detection((100 * i, 50, 100 * i + 60, 150), 0.9, 0, "cola-can") for i in range(4)]

    def inspect(self, image: Image) -> FrameStats:
        return FrameStats(120.0, 40.0, 0.1, 3.0, 0.0, 0.9)

    def adopt_reference(self, image: Image) -> Thumbnail:
        return np.zeros((180, 320), np.uint8)

    def restore_reference(self, thumbnail: Thumbnail) -> bool:
        return True


@dataclass
class Tenure:
    """Held until ``over``."""

    over: bool = False
    asked: list[tuple[str, int | None]] = field(default_factory=list)

    @contextmanager
    def while_held(self, camera: str, epoch: int | None) -> Iterator[bool]:
        self.asked.append((camera, epoch))
        yield not self.over


@dataclass
class Node:
    outbox: MemoryOutbox
    tenure: Tenure = field(default_factory=Tenure)
    now: float = 1_700_000_000.0
    number: int = 0

    def start(self, share: Share) -> None:
        self.pipeline = Pipeline(
            CONFIG, Eyes(), self.outbox, make_inspector=lambda camera: Eyes(), new_id=uuid4, share=share,
            tenure=self.tenure,
        )  # fmt: skip

    def watch(self, seconds: float = 8) -> list[Event]:
        events = []
        for _ in range(round(seconds * 5)):
            self.now, self.number = self.now + 0.2, self.number + 1
            frame = Frame(np.zeros((480, 640, 3), np.uint8), self.now - 0.05, self.number)
            health = SourceHealth(True, 5.0, self.now - 0.05, 0)
            events += self.pipeline.process("aisle-1", frame, health, self.now)
        return events


@pytest.fixture
def node(origin: Origin) -> Node:
    return Node(MemoryOutbox(origin, clock=lambda: 1_700_000_000.0, new_id=uuid4))


def test_events_carry_the_epoch_of_their_camera(node: Node) -> None:
    node.start(Share({"aisle-1": 41}))
    events = node.watch()
    assert [event.kind for event in events] == ["status_changed", "zone_known"]
    assert {event.cameraepoch for event in events} == {41}
    assert set(node.tenure.asked) == {("aisle-1", 41)}


def test_a_node_that_is_alone_gives_no_epoch(node: Node) -> None:
    node.start(ALL_CAMERAS)
    assert {event.cameraepoch for event in node.watch()} == {None}


def test_only_cameras_of_the_share_are_reported_on(node: Node) -> None:
    node.start(Share({"aisle-1": 41}, soon=frozenset({"aisle-2"})))
    assert [report.camera for report in node.pipeline.reports] == ["aisle-1"]
    node.pipeline.reassign(Share({"aisle-2": 7}))
    assert [report.camera for report in node.pipeline.reports] == ["aisle-2"]
    with pytest.raises(KeyError):
        node.watch(0.2)


def test_what_is_seen_after_the_lease_is_over_is_thrown_away(node: Node) -> None:
    node.start(Share({"aisle-1": 41}))
    node.tenure.over = True
    assert node.watch() == []
    assert node.outbox.pending(0, 10) == []
    node.tenure.over = False
    assert [event.kind for event in node.watch()] == ["status_changed", "zone_known"]


def test_a_camera_that_was_elsewhere_meanwhile_begins_anew(node: Node) -> None:
    node.start(Share({"aisle-1": 41}))
    node.watch()
    node.pipeline.reassign(Share({}))
    node.pipeline.reassign(Share({"aisle-1": 43}))
    events = node.watch()
    assert [event.kind for event in events] == ["status_changed", "zone_known"]
    assert {event.cameraepoch for event in events} == {43}


def test_a_camera_that_nobody_had_meanwhile_goes_on(node: Node) -> None:
    node.start(Share({"aisle-1": 41}))
    node.watch()
    node.pipeline.reassign(Share({}))
    node.pipeline.reassign(Share({"aisle-1": 41}))
    assert node.watch() == []


@pytest.mark.parametrize(
    ("share", "kinds"),
    [
        pytest.param(Share({"aisle-1": 41}), [], id="same epoch: nothing new"),
        pytest.param(Share({"aisle-1": 43}), ["status_changed", "zone_known"], id="was another's"),
        pytest.param(ALL_CAMERAS, ["status_changed", "zone_known"], id="cameras are not shared any more"),
    ],
)
def test_the_epoch_outlives_the_process(node: Node, share: Share, kinds: list[str]) -> None:
    node.start(Share({"aisle-1": 41}))
    node.watch()
    node.pipeline.save(node.now)
    node.start(share)
    assert [event.kind for event in node.watch()] == kinds


def test_a_camera_goes_and_comes_while_the_loop_turns(node: Node) -> None:
    class Source:
        def latest(self, after: int) -> Frame | None:
            return None

        def health(self) -> SourceHealth:
            return SourceHealth(False, 0.0, None, 0, "gone")

        def close(self) -> None:
            """Nothing was opened."""

    def open_source(camera: Camera) -> Source:
        return Source()

    node.start(Share({}))
    sources = Sources(open_source)
    loop = Loop(
        CONFIG, node.pipeline, sources, clock=lambda: node.now, monotonic=lambda: node.now, share=Share({})
    )
    loop.turn()
    assert set(sources.by_camera) == set()
    loop.reassign(Share({"aisle-1": 1}, soon=frozenset({"aisle-2"})))
    loop.turn()
    assert set(sources.by_camera) == {"aisle-1", "aisle-2"}
    assert [report.camera for report in node.pipeline.reports] == ["aisle-1"]
    for _ in range(11):
        node.now += 0.5
        loop.turn()
    assert node.outbox.pending(0, 10) == [], "time to open the camera"
    for _ in range(20):
        node.now += 0.5
        loop.turn()
    assert [event.kind for event in node.outbox.pending(0, 10)] == ["status_changed"]
    loop.reassign(Share({}))
    loop.turn()
    assert node.pipeline.reports == []
    assert set(sources.by_camera) == set()
