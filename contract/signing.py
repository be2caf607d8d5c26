"""Digests and Ed25519 signatures (RFC 8032), for model manifests and whatever else must be proven.

The signed bytes are exactly the ``payload`` text that travels, so no canonical form is needed.
"""

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, StringConstraints

from contract.base import Message
from contract.errors import SignatureError

CHUNK = 1024 * 1024


class Signed(Message):
    """A text and the signature over its UTF-8 bytes."""

    payload: Annotated[str, Field(max_length=1024 * 1024)]
    key_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    signature: Annotated[str, Field(max_length=128)]
    """Base64 of the 64 signature bytes."""


def digest_bytes(data: bytes) -> str:
    """``sha256:`` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Digest of a file, read in pieces. Raises ``OSError``."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def key_id(key: Ed25519PublicKey) -> str:
    """First 16 hexadecimal digits of the sha256 of the raw public key."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def sign(payload: str, key: Ed25519PrivateKey) -> Signed:
    signature = base64.b64encode(key.sign(payload.encode())).decode()
    return Signed(payload=payload, key_id=key_id(key.public_key()), signature=signature)


def verify(signed: Signed, trusted: Iterable[Ed25519PublicKey]) -> str:
    """The payload, if one of the ``trusted`` keys signed it. Raises ``SignatureError``."""
    keys = {key_id(key): key for key in trusted}
    key = keys.get(signed.key_id)
    if key is None:
        known = ", ".join(sorted(keys)) or "none"
        raise SignatureError(f"signed by key {signed.key_id}, which is not trusted here (trusted: {known})")
    try:
        key.verify(base64.b64decode(signed.signature, validate=True), signed.payload.encode())
    except (InvalidSignature, ValueError) as error:
        raise SignatureError(f"the signature of key {signed.key_id} does not match") from error
    return signed.payload


def load_public_keys(pem: bytes) -> list[Ed25519PublicKey]:
    """Every Ed25519 public key of a PEM file (several may follow one another). Raises ``SignatureError``."""
    end = b"-----END PUBLIC KEY-----"
    keys = []
    for block in pem.split(end)[:-1]:
        try:
            key = serialization.load_pem_public_key(block.strip() + b"\n" + end + b"\n")
        except (ValueError, UnsupportedAlgorithm) as error:
            raise SignatureError(f"not a PEM public key: {error}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise SignatureError("only Ed25519 public keys are accepted")
        keys.append(key)
    if not keys:
        raise SignatureError("the key file holds no public key")
    return keys
