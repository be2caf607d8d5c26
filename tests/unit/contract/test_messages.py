import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.base import MAX_MESSAGE_BYTES, Message
from contract.errors import MessageError
from contract.events import EVENT_CLASSES, Event, decode_event
from contract.messages import (
    DeviceState,
    EventAck,
    decode_ack,
    decode_camera_status,
    decode_staging,
    decode_state,
    decode_telemetry,
)
from contract.workload import decode_health, decode_manifest, decode_signed

DECODERS: dict[str, Callable[[bytes], Message]] = {
    "event": decode_event,
    "state": decode_state,
    "telemetry": decode_telemetry,
    "camera_status": decode_camera_status,
    "ack": decode_ack,
    "staging": decode_staging,
    "manifest": decode_manifest,
    "health": decode_health,
    "signed": decode_signed,
}
EXTRA: dict[str, dict[str, Any]] = {
    "facings_changed": {},
    "picked": {"quantity": 1},
    "put_back": {"quantity": 1},
    "restocked": {"quantity": 4},
    "misplaced": {"found_sku": "tea-box", "found_count": 1},
    "low_stock": {},
    "out_of_stock": {"facings": 0, "level": "out_of_stock"},
    "zone_unknown": {"reason": "occluded", "level": "unknown", "facings": None},
    "zone_known": {"unknown_s": 12.5},
    "retracted": {"retracts": UUID(int=3), "retracted_type": "low_stock", "reason": "seen again"},
    "status_changed": {"status": "dark", "previous_status": "online"},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.parametrize("name", DECODERS)
@given(payload=st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_message_or_a_message_error(name: str, payload: bytes) -> None:
    try:
        DECODERS[name](payload)
    except MessageError as error:
        assert len(str(error)) < 2000


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize(
    "payload",
    [b"", b"null", b"[]", b"\xff\xfe", b"[" * 50_000, b'{"a":' * 10_000, b" " * (MAX_MESSAGE_BYTES + 1)],
    ids=["empty", "null", "list", "no-utf8", "deep-list", "deep-object", "oversized"],
)
def test_hostile_payloads_are_refused(name: str, payload: bytes) -> None:
    with pytest.raises(MessageError):
        DECODERS[name](payload)


def test_every_event_kind_is_tested_here(make_event: Callable[..., Event]) -> None:
    assert {type(make_event(kind, **extra)) for kind, extra in EXTRA.items()} == set(EVENT_CLASSES)


@pytest.mark.parametrize(("kind", "extra"), EXTRA.items())
def test_events_survive_the_wire(make_event: Callable[..., Event], kind: str, extra: dict[str, Any]) -> None:
    event = make_event(kind, **extra)
    assert decode_event(event.to_bytes()) == event
    assert event.kind == kind
    assert (event.store, event.device, event.camera) == ("berlin-01", "node-1", "aisle-1")


def test_fields_of_a_newer_peer_are_ignored(make_event: Callable[..., Event]) -> None:
    event = make_event("picked", quantity=1)
    raw = json.loads(event.to_bytes()) | {"shelfmood": "cheerful"}
    raw["data"]["colour"] = "red"
    assert decode_event(json.dumps(raw).encode()) == event


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"type": "io.storefleet.shelf.exploded.v1"}, "type"),
        ({"source": "/stores/berlin-01"}, "source"),
        ({"source": "/stores/a/b/devices/c/cameras/d"}, "source"),
        ({"sequence": 0}, "sequence"),
        ({"time": "2026-05-04T10:00:00"}, "time"),
        ({"modeldigest": "md5:abc"}, "modeldigest"),
        ({"subject": None}, "subject"),
        ({"id": "seven"}, "id"),
    ],
)
def test_refusals_name_the_field(
    make_event: Callable[..., Event], change: dict[str, Any], names: str
) -> None:
    raw = json.loads(make_event("picked", quantity=1).to_bytes()) | change
    with pytest.raises(MessageError, match=names) as caught:
        decode_event(json.dumps(raw).encode())
    assert (
        "exploded" not in str(caught.value).replace("io.storefleet.shelf.exploded.v1", "") or names == "type"
    )


def test_times_become_utc() -> None:
    at = datetime(2026, 5, 4, 12, tzinfo=timezone(timedelta(hours=2)))
    state = DeviceState(status="online", session_id=UUID(int=1), at=at)
    assert decode_state(state.to_bytes()).at == datetime(2026, 5, 4, 10, tzinfo=UTC)
    assert decode_state(state.to_bytes()).at.tzinfo == UTC


def test_messages_do_not_change() -> None:
    ack = EventAck(stream_id=UUID(int=1), committed_sequence=4)
    with pytest.raises(ValueError, match="frozen"):
        ack.committed_sequence = 5


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    with pytest.raises(MessageError):
        decode_ack(f'{{"stream_id": "{UUID(int=1)}", "committed_sequence": {number}}}'.encode())
