"""Turns event drafts into the CloudEvents that cross the wire.

Both outboxes use it inside their append, because only there are the sequence number and the record
time known; nothing else may number events.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from pydantic import ConfigDict, TypeAdapter

from agent.ports import EventDraft
from contract.base import decode
from contract.errors import MessageError
from contract.events import Event, EventBase, decode_event, event_source


class UnknownEvent(EventBase):
    """A stored event that another release wrote and this one does not know: all that it says is passed on."""

    model_config = ConfigDict(extra="allow")


_UNKNOWN_EVENT = TypeAdapter(UnknownEvent)


@dataclass(frozen=True, slots=True)
class Origin:
    """Who reports and what with: written into every event, so that it can be attributed later."""

    store: str
    device: str
    model_version: str
    model_digest: str
    rollout_id: UUID | None = None


def utc(seconds: float) -> datetime:
    """Seconds since the Unix epoch as a UTC datetime."""
    return datetime.fromtimestamp(seconds, UTC)


def seal(
    drafts: Sequence[EventDraft],
    origin: Origin,
    *,
    stream_id: UUID,
    last_sequence: int,
    now: float,
) -> list[Event]:
    """Events for ``drafts`` with consecutive sequence numbers from ``last_sequence + 1``, recorded at
    ``now`` (seconds since the epoch)."""
    return [
        _event(draft, origin, stream_id=stream_id, sequence=last_sequence + i, now=now)
        for i, draft in enumerate(drafts, start=1)
    ]


def read_stored(payload: bytes) -> EventBase:
    """The event in an outbox. Raises ``MessageError`` when not even its envelope can be read."""
    try:
        return decode_event(payload)
    except MessageError:  # after a rollback, the next line succeeds
        return decode(_UNKNOWN_EVENT, payload)


AnyEvent = TypeVar("AnyEvent", bound=EventBase)


def renumber(event: AnyEvent, stream_id: UUID, sequence: int) -> AnyEvent:
    """The same event at another place of another stream."""
    return event.model_copy(update={"streamid": stream_id, "sequence": sequence})


def _event(draft: EventDraft, origin: Origin, *, stream_id: UUID, sequence: int, now: float) -> Event:
    event: EventBase = draft.kind.model_validate(
        {
            "id": draft.id,
            "source": event_source(origin.store, origin.device, draft.camera),
            "subject": draft.zone,
            "time": utc(draft.at),
            "recordtime": utc(now),
            "streamid": stream_id,
            "sequence": sequence,
            "modelversion": origin.model_version,
            "modeldigest": origin.model_digest,
            "rolloutid": origin.rollout_id,
            "cameraepoch": draft.epoch,
            "data": draft.data,
        }
    )
    return event  # type: ignore[return-value]  # every class of EVENT_CLASSES is in the union Event
