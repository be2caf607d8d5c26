"""One agent process's life around its loop, with everything outside replaced by the simplest thing."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from agent.adapters.memory import MemoryOutbox
from agent.domain.detection import Detection, FrameStats
from agent.ports import Frame, Image, Incoming, ModelInfo, ReferenceView, SourceHealth, Thumbnail
from agent.runtime import CHORES_EVERY_S, Parts, Runtime
from contract.messages import DeviceTelemetry
from contract.workload import AgentHealth

CONFIG = """
version: 1
store: berlin-01
planogram:
  - {sku: cola-can, gtin: "04012345678901", name: Cola}
cameras:
  - {id: aisle-1, url: "rtsp://10.0.0.1/a", frame_size: [640, 480]}
"""


class Outbox(MemoryOutbox):
    damage = ""

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Node:
    """Detector, camera, inspector, broker, claim and probe of a node where nothing happens."""

    directory: Path
    written: list[AgentHealth] = field(default_factory=list)
    connected: bool = False

    info = ModelInfo(("cola-can", "person"), (64, 64), "detect", "scripted", "sha256:" + "ab" * 32, "1")

    def parts(self) -> Parts:
        def same(*_: Any, **__: Any) -> Any:
            return self

        return Parts(
            store="berlin-01",
            device="node-1",
            rollout_id=None,
            agent_version="1",
            config_file=self.directory / "store.yaml",
            telemetry_s=5.0,
            drain_s=0.0,
            load_model=lambda: self,
            model_works=lambda: None,
            open_source=same,
            make_inspector=same,
            references=self,
            open_outbox=lambda origin: Outbox(origin, clock=time.time, new_id=uuid4),
            new_id=uuid4,
            connect=same,
            claim=self,
            probe=self,
            write_health=self.written.append,
        )

    def detect(self, image: Image) -> list[Detection]:
        return []

    def inspect(self, image: Image) -> FrameStats:
        return FrameStats(120.0, 40.0, 0.1, 3.0, None, None)

    def adopt_reference(self, image: Image) -> Thumbnail:
        return np.zeros((180, 320), np.uint8)

    def restore_reference(self, thumbnail: Thumbnail) -> bool:
        return False

    def load(self, camera: str) -> ReferenceView | None:
        return None

    def save(self, camera: str, view: ReferenceView) -> None:
        """Nothing is kept."""

    def keep_only(self, cameras: object) -> None:
        """Nothing is kept."""

    def latest(self, after: int) -> Frame | None:
        return None

    def health(self) -> SourceHealth:
        return SourceHealth(False, 0.0, None, 0, "not there")

    def close(self) -> None:
        """Nothing is open."""

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> bool:
        return False

    def take(self, timeout: float) -> Incoming | None:
        time.sleep(timeout)
        return None

    def wait(self, stop: threading.Event) -> bool:
        return True

    def owned_by_another(self) -> bool:
        return False

    def successor_waits(self) -> bool:
        return False

    def release(self) -> None:
        """There is no lock."""

    def measure(self) -> DeviceTelemetry:
        return DeviceTelemetry(cpu_percent=1, memory_mb=1, memory_percent=1, disk_free_mb=1)


@contextmanager
def running(node: Node) -> Iterator[list[int]]:
    stop, status = threading.Event(), list[int]()
    thread = threading.Thread(target=lambda: status.append(Runtime(node.parts()).run(stop)), daemon=True)
    thread.start()
    yield status
    stop.set()
    thread.join(5)
    assert not thread.is_alive(), "hangs at the end"


def wait_for_phase(node: Node, phase: str) -> None:
    end = time.monotonic() + 10
    while not node.written or node.written[-1].phase != phase:
        assert time.monotonic() < end, node.written[-1:]
        time.sleep(0.02)


def test_configuration_on_a_disk_that_hangs_lets_health_go_on_and_the_agent_end(tmp_path: Path) -> None:
    node = Node(tmp_path)
    (tmp_path / "store.yaml").write_text(CONFIG)
    with running(node) as status:
        wait_for_phase(node, "active")
        os.mkfifo(tmp_path / "fifo")  # opening it blocks, as on a network disk that went away
        (tmp_path / "fifo").replace(tmp_path / "store.yaml")
        time.sleep(2 * CHORES_EVERY_S)
        before = len(node.written)
        time.sleep(2.5 * CHORES_EVERY_S)
        assert len(node.written) >= before + 2
    assert status == [0]
    with (tmp_path / "store.yaml").open("wb"):  # lets go of whoever still waits for it
        pass
