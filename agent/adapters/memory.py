"""An outbox in memory: for ``storefleet try``, benchmarks and tests. Loses everything with the process.

It passes the same test-suite as the one on disk (``tests/unit/agent/test_outbox_suite.py``).
"""

import threading
from collections.abc import Callable, Sequence
from uuid import UUID

from agent.envelope import Origin, renumber, seal
from agent.errors import TransientError
from agent.ports import EventDraft, OutboxStatus
from contract.events import Event
from contract.messages import EventAck


class MemoryOutbox:
    """Implements ``agent.ports.Outbox``. ``full`` plays a full disk."""

    def __init__(self, origin: Origin, *, clock: Callable[[], float], new_id: Callable[[], UUID]) -> None:
        self.full = False
        self._origin = origin
        self._clock = clock
        self._new_id = new_id
        self._stream_id = new_id()
        self._events: list[Event] = []
        self._last_sequence = 0
        self._state: bytes | None = None
        self._lock = threading.Lock()

    def append(self, drafts: Sequence[EventDraft], state: bytes) -> list[Event]:
        with self._lock:
            if self.full:
                raise TransientError("the outbox is full; make room and it goes on by itself", 1.0)
            events = seal(
                drafts,
                self._origin,
                stream_id=self._stream_id,
                last_sequence=self._last_sequence,
                now=self._clock(),
            )
            self._events += events
            self._last_sequence += len(events)
            self._state = state
            return events

    def pending(self, after: int, limit: int) -> list[Event]:
        with self._lock:
            return [event for event in self._events if event.sequence > after][:limit]

    def commit(self, ack: EventAck) -> int:
        with self._lock:
            if ack.stream_id != self._stream_id or ack.committed_sequence > self._last_sequence:
                return 0
            before = len(self._events)
            self._events = [e for e in self._events if e.sequence > ack.committed_sequence]
            return before - len(self._events)

    def begin_stream(self) -> None:
        with self._lock:
            self._stream_id = self._new_id()
            self._events = [
                renumber(event, self._stream_id, number) for number, event in enumerate(self._events, start=1)
            ]
            self._last_sequence = len(self._events)

    def status(self) -> OutboxStatus:
        with self._lock:
            return OutboxStatus(self._stream_id, self._last_sequence, len(self._events), self._state)
