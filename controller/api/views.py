"""The records of the centre as the API shows them. Fields are only ever added within ``v1``."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class StoreView(View):
    name: str
    timezone: str
    labels: dict[str, str]
    cluster: dict[str, Any]
    config_digest: str | None
    created_at: datetime | None


class ConfigView(View):
    store: str
    digest: str
    yaml: str
    created_by: str
    created_at: datetime


class CameraView(View):
    camera: str
    status: str
    reason: str
    since: datetime | None
    telemetry: dict[str, Any] | None


class DeviceView(View):
    device: str
    online: bool
    offline_reason: str
    last_seen: datetime
    agent_version: str
    model_version: str | None
    model_digest: str | None
    rollout_id: UUID | None
    config_digest: str | None
    config_error: str
    outbox_pending: int
    outbox_full: bool
    telemetry: dict[str, Any] | None
    cached_models: list[str] | None
    """Digests of the models on its disk; null when its agent does not say."""
    delivery: dict[str, Any] | None
    """Bytes of models from the centre and from neighbours, and what is on its way."""
    cameras: list[CameraView]


class FleetStoreView(View):
    store: str
    timezone: str
    labels: dict[str, str]
    devices: list[DeviceView]


class ZoneView(View):
    """``facings``: front faces that a camera sees, not stock on hand; null when unknown."""

    store: str
    zone: str
    device: str
    camera: str
    sku: str
    capacity: int
    level: str
    facings: int | None
    reason: str
    level_since: datetime
    event_time: datetime
    event_id: UUID
    model_digest: str
    rollout_id: UUID | None
    camera_epoch: int | None = None


class ChangeView(View):
    event_id: UUID
    event_time: datetime
    kind: str
    sku: str
    level: str
    facings: int | None
    retracted: bool
    quarantined: bool = False


class EventView(View):
    id: int
    event_id: UUID
    store: str
    device: str
    camera: str
    zone: str | None
    type: str
    kind: str
    event_time: datetime
    record_time: datetime
    received_at: datetime
    stream_id: UUID
    sequence: int
    historical: bool
    model_version: str
    model_digest: str
    rollout_id: UUID | None
    retracted_by: UUID | None
    data: dict[str, Any]
    camera_epoch: int | None = None
    quarantined_at: datetime | None = None


class AuditView(View):
    id: int
    at: datetime
    actor: str
    action: str
    target: str
    detail: dict[str, Any]


class DeadLetterView(BaseModel):
    id: int
    topic: str
    reason: str
    payload: str
    """The beginning of the message as text; bytes that are no UTF-8 are replaced."""
    size: int
    received_at: datetime
    times: int
    store: str | None
    device: str | None
    stream_id: UUID | None
    sequence: int | None


class ReplayedView(View):
    taken_in: int
    """Letters whose event is stored now."""
    refused: int
    """Letters with events that stay."""


class GapView(BaseModel):
    id: int
    store: str
    device: str
    stream_id: UUID
    first: int
    last: int
    opened_at: datetime
    closed_at: datetime | None
    lost: bool


class HandoverView(View):
    store: str
    device: str
    camera: str
    session_id: UUID
    rollout_id: UUID | None
    gap_s: float
    at: datetime
