"""Turns, starvation and reconfiguration of the inference loop, on clocks that the test moves."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

import numpy as np
import pytest

from agent.adapters.memory import MemoryOutbox
from agent.domain.detection import Detection, FrameStats
from agent.envelope import Origin
from agent.errors import CameraError
from agent.loop import Loop
from agent.pipeline import Pipeline
from agent.ports import Frame, Image, ModelInfo, SourceHealth, Thumbnail
from agent.sources import Sources
from contract.store_config import Camera, StoreConfig, load_store_config

T0 = 1_700_000_000.0


def config_of(**cameras: float) -> StoreConfig:
    lines = [
        f'  - {{id: {name}, url: "rtsp://10.0.0.1/{name}", frame_size: [64, 64], fps: {fps}}}'
        for name, fps in cameras.items()
    ]
    head = "version: 1\nstore: berlin-01\nplanogram: [{sku: cola-can, gtin: '04012345678901', name: Cola}]\n"
    return load_store_config(head + "cameras:\n" + "\n".join(lines))


@dataclass
class World:
    """Time, cameras that always have a new frame (unless silent), and a detector that takes ``cost`` s."""

    steady: float = 100.0
    wall: float = T0
    cost: float = 0.0
    silent: set[str] = field(default_factory=set)
    looked: Counter[int] = field(default_factory=Counter)
    opened: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    numbers: int = 0

    info = ModelInfo(("cola-can", "person"), (64, 64), "detect", "scripted", "sha256:" + "ab" * 32, "1")

    def advance(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds

    def detect(self, image: Image) -> list[Detection]:
        self.looked[int(image[0, 0, 0])] += 1
        self.advance(self.cost)
        return []

    def inspect(self, image: Image) -> FrameStats:
        return FrameStats(120.0, 40.0, 0.1, 3.0, None, None)

    def adopt_reference(self, image: Image) -> Thumbnail:
        """Nothing to compare with."""
        return np.zeros((2, 2), np.uint8)

    def restore_reference(self, thumbnail: Thumbnail) -> bool:
        return False

    def open(self, camera: Camera) -> "Feed":
        if "broken" in camera.id:
            raise CameraError("environment variable CAMERA_PASSWORD is not set")
        self.opened.append(camera.id)
        return Feed(self, camera.id)


@dataclass
class Feed:
    world: World
    name: str

    def latest(self, after: int) -> Frame | None:
        if self.name in self.world.silent:
            return None
        self.world.numbers += 1
        image = np.full((64, 64, 3), ord(self.name[-1]), np.uint8)
        return Frame(image, self.world.wall, self.world.numbers)

    def health(self) -> SourceHealth:
        return SourceHealth(self.name not in self.world.silent, 5.0, self.world.wall, 0)

    def close(self) -> None:
        self.world.closed.append(self.name)


@dataclass
class Rig:
    world: World
    loop: Loop
    pipeline: Pipeline
    sources: Sources

    def run(self, seconds: float) -> dict[str, int]:
        """Turn for ``seconds`` of steady time; looks per camera (by last letter of its name)."""
        self.world.looked.clear()
        end = self.world.steady + seconds
        while self.world.steady < end:
            self.world.advance(max(self.loop.turn(), 0.001))
        return {chr(letter): count for letter, count in self.world.looked.items()}


@pytest.fixture
def rig(origin: Origin) -> Callable[..., Rig]:
    def build(config: StoreConfig, **world_fields: float) -> Rig:
        world = World(**world_fields)  # type: ignore[arg-type]
        sources = Sources(world.open)
        sources.apply(config.cameras)
        outbox = MemoryOutbox(origin, clock=lambda: world.wall, new_id=uuid4)
        pipeline = Pipeline(config, world, outbox, make_inspector=lambda camera: world, new_id=uuid4)
        loop = Loop(config, pipeline, sources, clock=lambda: world.wall, monotonic=lambda: world.steady)
        return Rig(world, loop, pipeline, sources)

    return build


def test_each_camera_is_looked_at_with_its_own_rate(rig: Callable[..., Rig]) -> None:
    looked = rig(config_of(a=5, b=10)).run(20)
    assert looked["a"] == pytest.approx(100, abs=3)
    assert looked["b"] == pytest.approx(200, abs=5)


def test_overload_slows_all_cameras_and_starves_none(rig: Callable[..., Rig]) -> None:
    looked = rig(config_of(a=10, b=10, c=10), cost=0.1).run(30)
    assert sum(looked.values()) == pytest.approx(300, abs=5)
    assert min(looked.values()) > 95


def test_silent_camera_costs_the_others_nothing(rig: Callable[..., Rig]) -> None:
    built = rig(config_of(a=5, b=5))
    built.world.silent.add("b")
    assert built.run(20)["a"] == pytest.approx(100, abs=3)
    conditions = {r.camera: r.condition for r in built.pipeline.reports}
    assert conditions["b"] is not None
    assert conditions["b"].status == "offline"


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_setting_the_wall_clock_neither_stops_nor_speeds_the_loop(
    rig: Callable[..., Rig], jump: float
) -> None:
    built = rig(config_of(a=5))
    built.run(5)
    built.world.wall += jump
    assert built.run(20)["a"] == pytest.approx(100, abs=3)


def test_camera_that_cannot_be_opened_as_configured_says_why(rig: Callable[..., Rig]) -> None:
    built = rig(config_of(a=5, broken=5))
    assert built.run(10)["a"] > 40
    condition = built.pipeline.reports[1].condition
    assert condition is not None
    assert "CAMERA_PASSWORD" in condition.reason


def test_reload_touches_only_what_changed(rig: Callable[..., Rig]) -> None:
    built = rig(config_of(a=5, b=5, c=5))
    built.run(1)
    kept = built.sources.by_camera["a"]
    built.loop.reconfigure(config_of(a=5, b=10, d=5))
    looked = built.run(10)
    assert built.sources.by_camera["a"] is kept
    assert built.world.opened == ["a", "b", "c", "b", "d"]
    assert sorted(built.world.closed) == ["b", "c"]
    assert looked["a"] == pytest.approx(50, abs=2)
    assert looked["b"] == pytest.approx(100, abs=3)
    assert looked["d"] == pytest.approx(50, abs=2)


def test_idle_loop_without_cameras_turns_slowly(rig: Callable[..., Rig]) -> None:
    assert 0.1 < rig(config_of(a=5)).loop.turn() <= 0.25
