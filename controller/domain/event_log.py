"""Stored events, and how to ask for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from contract.events import EVENT_CLASSES
from controller.errors import InvalidError


@dataclass(frozen=True, slots=True)
class StoredEvent:
    id: int
    """Order of arrival in the database; what cursors count."""
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
    """The event that proved this one wrong."""
    data: Mapping[str, Any]
    camera_epoch: int | None = None
    """Rises whenever another device takes the camera over."""
    quarantined_at: datetime | None = None
    """When its deployment was found not to be trusted; only listings say it."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """None means any. ``since`` and ``until`` bound the event time: since <= time < until."""

    store: str | None = None
    device: str | None = None
    camera: str | None = None
    zone: str | None = None
    kind: str | None = None
    release: str | None = None
    rollout_id: UUID | None = None
    model_digest: str | None = None
    quarantined: bool | None = None
    """Only those, or none of those, whose deployment is in quarantine."""
    since: datetime | None = None
    until: datetime | None = None
    after_id: int | None = None
    newest_first: bool = False


KINDS: tuple[str, ...] = tuple(cls.model_fields["type"].default.split(".")[-2] for cls in EVENT_CLASSES)
_KIND_OF: dict[str, str] = {
    cls.model_fields["type"].default: kind for cls, kind in zip(EVENT_CLASSES, KINDS, strict=True)
}


def kind_of(text: str) -> str:
    """The kind that ``out_of_stock`` or ``io.storefleet.shelf.out_of_stock.v1`` names. Raises
    ``InvalidError`` listing those that there are."""
    kind = _KIND_OF.get(text, text)
    if kind not in KINDS:
        raise InvalidError(f"event type {text[:80]!r} does not exist; use one of {', '.join(KINDS)}")
    return kind
