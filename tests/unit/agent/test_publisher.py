"""The publisher's promises, turn by turn, against an outbox in memory and a scripted connection."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from agent.adapters.ids import new_event_id
from agent.adapters.memory import MemoryOutbox
from agent.envelope import Origin, utc
from agent.errors import TransientError
from agent.ports import EventDraft, Incoming
from agent.publisher import REBIRTH_PAUSE_S, Publisher
from contract.events import HISTORICAL_AFTER_S, decode_event
from contract.golden import GoldenReport
from contract.messages import (
    CameraStatusMessage,
    DeviceState,
    DeviceTelemetry,
    EventAck,
    ModelRef,
    OutboxTelemetry,
    Telemetry,
    decode_state,
)
from contract.names import CameraStatus
from contract.topics import DeviceTopics

DIGEST = "sha256:" + "ab" * 32
TOPICS = DeviceTopics("berlin-01", "node-1")
Draft = Callable[..., EventDraft]


@dataclass
class Wire:
    """A connection that the test opens, cuts and listens to."""

    connected: bool = False
    accepts: int = 1_000_000
    sent: list[tuple[str, bytes, bool]] = field(default_factory=list)
    incoming: deque[Incoming] = field(default_factory=deque)

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> bool:
        if not self.connected or self.accepts <= 0:
            return False
        self.accepts -= 1
        self.sent.append((topic, payload, retain))
        return True

    def take(self, timeout: float) -> Incoming | None:
        return self.incoming.popleft() if self.incoming else None

    def close(self) -> None:
        self.connected = False

    def connect(self) -> None:
        self.connected = True
        self.incoming.append(Incoming("connected"))

    def cut(self) -> None:
        self.connected = False
        self.incoming.append(Incoming("disconnected"))

    def take_events(self) -> list[tuple[int, bool]]:
        events = [decode_event(p) for topic, p, _ in self.sent if topic == TOPICS.events]
        self.sent.clear()
        return [(event.sequence, event.historical) for event in events]

    def states(self) -> list[DeviceState]:
        return [decode_state(payload) for topic, payload, _ in self.sent if topic == TOPICS.state]


@dataclass
class Device:
    session: UUID = field(default_factory=uuid4)
    cameras: tuple[str, ...] = ("aisle-1",)
    status: CameraStatus = CameraStatus.ONLINE
    births: int = 0

    def camera_ids(self) -> tuple[str, ...]:
        return self.cameras

    def golden(self) -> GoldenReport | None:
        return None

    def birth(self) -> DeviceState:
        self.births += 1
        return DeviceState(
            status="online",
            session_id=self.session,
            at=datetime.now(UTC),
            cameras=self.cameras,
        )

    def telemetry(self) -> Telemetry:
        return Telemetry(
            session_id=self.session,
            at=datetime.now(UTC),
            interval_s=5,
            agent_version="1",
            model=ModelRef(digest=DIGEST, version="1"),
            config_digest=DIGEST,
            device=DeviceTelemetry(cpu_percent=1, memory_mb=1, memory_percent=1, disk_free_mb=1),
            outbox=OutboxTelemetry(stream_id=self.session, last_sequence=0, pending=0),
        )

    def camera_statuses(self) -> Sequence[CameraStatusMessage]:
        at = utc(0)
        return [CameraStatusMessage(camera=c, status=self.status, since=at, at=at) for c in self.cameras]


@dataclass
class Bench:
    wire: Wire
    outbox: MemoryOutbox
    device: Device
    publisher: Publisher
    now: list[float]

    def ack(self, sequence: int, *, resend: bool = False, begin_stream: bool = False) -> None:
        ack = EventAck(
            stream_id=self.outbox.status().stream_id,
            committed_sequence=sequence,
            resend=resend,
            begin_stream=begin_stream,
        )
        self.wire.incoming.append(Incoming("message", topic=TOPICS.acks, payload=ack.to_bytes()))


@pytest.fixture
def bench(origin: Origin) -> Bench:
    now = [1_700_000_000.0]
    wire, device = Wire(), Device()
    outbox = MemoryOutbox(origin, clock=lambda: now[0], new_id=new_event_id)
    publisher = Publisher(
        wire,
        outbox,
        TOPICS,
        device,
        clock=lambda: now[0],
        monotonic=lambda: now[0],
        telemetry_s=5.0,
        window=10,
    )
    return Bench(wire, outbox, device, publisher, now)


def test_nothing_is_sent_while_disconnected_and_everything_afterwards(bench: Bench, draft: Draft) -> None:
    bench.outbox.append([draft(), draft()], b"")
    bench.publisher.turn(0)
    assert bench.wire.sent == []
    bench.wire.connect()
    bench.publisher.turn(0)
    assert bench.wire.take_events() == [(1, False), (2, False)]


def test_birth_comes_first_and_is_retained(bench: Bench, draft: Draft) -> None:
    bench.outbox.append([draft()], b"")
    bench.wire.connect()
    bench.publisher.turn(0)
    topics = [topic for topic, _, _ in bench.wire.sent]
    assert topics == [
        TOPICS.state,
        TOPICS.camera_status("aisle-1"),
        TOPICS.telemetry,
        TOPICS.events,
    ]
    assert [retain for _, _, retain in bench.wire.sent] == [True, True, False, False]


def test_events_leave_the_outbox_only_with_the_centres_ack(bench: Bench, draft: Draft) -> None:
    bench.outbox.append([draft() for _ in range(3)], b"")
    bench.wire.connect()
    bench.publisher.turn(0)
    assert bench.outbox.status().pending == 3
    bench.ack(2)
    bench.publisher.turn(0)
    assert [event.sequence for event in bench.outbox.pending(0, 10)] == [3]


def test_full_disk_delays_forgetting_but_neither_telemetry_nor_events(
    bench: Bench, draft: Draft, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(ack: EventAck) -> int:
        raise TransientError("disk full", 1.0)

    bench.outbox.append([draft() for _ in range(3)], b"")
    bench.wire.connect()
    bench.publisher.turn(0)
    with monkeypatch.context() as patch:
        patch.setattr(bench.outbox, "commit", refuse)
        bench.ack(2)
        for _ in range(50):
            bench.now[0] += 0.5
            bench.publisher.turn(0)
    assert sum(topic == TOPICS.telemetry for topic, _, _ in bench.wire.sent) == 6
    assert len([r for r in caplog.records if "not usable" in r.message]) == 1
    bench.now[0] += 1
    bench.publisher.turn(0)
    assert [event.sequence for event in bench.outbox.pending(0, 10)] == [3]


def test_window_bounds_what_is_under_way(bench: Bench, draft: Draft) -> None:
    bench.outbox.append([draft() for _ in range(25)], b"")
    bench.wire.connect()
    for _ in range(3):
        bench.publisher.turn(0)
    assert [s for s, _ in bench.wire.take_events()] == list(range(1, 11))
    bench.ack(4)
    bench.publisher.turn(0)
    assert [s for s, _ in bench.wire.take_events()] == [11, 12, 13, 14]


def test_reconnect_sends_everything_uncommitted_again_as_historical(bench: Bench, draft: Draft) -> None:
    bench.outbox.append([draft() for _ in range(3)], b"")
    bench.wire.connect()
    bench.publisher.turn(0)
    bench.ack(1)
    bench.wire.cut()
    bench.publisher.turn(0)
    bench.outbox.append([draft()], b"")
    bench.wire.take_events()
    bench.wire.connect()
    bench.publisher.turn(0)
    assert bench.wire.take_events() == [(2, True), (3, True), (4, False)]


def test_resend_request_sends_again_after_the_committed_sequence(bench: Bench, draft: Draft) -> None:
    bench.outbox.append([draft() for _ in range(4)], b"")
    bench.wire.connect()
    bench.publisher.turn(0)
    bench.wire.take_events()
    bench.ack(1, resend=True)
    bench.publisher.turn(0)
    assert bench.wire.take_events() == [(2, True), (3, True), (4, True)]


def test_outbox_that_fell_behind_the_centre_begins_a_new_stream_and_loses_nothing(
    bench: Bench, draft: Draft
) -> None:
    """The disk came back from a power cut, or a backup, without its last events: their numbers are taken."""
    bench.outbox.append([draft(), draft()], b"")
    old = bench.outbox.status().stream_id
    bench.wire.connect()
    bench.publisher.turn(0)
    bench.ack(40)
    bench.publisher.turn(0)
    bench.publisher.turn(0)
    status = bench.outbox.status()
    assert (status.stream_id == old, status.last_sequence, status.pending) == (False, 2, 2)
    payloads = [payload for topic, payload, _ in bench.wire.sent if topic == TOPICS.events]
    sent = [(event.streamid, event.sequence) for event in map(decode_event, payloads)]
    assert sent == [(old, 1), (old, 2), (status.stream_id, 1), (status.stream_id, 2)]
    assert len(bench.wire.states()) == 2
    bench.ack(2)
    bench.publisher.turn(0)
    assert bench.outbox.status().pending == 0


def test_reused_numbers_begin_a_new_stream_and_lose_nothing(bench: Bench, draft: Draft) -> None:
    events = bench.outbox.append([draft() for _ in range(4)], b"")
    bench.wire.connect()
    bench.publisher.turn(0)
    bench.wire.take_events()
    old = bench.outbox.status().stream_id
    bench.ack(3, begin_stream=True)
    bench.publisher.turn(0)
    assert bench.outbox.status().stream_id != old
    assert [sequence for sequence, _ in bench.wire.take_events()] == [1, 2, 3, 4]
    assert [event.id for event in bench.outbox.pending(0, 10)] == [event.id for event in events]


def test_a_new_stream_that_the_disk_refuses_is_begun_with_the_next_ack(
    bench: Bench, draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise TransientError("disk full", 1.0)

    bench.outbox.append([draft()], b"")
    bench.wire.connect()
    bench.publisher.turn(0)
    with monkeypatch.context() as patch:
        patch.setattr(bench.outbox, "begin_stream", refuse)
        bench.ack(1, begin_stream=True)
        bench.publisher.turn(0)
    old = bench.outbox.status().stream_id
    bench.ack(1)
    bench.publisher.turn(0)
    assert bench.outbox.status().stream_id != old
    assert bench.outbox.status().pending == 1


def test_what_was_never_sent_is_not_forgotten_whatever_the_centre_says(bench: Bench, draft: Draft) -> None:
    """An old copy of the outbox may have caught up with numbers that the centre has other events under."""
    bench.outbox.append([draft() for _ in range(15)], b"")
    bench.wire.connect()
    bench.publisher.turn(0)
    bench.wire.take_events()
    bench.ack(12)
    bench.publisher.turn(0)
    assert [event.sequence for event in bench.outbox.pending(0, 20)] == [11, 12, 13, 14, 15]
    assert [sequence for sequence, _ in bench.wire.take_events()] == [11, 12, 13, 14, 15]


def test_late_delivery_is_historical(bench: Bench, draft: Draft) -> None:
    bench.outbox.append([draft()], b"")
    bench.now[0] += HISTORICAL_AFTER_S + 1
    bench.outbox.append([draft()], b"")
    bench.wire.connect()
    bench.publisher.turn(0)
    assert bench.wire.take_events() == [(1, True), (2, False)]
    assert [event.historical for event in bench.outbox.pending(0, 9)] == [False, False]


def test_refused_publish_is_tried_again_without_gap_or_repeat(bench: Bench, draft: Draft) -> None:
    bench.outbox.append([draft() for _ in range(5)], b"")
    bench.wire.accepts = 3 + 2
    bench.wire.connect()
    bench.publisher.turn(0)
    bench.wire.accepts = 100
    bench.publisher.turn(0)
    assert bench.wire.take_events() == [(n, False) for n in range(1, 6)]


def test_camera_status_is_sent_once_per_change_and_after_each_reconnect(
    bench: Bench,
) -> None:
    topic = TOPICS.camera_status("aisle-1")
    bench.wire.connect()
    for _ in range(3):
        bench.publisher.turn(0)
    bench.device.status = CameraStatus.DARK
    bench.publisher.turn(0)
    assert sum(t == topic for t, _, _ in bench.wire.sent) == 2
    bench.wire.cut()
    bench.wire.connect()
    bench.publisher.turn(0)
    assert sum(t == topic for t, _, _ in bench.wire.sent) == 3


def test_new_camera_list_is_a_new_birth(bench: Bench) -> None:
    bench.wire.connect()
    bench.publisher.turn(0)
    bench.device.cameras = ("aisle-1", "aisle-2")
    bench.publisher.turn(0)
    assert [state.cameras for state in bench.wire.states()] == [
        ("aisle-1",),
        ("aisle-1", "aisle-2"),
    ]


def test_the_retained_status_of_a_removed_camera_is_cleared_once(bench: Bench) -> None:
    bench.device.cameras = ("aisle-1", "aisle-2")
    bench.wire.connect()
    bench.publisher.turn(0)
    bench.wire.cut()
    bench.device.cameras = ("aisle-1",)
    bench.publisher.turn(0)
    bench.wire.sent.clear()
    bench.wire.connect()
    bench.publisher.turn(0)
    bench.publisher.turn(0)
    cleared = [(topic, retain) for topic, payload, retain in bench.wire.sent if payload == b""]
    assert cleared == [(TOPICS.camera_status("aisle-2"), True)]


def test_birth_is_made_only_when_it_is_due(bench: Bench) -> None:
    """It costs a query and a validation; there are twenty turns a second."""
    bench.wire.connect()
    for _ in range(10):
        bench.publisher.turn(0)
    assert (bench.device.births, len(bench.wire.states())) == (1, 1)


def test_late_will_of_a_killed_predecessor_is_overwritten_but_not_in_a_loop(
    bench: Bench,
) -> None:
    bench.wire.connect()
    bench.publisher.turn(0)
    foreign = DeviceState(status="offline", session_id=uuid4(), at=datetime.now(UTC))
    for _ in range(5):
        bench.wire.incoming.append(Incoming("message", topic=TOPICS.state, payload=foreign.to_bytes()))
        bench.publisher.turn(0)
    assert len(bench.wire.states()) == 2
    bench.now[0] += REBIRTH_PAUSE_S
    bench.publisher.turn(0)
    bench.publisher.turn(0)
    states = bench.wire.states()
    assert (len(states), states[-1].session_id) == (3, bench.device.session)


def test_telemetry_keeps_its_interval(bench: Bench) -> None:
    bench.wire.connect()
    for _ in range(25):
        bench.publisher.turn(0)
        bench.now[0] += 1
    assert sum(topic == TOPICS.telemetry for topic, _, _ in bench.wire.sent) == 5


@pytest.mark.parametrize("payload", [b"", b"{", b'{"stream_id": 1}', b"\xff" * 100, b"x" * 200_000])
def test_malformed_acks_change_nothing(bench: Bench, draft: Draft, payload: bytes) -> None:
    bench.outbox.append([draft()], b"")
    bench.wire.connect()
    bench.wire.incoming.append(Incoming("message", topic=TOPICS.acks, payload=payload))
    bench.publisher.turn(0)
    assert bench.outbox.status().pending == 1


def test_drain_ends_when_all_is_committed_or_told_to_stop(bench: Bench, draft: Draft) -> None:
    bench.outbox.append([draft()], b"")
    bench.wire.connect()
    turns = iter([True, True, False])
    assert bench.publisher.drain(lambda: next(turns)) is False
    bench.ack(1)
    assert bench.publisher.drain(lambda: True) is True


def test_death_names_its_own_session(bench: Bench) -> None:
    bench.wire.connect()
    bench.publisher.turn(0)
    bench.publisher.send_death("stopped")
    last = bench.wire.states()[-1]
    assert (last.status, last.session_id, last.reason) == (
        "offline",
        bench.device.session,
        "stopped",
    )
