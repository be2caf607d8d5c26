"""What is refused before it comes near the database."""

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.base import MAX_MESSAGE_BYTES
from contract.messages import CameraStatusMessage
from controller.domain.sequence import MAX_SEQUENCE
from controller.ports import Received
from controller.reading import MAX_KEPT_BYTES, Decoded, Refused, read


def event_with(device: Any, now: datetime, **changes: Any) -> Received:
    raw = json.loads(device.event(7).to_bytes()) | changes
    return Received(device.topics.events, json.dumps(raw).encode(), now)


def test_honest_messages_are_read(device: Any, now: datetime) -> None:
    status = CameraStatusMessage.model_validate(
        {"camera": "cam-1", "status": "dark", "since": now, "at": now}
    )
    for message in (device.event(1), device.birth(), device.heartbeat(), status):
        item = read(device.sent(message), now)
        assert isinstance(item, Decoded)
        assert item.body == message


REFUSALS = [
    pytest.param({"type": "io.storefleet.shelf.exploded.v1"}, "type", id="unknown type"),
    pytest.param(
        {"source": "/stores/paris-02/devices/node-1/cameras/c"}, "does not belong", id="another store"
    ),
    pytest.param(
        {"source": "/stores/berlin-01/devices/node-2/cameras/c"}, "does not belong", id="another device"
    ),
    pytest.param({"time": "2026-05-04T12:05:01Z"}, "301 s in the future: check the clock", id="future"),
    pytest.param({"time": "0001-01-01T00:00:00+14:00"}, "out of range", id="before all time"),
    pytest.param({"sequence": MAX_SEQUENCE + 1}, "sequence", id="absurd sequence"),
    pytest.param({"sequence": 0}, "sequence", id="sequence zero"),
    pytest.param({"modelversion": "a\0b"}, "U+0000", id="nul character"),
]


@pytest.mark.parametrize(("changes", "reason"), REFUSALS)
def test_a_bad_event_is_refused_with_its_reason(
    device: Any, now: datetime, changes: dict[str, Any], reason: str
) -> None:
    item = read(event_with(device, now, **changes), now)
    assert isinstance(item, Refused)
    assert reason in item.letter.reason


def test_a_little_ahead_is_forgiven(device: Any, now: datetime) -> None:
    assert isinstance(
        read(event_with(device, now, time=(now + timedelta(minutes=5)).isoformat()), now), Decoded
    )


def test_a_refused_event_keeps_its_number_and_all_of_itself(device: Any, now: datetime) -> None:
    received = event_with(device, now, type="io.storefleet.new.v1", padding="x" * 10_000)
    item = read(received, now)
    assert isinstance(item, Refused)
    assert (item.letter.stream_id, item.letter.sequence) == (device.stream, 7)
    assert item.letter.payload == received.payload


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff\xfe", b"{", b"[]", b"null", b"[" * 50_000, b'{"streamid": 3, "sequence": true}'],
    ids=["empty", "not utf-8", "truncated", "list", "null", "deeply nested", "wrong types"],
)
def test_garbage_is_refused_without_a_number(device: Any, now: datetime, payload: bytes) -> None:
    item = read(Received(device.topics.events, payload, now), now)
    assert isinstance(item, Refused)
    assert (item.letter.sequence, item.letter.store, item.letter.size) == (None, "berlin-01", len(payload))
    assert len(item.letter.payload) <= MAX_KEPT_BYTES


def test_an_oversized_message_is_refused_unread(device: Any, now: datetime) -> None:
    received = event_with(device, now, padding="x" * MAX_MESSAGE_BYTES)
    item = read(received, now)
    assert isinstance(item, Refused)
    assert f"{len(received.payload)} bytes" in item.letter.reason
    assert item.letter.sequence is None
    assert len(item.letter.payload) == MAX_KEPT_BYTES


@pytest.mark.parametrize("topic", ["", "a/b", "storefleet/v1/Berlin/node/events", "storefleet/v1/a/b/acks"])
def test_another_topic_is_refused(device: Any, now: datetime, topic: str) -> None:
    assert isinstance(read(Received(topic, device.event(1).to_bytes(), now), now), Refused)


def test_a_camera_must_match_its_topic(device: Any, now: datetime) -> None:
    values = {"camera": "cam-2", "status": "dark", "since": now, "at": now}
    payload = CameraStatusMessage.model_validate(values).to_bytes()
    item = read(Received(device.topics.camera_status("cam-1"), payload, now), now)
    assert isinstance(item, Refused)


@given(
    channel=st.sampled_from(["events", "state", "telemetry", "cameras/c/status"]),
    payload=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text() | st.sampled_from([str(UUID(int=0)), "1.0"]),
        lambda inner: st.dictionaries(st.sampled_from(["streamid", "sequence", "type", "time", "id"]), inner),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)
def test_nothing_makes_reading_raise(channel: str, payload: bytes) -> None:
    at = datetime.fromisoformat("2026-05-04T12:00:00+00:00")
    read(Received(f"storefleet/v1/a/b/{channel}", payload, at), at)
