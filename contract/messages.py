"""Messages other than events: device state, telemetry, camera status, acknowledgement."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from contract.base import Message, UtcTime, decode
from contract.names import CameraStatus, Digest, Name, Sku
from contract.signing import Signed

CONFIDENCE_BINS = 10
"""Bins of the confidence histogram over [0, 1)."""

MAX_CACHED_MODELS = 64
"""Digests that a heartbeat lists, those used last first."""
MAX_STAGED_MODELS = 4
"""Models that a store holds ready beside the one it runs."""

NonNegative = Annotated[float, Field(ge=0)]
Total = Annotated[int, Field(ge=0)]


class ModelRef(Message):
    """The model an agent runs."""

    digest: Digest
    version: Annotated[str, Field(max_length=128)]


class DeviceState(Message):
    """Retained birth of a device, or its death when sent as last will or on a clean stop.

    Birth and death of one session share ``session_id``, so that a late will of an old session never
    marks a newer one offline (Sparkplug's bdSeq does the same).
    """

    status: Literal["online", "offline"]
    session_id: UUID
    at: UtcTime
    agent_version: str = ""
    model: ModelRef | None = None
    rollout_id: UUID | None = None
    stream_id: UUID | None = None
    cameras: tuple[Name, ...] = ()
    reason: str = ""


class CameraTelemetry(Message):
    camera: Name
    status: CameraStatus
    fps_read: NonNegative
    fps_inferred: NonNegative
    frame_age_s: NonNegative | None = None
    """Age of the newest frame; absent before the first one."""
    inference_ms_p50: NonNegative | None = None
    inference_ms_p95: NonNegative | None = None
    confidence_histogram: Annotated[tuple[Total, ...], Field(max_length=CONFIDENCE_BINS)] = ()
    """Detections by confidence, since the counting began: with the process, or with the node's taking the
    camera over."""
    detections_per_class: Annotated[dict[Sku, Total], Field(default_factory=dict)]
    """Detections of each class since the counting began."""
    frames_inferred: Total | None = None
    """Frames that the detections were made in, since the counting began; absent: the agent does not say."""
    classes_left_out: Total = 0
    """Rarer classes for which ``detections_per_class`` had no room; nothing is known of those."""
    zones: Total | None = None
    """Zones of the camera; absent: the agent does not say."""
    zones_unknown: Total | None = None
    """Those of ``zones`` whose stock is unknown at the moment."""
    last_inference_at: UtcTime | None = None
    handover_gap_s: NonNegative | None = None
    """Seconds between the last inference of the previous agent process and the first of this one."""


class DeviceTelemetry(Message):
    cpu_percent: NonNegative
    memory_mb: NonNegative
    """Resident memory of the agent and its camera workers."""
    memory_percent: NonNegative
    disk_free_mb: NonNegative
    temperature_c: float | None = None


class OutboxTelemetry(Message):
    stream_id: UUID
    last_sequence: Total
    """Highest sequence ever written, 0 when none."""
    pending: Total
    """Events not yet committed by the centre."""
    full: bool = False
    """True while the disk refuses writes; stock is then not reported, and says so here."""


class DeliveryTelemetry(Message):
    """How model artifacts come to the node; counts go on from process to process."""

    centre_bytes: Total = 0
    """Artifact bytes fetched from the centre so far: what models cost the store's link."""
    peer_bytes: Total = 0
    """Artifact bytes fetched from other nodes of the store so far."""
    fetching: Digest | None = None
    """The staged model that is on its way just now."""
    fetched_bytes: Total = 0
    """How much of ``fetching`` is on disk."""
    problem: str = ""
    """Why a staged model could not be fetched; it is tried again."""


class Telemetry(Message):
    """Heartbeat; its arrival is what keeps a device ``online``."""

    session_id: UUID
    at: UtcTime
    interval_s: Annotated[float, Field(gt=0)]
    agent_version: str
    model: ModelRef
    rollout_id: UUID | None = None
    config_digest: Digest
    config_error: str = ""
    """Why the newest configuration file was refused; the last good one stays in force."""
    device: DeviceTelemetry
    outbox: OutboxTelemetry
    cameras: tuple[CameraTelemetry, ...] = ()
    cached_models: Annotated[tuple[Digest, ...], Field(max_length=MAX_CACHED_MODELS)] | None = None
    """Artifacts that lie whole and checked on the node's disk; absent: the agent does not say."""
    delivery: DeliveryTelemetry | None = None


class CameraStatusMessage(Message):
    camera: Name
    status: CameraStatus
    reason: str = ""
    since: UtcTime
    at: UtcTime


class EventAck(Message):
    """Centre → device: every event of ``stream_id`` up to ``committed_sequence`` is in the database.

    ``resend`` asks the device to publish everything after it again: the centre lost its broker
    session, or sees a gap that does not close. ``begin_stream`` asks it to go on as a new stream, with
    all that waits: another event came under a number that the centre has an event for, so that
    ``committed_sequence`` may count that one.
    """

    stream_id: UUID
    committed_sequence: Total
    resend: bool = False
    begin_stream: bool = False


class StagingOrder(Message):
    """Centre → store, retained: models to fetch ahead of time. Replaces the order before it."""

    models: Annotated[tuple[Signed, ...], Field(max_length=MAX_STAGED_MODELS)] = ()
    """Signed ``ModelManifest``s, the most urgent first. Each is believed for its own signature."""


STATE_ADAPTER = TypeAdapter(DeviceState)
TELEMETRY_ADAPTER = TypeAdapter(Telemetry)
CAMERA_STATUS_ADAPTER = TypeAdapter(CameraStatusMessage)
ACK_ADAPTER = TypeAdapter(EventAck)
STAGING_ADAPTER = TypeAdapter(StagingOrder)


def decode_state(payload: bytes) -> DeviceState:
    return decode(STATE_ADAPTER, payload)


def decode_telemetry(payload: bytes) -> Telemetry:
    return decode(TELEMETRY_ADAPTER, payload)


def decode_camera_status(payload: bytes) -> CameraStatusMessage:
    return decode(CAMERA_STATUS_ADAPTER, payload)


def decode_ack(payload: bytes) -> EventAck:
    return decode(ACK_ADAPTER, payload)


def decode_staging(payload: bytes) -> StagingOrder:
    return decode(STAGING_ADAPTER, payload)
