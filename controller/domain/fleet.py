"""Stores, devices and cameras as reported, and whether a device is alive.

A device is ``online`` between its birth and its death, and only while its heartbeat comes. Whether
it does is worked out when somebody asks, from ``last_seen``: nothing is written when a device merely
falls silent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from contract.messages import CameraStatusMessage, CameraTelemetry, DeviceState, Telemetry

MISSED_HEARTBEATS = 3
DEFAULT_INTERVAL_S = 10.0
"""Assumed until the first heartbeat tells its interval."""


@dataclass(frozen=True, slots=True)
class Store:
    name: str
    timezone: str = "UTC"
    labels: Mapping[str, str] = field(default_factory=dict)
    cluster: Mapping[str, Any] = field(default_factory=dict)
    """``{"kind": "local"}``, or kind ``kubernetes`` with ``kubeconfig`` (a reference, never its
    contents), ``context``, ``namespace`` and ``node_selector``: labels that tell this store's camera nodes
    from those of other stores in the same cluster."""
    config_digest: str | None = None
    """Digest of the current store configuration."""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoreConfigVersion:
    """One accepted configuration of a store; ``yaml`` is the text as it was given."""

    store: str
    digest: str
    yaml: str
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Device:
    store: str
    device: str
    first_seen: datetime
    last_seen: datetime
    """When the centre last received something that the device sent just then."""
    status: str = "offline"
    """As the device or its last will said: ``online`` or ``offline``. See ``liveness``."""
    status_reason: str = ""
    session_id: UUID | None = None
    session_at: datetime | None = None
    """Birth of the session, by the device's clock."""
    agent_version: str = ""
    model_digest: str | None = None
    model_version: str | None = None
    rollout_id: UUID | None = None
    stream_id: UUID | None = None
    heartbeat_interval_s: float = DEFAULT_INTERVAL_S
    heartbeat_at: datetime | None = None
    """When the newest heartbeat was received."""
    config_digest: str | None = None
    config_error: str = ""
    outbox_last_sequence: int = 0
    outbox_pending: int = 0
    outbox_full: bool = False
    outbox_ahead_since: datetime | None = None
    """Since when heartbeats tell of events that are not in the database."""
    telemetry: Mapping[str, Any] | None = None
    """CPU, memory, disk and temperature of the newest heartbeat."""
    cached_models: tuple[str, ...] | None = None
    """Digests of the models that lie checked on its disk; None: its agent does not say."""
    delivery: Mapping[str, Any] | None = None
    """How models come to it: bytes from the centre and from neighbours, and what is on its way."""


@dataclass(frozen=True, slots=True)
class Camera:
    store: str
    device: str
    camera: str
    status: str
    reason: str = ""
    since: datetime | None = None
    """Since when the camera has this status, by the device's clock."""
    reported_at: datetime | None = None
    """By the device's clock; older reports do not replace newer ones."""
    telemetry: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Handover:
    """How long one camera went unwatched when one agent process took over from another."""

    store: str
    device: str
    camera: str
    session_id: UUID
    """The session of the process that took over."""
    rollout_id: UUID | None
    gap_s: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Liveness:
    online: bool
    reason: str = ""


def liveness(device: Device, now: datetime) -> Liveness:
    """Whether the device is alive at ``now``: said so, and heard of within three heartbeats."""
    if device.status != "online":
        return Liveness(False, device.status_reason or "said goodbye or its connection broke")
    # A time in the future means that the centre's clock was set back; a live device soon corrects it.
    silent_s = abs((now - device.last_seen).total_seconds())
    allowed_s = MISSED_HEARTBEATS * device.heartbeat_interval_s
    if silent_s > allowed_s:
        return Liveness(False, f"no heartbeat for {silent_s:.0f} s (allowed: {allowed_s:.0f} s)")
    return Liveness(True)


