"""What the device says about itself must reach the centre whatever the store sells."""

from pathlib import Path
from uuid import uuid4

import numpy as np

from agent.adapters.memory import MemoryOutbox
from agent.config_watch import ConfigWatch
from agent.domain.detection import Detection, FrameStats
from agent.envelope import Origin
from agent.pipeline import Pipeline
from agent.ports import Frame, Image, ModelInfo, SourceHealth, Thumbnail
from agent.sources import Sources
from agent.telemetry import DeviceReporter
from contract.base import MAX_MESSAGE_BYTES
from contract.messages import DeviceTelemetry
from contract.store_config import StoreConfig

NOW = 1_700_000_000.0
SKUS = tuple(f"a-rather-long-name-of-a-product-number-{number}" for number in range(300))


class Eyes:
    """Sees one facing of every SKU, and more of the later ones."""

    info = ModelInfo(SKUS, (640, 640), "detect", "scripted", "sha256:" + "ab" * 32, "1")

    def detect(self, image: Image) -> list[Detection]:
        return [
            Detection((0, 0, 9, 9), 0.9, class_id, sku)
            for class_id, sku in enumerate(SKUS)
            for _ in range(1 + class_id // 100)
        ]

    def inspect(self, image: Image) -> FrameStats:
        return FrameStats(120.0, 40.0, 0.1, 3.0, None, None)

    def adopt_reference(self, image: Image) -> Thumbnail:
        return np.zeros((180, 320), np.uint8)

    def restore_reference(self, thumbnail: Thumbnail) -> bool:
        return True


class Idle:
    def measure(self) -> DeviceTelemetry:
        return DeviceTelemetry(cpu_percent=1, memory_mb=1, memory_percent=1, disk_free_mb=1)


def test_heartbeat_of_many_cameras_and_products_is_small_enough_to_be_accepted(
    tmp_path: Path, origin: Origin
) -> None:
    names = [f"aisle-{number}" for number in range(16)]
    config = StoreConfig.model_validate(
        {
            "version": 1,
            "store": "berlin-01",
            "planogram": [],
            "cameras": [{"id": n, "url": f"rtsp://10.0.0.1/{n}", "frame_size": [640, 480]} for n in names],
        }
    )
    eyes, outbox = Eyes(), MemoryOutbox(origin, clock=lambda: NOW, new_id=uuid4)
    pipeline = Pipeline(config, eyes, outbox, make_inspector=lambda camera: eyes, new_id=uuid4)
    for name in names:
        frame = Frame(np.zeros((480, 640, 3), np.uint8), NOW, 1)
        pipeline.process(name, frame, SourceHealth(True, 5.0, NOW, 0), NOW)
    reporter = DeviceReporter(
        session_id=uuid4(),
        origin=origin,
        agent_version="1",
        interval_s=5.0,
        pipeline=pipeline,
        sources=Sources(lambda camera: (_ for _ in ()).throw(AssertionError("not opened here"))),
        outbox=outbox,
        watch=ConfigWatch(tmp_path / "none.yaml"),
        probe=Idle(),
        clock=lambda: NOW,
    )
    telemetry = reporter.telemetry()
    assert len(telemetry.to_bytes()) < MAX_MESSAGE_BYTES
    for camera in telemetry.cameras:
        assert len(camera.detections_per_class) > 10
        assert SKUS[200] in camera.detections_per_class
        assert camera.classes_left_out == len(SKUS) - len(camera.detections_per_class)
        assert (camera.frames_inferred, camera.zones, camera.zones_unknown) == (1, 0, 0)
