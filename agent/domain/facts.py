"""What the domain found out, before the service wraps it into an event with ids and a sequence number."""

from dataclasses import dataclass
from typing import Any

from contract.events import EventBase


@dataclass(frozen=True, slots=True)
class Fact:
    """``kind`` is a class of ``contract.events``, ``data`` an instance of its data model, ``at`` the
    capture time (seconds since the epoch) of the frame that proved it; ``zone`` is None for facts
    about the camera itself."""

    kind: type[EventBase]
    zone: str | None
    at: float
    data: Any
