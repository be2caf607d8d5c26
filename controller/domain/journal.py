"""What the centre writes down about itself: who did what, and which messages it had to refuse."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from controller.domain.sequence import StreamKey


@dataclass(frozen=True, slots=True)
class AuditEntry:
    at: datetime
    actor: str
    action: str
    """``store.register``, ``release.create`` …: the thing, a dot, the verb."""
    target: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    id: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not be taken in. The same message arriving again counts ``times`` up."""

    topic: str
    reason: str
    payload: bytes
    size: int
    """Bytes of the whole message; ``payload`` may hold only its beginning."""
    received_at: datetime
    store: str | None = None
    device: str | None = None
    stream_id: UUID | None = None
    sequence: int | None = None
    times: int = 1
    id: int = 0


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of the dead letters that hold events."""

    taken_in: int
    """Letters whose event is stored now."""
    refused: int
    """Letters that stay."""


@dataclass(frozen=True, slots=True)
class GapRecord:
    """Missing events of one stream, also after they came in or were given up."""

    key: StreamKey
    first: int
    last: int
    opened_at: datetime
    closed_at: datetime | None = None
    lost: bool = False
    """True when given up: the device no longer has these events."""
    id: int = 0
