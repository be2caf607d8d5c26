import base64
import zlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from contract.deployment import (
    MAX_DESIRED_BYTES,
    MAX_UNPACKED_BYTES,
    DesiredState,
    ReportedState,
    decode_envelope,
    decode_reported,
    open_desired,
    pack,
    unpack,
)
from contract.errors import MessageError, SignatureError
from contract.signing import sign

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


def desired(**changes: Any) -> DesiredState:
    fields = {
        "store": "berlin-01",
        "generation": 3,
        "rollout_id": UUID(int=1),
        "namespace": "storefleet",
        "daemon_set": {"kind": "DaemonSet", "spec": {"minReadySeconds": 0, "paused": None}},
        "config_map": {"kind": "ConfigMap", "data": {"store.yaml": "version: 1\n"}},
        "issued_at": AT,
    }
    return DesiredState.model_validate({**fields, **changes})


def packed(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw, 9)).decode()


def test_signed_state_comes_back_as_it_was() -> None:
    envelope = decode_envelope(sign(pack(desired()), KEY).to_bytes())
    opened = open_desired(envelope, [KEY.public_key()])
    assert opened.model_dump(exclude={"daemon_set"}) == desired().model_dump(exclude={"daemon_set"})
    assert opened.daemon_set is not None
    assert opened.daemon_set["spec"]["minReadySeconds"] == 0


def test_foreign_signature_is_refused_before_anything_is_unpacked() -> None:
    bomb = sign(packed(b"0" * (MAX_UNPACKED_BYTES + 1)), KEY)
    with pytest.raises(SignatureError, match="not trusted here"):
        open_desired(bomb, [Ed25519PrivateKey.generate().public_key()])


def test_changed_text_does_not_match_the_signature() -> None:
    signed = sign(pack(desired()), KEY)
    forged = signed.model_copy(update={"payload": pack(desired(generation=4))})
    with pytest.raises(SignatureError, match="does not match"):
        open_desired(forged, [KEY.public_key()])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (packed(b" " * (MAX_UNPACKED_BYTES + 1)), "unpacks to more than"),
        (packed(b"[" * MAX_UNPACKED_BYTES), "message"),
        (packed(b'{"a":' * 200_000), "message"),
        (base64.b64encode(zlib.compress(b"{}" * 99)[:-3]).decode(), "cut off"),
        ("not base64!", "not a packed"),
        (base64.b64encode(b"not zlib").decode(), "not a packed"),
        ("", "cut off"),
        (packed(desired().to_bytes().replace(b'"generation":3', b'"generation":0')), "generation"),
        (packed(desired().to_bytes().replace(b'"generation":3', b'"generation":1e400')), "generation"),
        (packed(desired().to_bytes().replace(b"berlin-01", b"../paris")), "store"),
        (packed(desired().to_bytes().replace(b'"config_map"', b'"other"')), "belong together"),
    ],
    ids=["bomb", "brackets", "depth", "cut", "base64", "zlib", "empty", "zero", "huge", "name", "half"],
)
def test_bad_state_is_refused_even_when_signed(text: str, words: str) -> None:
    with pytest.raises(MessageError, match=words):
        open_desired(sign(text, KEY), [KEY.public_key()])


def test_oversized_message_is_refused_unread() -> None:
    with pytest.raises(MessageError, match=f"at most {MAX_DESIRED_BYTES}"):
        decode_envelope(b" " * (MAX_DESIRED_BYTES + 1))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_message_error(payload: bytes) -> None:
    for read in (decode_envelope, decode_reported, lambda raw: unpack(raw.decode("latin-1"))):
        with pytest.raises(MessageError):
            read(payload)


def test_report_is_bounded() -> None:
    report = ReportedState(store="berlin-01", at=AT, interval_s=10)
    assert decode_reported(report.to_bytes()) == report
    for change in ({"refusal": "x" * 2001}, {"generation": -1}, {"interval_s": 0}, {"digest": "md5:1"}):
        with pytest.raises(MessageError):
            decode_reported(report.model_copy(update=change).to_bytes())


def test_the_largest_configuration_of_many_zones_fits() -> None:
    zone = "- {{id: zone-{0}, camera: aisle-{1}, sku: sku-{0}, polygon: [[{2}, 1], [9, {2}], [{2}, {2}]]}}\n"
    yaml = "".join(zone.format(i, i % 97, i * 7919 % 1280) for i in range(20_000))[: 1024 * 1024 - 8192]
    state = desired(config_map={"data": {"store.yaml": yaml}})
    wire = sign(pack(state), KEY).to_bytes()
    assert len(wire) <= MAX_DESIRED_BYTES
    assert open_desired(decode_envelope(wire), [KEY.public_key()]) == state
