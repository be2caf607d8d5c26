"""What a message from a store says, or why it is refused. Needs no database."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from contract.base import MAX_MESSAGE_BYTES
from contract.errors import MessageError, TopicError
from contract.events import EventBase, decode_event
from contract.golden import GoldenReport, decode_golden_report
from contract.messages import (
    CameraStatusMessage,
    DeviceState,
    Telemetry,
    decode_camera_status,
    decode_state,
    decode_telemetry,
)
from contract.topics import Channel, ParsedTopic, parse
from controller.domain.journal import DeadLetter
from controller.domain.sequence import MAX_SEQUENCE
from controller.ports import Received

MAX_AHEAD = timedelta(minutes=5)
"""How far an event may lie in the future of the centre's clock."""

MAX_KEPT_BYTES = 4096
"""How much of a refused message is kept when it is not an event that is lost otherwise."""


@dataclass(frozen=True, slots=True)
class CameraGone:
    """Nothing is retained on the status topic of ``camera`` any more: its device no longer has it."""

    camera: str


Body = EventBase | DeviceState | Telemetry | CameraStatusMessage | CameraGone | GoldenReport


@dataclass(frozen=True, slots=True)
class Decoded:
    received: Received
    store: str
    device: str
    body: Body


@dataclass(frozen=True, slots=True)
class Refused:
    received: Received
    letter: DeadLetter

    @property
    def store(self) -> str | None:
        return self.letter.store


def read(received: Received, now: datetime) -> Decoded | Refused:
    """Parse and check one message. ``now`` is when it counts as received."""
    try:
        topic = parse(received.topic)
        body = _decode(topic, received.payload)
    except (TopicError, MessageError) as error:
        return refuse(received, now, str(error))
    reason = _objection(topic, body, received.payload, now)
    if reason:
        return refuse(received, now, reason)
    return Decoded(received, topic.store, topic.device, body)


def refuse(received: Received, now: datetime, reason: str, numbered: bool = True) -> Refused:
    """A dead letter. ``numbered``: keep its place in the stream, if it says one, and all of it."""
    topic = _topic_of(received)
    stream_id, sequence = _place(received.payload) if numbered and topic is not None else (None, None)
    if topic is None or topic.channel is not Channel.EVENTS:
        stream_id = sequence = None
    kept = MAX_MESSAGE_BYTES if sequence is not None else MAX_KEPT_BYTES
    letter = DeadLetter(
        topic=received.topic,
        reason=reason,
        payload=received.payload[:kept],
        size=len(received.payload),
        received_at=now,
        store=topic.store if topic else None,
        device=topic.device if topic else None,
        stream_id=stream_id,
        sequence=sequence,
    )
    return Refused(received, letter)


def _decode(topic: ParsedTopic, payload: bytes) -> Body:
    match topic.channel:
        case Channel.EVENTS:
            return decode_event(payload)
        case Channel.STATE:
            return decode_state(payload)
        case Channel.TELEMETRY:
            return decode_telemetry(payload)
        case Channel.GOLDEN:
            return decode_golden_report(payload)
        case Channel.CAMERA_STATUS:
            if not payload and topic.camera is not None:
                return CameraGone(topic.camera)
            return decode_camera_status(payload)
    raise MessageError(f"nothing is expected on {topic.channel} from a device")


def _objection(topic: ParsedTopic, body: Body, payload: bytes, now: datetime) -> str | None:
    if rb"\u0000" in payload:
        return "contains the character U+0000, which PostgreSQL cannot store"
    if isinstance(body, EventBase):
        if (body.store, body.device) != (topic.store, topic.device):
            return f"source {body.source} does not belong to topic {topic.store}/{topic.device}"
        if body.sequence > MAX_SEQUENCE:
            return f"sequence {body.sequence} is above {MAX_SEQUENCE}"
        if body.time > now + MAX_AHEAD:
            ahead = (body.time - now).total_seconds()
            return (
                f"event time is {ahead:.0f} s in the future: check the clock of {topic.store}/{topic.device}"
            )
    elif isinstance(body, Telemetry):
        if max(body.outbox.last_sequence, body.outbox.pending) > MAX_SEQUENCE:
            return f"outbox counts above {MAX_SEQUENCE}"
    elif isinstance(body, CameraStatusMessage) and body.camera != topic.camera:
        return f"camera {body.camera} does not belong to topic camera {topic.camera}"
    return None


def _topic_of(received: Received) -> ParsedTopic | None:
    try:
        return parse(received.topic)
    except TopicError:
        return None


def _place(payload: bytes) -> tuple[UUID | None, int | None]:
    """Stream and number of something that is not a valid event but may still say them."""
    if len(payload) > MAX_MESSAGE_BYTES:
        return None, None
    try:
        raw = json.loads(payload)
        stream_id, sequence = UUID(raw["streamid"]), raw["sequence"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None, None
    if type(sequence) is not int or not 1 <= sequence <= MAX_SEQUENCE:
        return None, None
    return stream_id, sequence
