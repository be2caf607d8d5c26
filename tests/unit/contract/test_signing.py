import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import SignatureError
from contract.signing import Signed, digest_bytes, digest_file, load_public_keys, sign, verify

OURS = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"x" * 32)


def pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@given(st.text(max_size=200))
def test_what_was_signed_verifies(payload: str) -> None:
    assert verify(sign(payload, OURS), [OTHER.public_key(), OURS.public_key()]) == payload


@given(st.text(max_size=50), st.text(max_size=50))
def test_another_payload_does_not(payload: str, other: str) -> None:
    forged = sign(payload, OURS).model_copy(update={"payload": other})
    if payload != other:
        with pytest.raises(SignatureError, match="does not match"):
            verify(forged, [OURS.public_key()])


@given(st.binary(min_size=0, max_size=70))
def test_no_other_signature_passes(raw: bytes) -> None:
    signed = sign("payload", OURS)
    forged = signed.model_copy(update={"signature": base64.b64encode(raw).decode()})
    if forged != signed:
        with pytest.raises(SignatureError):
            verify(forged, [OURS.public_key()])


@pytest.mark.parametrize("signature", ["", "????", "a", "ÄÖ"])
def test_signatures_that_are_no_base64_are_refused(signature: str) -> None:
    forged = sign("payload", OURS).model_copy(update={"signature": signature})
    with pytest.raises(SignatureError):
        verify(forged, [OURS.public_key()])


def test_untrusted_key_is_named_with_those_that_are_trusted() -> None:
    signed = sign("payload", OTHER)
    with pytest.raises(SignatureError, match=f"{signed.key_id}.*trusted: {sign('', OURS).key_id}"):
        verify(signed, [OURS.public_key()])
    with pytest.raises(SignatureError, match="trusted: none"):
        verify(signed, [])


def test_signed_survives_the_wire() -> None:
    signed = sign('{"a": "ü\\n"}', OURS)
    assert Signed.model_validate_json(signed.to_bytes()) == signed


def test_several_public_keys_in_one_file() -> None:
    keys = load_public_keys(pem(OURS.public_key()) + b"\n" + pem(OTHER.public_key()))
    assert [pem(key) for key in keys] == [pem(OURS.public_key()), pem(OTHER.public_key())]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no public key"),
        (b"hello", "no public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a PEM public key"),
        (
            generate_private_key(SECP256R1())
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "only Ed25519",
        ),
    ],
    ids=["empty", "text", "garbage", "other-algorithm"],
)
def test_key_files_without_usable_keys_are_refused(text: bytes, words: str) -> None:
    with pytest.raises(SignatureError, match=words):
        load_public_keys(text)


def test_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert digest_file(path) == digest_bytes(b"abc")
    assert digest_bytes(b"abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
