"""Stock per zone as the newest evidence says.

Events arrive late, twice and out of order; what is newer must win whatever the order of arrival.
Within one stream the sequence decides (it counts on even when the device's clock jumps); between
streams, which a wiped disk or a replaced device starts, the event time does. Where nodes share cameras, the
epoch decides before either: a node that lost a camera may still deliver what it saw before, and its clock
may be ahead of that of the node which watches now.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from contract.events import EventBase, Retracted, ZoneData, ZoneUnknownData
from contract.names import StockLevel

QUARANTINED = "quarantined"
"""Why a zone is unknown whose newest evidence came from a deployment that is not to be trusted."""


@dataclass(frozen=True, slots=True)
class ZoneStock:
    """``facings`` is what a camera sees, not stock on hand; None when not known."""

    store: str
    zone: str
    device: str
    camera: str
    sku: str
    capacity: int
    level: StockLevel
    facings: int | None
    reason: str
    """Why it is unknown; empty otherwise."""
    level_since: datetime
    event_time: datetime
    event_id: UUID
    stream_id: UUID
    sequence: int
    model_digest: str
    rollout_id: UUID | None
    camera_epoch: int | None = None
    """Which ownership of the camera it was seen in; None where nodes share none."""


@dataclass(frozen=True, slots=True)
class StockChange:
    """One entry of a zone's history: what one event said of it."""

    store: str
    zone: str
    event_id: UUID
    event_time: datetime
    stream_id: UUID
    sequence: int
    kind: str
    sku: str
    level: StockLevel
    facings: int | None
    retracted: bool = False
    quarantined: bool = False


def is_newer(current: ZoneStock, event: EventBase) -> bool:
    """Whether ``event`` knows more than ``current``."""
    known, told = current.camera_epoch, event.cameraepoch
    if event.camera == current.camera and known is not None and told is not None and told != known:
        return told > known
    if event.streamid == current.stream_id:
        return event.sequence > current.sequence
    return event.time > current.event_time


def apply(current: ZoneStock | None, event: EventBase) -> ZoneStock | None:
    """Stock after ``event``; ``current`` itself when the event is no news or not about a zone.

    Unknown stays unknown: a zone whose level is unknown has no facings.
    """
    data = getattr(event, "data", None)
    if event.subject is None or not isinstance(data, ZoneData):
        return current
    if current is not None and not is_newer(current, event):
        return current
    unknown = data.level is StockLevel.UNKNOWN
    same_level = current is not None and current.level is data.level
    return ZoneStock(
        store=event.store,
        zone=event.subject,
        device=event.device,
        camera=event.camera,
        sku=data.sku,
        capacity=data.capacity,
        level=data.level,
        facings=None if unknown else data.facings,
        reason=data.reason.value if unknown and isinstance(data, ZoneUnknownData) else "",
        level_since=current.level_since if current is not None and same_level else event.time,
        event_time=event.time,
        event_id=event.id,
        stream_id=event.streamid,
        sequence=event.sequence,
        model_digest=event.modeldigest,
        rollout_id=event.rolloutid,
        camera_epoch=event.cameraepoch,
    )


def history_of(event: EventBase) -> StockChange | None:
    """The history entry of an event, None when it is not about a zone."""
    data = getattr(event, "data", None)
    if event.subject is None or not isinstance(data, ZoneData):
        return None
    unknown = data.level is StockLevel.UNKNOWN
    return StockChange(
        store=event.store,
        zone=event.subject,
        event_id=event.id,
        event_time=event.time,
        stream_id=event.streamid,
        sequence=event.sequence,
        kind=event.kind,
        sku=data.sku,
        level=data.level,
        facings=None if unknown else data.facings,
    )


def retraction_of(event: EventBase) -> tuple[UUID, UUID] | None:
    """``(retracted event, retracting event)`` if ``event`` retracts another one."""
    return (event.data.retracts, event.id) if isinstance(event, Retracted) else None
