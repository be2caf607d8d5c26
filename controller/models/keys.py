"""The centre's signing key: Ed25519, made at first use, never readable by others.

Agents get the public keys with each release. To rotate, keep the old public key in ``trusted.pem``
until no store runs a release signed by it, and remove ``signing.key``: the next start makes a new one.
"""

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from contract.errors import SignatureError
from contract.signing import Signed, load_public_keys, sign
from controller.errors import PermanentError

KEY_FILE = "signing.key"
PUBLIC_FILE = "signing.pub"
TRUSTED_FILE = "trusted.pem"


class SigningKey:
    """Signs manifests. Its repr shows nothing of the key."""

    def __init__(self, private: Ed25519PrivateKey, also_trusted: bytes = b"") -> None:
        self._private = private
        self._also_trusted = also_trusted

    @classmethod
    def load_or_create(cls, directory: Path) -> "SigningKey":
        """The key of ``directory``, made there with mode 0600 if there is none. Raises ``PermanentError``."""
        path = directory / KEY_FILE
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            private = _load(path) if path.exists() else _create(path)
            trusted = directory / TRUSTED_FILE
            key = cls(private, trusted.read_bytes() if trusted.exists() else b"")
            (directory / PUBLIC_FILE).write_bytes(key.public_pem)
        except OSError as error:
            raise PermanentError(f"cannot use the signing key {path}: {error.strerror}") from error
        return key

    @property
    def public_pem(self) -> bytes:
        """The public half, PEM."""
        return self._private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def trusted_pem(self) -> bytes:
        """Every public key that agents shall trust, PEM. Raises ``PermanentError``."""
        pem = self.public_pem + self._also_trusted
        try:
            load_public_keys(pem)
        except SignatureError as error:
            raise PermanentError(f"{TRUSTED_FILE} holds something else than public keys: {error}") from error
        return pem

    def sign(self, payload: str) -> Signed:
        return sign(payload, self._private)

    def __repr__(self) -> str:
        return "SigningKey(…)"


def _create(path: Path) -> Ed25519PrivateKey:
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    return private


def _load(path: Path) -> Ed25519PrivateKey:
    if path.stat().st_mode & 0o077:
        raise PermanentError(f"{path} can be read by others: chmod 600 it, and consider it known")
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise PermanentError(f"{path} is not an unencrypted PEM private key") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise PermanentError(f"{path} is not an Ed25519 key")
    return private