def seen(device: Device | None, store: str, name: str, now: datetime, fresh: bool) -> Device:
    """The device after anything arrived from it. ``fresh`` is False for a retained message, which
    the broker may have kept for days."""
    if device is None:
        return Device(store, name, first_seen=now, last_seen=now)
    return replace(device, last_seen=now) if fresh and now != device.last_seen else device


def apply_state(device: Device, state: DeviceState) -> Device:
    """After a birth or death. The death of another session than the current one changes nothing."""
    if state.status == "offline":
        if device.session_id is not None and device.session_id != state.session_id:
            return device
        return replace(device, status="offline", status_reason=state.reason, session_id=state.session_id)
    return replace(
        device,
        status="online",
        status_reason=state.reason,
        session_id=state.session_id,
        session_at=state.at,
        agent_version=state.agent_version or device.agent_version,
        model_digest=state.model.digest if state.model else device.model_digest,
        model_version=state.model.version if state.model else device.model_version,
        rollout_id=state.rollout_id,
        stream_id=state.stream_id or device.stream_id,
    )


def of_older_session(device: Device, telemetry: Telemetry) -> bool:
    """Whether a heartbeat was sent before the current session of its device began, by another one."""
    other = device.session_id is not None and device.session_id != telemetry.session_id
    return other and device.session_at is not None and telemetry.at < device.session_at


def apply_telemetry(device: Device, telemetry: Telemetry, now: datetime) -> Device:
    """After a heartbeat. One of an older session than the current one changes nothing."""
    if of_older_session(device, telemetry):
        return device
    other = device.session_id is not None and device.session_id != telemetry.session_id
    outbox = telemetry.outbox
    return replace(
        device,
        status="online",
        status_reason="",
        session_id=telemetry.session_id,
        session_at=telemetry.at if other or device.session_at is None else device.session_at,
        agent_version=telemetry.agent_version,
        model_digest=telemetry.model.digest,
        model_version=telemetry.model.version,
        rollout_id=telemetry.rollout_id,
        stream_id=outbox.stream_id,
        heartbeat_interval_s=telemetry.interval_s,
        heartbeat_at=now,
        config_digest=telemetry.config_digest,
        config_error=telemetry.config_error,
        outbox_last_sequence=outbox.last_sequence,
        outbox_pending=outbox.pending,
        outbox_full=outbox.full,
        telemetry=telemetry.device.model_dump(mode="json", exclude_none=True),
        cached_models=telemetry.cached_models,
        delivery=telemetry.delivery.model_dump(mode="json", exclude_none=True)
        if telemetry.delivery
        else None,
    )


def apply_camera_status(camera: Camera | None, store: str, device: str, said: CameraStatusMessage) -> Camera:
    """After a status message of a camera; an older one than the newest report changes nothing."""
    if camera is not None and camera.reported_at is not None and said.at < camera.reported_at:
        return camera
    telemetry = camera.telemetry if camera else None
    return Camera(store, device, said.camera, said.status.value, said.reason, said.since, said.at, telemetry)


def apply_camera_telemetry(
    camera: Camera | None, store: str, device: str, figures: CameraTelemetry, at: datetime
) -> Camera:
    """After a heartbeat's figures of a camera, measured at ``at`` by the device's clock."""
    if camera is not None and camera.reported_at is not None and at < camera.reported_at:
        return camera
    same = camera is not None and camera.status == figures.status.value
    return Camera(
        store,
        device,
        figures.camera,
        figures.status.value,
        camera.reason if camera and same else "",
        camera.since if camera and same else at,
        at,
        figures.model_dump(mode="json", exclude_none=True),
    )


def handovers_of(store: str, device: str, telemetry: Telemetry) -> list[Handover]:
    """What a heartbeat tells of cameras that this session took over."""
    return [
        Handover(
            store,
            device,
            figures.camera,
            telemetry.session_id,
            telemetry.rollout_id,
            figures.handover_gap_s,
            telemetry.at,
        )
        for figures in telemetry.cameras
        if figures.handover_gap_s is not None
    ]
