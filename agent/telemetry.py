"""What the device says about itself: birth, heartbeat, camera statuses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from agent.config_watch import ConfigWatch
from agent.envelope import Origin, utc
from agent.pipeline import CameraReport, Pipeline
from agent.ports import Outbox, SourceHealth, Staging
from agent.sources import Sources
from contract.messages import (
    CameraStatusMessage,
    CameraTelemetry,
    DeviceState,
    DeviceTelemetry,
    ModelRef,
    OutboxTelemetry,
    Telemetry,
)
from contract.names import CameraStatus

CLASSES_TOLD = 400
"""Class counts in one heartbeat, shared by its cameras: about half of what a message may measure at most."""
_NO_SOURCE = SourceHealth(False, 0.0, None, 0)


class Probe(Protocol):
    def measure(self) -> DeviceTelemetry:
        """Load, memory, disk and temperature at the moment."""


@dataclass(frozen=True, slots=True)
class DeviceReporter:
    """Implements ``agent.publisher.Reporter``. ``note`` is told with the birth (a damaged outbox, say)."""

    session_id: UUID
    origin: Origin
    agent_version: str
    interval_s: float
    pipeline: Pipeline
    sources: Sources
    outbox: Outbox
    watch: ConfigWatch
    probe: Probe
    clock: Callable[[], float]
    note: str = ""
    staging: Staging | None = None

    def camera_ids(self) -> tuple[str, ...]:
        """Of the configured cameras, as the birth lists them."""
        return tuple(report.camera for report in self.pipeline.reports)

    def birth(self) -> DeviceState:
        return DeviceState(
            status="online",
            session_id=self.session_id,
            at=utc(self.clock()),
            agent_version=self.agent_version,
            model=self._model(),
            rollout_id=self.origin.rollout_id,
            stream_id=self.outbox.status().stream_id,
            cameras=self.camera_ids(),
            reason=self.note,
        )

    def telemetry(self) -> Telemetry:
        now = self.clock()
        outbox = self.outbox.status()
        return Telemetry(
            session_id=self.session_id,
            at=utc(now),
            interval_s=self.interval_s,
            agent_version=self.agent_version,
            model=self._model(),
            rollout_id=self.origin.rollout_id,
            config_digest=self.pipeline.config.digest,
            config_error=self.watch.error[:2000],
            device=self.probe.measure(),
            outbox=OutboxTelemetry(
                stream_id=outbox.stream_id,
                last_sequence=outbox.last_sequence,
                pending=outbox.pending,
                full=self.pipeline.outbox_full,
            ),
            cameras=tuple(self._camera(report, now) for report in self.pipeline.reports),
            cached_models=tuple(self.staging.cached()) if self.staging else None,
            delivery=self.staging.delivery() if self.staging else None,
        )

    def camera_statuses(self) -> list[CameraStatusMessage]:
        """Of the cameras whose status is certain by now."""
        at = utc(self.clock())
        return [
            CameraStatusMessage(
                camera=report.camera,
                status=report.condition.status,
                reason=report.condition.reason,
                since=utc(report.condition.since),
                at=at,
            )
            for report in self.pipeline.reports
            if report.condition is not None
        ]

    def _model(self) -> ModelRef:
        return ModelRef(digest=self.origin.model_digest, version=self.origin.model_version)

    def _camera(self, report: CameraReport, now: float) -> CameraTelemetry:
        source = self.sources.by_camera.get(report.camera)
        health = source.health() if source else _NO_SOURCE
        meter = report.meter
        counts = meter.counts(max(1, CLASSES_TOLD // len(self.pipeline.reports)))
        view = self.pipeline.view.cameras.get(report.camera)
        zones = tuple(view.zones.values()) if view else ()
        age = None if health.last_frame_at is None else max(0.0, now - health.last_frame_at)
        return CameraTelemetry(
            camera=report.camera,
            status=report.condition.status if report.condition else status_before_certain(health),
            fps_read=health.fps_read,
            fps_inferred=meter.fps(now),
            frame_age_s=age,
            inference_ms_p50=meter.percentile_ms(0.5),
            inference_ms_p95=meter.percentile_ms(0.95),
            confidence_histogram=counts.histogram,
            detections_per_class=dict(counts.classes),
            frames_inferred=counts.frames,
            classes_left_out=counts.classes_left_out,
            zones=len(zones),
            zones_unknown=sum(not zone.known for zone in zones),
            last_inference_at=None if meter.last_inference_at is None else utc(meter.last_inference_at),
            handover_gap_s=meter.handover_gap_s,
        )


def status_before_certain(health: SourceHealth) -> CameraStatus:
    """What to call a camera in the first seconds, when nothing is known of it: never ``online``."""
    return CameraStatus.STALLED if health.connected else CameraStatus.OFFLINE
