"""What agents of a simulated fleet would say over MQTT: births, heartbeats, deaths. Pure; ``voices`` says it.

Their figures are those of a healthy agent with one camera at five frames a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from contract.messages import (
    CameraTelemetry,
    DeviceState,
    DeviceTelemetry,
    ModelRef,
    OutboxTelemetry,
    Telemetry,
)
from contract.names import CameraStatus
from contract.topics import DeviceTopics
from storefleet.fleet_sim.shops import CAMERA, SKU, Shop

AGENT_VERSION = "0.0.0+simulated"
FPS = 5.0
DETECTIONS_PER_FRAME = 6
HISTOGRAM = (0, 0, 0, 0, 1, 3, 6, 14, 40, 36)
"""Of confidences, in percent of the detections."""


@dataclass(frozen=True, slots=True)
class Said:
    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent process. ``stream`` outlives it, as the outbox on the node's disk does."""

    shop: Shop
    session: UUID
    stream: UUID
    rollout: UUID
    model: ModelRef
    began: datetime
    skew: timedelta = timedelta(0)

    def born(self, now: datetime) -> Said:
        return self._state("online", "", now)

    def died(self, reason: str, now: datetime) -> Said:
        """Its last will, or its goodbye."""
        return self._state("offline", reason, now)

    def heartbeat(self, now: datetime, interval_s: float, cached: Sequence[str]) -> Said:
        frames = max(0, int((now - self.began).total_seconds() * FPS))
        found = frames * DETECTIONS_PER_FRAME
        camera = CameraTelemetry(
            camera=CAMERA,
            status=CameraStatus.ONLINE,
            fps_read=FPS,
            fps_inferred=FPS,
            frame_age_s=0.1,
            inference_ms_p50=21.0,
            inference_ms_p95=27.0,
            confidence_histogram=tuple(found * share // 100 for share in HISTOGRAM),
            detections_per_class={SKU: found},
            last_inference_at=now + self.skew,
        )
        message = Telemetry(
            session_id=self.session,
            at=now + self.skew,
            interval_s=interval_s,
            agent_version=AGENT_VERSION,
            model=self.model,
            rollout_id=self.rollout,
            config_digest=self.shop.config.digest,
            device=DeviceTelemetry(
                cpu_percent=62.0, memory_mb=410.0, memory_percent=31.0, disk_free_mb=9000.0
            ),
            outbox=OutboxTelemetry(stream_id=self.stream, last_sequence=0, pending=0),
            cameras=(camera,),
            cached_models=tuple(cached),
        )
        return Said(self._topics.telemetry, message.to_bytes(), False)

    def as_before(self, earlier: "Agent") -> "Agent":
        """A new process that runs on with what ``earlier`` ran: its pod is new, its model is not."""
        return replace(self, rollout=earlier.rollout, model=earlier.model)

    @property
    def _topics(self) -> DeviceTopics:
        return DeviceTopics(self.shop.name, self.shop.node)

    def _state(self, status: str, reason: str, now: datetime) -> Said:
        message = DeviceState.model_validate(
            {
                "status": status,
                "session_id": self.session,
                "at": now + self.skew,
                "agent_version": AGENT_VERSION,
                "model": self.model,
                "rollout_id": self.rollout,
                "stream_id": self.stream,
                "cameras": (CAMERA,),
                "reason": reason,
            }
        )
        return Said(self._topics.state, message.to_bytes(), True)
