"""Brings the outbox and the device's state to the centre, whatever the link does meanwhile.

An event is sent QoS 1 but leaves the outbox only when the centre's ``EventAck`` says that it is in
the database. So on every (re)connection everything uncommitted is sent again, in order, and what the
centre already has it recognises by ``event_id``. At most ``window`` uncommitted events are under way;
the rest waits on disk, so neither this process nor the broker fills up while the centre is away.

The publisher is one thread that owns the connection; nothing else publishes.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from agent.envelope import utc
from agent.errors import TransientError
from agent.ports import Broker, Incoming, Outbox, OutboxStatus
from contract.errors import MessageError
from contract.events import HISTORICAL_AFTER_S
from contract.golden import GoldenReport
from contract.messages import (
    CameraStatusMessage,
    DeviceState,
    EventAck,
    Telemetry,
    decode_ack,
    decode_state,
)
from contract.topics import DeviceTopics, shadow_topic, staging_topic

WINDOW = 500
"""Events on their way to the centre that it has not yet committed."""
BATCH = 200
"""Events read from the outbox at a time; between batches acknowledgements are handled."""
TURN_S = 0.05
"""How long one turn waits for the broker: the most that a new event waits before it is sent."""
REBIRTH_PAUSE_S = 5.0

_log = logging.getLogger(__name__)


class Reporter(Protocol):
    """What the device has to say about itself at the moment."""

    def camera_ids(self) -> tuple[str, ...]: ...

    def birth(self) -> DeviceState: ...

    def golden(self) -> GoldenReport | None:
        """Told with the birth."""

    def telemetry(self) -> Telemetry: ...

    def camera_statuses(self) -> Sequence[CameraStatusMessage]: ...


class Publisher:
    """``clock`` is wall time and ``monotonic`` a steady clock, both in seconds."""

    def __init__(
        self,
        broker: Broker,
        outbox: Outbox,
        topics: DeviceTopics,
        reporter: Reporter,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        telemetry_s: float,
        window: int = WINDOW,
        on_staging: Callable[[bytes], None] | None = None,
        on_shadow: Callable[[bytes], None] | None = None,
    ) -> None:
        """``on_staging`` and ``on_shadow`` get each order of the store; they must return at once."""
        self._broker = broker
        self._outbox = outbox
        self._topics = topics
        self._reporter = reporter
        self._clock = clock
        self._monotonic = monotonic
        self._telemetry_s = telemetry_s
        self._window = window
        self._orders = {
            topic: obey
            for topic, obey in (
                (staging_topic(topics.store), on_staging),
                (shadow_topic(topics.store), on_shadow),
            )
            if obey is not None
        }
        self._born: DeviceState | None = None
        self._statuses: dict[str, CameraStatusMessage] = {}
        self._retained: set[str] = set()
        """Cameras whose status the broker keeps, across reconnects; cleared when they are removed."""
        self._next_telemetry = 0.0
        self._next_rebirth = 0.0
        self._overwritten = False
        """Whether another session's state is retained where ours should be."""
        status = outbox.status()
        self._committed = status.last_sequence - status.pending
        self._sent = self._committed
        self._ever_sent = 0
        self._owed: EventAck | None = None
        self._stream_used_up = False
        """Whether the centre asked for a new stream that the disk refused so far."""
        self._next_settle = 0.0
        self._complaint = ""

    def run(self, stop: threading.Event) -> None:
        """Turn until ``stop`` is set. Raises ``PermanentError`` when the outbox is unusable."""
        while not stop.is_set():
            self.turn(TURN_S)

    def turn(self, timeout: float) -> None:
        """Handle what the broker reported within ``timeout`` seconds, then send what is due."""
        incoming = self._broker.take(timeout)
        while incoming is not None:
            self._handle(incoming)
            incoming = self._broker.take(0)
        self._settle()
        try:
            if self._broker.connected and self._announce():
                self._send_events()
        except TransientError as error:
            self._complain(error)

    def drain(self, go_on: Callable[[], bool]) -> bool:
        """Turn until every event is committed or ``go_on`` says no; whether the outbox is empty."""
        while self._outbox.status().pending:
            if not go_on():
                return False
            self.turn(TURN_S)
        return True

    def send_telemetry(self) -> None:
        """Out of turn: the last one of this process."""
        self._broker.publish(self._topics.telemetry, self._reporter.telemetry().to_bytes(), qos=0)

    def send_death(self, reason: str) -> None:
        """Mark this session offline. Only while holding the node's lock, else it hides a successor.

        QoS 0, because a QoS 1 message may queue behind events and would be lost with the goodbye.
        """
        death = self._reporter.birth().model_copy(update={"status": "offline", "reason": reason})
        self._broker.publish(self._topics.state, death.to_bytes(), qos=0, retain=True)

    def _handle(self, incoming: Incoming) -> None:
        if incoming.kind == "connected":
            _log.info("connected to the broker", extra={"detail": incoming.detail})
            self._born = None
            self._statuses.clear()
            self._sent = self._committed
        elif incoming.kind == "disconnected":
            _log.warning(
                "no broker; events wait in the outbox",
                extra={"detail": incoming.detail},
            )
            self._born = None
        elif incoming.topic == self._topics.acks:
            self._on_ack(incoming.payload)
        elif incoming.topic == self._topics.state:
            self._on_foreign_state(incoming.payload)
        elif incoming.topic in self._orders:
            self._orders[incoming.topic](incoming.payload)

    def _on_ack(self, payload: bytes) -> None:
        try:
            ack = decode_ack(payload)
        except MessageError as error:
            _log.warning("acknowledgement refused", extra={"detail": str(error)})
            return
        status = self._outbox.status()
        if ack.stream_id != status.stream_id:
            return
        self._stream_used_up |= ack.begin_stream or ack.committed_sequence > status.last_sequence
        if self._stream_used_up:
            self._begin_stream(ack, status)
            return
        # Never what this process did not send: the centre may mean other events by these numbers.
        committed = min(ack.committed_sequence, self._ever_sent)
        if committed > self._committed:
            self._committed = committed
            self._owed = ack.model_copy(update={"committed_sequence": committed})
        if ack.resend:
            _log.info("centre asks for a resend", extra={"after": self._committed})
            self._sent = self._committed
        self._sent = max(self._sent, self._committed)

    def _begin_stream(self, ack: EventAck, status: OutboxStatus) -> None:
        try:
            self._outbox.begin_stream()
        except TransientError as error:
            self._complain(error)  # The next acknowledgement says the same again.
            return
        _log.error(
            "the centre has other events under these numbers: the disk lost events; a new stream begins",
            extra={"centre": ack.committed_sequence, "outbox": status.last_sequence},
        )
        self._committed = self._sent = self._ever_sent = 0
        self._owed = None
        self._stream_used_up = False
        self._born = None  # The birth names the stream.

    def _settle(self) -> None:
        """Forget on disk what the centre has. When the disk refuses it is tried again later; meanwhile all
        else goes on, above all the telemetry that tells of the full disk."""
        if self._owed is None or self._monotonic() < self._next_settle:
            return
        try:
            self._outbox.commit(self._owed)
            self._owed = None
            self._complaint = ""
        except TransientError as error:
            self._next_settle = self._monotonic() + error.retry_after
            self._complain(error)

    def _complain(self, error: TransientError) -> None:
        """Log what the outbox refuses, once until it works again or refuses something else."""
        if str(error) != self._complaint:
            self._complaint = str(error)
            _log.warning("outbox not usable at the moment", extra={"detail": self._complaint})

    def _on_foreign_state(self, payload: bytes) -> None:
        """The late will of a killed predecessor replaced our retained birth: put ours back."""
        try:
            foreign = decode_state(payload)
        except MessageError as error:
            _log.warning("foreign device state refused", extra={"detail": str(error)})
            return
        if self._born and foreign.session_id != self._born.session_id:
            self._overwritten = True

    def _restore_birth(self) -> None:
        """Two agents that both think the node theirs would overwrite each other's birth without a pause."""
        now = self._monotonic()
        if self._overwritten and now >= self._next_rebirth:
            self._next_rebirth = now + REBIRTH_PAUSE_S
            self._born = None

    def _announce(self) -> bool:
        """Birth, camera statuses and telemetry, as far as they are due; False: not connected after all."""
        self._restore_birth()
        if self._born is None or self._reporter.camera_ids() != self._born.cameras:
            birth = self._reporter.birth()
            if not self._broker.publish(self._topics.state, birth.to_bytes(), qos=1, retain=True):
                return False
            golden = self._reporter.golden()
            if golden is not None and not self._broker.publish(
                self._topics.golden, golden.to_bytes(), qos=1, retain=True
            ):
                return False
            self._born = birth
            self._overwritten = False
        current = {message.camera: message for message in self._reporter.camera_statuses()}
        for camera, message in current.items():
            last = self._statuses.get(camera)
            if last is not None and (last.status, last.since, last.reason) == (
                message.status,
                message.since,
                message.reason,
            ):
                continue
            topic = self._topics.camera_status(camera)
            if not self._broker.publish(topic, message.to_bytes(), qos=1, retain=True):
                return False
            self._statuses[camera] = message
            self._retained.add(camera)
        for gone in sorted(self._retained - current.keys()):
            if not self._broker.publish(self._topics.camera_status(gone), b"", qos=1, retain=True):
                return False
            self._statuses.pop(gone, None)
            self._retained.remove(gone)
        if self._monotonic() >= self._next_telemetry:
            self._next_telemetry = self._monotonic() + self._telemetry_s
            self.send_telemetry()
        return True

    def _send_events(self) -> None:
        room = min(BATCH, self._window - (self._sent - self._committed))
        if room <= 0:
            return
        for event in self._outbox.pending(self._sent, room):
            again = event.sequence <= self._ever_sent
            late = (utc(self._clock()) - event.recordtime).total_seconds() > HISTORICAL_AFTER_S
            message = event.model_copy(update={"historical": True}) if again or late else event
            if not self._broker.publish(self._topics.events, message.to_bytes(), qos=1):
                return
            self._sent = event.sequence
            self._ever_sent = max(self._ever_sent, event.sequence)
